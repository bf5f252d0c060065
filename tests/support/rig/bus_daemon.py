"""The daemon's ControlBus on a private bus, without the rest of the daemon."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from fleetd.adapters.bus.connection import Connection
from fleetd.adapters.bus.control import ControlBus
from fleetd.core.instances.orders import Order
from fleetd.core.model.hosts import FleetHosts
from fleetd.core.model.person import Person
from fleetd.core.model.status import ConnectionStatus, SchedulerStatus, Status
from fleetd.errors import FleetdError
from tests.support.rig.private_bus import PrivateBus

PROPERTIES = "org.freedesktop.DBus.Properties"
LOG_CONTROL = "org.freedesktop.LogControl1"
LOG_CONTROL_PATH = "/org/freedesktop/LogControl1"
NOBODY = 65534
ADMINS = "daemon"  # a group that every machine has


def status_of(host: str) -> Status:
    return Status(
        version="1.2.3",
        host=host,
        uptime_seconds=1.0,
        tick_age_seconds=0.5,
        tick_duration_seconds=0.1,
        ticks_total=3,
        sources=(),
        queues=(),
        profiles=(),
        instances=(),
        connections=ConnectionStatus(
            limit_connections=None,
            reserve_connections=0,
            others_connections=None,
            claims_connections=0,
            headroom_connections=None,
            open_connections=None,
        ),
        scheduler=SchedulerStatus(processes=None, where=(), sentence=""),
        memory_available_bytes=None,
        memory_total_bytes=None,
        clamps=(),
        step_results=(),
        last_events=(),
        next_sentence="",
        summary="all is well – ünïcode \x00 too",
    )


class BusDaemon:
    """What the daemon hands to its ControlBus."""

    def __init__(self, address: str) -> None:
        self.status: Status | None = status_of("worker1")
        self.reloads = self.asked = 0
        self.orders: list[Order] = []
        self.people: list[Person] = []  # who gave each of them
        self.refusal = ""
        self.level = "info"
        self.control = ControlBus(
            version="1.2.3",
            status=lambda: self.status,
            reload=self.reload,
            order=self.order,
            hosts=self.hosts,
            log_level=lambda: self.level,
            set_log_level=self.set_level,
            admin_group=ADMINS,
            bus_address=address,
        )

    async def reload(self) -> None:
        self._refuse()
        self.reloads += 1

    async def order(self, order: Order, person: Person) -> str:
        self._refuse()
        self.people.append(person)
        self.orders.append(order)
        return "it is done – ünïcode too"

    async def hosts(self) -> FleetHosts:
        self._refuse()
        self.asked += 1
        return FleetHosts(host="worker1", leader="w2", scheduler_host="w2", gathering=None, hosts=())

    def _refuse(self) -> None:
        if self.refusal == "bug":
            raise RuntimeError("a secret detail")
        if self.refusal:
            raise FleetdError(self.refusal)

    def set_level(self, level: str) -> None:
        self.level = level


def with_daemon(bus: PrivateBus, scenario: Callable[[BusDaemon], Awaitable[None]]) -> None:
    async def run() -> None:
        daemon = BusDaemon(bus.address)
        try:
            await daemon.control.ensure()
            await asyncio.wait_for(scenario(daemon), 90)
        finally:
            await daemon.control.close()

    asyncio.run(run())


async def busctl(bus: PrivateBus, *arguments: str, groups: list[int] | None = None) -> str:
    """Runs busctl. With `groups`: as an unprivileged user who is in these."""
    process = await asyncio.create_subprocess_exec(
        "busctl",
        f"--address={bus.address}",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        user=None if groups is None else NOBODY,
        group=None if groups is None else NOBODY,
        extra_groups=groups,
    )
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    return output.decode()


async def call(bus: PrivateBus, path: str, interface: str, member: str, *rest: object) -> list[object]:
    client = await Connection.open(bus.address)
    try:
        signature = str(rest[0]) if rest else ""
        return await client.call("org.fleetd1", path, interface, member, signature, *rest[1:])
    finally:
        client.close()
