"""The daemon in virtual time: the real Loop, Ticker and TickLog on fakes of the ports."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from fleetd.core.model.facts import DatabaseFacts, SidekiqFacts
from fleetd.core.model.status import Status
from fleetd.daemon.bugs import Bugs
from fleetd.daemon.log import TickLog
from fleetd.daemon.loop import Loop
from fleetd.daemon.observe import Sources
from fleetd.daemon.tick import Ticker
from tests.support.virtual_time import run
from tests.support.world.ports import (
    FakeDatabase,
    FakeHost,
    FakeService,
    FakeSidekiq,
    FakeStore,
    FakeUnits,
    policy,
)
from tests.support.world.world import World

BEGIN = 10_000.0


class LoopClock:
    """CLOCK_BOOTTIME from the event loop's time."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.asleep_seconds = 0.0

    def now_seconds(self) -> float:
        return BEGIN + self.asleep_seconds + asyncio.get_running_loop().time()

    def boot_id(self) -> str:
        return self.world.boot_id


class Slow:
    """A source that answers after a given time, or never."""

    def __init__(self, source: FakeSidekiq | FakeDatabase, seconds: float) -> None:
        self.source = source
        self.seconds = seconds


class SlowSidekiq(Slow):
    async def read(self, *, without_jobs_of: frozenset[str] = frozenset()) -> SidekiqFacts:
        await asyncio.sleep(self.seconds)
        assert isinstance(self.source, FakeSidekiq)
        return await self.source.read(without_jobs_of=without_jobs_of)

    async def close(self) -> None: ...


class SlowDatabase(Slow):
    async def read(self) -> DatabaseFacts:
        await asyncio.sleep(self.seconds)
        assert isinstance(self.source, FakeDatabase)
        return await self.source.read()

    async def close(self) -> None: ...


class HeardStatuses:
    def __init__(self) -> None:
        self.statuses: list[tuple[float, Status]] = []

    def tell(self, status: Status) -> None:
        self.statuses.append((asyncio.get_running_loop().time(), status))


async def nothing() -> None: ...


class Daemon:
    """The daemon as the program wires it, on fakes. It is made inside the running loop."""

    def __init__(
        self,
        world: World,
        *,
        watchdog_seconds: float | None = None,
        sidekiq_seconds: float = 0.0,
        database_seconds: float = 0.0,
        before_tick: Callable[[], Awaitable[None]] = nothing,
        bugs: Bugs | None = None,
    ) -> None:
        self.world = world
        self.clock = LoopClock(world)
        self.units = FakeUnits(world)
        self.service, self.heard, self.store = FakeService(watchdog_seconds), HeardStatuses(), FakeStore()
        self.lines: list[str] = []
        sources = Sources(
            SlowSidekiq(FakeSidekiq(world), sidekiq_seconds),
            SlowDatabase(FakeDatabase(world), database_seconds),
            self.units,
            FakeHost(world),
            self.clock,
            deadline_seconds=2.0,
            bugs=bugs,
        )
        self.ticker = Ticker(world.policy, sources, self.store)
        say = lambda line, **fields: self.lines.append(line)  # noqa: E731
        self.loop = Loop(
            self.ticker,
            self.clock,
            TickLog(say, say),
            (self.heard,),
            self.service,
            before_tick=before_tick,
            bugs=bugs,
        )

    async def run(self, seconds: float) -> None:
        """Run for this long while the world's time goes on, then stop."""
        world_time = asyncio.create_task(self._world_goes_on())
        daemon = asyncio.create_task(self.loop.run())
        await asyncio.wait({daemon}, timeout=seconds)
        self.loop.stop()
        try:
            await asyncio.wait_for(daemon, 60.0)
        finally:
            world_time.cancel()
            with suppress(asyncio.CancelledError):
                await world_time

    async def _world_goes_on(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            self.world.advance(1.0)


def lived(seconds: float, **options: object) -> Daemon:
    """A daemon that has run for this long."""
    made: list[Daemon] = []

    async def live() -> None:
        made.append(Daemon(options.pop("world", World(policy())), **options))  # type: ignore[arg-type]
        await made[0].run(seconds)

    run(live())
    return made[0]
