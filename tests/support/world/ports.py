"""Fakes of the ports on the simulated world, and a rig that runs the daemon's own tick on it."""

from __future__ import annotations

import asyncio
import atexit

from msgspec import structs

from fleetd.core.instances.orders import Order
from fleetd.core.model.decision import Step, StepResult
from fleetd.core.model.facts import DatabaseFacts, HostFacts, SidekiqFacts, SystemdFacts
from fleetd.core.model.identity import SCHEDULER, InstanceKey
from fleetd.core.model.person import Person
from fleetd.core.model.policy_tables import (
    ConnectionPolicy,
    MemoryPolicy,
    PacePolicy,
    Policy,
    Profile,
    SchedulerPolicy,
    StuckPolicy,
)
from fleetd.core.model.status import Status
from fleetd.core.sharing.who_reads import leaving_out
from fleetd.daemon.observe import Sources
from fleetd.daemon.tell import status_of
from fleetd.daemon.tick import Ticker, TickResult
from fleetd.errors import MemoryUnsavedError, SourceUnavailableError
from fleetd.ports import MemoryStore
from fleetd.words.reasons import sentence
from fleetd.words.replies import answer
from tests.support.world.pgbouncer import FakePgBouncer
from tests.support.world.readings import database_facts, host_facts, sidekiq_facts, systemd_facts
from tests.support.world.world import World

HANG_SECONDS = 3600.0

#: Round numbers, for results worked out by hand: 4 of 5 threads are planned to be busy, two starts a tick.
BY_HAND = PacePolicy(utilisation=0.8, starts_per_tick=2, booting_max=4)

# One loop for all ticks: a new loop costs more than a tick does.
_LOOP = asyncio.new_event_loop()
atexit.register(_LOOP.close)


class FakeSidekiq:
    def __init__(self, world: World) -> None:
        self.world = world

    async def read(self, *, without_jobs_of: frozenset[str] = frozenset()) -> SidekiqFacts:
        if not self.world.redis_up:
            raise SourceUnavailableError("Redis at 127.0.0.1:6379 refuses connections")
        return leaving_out(sidekiq_facts(self.world), without_jobs_of)

    async def close(self) -> None: ...


class FakeDatabase:
    def __init__(self, world: World) -> None:
        self.world = world

    async def read(self) -> DatabaseFacts:
        if not self.world.postgres_up:
            raise SourceUnavailableError("Postgres at 127.0.0.1:5432 refuses connections")
        return database_facts(self.world)

    async def close(self) -> None: ...


class FleetdDiedError(BaseException):
    """SIGKILL in the middle of a tick: no more of fleetd's code runs."""


class FakeUnits:
    """systemd. Records each step that fleetd ordered, with its time."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.dies_after_steps: int | None = None  # fleetd dies after this many further steps; None: it lives
        self.orders: list[tuple[float, Step]] = []

    async def read(self) -> SystemdFacts:
        if self.world.systemd_hangs:
            await asyncio.sleep(HANG_SECONDS)
        if not self.world.systemd_up:
            raise SourceUnavailableError("systemd can't be reached over D-Bus")
        return systemd_facts(self.world)

    async def carry_out(self, step: Step) -> StepResult:
        if self.dies_after_steps is not None:
            if self.dies_after_steps == 0:
                raise FleetdDiedError
            self.dies_after_steps -= 1
        if self.world.systemd_hangs:
            await asyncio.sleep(HANG_SECONDS)
        if not self.world.systemd_up:
            return StepResult(step=step, result="failed", sentence="systemd can't be reached over D-Bus")
        self.orders.append((self.world.now, step))
        if not self.world.polkit_runs:
            return StepResult(step=step, result="refused", sentence="polkit does not run")
        state = self.world.units[step.key].state
        if step.verb == "start":
            result = "refused" if state == "deactivating" else self.world.start(step.key)
        elif step.verb == "quiet":
            result = self.world.quiet(step.key) if state == "active" else "refused"
        else:
            idle = state in {"inactive", "failed"}
            result = "skipped" if idle else self.world.stop(step.key, by="fleetd")
        if result == "done":
            return StepResult(step=step, result="done")
        if result == "skipped":
            return StepResult(step=step, result="skipped", sentence=f"it is {state} already")
        if result == "refused":
            return StepResult(step=step, result="refused", sentence=f"it is {state}")
        return StepResult(step=step, result="failed", sentence=f"systemd said: {result}")

    async def close(self) -> None: ...


class FakeHost:
    def __init__(self, world: World) -> None:
        self.world = world
        self.readable = True

    async def read(self, systemd: SystemdFacts | None) -> HostFacts:
        if not self.readable:
            raise SourceUnavailableError("/proc/meminfo can't be read")
        facts = host_facts(self.world)
        if systemd is None:  # then nothing says where a unit's memory is accounted
            return structs.replace(facts, resident_bytes={})
        return facts


class FakeClock:
    def __init__(self, world: World) -> None:
        self.world = world

    def now_seconds(self) -> float:
        return self.world.now

    def boot_id(self) -> str:
        return self.world.boot_id


class FakeStore:
    """The StateDirectory, which outlives fleetd; with `has_spare` also a file below /run, as the daemon has."""

    def __init__(self, *, has_spare: bool = False) -> None:
        self.content: bytes | None = None
        self.spare: bytes | None = None
        self.has_spare = has_spare
        self.writes = 0
        self.full = False
        self.fails = 0  # this many more saves find no room

    def load(self) -> bytes | None:
        return self.content if self.spare is None else self.spare

    def save(self, content: bytes) -> None:
        if self.full or self.fails:
            self.fails = max(0, self.fails - 1)
            self.spare = content if self.has_spare else None
            kept_in = "/run/fleetd/host.json" if self.has_spare else None
            raise MemoryUnsavedError("/var/lib/fleetd: no space left on device", kept_in)
        self.content, self.spare, self.writes = content, None, self.writes + 1


class FakeService:
    """sd_notify. Records the messages in order."""

    def __init__(self, interval_seconds: float | None = None) -> None:
        self.said: list[str] = []
        self.interval_seconds = interval_seconds

    def ready(self) -> None:
        self.said.append("READY")

    def status(self, sentence: str) -> None:
        self.said.append(f"STATUS={sentence}")

    def watchdog(self) -> None:
        self.said.append("WATCHDOG")

    def watchdog_interval_seconds(self) -> float | None:
        return self.interval_seconds

    def reloading(self) -> None:
        self.said.append("RELOADING")

    def stopping(self) -> None:
        self.said.append("STOPPING")


class Rig:
    """fleetd on the simulated world: the daemon's own Ticker on fakes of the ports."""

    def __init__(self, world: World, *, store: MemoryStore | None = None) -> None:
        self.world = world
        self.store = store or FakeStore()
        self.sidekiq, self.database = FakeSidekiq(world), FakeDatabase(world)
        self.units, self.host = FakeUnits(world), FakeHost(world)
        self.clock = FakeClock(world)
        self.ticks = 0
        self.start_fleetd()

    def start_fleetd(self) -> None:
        """Start a new fleetd process, which remembers only what is in the store."""
        through = self.world.pool_size is not None
        self.sources = Sources(
            self.sidekiq,
            None if through else self.database,
            self.units,
            self.host,
            self.clock,
            deadline_seconds=2.0,
            pgbouncer=FakePgBouncer(self.world) if through else None,
        )
        self.ticker = Ticker(self.world.policy, self.sources, self.store)

    kill_fleetd = start_fleetd

    def tick(self) -> TickResult:
        """One tick now; time does not move. If fleetd dies in it, returns the first tick of the next process."""
        self.ticks += 1
        try:
            return _LOOP.run_until_complete(self.ticker.tick())
        except FleetdDiedError:
            self.units.dies_after_steps = None
            self.kill_fleetd()
            return _LOOP.run_until_complete(self.ticker.tick())
        finally:
            self.units.dies_after_steps = None

    def run(self, seconds: float) -> list[TickResult]:
        """Tick at the daemon's pace for this long."""
        every = self.world.policy.pace.tick_seconds
        ticks = []
        end = self.world.now + seconds
        while self.world.now < end:
            ticks.append(self.tick())
            self.world.advance(every)
        return ticks

    def status(self, result: TickResult) -> Status:
        return status_of(
            result,
            sources=self.sources.status(),
            events=(),
            problems=(),
            uptime_seconds=0.0,
            ticks_total=self.ticks,
        )

    def order(self, order: Order, person: Person | None = None) -> str:
        """Give a person's order, and return the answer. Raises OrderRefusedError."""
        return answer(sentence(self.ticker.order(order, person)), self.ticker.unsaved)

    def ordered(self, verb: str) -> list[int]:
        """The numbers to which fleetd ordered this step, in order."""
        return [step.key for _, step in self.units.orders if step.verb == verb]

    def serving(self, profile: str = "") -> int:
        """How many instances truly run or boot in the world, without those that are quiet or stopping."""
        owner = self.world.policy.profile_of
        return sum(
            1
            for n, unit in self.world.units.items()
            if n != SCHEDULER and unit.state in {"activating", "active"}
            if unit.process is None or not unit.process.quiet
            if not profile or getattr(owner(unit.key), "name", "") == profile
        )


def strict(
    name: str = "default-first",
    numbers: str = "1-6",
    *,
    queues: str = "default push ingress mailers pull fasp",
    threads: int = 5,
    low: int = 1,
    high: int | None = None,
) -> Profile:
    """A strict profile that owns the numbers `a-b`."""
    return _profile(name, "strict", tuple((q, 1) for q in queues.split()), numbers, threads, low, high)


def weighted(
    name: str = "weighted",
    numbers: str = "7-10",
    *,
    weights: str = "default:4 push:2 pull:1",
    threads: int = 5,
    low: int = 1,
    high: int | None = None,
) -> Profile:
    """A weighted profile that owns the numbers `a-b`."""
    pairs = tuple((q, int(w)) for q, w in (pair.split(":") for pair in weights.split()))
    return _profile(name, "weighted", pairs, numbers, threads, low, high)


def _profile(
    name: str,
    order: str,
    queues: tuple[tuple[str, int], ...],
    numbers: str,
    threads: int,
    low: int,
    high: int | None,
) -> Profile:
    first, last = (int(n) for n in numbers.split("-"))
    owned = tuple(InstanceKey(n) for n in range(first, last + 1))
    return Profile(
        name=name,
        order="weighted" if order == "weighted" else "strict",
        queues=queues,
        threads=threads,
        db_pool=threads + 2,
        numbers=owned,
        min_instances=low,
        max_instances=len(owned) if high is None else high,
    )


def policy(
    *profiles: Profile,
    scheduler: SchedulerPolicy | None = None,
    connections: ConnectionPolicy | None = None,
    memory: MemoryPolicy | None = None,
    pace: PacePolicy | None = None,
    stuck: StuckPolicy | None = None,
) -> Policy:
    """A host `w1`. By default it has one strict profile @1-@6, and the scheduler is elsewhere."""
    return Policy(
        host="w1",
        profiles=profiles or (strict(),),
        targets_seconds={"default": 5.0, "push": 30.0, "pull": 300.0},
        scheduler=scheduler or SchedulerPolicy(place="elsewhere", threads=5, db_pool=7),
        connections=connections or ConnectionPolicy(),
        memory=memory or MemoryPolicy(),
        pace=pace or BY_HAND,
        stuck=stuck or StuckPolicy(),
    )
