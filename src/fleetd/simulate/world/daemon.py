"""fleetd in the simulated world: the daemon's own Ticker between ports that read the world."""

from __future__ import annotations

from collections.abc import Awaitable
from contextlib import nullcontext
from statistics import fmean
from typing import Any

import msgspec

from fleetd.core.instances.host_memory import HostMemory
from fleetd.core.model.decision import Step, StepResult
from fleetd.core.model.facts import DatabaseFacts, HostFacts, SidekiqFacts, SystemdFacts
from fleetd.daemon.local_ledger import LocalLedger
from fleetd.daemon.observe import Sources
from fleetd.daemon.tick import Ticker, TickResult
from fleetd.errors import SourceUnavailableError
from fleetd.simulate.trace.keys import Source
from fleetd.simulate.world.readings import Readings
from fleetd.simulate.world.world import World

#: The host has been up for long: nothing is taken for a boot of it.
BOOTTIME_SECONDS = 1_000_000.0


class _Port:
    """What all ports share: the world, its readings, and the faults of its sources."""

    def __init__(self, readings: Readings) -> None:
        self.readings = readings
        self.world = readings.world

    def reach(self, source: Source) -> None:
        if source in self.world.down:
            raise SourceUnavailableError(f"{source} is away in this trace")

    async def close(self) -> None: ...


class _Sidekiq(_Port):
    async def read(self, *, check_writes: bool) -> SidekiqFacts:
        self.reach("redis")
        return self.readings.sidekiq()


class _Database(_Port):
    async def read(self) -> DatabaseFacts:
        self.reach("postgres")
        return self.readings.database()


class _Units(_Port):
    async def read(self) -> SystemdFacts:
        self.reach("systemd")
        return self.readings.systemd()

    async def carry_out(self, step: Step) -> StepResult:
        self.reach("systemd")
        return StepResult(step=step, result=self.world.carry_out(step))


class _Host(_Port):
    async def read(self, systemd: SystemdFacts | None) -> HostFacts:
        return self.readings.host()


class _ClockAndStore(_Port):
    """The clock, and a state directory that fleetd starts with and that keeps nothing."""

    def now_seconds(self) -> float:
        return BOOTTIME_SECONDS + self.world.now

    def boot_id(self) -> str:
        return "simulated"

    def load(self) -> bytes:
        """fleetd started what serves at the begin, so it knows how long a boot takes."""
        learnt = fmean(self.world.trace.boot_seconds)
        booted = {group.profile.name: learnt for group in self.world.groups if group.present}
        return msgspec.json.encode(HostMemory(boot_id=self.boot_id(), boot_seconds=booted))

    def save(self, content: bytes) -> None: ...


async def _one_by_one(*readings: Awaitable[Any]) -> list[Any]:
    """No reading waits for anything here, so none needs a task of its own."""
    return [await reading for reading in readings]


class SimulatedDaemon:
    """Ticks when the daemon would."""

    def __init__(self, world: World) -> None:
        self.world = world
        readings = Readings(world)
        clock = _ClockAndStore(readings)
        sources = Sources(
            _Sidekiq(readings),
            _Database(readings),
            _Units(readings),
            _Host(readings),
            clock,
            deadline_seconds=2.0,
        )
        sources.together = _one_by_one
        no_deadline = nullcontext()
        sources.timeout = lambda _deadline_seconds: no_deadline
        self.ticker = Ticker(world.policy, sources, LocalLedger(), clock)

    async def tick(self) -> TickResult:
        return await self.ticker.tick()

    def pause_seconds(self) -> int:
        """Until the next tick, in whole seconds of the world."""
        return max(1, round(self.ticker.pause_seconds()))

    async def act(self) -> int:
        """One tick; the second of the next one."""
        await self.tick()
        return self.world.now + self.pause_seconds()
