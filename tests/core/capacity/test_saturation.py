"""Saturation: its signs, what holds growth, when to step back, and when growth is tried again."""

from __future__ import annotations

from msgspec import structs

from fleetd.core.capacity.saturation import (
    HOLD_SECONDS,
    Saturation,
    SaturationMemory,
    assess_saturation,
    stepped_back,
)
from fleetd.core.capacity.throughput import Pace, SizeVerdict, ThroughputMemory
from fleetd.core.model.facts import DatabaseFacts, PgBouncerFacts, Unknown
from fleetd.core.model.identity import InstanceKey
from fleetd.core.model.policy_tables import Policy
from fleetd.core.model.reasons.counts import (
    ClientsWait,
    GrowthTriedAgain,
    OneAtATime,
    QueriesWait,
    ThreadsDoLess,
    ThroughputComesBack,
    ThroughputStays,
)
from fleetd.words.reasons import sentence
from tests.support.builders.readings import AWAY, bouncer, database, fleet, sidekiq, snapshot, tick_of
from tests.support.world.ports import policy, strict

RULES = policy()
TWENTY = policy(structs.replace(strict(), numbers=tuple(map(InstanceKey, range(1, 21))), max_instances=20))


class Watch:
    """Ticks 5 s apart, with readings of the sources."""

    def __init__(
        self,
        memory: SaturationMemory | None = None,
        *,
        running: int = 2,
        busy: int = 5,
        rules: Policy = RULES,
    ) -> None:
        self.rules = rules
        self.memory = memory or SaturationMemory()
        self.now = 10_000.0
        self.running, self.busy = running, busy
        self.jobs_per_tick, self.total = 0, 1000

    def tick(
        self,
        *,
        pgbouncer: PgBouncerFacts | Unknown | None = None,
        postgres: DatabaseFacts | None = None,
        complete: bool = True,
    ) -> Saturation:
        self.now += 5.0
        self.total += self.jobs_per_tick
        units, beats = fleet(self.running, busy=self.busy)
        shot = snapshot(
            self.rules,
            now=self.now,
            redis=sidekiq(processes=beats, total=self.total, complete=complete),
            units=units,
            postgres=postgres,
            pgbouncer=pgbouncer,
        )
        saturation, self.memory = assess_saturation(tick_of(self.rules, shot), self.memory)
        if saturation.step_back:
            self.memory = stepped_back(self.memory, saturation, self.now)
        return saturation


def stalled(active: int, waiting: int) -> DatabaseFacts:
    return structs.replace(database(), active_backends=active, stalled_backends=waiting)


def test_waiting_clients_hold_growth_at_once_and_calm_ends_it() -> None:
    watch = Watch()
    assert watch.tick(pgbouncer=bouncer()).holds is None
    saturation = watch.tick(pgbouncer=bouncer(waiting=2, active=20, wait=0.4))
    assert saturation.holds == ClientsWait(waiting_clients=2, pool_connections=20, longest_wait_seconds=0.4)
    assert sentence(saturation.holds) == (
        "more workers would not help: 2 clients wait for one of the 20 connections of PgBouncer's pool, "
        "the longest for 0.4 s"
    )
    assert not saturation.step_back
    assert watch.tick(pgbouncer=bouncer()).holds is None


def test_a_step_back_comes_soon_after_growth_and_later_otherwise() -> None:
    full = bouncer(waiting=2, active=20)
    grown = Watch()
    grown.tick(pgbouncer=bouncer())
    grown.running = 4
    assert [grown.tick(pgbouncer=full).step_back for _ in range(4)] == [False, False, True, False]

    as_ever = Watch()
    as_ever.tick(pgbouncer=bouncer())
    steps = [as_ever.tick(pgbouncer=full).step_back for _ in range(14)]
    assert steps.index(True) * 5 >= 60
    assert sum(steps) == 1


def test_growth_waits_after_a_step_back_and_waits_longer_each_time() -> None:
    watch = Watch()
    watch.tick(pgbouncer=bouncer())
    watch.running = 4
    full = bouncer(waiting=2, active=20)
    assert any(watch.tick(pgbouncer=full).step_back for _ in range(3))
    first = watch.memory.hold_until_seconds - watch.now
    assert first == HOLD_SECONDS
    saturation = watch.tick(pgbouncer=bouncer())
    assert saturation.holds == GrowthTriedAgain(left_seconds=715.0)
    assert sentence(saturation.holds) == "the database was the bottleneck: growth is tried again in 715 s"
    watch.now += first
    assert watch.tick(pgbouncer=bouncer()).holds is None, "tried again"
    watch.running = 5
    watch.tick(pgbouncer=bouncer())
    assert any(watch.tick(pgbouncer=full).step_back for _ in range(6))
    assert watch.memory.hold_until_seconds - watch.now == 2 * first


def test_queries_that_wait_in_postgres_must_last_to_hold_growth() -> None:
    watch = Watch()
    ticks = [watch.tick(postgres=stalled(20, 15)) for _ in range(5)]
    waits = QueriesWait(stalled_queries=15, active_queries=20)
    assert [t.holds for t in ticks] == [None, None, None, waits, waits]
    said = "more workers would not help: 15 of 20 queries in Postgres wait for locks or I/O"
    assert sentence(waits) == said
    assert watch.tick(postgres=stalled(20, 5)).holds is None
    few = Watch()
    assert [few.tick(postgres=stalled(4, 4)).holds for _ in range(9)] == [None] * 9, "too few to tell"


def test_waiting_queries_cause_a_step_back_only_if_they_last_long() -> None:
    watch = Watch()
    steps = [watch.tick(postgres=stalled(20, 15)).step_back for _ in range(190)]
    assert steps.index(True) * 5 >= 300
    assert sum(steps) == 2, "15 minutes: after 5, and 10 later"


def test_growth_in_vain_counts_only_while_the_threads_sit_in_the_database() -> None:
    in_vain = SaturationMemory(
        throughput=ThroughputMemory(verdict=SizeVerdict.GROWTH_IN_VAIN, pace=Pace(threads=100, jobs_per_second=80.0))
    )
    in_queries = Watch(in_vain, running=4, busy=5)  # 20 busy threads
    ticks = [in_queries.tick(postgres=stalled(16, 0)) for _ in range(5)]
    stays = ThroughputStays(jobs_per_second=80.0)
    assert ticks[-1].holds == stays
    assert sentence(stays) == (
        "more workers would not help: more threads brought no more throughput, 80.0 jobs a second, most wait "
        "in the database"
    )
    elsewhere = Watch(in_vain, running=4, busy=5)
    ticks = [elsewhere.tick(postgres=stalled(2, 0)) for _ in range(9)]
    assert [t.holds for t in ticks] == [None] * 9, "they wait for other servers"
    unread = Watch(in_vain, running=4, busy=5)
    ticks = [unread.tick(postgres=stalled(16, 0), complete=False) for _ in range(9)]
    assert [t.holds for t in ticks] == [None] * 9, "how many threads are busy is unknown"


def test_an_unreadable_source_does_not_count_as_calm() -> None:
    watch = Watch()
    watch.tick(pgbouncer=bouncer())
    watch.running = 4
    full = bouncer(waiting=2, active=20)
    watch.tick(pgbouncer=full)
    watch.tick(pgbouncer=AWAY)
    assert watch.tick(pgbouncer=full).step_back, "10 s since the first sign"


def test_growth_takes_no_more_of_the_pool_than_is_free() -> None:
    watch = Watch(running=2, busy=5)  # 10 busy threads with 9 servers: about one per thread
    for _ in range(10):
        saturation = watch.tick(pgbouncer=bouncer(active=9, size=20))
    assert saturation.pool_left_connections is not None
    assert round(saturation.servers_per_thread, 2) == 0.91
    assert round(saturation.pool_left_connections) == 18 - 9
    watch.busy = 0
    for _ in range(10):  # some heartbeats can't be read, so the threads of the others are not all
        saturation = watch.tick(pgbouncer=bouncer(active=9, size=20), complete=False)
    assert round(saturation.servers_per_thread, 2) == 0.91
    watch.busy = 5
    assert watch.tick(postgres=database()).pool_left_connections is None


def test_while_a_third_of_the_queries_wait_instances_start_one_at_a_time() -> None:
    watch = Watch()
    watch.tick(postgres=stalled(20, 2))
    assert watch.tick(postgres=stalled(20, 2)).careful is None
    strained = watch.tick(postgres=stalled(20, 8))
    assert (strained.holds, strained.trial) == (None, True)
    assert strained.careful == OneAtATime(strained=QueriesWait(stalled_queries=8, active_queries=20))
    assert sentence(strained.careful) == (
        "8 of 20 queries in Postgres wait for locks or I/O: one more at a time, to see what it brings"
    )
    watch.running = 3
    trials = [watch.tick(postgres=stalled(20, 8)).trial for _ in range(20)]
    assert trials.index(True) * 5 >= 85


def test_threads_as_productive_as_before_cause_no_step_back() -> None:
    pace = Pace(threads=100, jobs_per_second=480.0)
    busy = ThroughputMemory(verdict=SizeVerdict.GROWTH_IN_VAIN, pace=pace, best_jobs_per_thread_second=5.0)
    watch = Watch(SaturationMemory(throughput=busy), running=4, busy=5)
    assert [watch.tick(postgres=stalled(16, 0)).holds for _ in range(9)] == [None] * 9


def test_less_productive_threads_are_too_many_only_while_postgres_is_strained() -> None:
    pace = Pace(threads=40, jobs_per_second=144.0)  # 28.8 threads would do it at 5.0 each
    hindered = SaturationMemory(throughput=ThroughputMemory(pace=pace, best_jobs_per_thread_second=5.0))
    strained = Watch(hindered, running=4, busy=5)
    ticks = [strained.tick(postgres=stalled(16, 6)) for _ in range(14)]
    less = ticks[3].holds
    assert isinstance(less, ThreadsDoLess)
    assert (less.threads, round(less.useful_threads, 1)) == (40, 28.8)
    assert sentence(less) == (
        "more workers would not help: 40 threads do what 29 did while fewer ran, most wait in the database"
    )
    assert any(t.step_back for t in ticks)
    calm = Watch(hindered, running=4, busy=5)
    assert [calm.tick(postgres=stalled(16, 2)).holds for _ in range(10)] == [None] * 10
    # 7 threads would do it. With one of the two instances fewer there are 5.
    needed = structs.replace(hindered.throughput, pace=Pace(threads=10, jobs_per_second=35.0))
    all_needed = Watch(SaturationMemory(throughput=needed), running=4, busy=5)
    assert [all_needed.tick(postgres=stalled(16, 6)).holds for _ in range(10)] == [None] * 10


def test_when_a_step_back_cost_throughput_one_instance_comes_back() -> None:
    watch = Watch(running=4, busy=5)
    watch.tick(postgres=stalled(16, 0))
    watch.memory = stepped_back(watch.memory, Saturation(), watch.now)
    watch.running = 3
    assert isinstance(watch.tick(postgres=stalled(16, 0)).holds, GrowthTriedAgain)
    costly = structs.replace(watch.memory.throughput, verdict=SizeVerdict.SHRINK_COSTLY)
    watch.memory = structs.replace(watch.memory, throughput=costly)
    saturation = watch.tick(postgres=stalled(16, 0))
    assert (saturation.holds, saturation.trial) == (None, True)
    assert saturation.careful == ThroughputComesBack()
    assert sentence(saturation.careful).startswith("throughput fell when one was let go")
    watch.running = 4
    assert isinstance(watch.tick(postgres=stalled(16, 0)).holds, GrowthTriedAgain)


def test_after_a_bottleneck_growth_stays_careful_until_threads_are_idle_again() -> None:
    watch = Watch(running=4, busy=5)
    watch.tick(postgres=stalled(16, 0))
    watch.memory = stepped_back(watch.memory, Saturation(), watch.now)
    watch.now += HOLD_SECONDS
    saturation = watch.tick(postgres=stalled(16, 0))
    careful = OneAtATime(strained=None)
    assert (saturation.holds, saturation.careful) == (None, careful)
    assert sentence(careful) == ("the database was the bottleneck: one more at a time, to see what it brings")
    paid = structs.replace(watch.memory.throughput, verdict=SizeVerdict.GROWTH_PAID)
    watch.memory = structs.replace(watch.memory, throughput=paid)
    assert watch.tick(postgres=stalled(16, 0)).careful == careful, "one that paid is no reason for ten at once"
    assert watch.memory.hold_seconds == HOLD_SECONDS, "but the next that does not pay is tried again soon"
    # Only calm ends it, not time alone.
    since = watch.now
    while watch.tick(postgres=stalled(16, 0)).careful is not None:
        assert watch.now < since + 7200
        watch.busy = 5 if watch.now < since + 6000 else 1
    assert watch.now > since + 6000


def test_with_far_too_many_instances_a_quarter_goes_one_by_one() -> None:
    seen_to_do = ThroughputMemory(best_jobs_per_thread_second=5.0)
    watch = Watch(SaturationMemory(throughput=seen_to_do), running=20, rules=TWENTY)
    watch.jobs_per_tick = 500  # 100 threads do only what 20 did
    ticks = [watch.tick(postgres=stalled(80, 30)) for _ in range(40)]
    first = next(place for place, t in enumerate(ticks) if t.step_back)
    assert first * 5 >= 60
    assert [t.step_back for t in ticks[first : first + 7]] == [True] * 5 + [False] * 2, "a quarter of 20"
    held = watch.memory.hold_until_seconds - (watch.now - 5.0 * (len(ticks) - 1 - first))
    assert held == HOLD_SECONDS, "one step, one hold"
