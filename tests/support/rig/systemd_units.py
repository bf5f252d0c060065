"""SystemdUnits on a fake systemd on a private bus."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

from fleetd.adapters.host.unit_files import UnitFiles
from fleetd.adapters.systemd.units import SystemdUnits
from fleetd.core.model.decision import Step, StepResult, Verb
from fleetd.core.model.identity import InstanceKey
from fleetd.core.model.reasons.units import DrainedByPeople
from tests.support.rig.fake_systemd import FakeSystemd
from tests.support.rig.manual_clock import ManualClock
from tests.support.rig.private_bus import PrivateBus

ONE = "mastodon-sidekiq@1.service"
TWO = "mastodon-sidekiq@2.service"
NINE = "mastodon-sidekiq@9.service"
#: Any reason will do: adapters carry out a step whatever its reason is.
WHY = DrainedByPeople()


Scenario = Callable[[FakeSystemd, SystemdUnits], Awaitable[None]]


def with_systemd(
    bus: PrivateBus,
    scenario: Scenario,
    *,
    clock: ManualClock | None = None,
    deadline_seconds: float = 60.0,
    unit_files: UnitFiles | None = None,
    rendered: Callable[[], Iterable[InstanceKey]] = tuple,
) -> None:
    """Run a scenario with a fake systemd and a SystemdUnits for instances 1 to 3 and the scheduler."""

    async def run() -> None:
        systemd = FakeSystemd(bus.address)
        await systemd.start()
        units = SystemdUnits(
            [InstanceKey(n) for n in (1, 2, 3)],
            rendered=rendered,
            bus_address=bus.address,
            unit_files=unit_files or UnitFiles(Path("/none")),
            monotonic_seconds=clock or ManualClock(100.0),
            read_deadline_seconds=deadline_seconds,
            step_deadline_seconds=deadline_seconds,
        )
        try:
            await asyncio.wait_for(scenario(systemd, units), 90)
        finally:
            await units.close()
            systemd.stop()

    asyncio.run(run())


def start(number: int) -> Step:
    return Step(verb="start", key=InstanceKey(number), why=WHY)


async def result_of(units: SystemdUnits, verb: Verb, number: int) -> StepResult:
    return await units.carry_out(Step(verb=verb, key=InstanceKey(number), why=WHY))
