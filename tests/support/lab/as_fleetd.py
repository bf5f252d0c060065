"""Runs in a lab host as user fleetd: tries what fleetd may do and what it may not, then serves org.fleetd1.

Prints the results as one line of JSON, then serves until its standard input ends. Instance 7 works, instance 8 fails.
"""

from __future__ import annotations

import asyncio
import json
import sys

from fleetd.adapters.bus.connection import BusCallError
from fleetd.adapters.bus.control import ControlBus
from fleetd.adapters.systemd.link import MANAGER, SYSTEMD_PATH
from fleetd.adapters.systemd.units import SystemdUnits
from fleetd.core.instances.orders import Order
from fleetd.core.model.decision import Step, Verb
from fleetd.core.model.hosts import FleetHosts
from fleetd.core.model.identity import InstanceKey
from fleetd.core.model.person import Person
from fleetd.core.model.reasons.units import DrainedByPeople


async def main() -> None:
    results: dict[str, str] = {}
    units = SystemdUnits([InstanceKey(7), InstanceKey(8)], read_deadline_seconds=60, step_deadline_seconds=60)

    async def until(number: int, state: str) -> None:
        async with asyncio.timeout(60):
            while True:
                unit = (await units.read()).units.get(InstanceKey(number))
                if (unit.active_state if unit else "inactive") == state:
                    return
                await asyncio.sleep(0.02)

    async def carry_out(verb: Verb, number: int) -> str:
        result = await units.carry_out(Step(verb=verb, key=InstanceKey(number), why=DrainedByPeople()))
        return result.result if result.result == "done" else result.sentence

    results["start"] = await carry_out("start", 7)
    await until(7, "active")
    results["quiet"] = await carry_out("quiet", 7)
    results["stop"] = await carry_out("stop", 7)
    await until(7, "inactive")
    await carry_out("start", 8)
    await until(8, "failed")
    results["reset a failed one and start"] = await carry_out("start", 8)

    # Goes around our own refusal of foreign units: polkit must refuse them as well.
    for unit in ("cron.service", "mastodon-sidekiq@nonsense.service"):
        try:
            await units._link.call(SYSTEMD_PATH, MANAGER, "StartUnit", "ss", unit, "fail")
        except BusCallError as error:
            results[f"start {unit}"] = error.name
    await units.close()

    level = ["info"]

    async def reload() -> None: ...

    async def order(_order: Order, _person: Person) -> str:
        return "obeyed"

    async def hosts() -> FleetHosts:
        return FleetHosts(host="", leader="", scheduler_host="", gathering=None, hosts=())

    control = ControlBus(
        version="0",
        status=lambda: None,
        reload=reload,
        order=order,
        hosts=hosts,
        log_level=lambda: level[0],
        set_log_level=lambda new: level.__setitem__(0, new),
    )
    await control.ensure()
    print(json.dumps(results), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await control.close()


if __name__ == "__main__":
    asyncio.run(main())
