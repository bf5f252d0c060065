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
from fleetd.core.model.policy import Policy
from fleetd.daemon.local_ledger import LocalLedger
from fleetd.daemon.observe import Sources
from fleetd.daemon.tick import Ticker, TickResult
from fleetd.errors import SourceUnavailableError
from fleetd.simulate.world.readings import Readings
from fleetd.simulate.world.world import World

#: The host has been up for long: nothing is taken for a boot.
BOOTTIME_SECONDS = 1_000_000.0


class SimulatedPorts:
    """Sidekiq's Redis, Postgres, systemd, the host, the clock and the state directory."""

    def __init__(self, world: World, policy: Policy) -> None:
        self.world = world
        self.readings = Readings(world, policy)
        self.steps: list[tuple[int, Step]] = []

    def refuse(self, source: str) -> None:
        if source in self.world.down:
            raise SourceUnavailableError(f"{source} is away in this trace")

    def now_seconds(self) -> float:
        return BOOTTIME_SECONDS + self.world.now

    def boot_id(self) -> str:
        return "simulated"

    def load(self) -> bytes:
        """What serves at time 0 was started by fleetd: how long that took is known."""
        learnt = fmean(self.world.trace.boot_seconds)
        booted = {group.profile.name: learnt for group in self.world.groups if group.present}
        return msgspec.json.encode(HostMemory(boot_id=self.boot_id(), boot_seconds=booted))

    def save(self, content: bytes) -> None: ...


class _Sidekiq:
    def __init__(self, ports: SimulatedPorts) -> None:
        self.ports = ports

    async def read(self, *, check_writes: bool) -> SidekiqFacts:
        self.ports.refuse("redis")
        return self.ports.readings.sidekiq()

    async def close(self) -> None: ...


class _Database:
    def __init__(self, ports: SimulatedPorts) -> None:
        self.ports = ports

    async def read(self) -> DatabaseFacts:
        self.ports.refuse("postgres")
        return self.ports.readings.database()

    async def close(self) -> None: ...


class _Units:
    def __init__(self, ports: SimulatedPorts) -> None:
        self.ports = ports

    async def read(self) -> SystemdFacts:
        self.ports.refuse("systemd")
        return self.ports.readings.systemd()

    async def carry_out(self, step: Step) -> StepResult:
        self.ports.refuse("systemd")
        world = self.ports.world
        order = {"start": world.start, "quiet": world.quiet, "stop": world.stop}[step.verb]
        result = order(step.key)
        self.ports.steps.append((world.now, step))
        if result == "done":
            return StepResult(step=step, result="done")
        return StepResult(step=step, result="skipped" if result == "skipped" else "failed", sentence=result)

    async def close(self) -> None: ...


class _Host:
    def __init__(self, ports: SimulatedPorts) -> None:
        self.ports = ports

    async def read(self, systemd: SystemdFacts | None) -> HostFacts:
        return self.ports.readings.host()


#: In place of a deadline.
_NOTHING_WAITS = nullcontext()


async def _one_by_one(*readings: Awaitable[Any]) -> list[Any]:
    """No reading waits for anything here, so none needs a task of its own."""
    return [await reading for reading in readings]


class SimulatedDaemon:
    """Ticks when the daemon would."""

    def __init__(self, world: World, policy: Policy) -> None:
        self.world = world
        self.ports = SimulatedPorts(world, policy)
        sources = Sources(
            _Sidekiq(self.ports),
            _Database(self.ports),
            _Units(self.ports),
            _Host(self.ports),
            self.ports,
            deadline_seconds=2.0,
        )
        sources.together = _one_by_one
        sources.timeout = lambda _deadline_seconds: _NOTHING_WAITS
        self.ticker = Ticker(policy, sources, LocalLedger(), self.ports)

    async def tick(self) -> TickResult:
        return await self.ticker.tick()

    def pause_seconds(self) -> int:
        return max(1, round(self.ticker.pause_seconds()))
