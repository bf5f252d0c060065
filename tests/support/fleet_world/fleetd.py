"""fleetd on one host of a simulated fleet: the daemon's own Ticker, which can be stopped at any point of a tick."""

from __future__ import annotations

import asyncio
import atexit
from collections.abc import Callable, Coroutine
from contextlib import nullcontext
from typing import Any, NamedTuple

from msgspec import structs

from fleetd.core.asking import Self
from fleetd.core.model.decision import Step, StepResult
from fleetd.core.model.facts import DatabaseFacts, SidekiqFacts, SystemdFacts
from fleetd.core.sharing.who_reads import leaving_out
from fleetd.daemon.observe import Sources
from fleetd.daemon.tick import Ticker, TickResult
from fleetd.errors import SourceUnavailableError
from tests.support.fleet_world.host import HostWorld
from tests.support.fleet_world.ledger import HostLedger, SharedLedger
from tests.support.world.ports import (
    FakeClock,
    FakeDatabase,
    FakeSidekiq,
    FakeUnits,
    FleetdDiedError,
    Rig,
)
from tests.support.world.readings import database_facts, sidekiq_facts


class StillLoop(asyncio.SelectorEventLoop):
    """Its time stands still, so no deadline is ever over; a host's clock is that of its world."""

    def time(self) -> float:
        return 0.0


async def _one_by_one(*readings: Coroutine[Any, Any, Any]) -> list[Any]:
    """None of the readings waits, unless its whole host stands still."""
    try:
        return [await reading for reading in readings]
    finally:
        for reading in readings:  # fleetd died in one of them
            reading.close()


_NO_DEADLINE = nullcontext()
_LOOP = StillLoop()
atexit.register(_LOOP.close)

#: Where a tick can be hit, in this order: before and after the ledger took a beat, a plan, and a question, and before
#: and after systemd took a start.
POINTS = ("reading", "told", "committing", "committed", "asking", "granted", "starting", "started")


class Hit(NamedTuple):
    """What happens to the next tick that comes to this point."""

    point: str
    what: str  # freeze, crash, lost (the answer), late (the command)
    seconds: float


class HostClock(FakeClock):
    world: HostWorld

    def now_seconds(self) -> float:
        return self.world.boottime_seconds()


class HostSidekiq(FakeSidekiq):
    """The reading, in which the beat travels."""

    def __init__(self, rig: HostRig) -> None:
        super().__init__(rig.machine)
        self.rig = rig

    async def read(self, *, without_jobs_of: frozenset[str] = frozenset()) -> SidekiqFacts:
        rig, begun = self.rig, self.rig.clock.now_seconds()
        rig.sidekiq_read = rig.redis_took_writes = False
        rig.ledger.reach()
        await rig.ledger.beat()
        rig.sidekiq_read = rig.clock.now_seconds() - begun < 5.0  # else it is old when it is read
        rig.redis_took_writes = rig.sidekiq_read and rig.machine.redis_writable
        return leaving_out(sidekiq_facts(rig.machine.shared), without_jobs_of)


class HostDatabase(FakeDatabase):
    def __init__(self, rig: HostRig) -> None:
        super().__init__(rig.machine)
        self.rig = rig

    async def read(self) -> DatabaseFacts:
        self.rig.machine.link()
        self.rig.others_read = None
        if not self.rig.machine.postgres_up:
            raise SourceUnavailableError("Postgres at 127.0.0.1:5432 refuses connections")
        self.rig.others_read = self.rig.machine.shared.other_clients
        facts = database_facts(self.rig.machine.shared)
        named = {name: count for name, count in facts.worker_connections.items() if count}
        return structs.replace(facts, worker_connections=named, identity="postgres:1")


class HostUnits(FakeUnits):
    def __init__(self, rig: HostRig) -> None:
        super().__init__(rig.machine)
        self.rig = rig

    async def read(self) -> SystemdFacts:
        self.rig.units_read = self.rig.machine.now, self.rig.machine.missing_connections
        return await super().read()

    async def carry_out(self, step: Step) -> StepResult:
        if step.verb == "start":
            await self.rig.passes("starting", None)
        self.rig.before_step(self.rig, step)
        result = await super().carry_out(step)
        if step.verb == "start" and result.result == "done":
            self.rig.machine.by_fleetd.add(step.key)
        if step.verb == "start":
            await self.rig.passes("started", None)
        return result


class HostRig(Rig):
    """One host with its fleetd, which may be stopped, killed, frozen or cut off."""

    def __init__(self, host: HostWorld, ledger: SharedLedger) -> None:
        self.machine = host
        self.shared_ledger = ledger
        self.runs = True  # fleetd
        self.processes_of_fleetd = 0
        self.hit: Hit | None = None
        self.others_read: int | None = None  # others' connections, in this tick; None: Postgres could not be read
        self.sidekiq_read = False  # in this tick
        self.redis_took_writes = False
        self.stood_seconds = 0.0  # between fleetd's last look at its clock and the start that follows
        self.units_read = host.now, 0
        self.before_step: Callable[[HostRig, Step], None] = lambda rig, step: None
        self._task: asyncio.Task[TickResult] | None = None
        self._stands: asyncio.Future[None] | None = None  # done: the tick has ended or waits
        self._thawed: asyncio.Future[None] | None = None
        super().__init__(host)

    def start_fleetd(self) -> None:
        self.processes_of_fleetd += 1
        host = self.machine
        self.ledger = HostLedger(self.shared_ledger, host, self.passes)
        self.units = HostUnits(self) if self.processes_of_fleetd == 1 else self.units
        self.clock = HostClock(host)
        self.sources = Sources(
            HostSidekiq(self),
            HostDatabase(self),
            self.units,
            self.host,
            self.clock,
            deadline_seconds=2.0,
            ledger=self.ledger,
        )
        self.sources.together, self.sources.timeout = _one_by_one, lambda _deadline_seconds: _NO_DEADLINE
        who = Self(fleet="example.org", boot_id=host.boot_id, nonce=f"{host.name}-{self.processes_of_fleetd}")
        self.ticker = Ticker(host.policy, self.sources, self.store, who)
        self.due_seconds = self.clock.now_seconds()
        self.ticks_of_process = 0

    kill_fleetd = start_fleetd

    # -- a tick that can be stopped -------------------------------------------------------------------------------

    async def passes(self, point: str, effect: Callable[[], object] | None) -> None:
        """The tick is at this point. `effect`: what a command under way will do, even if nobody waits for it."""
        hit = self.hit
        if hit is None or hit.point != point:
            return
        self.hit = None
        if hit.what == "crash":
            raise FleetdDiedError
        if hit.what == "freeze":
            self.stood_seconds = hit.seconds if point == "starting" else 0.0
            self.machine.freeze(hit.seconds)
            self._thawed = _LOOP.create_future()
            self._stand()
            await self._thawed
        elif hit.what == "late" and effect is not None:
            self.machine.shared.late.append((self.machine.now + hit.seconds, effect))
            raise SourceUnavailableError("no answer from redis within 2 s")
        elif hit.what == "lost" and point in ("told", "committed", "granted"):
            raise SourceUnavailableError("no answer from redis within 2 s")

    def _stand(self, task: object = None) -> None:
        if self._stands is not None and not self._stands.done():
            self._stands.set_result(None)

    @property
    def waits(self) -> bool:
        """Whether a tick stands still in its middle."""
        return self._task is not None

    @property
    def ticks_now(self) -> bool:
        """Whether the next tick is due."""
        up = self.runs and self.machine.powered and not self.machine.frozen
        return up and self.clock.now_seconds() >= self.due_seconds

    def begin_tick(self) -> TickResult | None:
        """A tick, up to its end or to where it stands still (None)."""
        self.ticks += 1
        self.stood_seconds = 0.0
        self.ledger.describes = self.units_read if self.ticks_of_process else None
        self._task = _LOOP.create_task(self.ticker.tick())
        self._task.add_done_callback(self._stand)
        return self._go_on()

    def resume(self) -> TickResult | None:
        """The rest of a tick that stood still."""
        if self._thawed is not None:
            self._thawed.set_result(None)
            self._thawed = None
        return self._go_on()

    def _go_on(self) -> TickResult | None:
        self._stands = _LOOP.create_future()
        _LOOP.run_until_complete(self._stands)
        task = self._task
        if task is None or not task.done():
            return None
        self._task = None
        error = task.exception()
        if isinstance(error, FleetdDiedError):
            self.start_fleetd()
            return None
        self.ticks_of_process += 1
        return task.result()

    def kill(self) -> None:
        """What fleetd was doing is over: it was killed, or its host. Another one begins."""
        task, self._task, self._thawed, self.hit = self._task, None, None, None
        if task is not None:
            task.cancel()
            _LOOP.run_until_complete(asyncio.wait({task}))
        self.start_fleetd()
