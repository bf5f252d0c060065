"""Saturation: more workers would not help, because everyone waits for the database.

The vicious circle that was feared: queues are late, so more workers start, so the database slows down, so the queues
get later. There are three signs of saturation:

- Clients wait for a server connection of PgBouncer's pool.
- Mastodon's queries wait for locks or I/O in Postgres.
- More threads brought no more throughput, or each thread does less while a third of the queries wait; and most busy
  threads are in the database.

The first sign stops growth at once, the others after 15 s. If a sign lasts, one instance goes (the least important,
never below `min`), sooner when clients wait and the fleet has just grown. Then nothing grows for 12 minutes; each
further time doubles that, up to an hour. If throughput fell with the instance that went, it comes back.

Growth is careful even before that. While a third of the queries wait, instances start one at a time, some time apart,
to see what each brings. Growth also takes no more of PgBouncer's pool than is free: a new thread is assumed to need as
many server connections as are at work per busy thread now. Web's connections are in that figure, so it may be too high:
where half of the need is free, one instance at a time is tried.
"""

from __future__ import annotations

import math

from msgspec import structs

from fleetd.core.capacity.throughput import SizeVerdict, ThroughputMemory, remember_throughput, too_many_instances
from fleetd.core.instances.host_tick import HostTick
from fleetd.core.model import reasons
from fleetd.core.model.facts import DatabaseFacts, Known, PoolFacts, SidekiqFacts, Snapshot, Value

#: Queries count as waiting if at least this many are under way, and at least this share of them is stalled.
ACTIVE_MIN = 8
STALLED_SHARE = 0.5
#: From this stalled share on the database is strained; and how long each new instance is then watched.
STRAINED_SHARE = 0.33
TRIAL_SECONDS = 90.0
#: The database limits throughput if this share of the busy threads is in a query, or this share of the pool is at work.
DATABASE_SHARE = 0.5
POOL_FULL_SHARE = 0.9
#: How long signs other than PgBouncer's must last to stop growth.
LASTS_SECONDS = 15.0
#: How long a sign must last before an instance goes: while clients wait after our own growth, and otherwise. The next
#: one goes after twice as long at the earliest.
STEP_BACK_AFTER_GROWTH_SECONDS = 10.0
STEP_BACK_SECONDS = 60.0
#: The same while queries wait. On a database larger than its memory it is normal that queries wait for the disk: that
#: stops growth, but an instance goes only if it lasts long.
STEP_BACK_WHILE_STALLED_SECONDS = 300.0
#: If far too many run, at most this share goes in one step: the estimate comes from other jobs and may be wrong.
STEP_BACK_SHARE_MAX = 0.25
#: How long our own growth counts as recent.
GREW_SECONDS = 300.0
#: How long nothing grows after an instance went; doubled each further time, up to the second figure.
HOLD_SECONDS, HOLD_SECONDS_MAX = 720.0, 3600.0
#: Time constant of the means of server connections at work and of busy threads.
MEAN_SECONDS = 20.0
SERVERS_PER_THREAD_MIN = 0.05
READING_GAP_SECONDS_MAX = 60.0


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
    going_instances: int = 0  # how many that step has still to let go
    active_servers_mean: float | None = None  # server connections at work in Mastodon's pool
    busy_threads_mean: float = 0.0
    throughput: ThroughputMemory = ThroughputMemory()


class Saturation(Value, frozen=True, kw_only=True):
    """This tick's verdict on the database, and what is left of PgBouncer's pool."""

    sign: reasons.SaturationSign | None = None  # what shows saturation now; None: nothing does
    holds: reasons.SaturationSign | reasons.GrowthTriedAgain | None = None  # why nothing grows above min
    careful: reasons.OneAtATime | reasons.ThroughputComesBack | None = None  # why growth is one instance at a time
    trial: bool = True  # whether careful growth may start the next one now
    step_back: bool = False  # one instance goes
    going_instances: int = 0  # how many more go in the next ticks
    servers_per_thread: float = 1.0
    pool_connections: int = 0
    pool_left_connections: float | None = None  # None: no pool, or nobody has used it yet
    pool_trial: bool = False  # none is booting, so one may be tried where half of what it needs is free


def assess_saturation(tick: HostTick, memory: SaturationMemory) -> tuple[Saturation, SaturationMemory]:
    """This tick's verdict, and the memory with its snapshot."""
    sign, memory = _remember(tick, memory)
    now, since = tick.now_seconds, memory.waits_since_seconds
    lasts = now - since if sign is not None and since is not None else -1.0
    at_once = isinstance(sign, reasons.ClientsWait)
    holds: reasons.SaturationSign | reasons.GrowthTriedAgain | None = (
        sign if at_once or lasts >= LASTS_SECONDS else None
    )
    if holds is None and now < memory.hold_until_seconds:
        holds = reasons.GrowthTriedAgain(left_seconds=memory.hold_until_seconds - now)
    going = memory.going_instances if sign is not None else 0
    due = sign is not None and not going and _step_is_due(memory, sign, lasts, now)
    capacity = [v for v in tick.active if v.profile is not None and v.is_capacity]
    coming_threads = sum(v.threads for v in capacity if not v.serves)
    strained = _strained(tick.snapshot)
    careful: reasons.OneAtATime | reasons.ThroughputComesBack | None = None
    if strained is not None or memory.stepped_seconds is not None:
        careful = reasons.OneAtATime(strained=strained)
    if sign is None and holds is not None and _missed(memory, len(capacity)):
        holds, careful = None, reasons.ThroughputComesBack()
    grew, pool, per_thread = memory.grew_seconds, _pool(tick.snapshot), _servers_per_thread(memory)
    return Saturation(
        sign=sign,
        holds=holds,
        careful=careful,
        trial=coming_threads == 0 and (grew is None or not 0.0 <= now - grew < TRIAL_SECONDS),
        step_back=due or going > 0,
        going_instances=_step(tick, memory) - 1 if due else max(0, going - 1),
        servers_per_thread=per_thread,
        pool_connections=pool.size_connections if pool is not None else 0,
        pool_left_connections=_pool_left(pool, memory, coming_threads * per_thread),
        pool_trial=pool is not None and coming_threads == 0,
    ), memory


def _remember(tick: HostTick, memory: SaturationMemory) -> tuple[reasons.SaturationSign | None, SaturationMemory]:
    """Fold in one snapshot. A source that can't be read changes nothing: a missing sign does not prove calm."""
    snapshot, now = tick.snapshot, tick.now_seconds
    memory = _means(snapshot, tick.sidekiq, memory)
    if tick.sidekiq is not None:
        throughput = remember_throughput(memory.throughput, tick.sidekiq, now)
        memory = structs.replace(memory, throughput=throughput)
    if tick.instances is not None:
        count = sum(1 for v in tick.active if v.profile is not None and v.serves)
        grew = memory.instances is not None and count > memory.instances
        memory = structs.replace(memory, instances=count, grew_seconds=now if grew else memory.grew_seconds)
    sign = _sign(tick, memory.throughput)
    if not (isinstance(snapshot.pgbouncer, Known) or isinstance(snapshot.database, Known)):
        return sign, structs.replace(memory, at_seconds=now)
    if sign is None:
        memory = structs.replace(memory, waits_since_seconds=None, going_instances=0)
    elif memory.waits_since_seconds is None or now < memory.waits_since_seconds:
        memory = structs.replace(memory, waits_since_seconds=now)
    stepped = memory.stepped_seconds
    over = stepped is not None and now - stepped > HOLD_SECONDS_MAX + memory.hold_seconds
    if over and not memory.throughput.flat_out:  # while all threads are busy, the cause goes on
        memory = structs.replace(memory, hold_seconds=HOLD_SECONDS, stepped_seconds=None)
    elif memory.throughput.verdict == SizeVerdict.GROWTH_PAID and now >= memory.hold_until_seconds:
        memory = structs.replace(memory, hold_seconds=HOLD_SECONDS)
    return sign, structs.replace(memory, at_seconds=now)


def _means(snapshot: Snapshot, sidekiq: SidekiqFacts | None, memory: SaturationMemory) -> SaturationMemory:
    pool = _pool(snapshot)
    if pool is None or sidekiq is None or not sidekiq.processes_complete:
        return memory
    busy = sum(p.busy_threads for p in sidekiq.processes)
    elapsed = snapshot.now_seconds - memory.at_seconds if memory.at_seconds is not None else -1.0
    before = memory.active_servers_mean
    if before is None or not 0.0 <= elapsed <= READING_GAP_SECONDS_MAX:
        return structs.replace(memory, active_servers_mean=float(pool.active_servers), busy_threads_mean=float(busy))
    keep = math.exp(-elapsed / MEAN_SECONDS)
    return structs.replace(
        memory,
        active_servers_mean=before * keep + pool.active_servers * (1.0 - keep),
        busy_threads_mean=memory.busy_threads_mean * keep + busy * (1.0 - keep),
    )


def _pool(snapshot: Snapshot) -> PoolFacts | None:
    bouncer = snapshot.pgbouncer
    return bouncer.value.mastodon_pool if isinstance(bouncer, Known) else None


def _sign(tick: HostTick, throughput: ThroughputMemory) -> reasons.SaturationSign | None:
    """The sign of saturation in this tick; None: there is none."""
    pool, database = _pool(tick.snapshot), tick.snapshot.database
    if pool is not None and pool.waiting_clients > 0:
        return reasons.ClientsWait(
            waiting_clients=pool.waiting_clients,
            pool_connections=pool.size_connections,
            longest_wait_seconds=pool.longest_wait_seconds,
        )
    no_gain = _no_gain(tick, throughput)
    if no_gain is not None or not isinstance(database, Known):
        return no_gain
    return _stalled(database.value, STALLED_SHARE)


def _stalled(facts: DatabaseFacts, share: float) -> reasons.QueriesWait | None:
    active, stalled = facts.active_backends, facts.stalled_backends
    if active is None or stalled is None or active < ACTIVE_MIN or stalled < share * active:
        return None
    return reasons.QueriesWait(stalled_queries=stalled, active_queries=active)


def _strained(snapshot: Snapshot) -> reasons.QueriesWait | None:
    """The reason that a third of the queries wait; None: they don't, or that is unknown."""
    return _stalled(snapshot.database.value, STRAINED_SHARE) if isinstance(snapshot.database, Known) else None


def _no_gain(tick: HostTick, throughput: ThroughputMemory) -> reasons.ThroughputStays | reasons.ThreadsDoLess | None:
    sidekiq, snapshot, verdict = tick.sidekiq, tick.snapshot, throughput.verdict
    if throughput.efficient or sidekiq is None or not sidekiq.processes_complete:
        return None
    too_many = 0
    if verdict == SizeVerdict.SHRINK_FREE or _strained(snapshot) is not None:
        too_many = too_many_instances(throughput, sidekiq)
    if verdict != SizeVerdict.GROWTH_IN_VAIN and not too_many:
        return None
    busy = sum(p.busy_threads for p in sidekiq.processes)
    pool, database = _pool(snapshot), snapshot.database
    full = pool is not None and pool.active_servers >= POOL_FULL_SHARE * pool.size_connections
    active = database.value.active_backends if isinstance(database, Known) else None
    within = active is not None and active >= ACTIVE_MIN and active >= DATABASE_SHARE * busy
    if not (full or within):
        return None  # threads wait for something else, such as other servers or a mail relay
    pace, useful = throughput.pace, throughput.useful_threads
    if too_many and pace is not None and useful is not None:
        return reasons.ThreadsDoLess(threads=pace.threads, useful_threads=useful)
    return reasons.ThroughputStays(jobs_per_second=pace.jobs_per_second if pace is not None else None)


def _step_is_due(memory: SaturationMemory, sign: reasons.SaturationSign, lasts: float, now: float) -> bool:
    """Whether the sign has lasted long enough, and the last step back was long enough ago."""
    grew = memory.grew_seconds is not None and 0.0 <= now - memory.grew_seconds < GREW_SECONDS
    patience = STEP_BACK_SECONDS
    if isinstance(sign, reasons.QueriesWait):
        patience = STEP_BACK_WHILE_STALLED_SECONDS
    elif grew and isinstance(sign, reasons.ClientsWait):
        patience = STEP_BACK_AFTER_GROWTH_SECONDS
    stepped = memory.stepped_seconds
    return lasts >= patience and (stepped is None or now - stepped >= 2.0 * patience or now < stepped)


def _step(tick: HostTick, memory: SaturationMemory) -> int:
    """How many instances go in this step, one a tick: one, or up to a quarter if far too many strain the database."""
    if tick.sidekiq is None or _strained(tick.snapshot) is None or not memory.throughput.flat_out:
        return 1
    too_many = too_many_instances(memory.throughput, tick.sidekiq)
    return max(1, min(too_many, int((memory.instances or 0) * STEP_BACK_SHARE_MAX)))


def _missed(memory: SaturationMemory, running: int) -> bool:
    """Whether the last step back cost throughput, and nothing has replaced what went."""
    costly = memory.throughput.verdict == SizeVerdict.SHRINK_COSTLY
    return costly and running < memory.stepped_from_instances


def _servers_per_thread(memory: SaturationMemory) -> float:
    """Server connections at work per busy thread, at most 1. Web's are included, which errs on the careful side."""
    at_work, busy = memory.active_servers_mean or 0.0, memory.busy_threads_mean
    return min(1.0, max(SERVERS_PER_THREAD_MIN, (at_work + 1.0) / (busy + 1.0)))


def _pool_left(pool: PoolFacts | None, memory: SaturationMemory, coming: float) -> float | None:
    if pool is None:
        return None
    at_work = max(float(pool.active_servers), memory.active_servers_mean or 0.0)
    return POOL_FULL_SHARE * pool.size_connections - at_work - coming


def stepped_back(memory: SaturationMemory, saturation: Saturation, now_seconds: float) -> SaturationMemory:
    """Remember that one instance was let go, and stop growth for a time that doubles with each step."""
    left = saturation.going_instances
    if memory.going_instances > left:  # one more of the same step
        return structs.replace(memory, going_instances=left)
    first = memory.stepped_seconds is None
    seconds = HOLD_SECONDS if first else memory.hold_seconds
    going_on = not first and now_seconds < memory.hold_until_seconds  # still the same bottleneck
    return structs.replace(
        memory,
        stepped_seconds=now_seconds,
        stepped_from_instances=memory.instances or 0,
        going_instances=left,
        hold_until_seconds=now_seconds + seconds,
        hold_seconds=seconds if going_on else min(HOLD_SECONDS_MAX, 2.0 * seconds),
    )
