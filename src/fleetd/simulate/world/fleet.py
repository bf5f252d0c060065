"""The instances of a simulated host: their units and heartbeats, and one second's work of all that share a profile.

Queues are served in the profile's own order. A fluid queue takes `jobs × mean service` of the free thread-seconds. A
discrete job holds a thread until it ends, and a waiting one takes the thread over at that moment, not at the next
whole second. Beyond the database's knee every job takes `busy / knee` times as long, so a second holds less work.
"""

from __future__ import annotations

import math
import random
from collections import Counter, deque
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from fleetd.core.model.facts import YOUNG_SECONDS
from fleetd.core.model.identity import InstanceKey
from fleetd.core.model.policy_tables import Profile
from fleetd.simulate.world.queues import SimQueue

if TYPE_CHECKING:
    from fleetd.simulate.world.machine import Machine


class UnitState(StrEnum):
    """The values of systemd's ActiveState that a worker's unit has here."""

    INACTIVE = "inactive"
    ACTIVATING = "activating"
    ACTIVE = "active"
    DEACTIVATING = "deactivating"


@dataclass(slots=True, eq=False)
class DiscreteJob:
    """A running job of a discrete queue."""

    ends_at: float  # in database seconds: see World
    instance: Instance
    queue: SimQueue
    fetched_at: int

    def __lt__(self, other: DiscreteJob) -> bool:
        return self.ends_at < other.ends_at


@dataclass(slots=True, eq=False)
class Instance:
    """One instance number: its unit, and its process unless the unit is inactive. Times are seconds of the trace."""

    key: InstanceKey
    group: Group
    threads: int
    state: UnitState = UnitState.INACTIVE
    state_since: int = 0
    started_at: int = 0
    invocation: int = 0  # a new one for each process
    pid: int = 0
    quieted_at: int | None = None
    #: Each holds a thread; in the order they were fetched.
    jobs: dict[DiscreteJob, None] = field(default_factory=dict)
    open_connections: int = 0
    beat_at: int | None = None  # None: no heartbeat yet
    beat_quiet: bool = False
    #: Busy threads by queue, and those of them with a job younger than YOUNG_SECONDS.
    beat_busy: Counter[str] = field(default_factory=Counter)
    beat_young: Counter[str] = field(default_factory=Counter)

    @property
    def fetches(self) -> bool:
        return self.state is UnitState.ACTIVE and self.quieted_at is None

    @property
    def present(self) -> bool:
        return self.state is not UnitState.INACTIVE

    @property
    def idle_since_quiet(self) -> bool:
        """Whether a heartbeat that was sent after the quiet says quiet and idle."""
        if self.quieted_at is None or self.beat_at is None or self.beat_at <= self.quieted_at:
            return False
        return self.beat_quiet and not self.beat_busy.total()

    def beat(self, now: int, fluid: dict[str, float], hanging: bool, chance: random.Random) -> None:
        """Write a heartbeat. `fluid`: mean busy threads of each fluid queue. Jobs that hang are not young."""
        self.beat_at, self.beat_quiet = now, self.quieted_at is not None
        busy = Counter(job.queue.name for job in self.jobs)
        young = Counter(job.queue.name for job in self.jobs if now - job.fetched_at < YOUNG_SECONDS)
        if self.fetches:
            free = self.threads - len(self.jobs)
            for name, mean in fluid.items():
                threads = self._sample_busy_threads(mean, free, chance)
                if threads:
                    busy[name] += threads
                    young[name] += 0 if hanging else threads
                    free -= threads
        self.beat_busy, self.beat_young = busy, young

    def _sample_busy_threads(self, mean: float, free: int, chance: random.Random) -> int:
        """Busy threads at one moment, at most `free`. The fewer threads are idle, the less this scatters."""
        available = self.threads - len(self.jobs)
        if available <= 0 or free <= 0:
            return 0
        share = min(1.0, mean / available)
        spread = math.sqrt(mean * (1.0 - share))
        return min(free, max(0, round(chance.gauss(mean, spread))))

    def quiet(self, now: int) -> None:
        if self.quieted_at is None:
            self.quieted_at = now
            self.group.refresh()

    def become(self, state: UnitState, now: int) -> None:
        if state is not self.state:
            self.state = state
            self.state_since = now
        self.group.refresh()


class Group:
    """All instances of one profile on a host. Their free threads are one pool, given out anew each second.

    `refresh` caches what each second needs, because it changes only a few times an hour.
    """

    def __init__(self, machine: Machine, profile: Profile, queues: dict[str, SimQueue]) -> None:
        self.machine = machine
        self.profile = profile
        self.instances = self._stopped()
        self.present: list[Instance] = []
        self.fetching: list[Instance] = []
        self.capacity = 0  # instances that serve, or will once they have booted
        self.claims_connections = 0
        self.queues = [queues[name] for name, _ in profile.queues if name in queues]
        self._weights = dict(profile.queues)
        self.fluid_busy: dict[str, float] = {}  # mean busy threads of each fluid queue in the last second
        self.busy_threads = 0.0  # their sum
        self.unflushed_jobs = 0.0  # done, and not yet counted by a heartbeat
        self._hung_jobs = 0  # fetched while Postgres was down, and not done yet
        self._turn = 0  # the instance that fetched last
        #: When threads became free in this second, and whose.
        self.freed: deque[tuple[float, Instance]] = deque()
        self.started: list[DiscreteJob] = []  # in this second
        self.free = 0.0  # threads
        self._slowdown = 1.0
        self._database_seconds = 0.0

    def _stopped(self) -> list[Instance]:
        return [Instance(key, self, self.profile.threads) for key in self.profile.numbers]

    def refresh(self) -> None:
        """Call this when an instance's state has changed, or when it was quieted, or what its host reaches."""
        self.present = [i for i in self.instances if i.present]
        self.fetching = [i for i in self.present if i.fetches] if self.machine.fetches else []
        self.capacity = sum(1 for i in self.present if i.quieted_at is None)
        self.claims_connections = len(self.present) * self.profile.claim_connections

    def lose_all(self) -> list[Instance]:
        """The host's power is gone: all stop at once. Returns what was present, as it was."""
        lost, before = self.present, self.instances
        self.instances = self._stopped()
        for fresh, gone in zip(self.instances, before, strict=True):
            fresh.invocation = gone.invocation  # no process has the name of an earlier one
        self.fluid_busy, self.busy_threads, self.unflushed_jobs, self._hung_jobs = {}, 0.0, 0.0, 0
        self.freed.clear()
        self.refresh()
        return lost

    def in_flight(self, instance: Instance) -> int:
        """Jobs that it runs. Those of fluid queues are shared alike by all that fetch."""
        fluid = self.busy_threads / max(1, len(self.fetching)) if instance.fetches else 0.0
        return len(instance.jobs) + round(fluid)

    def begin_second(self, slowdown: float, database_seconds: float) -> None:
        """Free all threads that no discrete job holds."""
        self.free = float(sum([i.threads - len(i.jobs) for i in self.fetching]))
        self._slowdown = slowdown
        self._database_seconds = database_seconds
        self.started = []
        self.fluid_busy = {}
        self.unflushed_jobs += self._hung_jobs
        self._hung_jobs = 0

    def serve(self, now: int) -> None:
        """Fetch as many of the offered jobs as the free threads can do in this second, and do them."""
        if self.profile.order == "weighted":
            self._serve_by_weight(now)
            return
        for queue in self.queues:
            if self.free <= 0.0:
                break
            if queue.offered:
                self._take(queue, self._jobs_that_fit(queue, self.free), now)

    def _serve_by_weight(self, now: int) -> None:
        """Each fetch picks a queue with work by weight. What one queue does not need, the others get."""
        left = [(q, self._weights[q.name], self._cost(q)) for q in self.queues if q.offered]
        while left and self.free > 1e-9:
            rounds = self.free / sum([weight * cost for _, weight, cost in left])
            more = []
            for entry in left:
                queue, weight, _ = entry
                if queue.offered <= rounds * weight:
                    self._take(queue, queue.offered, now)
                else:
                    more.append(entry)
            if len(more) < len(left):
                left = more
                continue
            for queue, weight, cost in left:
                share = rounds * weight * cost
                self._take(queue, self._jobs_that_fit(queue, min(share, self.free)), now)
            return

    def hang(self, now: int) -> None:
        """Postgres answers no query: running jobs hang, and each free thread fetches a job that hangs, too."""
        self.started = []
        if not self.fetching:
            self.idle()
            return
        threads = sum([i.threads - len(i.jobs) for i in self.fetching])
        for queue in self.queues:
            jobs = min(threads - math.ceil(sum(self.fluid_busy.values())), queue.offered)
            if jobs <= 0:
                continue
            if queue.discrete:
                before = queue.waiting + queue.fresh
                self._start(queue, jobs, now)
                threads -= before - queue.waiting - queue.fresh
            else:
                queue.take(jobs, now)
                self.fluid_busy[queue.name] = self.fluid_busy.get(queue.name, 0.0) + jobs
                self._hung_jobs += jobs

    def idle(self) -> None:
        """Nothing is served in this second."""
        self.fluid_busy, self.busy_threads = {}, 0.0

    def open_connections(self) -> None:
        """After a second's work: connections are opened when they are first needed, and kept."""
        if not self.fetching:
            return
        self.busy_threads = sum(self.fluid_busy.values())
        fluid = math.ceil(self.busy_threads / len(self.fetching))
        for instance in self.fetching:
            busy = len(instance.jobs) + fluid
            if busy > instance.open_connections:
                instance.open_connections = min(instance.threads, busy)

    def _cost(self, queue: SimQueue) -> float:
        """Thread-seconds of this second that one job takes."""
        return 1.0 if queue.discrete else queue.mean_seconds * self._slowdown

    def _jobs_that_fit(self, queue: SimQueue, thread_seconds: float) -> int:
        """Whole jobs; the fraction of a started one is carried into the next second."""
        fits = thread_seconds / self._cost(queue) + queue.carry
        if fits >= queue.offered:
            queue.carry = 0.0
            return queue.offered
        whole = int(fits)
        queue.carry = fits - whole
        return whole

    def _take(self, queue: SimQueue, jobs: int, now: int) -> None:
        if jobs <= 0:
            return
        if queue.discrete:
            self._start(queue, jobs, now)
            return
        queue.take(jobs, now)
        used = jobs * queue.mean_seconds * self._slowdown
        if used > self.free:
            used = max(self.free, 0.0)
        self.free -= used
        self.fluid_busy[queue.name] = self.fluid_busy.get(queue.name, 0.0) + used
        self.unflushed_jobs += jobs

    def _start(self, queue: SimQueue, threads: int, now: int) -> None:
        """Fetch discrete jobs until so many threads are held. A job that has ended by now holds none."""
        held = 0
        while held < threads and queue.offered > 0:
            begins_at, instance = self._next_thread(queue.waiting > 0)
            queue.take(1, now)
            ends_at = begins_at + queue.sample_service_seconds()
            if ends_at <= self._database_seconds:
                self.unflushed_jobs += 1
                self.freed.append((ends_at, instance))
                continue
            job = DiscreteJob(ends_at, instance, queue, now)
            instance.jobs[job] = None
            held += 1
            self.started.append(job)
        self.free -= held

    def _next_thread(self, waited: bool) -> tuple[float, Instance]:
        """Who fetches a job, and when: a waiting one goes to a thread just freed, others to the next instance."""
        fetching = self.fetching
        while waited and self.freed:
            freed_at, instance = self.freed.popleft()
            if instance.fetches and len(instance.jobs) < instance.threads:
                return freed_at, instance
        for _ in range(len(fetching)):
            self._turn = (self._turn + 1) % len(fetching)
            instance = fetching[self._turn]
            if len(instance.jobs) < instance.threads:
                break
        return self._database_seconds, instance


def serve_together(fetching: list[Group], queues: dict[str, SimQueue], chance: random.Random, now: int) -> None:
    """Idle threads of all groups fetch alike: each group serves its part of every queue before any serves the rest."""
    chance.shuffle(fetching)
    parts: dict[tuple[str, Group], int] = {}
    for name, queue in queues.items():
        ready = queue.waiting + queue.fresh
        if not ready:
            continue
        serving = [group for group in fetching if queue in group.queues]
        idle = sum([group.free for group in serving])
        if idle:
            for group in serving:
                parts[name, group] = int(ready * group.free / idle + chance.random())
    for group in fetching:
        for queue in group.queues:
            part = parts.get((queue.name, group), 0)
            queue.offered = min(part, queue.waiting + queue.fresh)
        group.serve(now)
