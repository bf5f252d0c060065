"""More workers would not help: the database is what everyone waits for.

The vicious circle that was feared: queues late, so more workers, so a slower database, so later queues. Three signs:
clients wait for a server connection of PgBouncer's pool; queries of Mastodon's wait for locks or I/O in Postgres; more
threads brought no throughput, or do less each while a third of the queries wait, and most of them sit in the database.
The first sign holds growth at once, the others once they last. If it lasts, one instance goes (the least important,
never below min), sooner when clients wait and the fleet has just grown; then nothing grows for twelve minutes, twice as
long after each further time, an hour at most, before it is tried again. Where throughput went with the one that was let
go, that was one too many: it comes back.

Before that, growth is careful: while a third of the queries wait, one instance at a time, a while apart, to see what it
brings. And growth takes no more of PgBouncer's pool than is free: as many server connections a thread as are at work
for each busy thread now. Web's are in that, so where half of this is free one instance at a time is tried.

Throughput is jobs a minute before and after the fleet grew, both flat out. Sidekiq's counters are flushed every beat
and swing between nothing and twice the truth over a tick; over a minute they hold. A comparison counts only where all
threads were busy in both minutes, else the throughput was what came in.
"""

from __future__ import annotations

import math

from msgspec import structs

from fleetd.core.instances.lifecycle import InstanceView
from fleetd.core.model.facts import (
    DatabaseFacts,
    Known,
    PgBouncerFacts,
    PoolFacts,
    ProcessFacts,
    SidekiqFacts,
    Snapshot,
    Value,
)
from fleetd.core.model.policy import SCHEDULER_QUEUE

WINDOW_SECONDS = 60.0
#: A window this much shorter holds a flush too few, and shows a loss where there is none.
WHOLE_SHARE = 0.95
SAMPLES_MAX = 16
SAMPLE_EVERY_SECONDS = 4.0
#: Flat out: this share of the threads was busy.
FLAT_OUT_SHARE = 0.85
#: The fleet was of one size: no sample differs more than this from the mean.
STEADY_SHARE = 0.08
#: A change of size that can tell something, and the share of it that throughput must follow.
CHANGE_SHARE = 0.15
GAIN_SHARE_MIN = 0.25
#: One that was let go was one too many only if clearly missed: single minutes differ by a twentieth by chance.
COSTLY_SHARE_MIN = 0.5
#: What the last change of size showed says nothing of the jobs that come later.
VERDICT_SECONDS = 300.0
#: Threads that do this share of the most that one was ever seen to do are at work, not in each other's way.
EFFICIENT_SHARE = 0.87
#: The most that was seen is forgotten slowly, for jobs change: by this share a window.
FORGOTTEN_SHARE = 0.0005


class Sample(Value, frozen=True, kw_only=True):
    at_seconds: float
    processed_jobs_total: int
    busy_threads: int
    threads: int


class Pace(Value, frozen=True, kw_only=True):
    """What a fleet of this size did, flat out."""

    threads: float
    jobs_per_second: float


class ThroughputMemory(Value, frozen=True, kw_only=True):
    samples: tuple[Sample, ...] = ()  # of the last WINDOW_SECONDS, oldest first
    pace: Pace | None = None  # of the last minute in which all were busy
    flat_out: bool = False  # that was this one
    # What the last change of size showed: it moved the throughput by less than GAIN_SHARE_MIN of it, or clearly.
    fruitless: bool = False  # growth that brought nothing
    paid: bool = False  # growth that brought something
    spared: bool = False  # a shrink that took nothing
    costly: bool = False  # a shrink that took the throughput along
    judged_seconds: float | None = None  # when that was found
    best_jobs_per_thread_second: float = 0.0  # flat out

    @property
    def useful_threads(self) -> float | None:
        """So many, each doing the most one was seen to do, would do what all did at the last pace; None: not known."""
        if self.pace is None or not self.best_jobs_per_thread_second:
            return None
        return self.pace.jobs_per_second / self.best_jobs_per_thread_second

    @property
    def efficient(self) -> bool:
        """Whether at the last pace the threads did about as much as they ever do."""
        useful = self.useful_threads
        return self.pace is not None and useful is not None and useful >= EFFICIENT_SHARE * self.pace.threads


def too_many_instances(memory: ThroughputMemory, sidekiq: SidekiqFacts) -> int:
    """Instances without which as much would be done, if each thread did what one was seen to do."""
    useful, pace = memory.useful_threads, memory.pace
    sizes = [p.threads for p in _serving(sidekiq) if p.threads]
    if pace is None or useful is None or not sizes:
        return 0
    return max(0, int((pace.threads - useful) / min(sizes)))


def _serving(sidekiq: SidekiqFacts) -> list[ProcessFacts]:
    return [p for p in sidekiq.processes if not p.quiet and p.queues != {SCHEDULER_QUEUE}]


def remember_throughput(
    memory: ThroughputMemory, sidekiq: SidekiqFacts, now_seconds: float
) -> ThroughputMemory:
    """Fold in one reading."""
    judged = memory.judged_seconds
    if judged is not None and not 0.0 <= now_seconds - judged <= VERDICT_SECONDS:
        memory = structs.replace(
            memory, fruitless=False, paid=False, spared=False, costly=False, judged_seconds=None
        )
    total = sidekiq.processed_jobs_total
    if total is None or not sidekiq.processes_complete:
        return structs.replace(memory, samples=(), flat_out=False)
    last = memory.samples[-1] if memory.samples else None
    if last is not None and 0.0 <= now_seconds - last.at_seconds < SAMPLE_EVERY_SECONDS:
        return memory
    serving = _serving(sidekiq)
    sample = Sample(
        at_seconds=now_seconds,
        processed_jobs_total=total,
        busy_threads=sum(p.busy_threads for p in serving),
        threads=sum(p.threads for p in serving),
    )
    broken = last is not None and (now_seconds < last.at_seconds or total < last.processed_jobs_total)
    kept = () if broken else memory.samples
    kept = tuple(s for s in kept if now_seconds - s.at_seconds <= WINDOW_SECONDS)
    samples = (*kept, sample)[-SAMPLES_MAX:]
    pace = _pace(samples)
    memory = structs.replace(memory, samples=samples, flat_out=pace is not None)
    if pace is None:
        return memory
    best = memory.best_jobs_per_thread_second * (1.0 - FORGOTTEN_SHARE)
    best = max(best, pace.jobs_per_second / pace.threads)
    return _judged(structs.replace(memory, best_jobs_per_thread_second=best, pace=pace), memory.pace, pace)


def _pace(samples: tuple[Sample, ...]) -> Pace | None:
    """What this window shows; None: too short, not flat out, or of changing size."""
    seconds = samples[-1].at_seconds - samples[0].at_seconds
    threads = sum(s.threads for s in samples) / len(samples)
    if seconds < WHOLE_SHARE * WINDOW_SECONDS or threads <= 0:
        return None
    if any(abs(s.threads - threads) > STEADY_SHARE * threads for s in samples):
        return None
    if sum(s.busy_threads for s in samples) / len(samples) < FLAT_OUT_SHARE * threads:
        return None
    jobs = samples[-1].processed_jobs_total - samples[0].processed_jobs_total
    return Pace(threads=threads, jobs_per_second=jobs / seconds)


def _judged(memory: ThroughputMemory, before: Pace | None, pace: Pace) -> ThroughputMemory:
    """What a change of size since the last pace shows; of the same size there is nothing to judge."""
    if before is None or before.jobs_per_second <= 0.0:
        return memory
    change = pace.threads / before.threads - 1.0
    if abs(change) < CHANGE_SHARE:
        return memory
    followed = (pace.jobs_per_second / before.jobs_per_second - 1.0) / change
    grew, nothing = change > 0.0, followed < GAIN_SHARE_MIN
    return structs.replace(
        memory,
        fruitless=grew and nothing,
        paid=grew and not nothing,
        spared=not grew and nothing,
        costly=not grew and followed >= COSTLY_SHARE_MIN,
        judged_seconds=memory.samples[-1].at_seconds,
    )


#: Postgres: of at least so many queries under way, this share waits.
ACTIVE_MIN = 8
STALLED_SHARE = 0.5
#: From this share on the database is strained; and how long one more is watched before the next.
STRAINED_SHARE = 0.33
TRIAL_SECONDS = 90.0
#: Most of the busy threads are within a query, or most of the pool is at work: then throughput is the database's.
DATABASE_SHARE = 0.5
POOL_FULL_SHARE = 0.9
#: How long signs other than PgBouncer's must last to hold growth.
LASTS_SECONDS = 15.0
#: A wait lasts: after our own growth, and otherwise; and the time between two steps back.
STEP_BACK_AFTER_GROWTH_SECONDS = 10.0
STEP_BACK_SECONDS = 60.0
#: Queries that wait for the disk are everyday on a database larger than its memory: they hold growth, and only where it
#: goes on for long does one step back.
STEP_BACK_WHILE_STALLED_SECONDS = 300.0
#: Of far too many this share goes: what a thread does was learnt from other jobs and may be wrong.
STEP_BACK_SHARE_MAX = 0.25
GREW_SECONDS = 300.0
HOLD_SECONDS, HOLD_SECONDS_MAX = 720.0, 3600.0
#: Time constant of the means of what is at work.
MEAN_SECONDS = 20.0
SERVERS_PER_THREAD_MIN = 0.05
READING_GAP_SECONDS_MAX = 60.0


#: How the second sign ends.
STALLS = "wait for locks or I/O"


class SaturationMemory(Value, frozen=True, kw_only=True):
    """What is remembered between ticks."""

    at_seconds: float | None = None
    waits_since_seconds: float | None = None
    hold_until_seconds: float = 0.0
    hold_seconds: float = HOLD_SECONDS
    stepped_seconds: float | None = None
    grew_seconds: float | None = None
    instances: int | None = None
    stepped_from_instances: int = 0  # how many there were before the last step back
    going_instances: int = 0  # of that step, those still to be let go
    active_servers_mean: float | None = None  # at work of Mastodon's pool
    busy_threads_mean: float = 0.0
    throughput: ThroughputMemory = ThroughputMemory()


class Saturation(Value, frozen=True, kw_only=True):
    """What this tick is told: why growth is held ("": it is not), and what is left of PgBouncer's pool."""

    sentence: str = ""
    step_back: bool = False
    going_instances: int = 0  # those that go with this one, in the next ticks
    waits: bool = False  # the sign is there now
    careful: str = ""  # why growth is one instance at a time ("": it is not)
    trial: bool = True  # if so, whether the next may come
    servers_per_thread: float = 1.0
    pool_room_connections: float | None = None  # None: no pool, or nobody has used it yet
    pool_size_connections: int = 0
    pool_trial: bool = False  # none is coming: one more may be tried where half of what it needs is free


def remember_saturation(
    memory: SaturationMemory, snapshot: Snapshot, instances: tuple[InstanceView, ...] | None
) -> SaturationMemory:
    """Fold in one snapshot. What can't be read leaves its part as it was: no sign is no proof of calm."""
    now = snapshot.now_seconds
    memory = _means(memory, snapshot)
    if isinstance(snapshot.sidekiq, Known):
        throughput = remember_throughput(memory.throughput, snapshot.sidekiq.value, now)
        memory = structs.replace(memory, throughput=throughput)
    if instances is not None:
        count = sum(1 for v in instances if v.profile and v.serves)
        grew = memory.instances is not None and count > memory.instances
        memory = structs.replace(memory, instances=count, grew_seconds=now if grew else memory.grew_seconds)
    if not _readable(snapshot):
        return structs.replace(memory, at_seconds=now)
    if not sign(snapshot, memory):
        memory = structs.replace(memory, waits_since_seconds=None, going_instances=0)
    elif memory.waits_since_seconds is None or now < memory.waits_since_seconds:
        memory = structs.replace(memory, waits_since_seconds=now)
    stepped = memory.stepped_seconds
    over = stepped is not None and now - stepped > HOLD_SECONDS_MAX + memory.hold_seconds
    if over and not memory.throughput.flat_out:  # with all threads busy, what brought it about goes on
        memory = structs.replace(memory, hold_seconds=HOLD_SECONDS, stepped_seconds=None)
    elif memory.throughput.paid and now >= memory.hold_until_seconds:
        memory = structs.replace(memory, hold_seconds=HOLD_SECONDS)
    return structs.replace(memory, at_seconds=now)


def _readable(snapshot: Snapshot) -> bool:
    return isinstance(snapshot.pgbouncer, Known) or isinstance(snapshot.database, Known)


def _means(memory: SaturationMemory, snapshot: Snapshot) -> SaturationMemory:
    pool = _pool(snapshot)
    if pool is None or not isinstance(snapshot.sidekiq, Known):
        return memory
    busy = sum(p.busy_threads for p in snapshot.sidekiq.value.processes)
    elapsed = snapshot.now_seconds - memory.at_seconds if memory.at_seconds is not None else -1.0
    before = memory.active_servers_mean
    if before is None or not 0.0 <= elapsed <= READING_GAP_SECONDS_MAX:
        return structs.replace(
            memory, active_servers_mean=float(pool.active_servers), busy_threads_mean=float(busy)
        )
    keep = math.exp(-elapsed / MEAN_SECONDS)
    return structs.replace(
        memory,
        active_servers_mean=before * keep + pool.active_servers * (1.0 - keep),
        busy_threads_mean=memory.busy_threads_mean * keep + busy * (1.0 - keep),
    )


def _pool(snapshot: Snapshot) -> PoolFacts | None:
    bouncer = snapshot.pgbouncer
    return bouncer.value.mastodon_pool if isinstance(bouncer, Known) else None


def sign(snapshot: Snapshot, memory: SaturationMemory) -> str:
    """What is waited for, as a sentence; "": no sign."""
    bouncer, database = snapshot.pgbouncer, snapshot.database
    return (
        (_clients_wait(bouncer.value) if isinstance(bouncer, Known) else "")
        or _no_gain(snapshot, memory)
        or (_queries_wait(database.value) if isinstance(database, Known) else "")
    )


def _clients_wait(facts: PgBouncerFacts) -> str:
    pool = facts.mastodon_pool
    if pool is None or pool.waiting_clients == 0:
        return ""
    who = "1 client waits" if pool.waiting_clients == 1 else f"{pool.waiting_clients} clients wait"
    return (
        f"more workers would not help: {who} for one of the {pool.size_connections} connections of PgBouncer's pool, "
        f"the longest for {pool.longest_wait_seconds:.1f} s"
    )


def _queries_wait(facts: DatabaseFacts) -> str:
    waiting = _stalled(facts, STALLED_SHARE)
    return f"more workers would not help: {waiting}" if waiting else ""


def _stalled(facts: DatabaseFacts, share: float) -> str:
    active, stalled = facts.active_backends, facts.stalled_backends
    if active is None or stalled is None or active < ACTIVE_MIN or stalled < share * active:
        return ""
    return f"{stalled} of {active} queries in Postgres {STALLS}"


def _no_gain(snapshot: Snapshot, memory: SaturationMemory) -> str:
    throughput = memory.throughput
    if throughput.efficient or not isinstance(snapshot.sidekiq, Known):
        return ""
    sidekiq = snapshot.sidekiq.value
    too_many = too_many_instances(throughput, sidekiq) if throughput.spared or _strained(snapshot) else 0
    if not (throughput.fruitless or too_many):
        return ""
    busy = sum(p.busy_threads for p in sidekiq.processes)
    pool, database = _pool(snapshot), snapshot.database
    full = pool is not None and pool.active_servers >= POOL_FULL_SHARE * pool.size_connections
    active = database.value.active_backends if isinstance(database, Known) else None
    within = active is not None and active >= ACTIVE_MIN and active >= DATABASE_SHARE * busy
    if not (full or within):
        return ""  # threads wait for something else: other servers, a mail relay
    pace, useful = throughput.pace, throughput.useful_threads
    jobs = f", {pace.jobs_per_second:.1f} jobs a second" if pace is not None else ""
    what = f"more threads brought no more throughput{jobs}"
    if too_many and pace is not None and useful is not None:
        what = f"{pace.threads:.0f} threads do what {useful:.0f} did while fewer ran"
    return f"more workers would not help: {what}, most sit in the database"


def _strained(snapshot: Snapshot) -> str:
    """That a third of the queries wait; "": they don't, or nobody knows."""
    return _stalled(snapshot.database.value, STRAINED_SHARE) if isinstance(snapshot.database, Known) else ""


def saturation_of(
    memory: SaturationMemory, snapshot: Snapshot, instances: tuple[InstanceView, ...]
) -> Saturation:
    """The terms of this tick; `memory` has already seen it."""
    now = snapshot.now_seconds
    found, since = sign(snapshot, memory), memory.waits_since_seconds
    bouncer = snapshot.pgbouncer
    at_once = isinstance(bouncer, Known) and bool(_clients_wait(bouncer.value))
    lasts = now - since if found and since is not None else -1.0
    sentence = found if at_once or lasts >= LASTS_SECONDS else ""
    if not sentence and now < memory.hold_until_seconds:
        left = memory.hold_until_seconds - now
        sentence = f"the database was the bottleneck: growth is tried again in {left:.0f} s"
    going = memory.going_instances if found else 0
    due = bool(found) and not going and _step_is_due(memory, found, at_once, lasts, now)
    pool = _pool(snapshot)
    per_thread = _servers_per_thread(memory)
    coming = sum(v.threads for v in instances if v.profile and v.is_capacity and not v.serves)
    why = _strained(snapshot) or (
        "the database was the bottleneck" if memory.stepped_seconds is not None else ""
    )
    careful = f"{why}: one more at a time, to see what it brings" if why else ""
    if not found and sentence and _missed(memory, instances):
        sentence, careful = (
            "",
            "throughput went with the one that was let go: it comes back, and no more than it",
        )
    room, trial = None, False
    if pool is not None:
        at_work = max(float(pool.active_servers), memory.active_servers_mean or 0.0)
        room = POOL_FULL_SHARE * pool.size_connections - at_work - coming * per_thread
        trial = coming == 0
    return Saturation(
        sentence=sentence,
        step_back=due or going > 0,
        going_instances=_step(snapshot, memory) - 1 if due else max(0, going - 1),
        waits=bool(found),
        careful=careful,
        trial=coming == 0
        and (memory.grew_seconds is None or not 0.0 <= now - memory.grew_seconds < TRIAL_SECONDS),
        servers_per_thread=per_thread,
        pool_room_connections=room,
        pool_size_connections=pool.size_connections if pool is not None else 0,
        pool_trial=trial,
    )


def _step_is_due(memory: SaturationMemory, found: str, at_once: bool, lasts: float, now: float) -> bool:
    """Whether the sign has lasted long enough, and the step before it is long enough ago."""
    grew = memory.grew_seconds is not None and 0.0 <= now - memory.grew_seconds < GREW_SECONDS
    patience = STEP_BACK_AFTER_GROWTH_SECONDS if grew and at_once else STEP_BACK_SECONDS
    patience = STEP_BACK_WHILE_STALLED_SECONDS if found.endswith(STALLS) else patience
    stepped = memory.stepped_seconds
    return lasts >= patience and (stepped is None or now - stepped >= 2.0 * patience or now < stepped)


def _step(snapshot: Snapshot, memory: SaturationMemory) -> int:
    """How many go one after the other: one, or of far too many in a strained database a quarter of all."""
    if not isinstance(snapshot.sidekiq, Known) or not _strained(snapshot) or not memory.throughput.flat_out:
        return 1
    too_many = too_many_instances(memory.throughput, snapshot.sidekiq.value)
    return max(1, min(too_many, int((memory.instances or 0) * STEP_BACK_SHARE_MAX)))


def _missed(memory: SaturationMemory, instances: tuple[InstanceView, ...]) -> bool:
    """Whether the last step back was one too many, and nothing has come in its place yet."""
    there = sum(1 for v in instances if v.profile and v.is_capacity)
    return memory.throughput.costly and there < memory.stepped_from_instances


def _servers_per_thread(memory: SaturationMemory) -> float:
    """Server connections at work for each busy thread; web's are in it too, which is the careful side."""
    at_work, busy = memory.active_servers_mean or 0.0, memory.busy_threads_mean
    return min(1.0, max(SERVERS_PER_THREAD_MIN, (at_work + 1.0) / (busy + 1.0)))


def stepped_back(memory: SaturationMemory, told: Saturation, now_seconds: float) -> SaturationMemory:
    """One was let go as told: growth waits, twice as long each time."""
    left = told.going_instances
    if memory.going_instances > left:  # it belongs to the step before
        return structs.replace(memory, going_instances=left)
    first = memory.stepped_seconds is None
    seconds = HOLD_SECONDS if first else memory.hold_seconds
    going_on = not first and now_seconds < memory.hold_until_seconds  # the same saturation, still
    return structs.replace(
        memory,
        stepped_seconds=now_seconds,
        stepped_from_instances=memory.instances or 0,
        going_instances=left,
        hold_until_seconds=now_seconds + seconds,
        hold_seconds=seconds if going_on else min(HOLD_SECONDS_MAX, 2.0 * seconds),
    )
