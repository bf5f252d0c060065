"""Whether more threads bring more throughput, judged by whole minutes in which all threads were busy."""

from __future__ import annotations

from fleetd.core.capacity.throughput import (
    SAMPLES_MAX,
    SizeVerdict,
    ThroughputMemory,
    remember_throughput,
    too_many_instances,
)
from fleetd.core.model.facts import SidekiqFacts
from fleetd.core.model.identity import SCHEDULER
from tests.support.builders.readings import process, sidekiq, tag


def reading(threads: int, total: int, *, busy: int | None = None, complete: bool = True) -> SidekiqFacts:
    beat = process(tag(1), threads=threads, busy=threads if busy is None else busy)
    cron = process(tag(SCHEDULER), queues="scheduler", threads=10, busy=0)
    return sidekiq(processes=(beat, cron), total=total, complete=complete)


class Fleet:
    """Consecutive minutes of a fleet with a given size and throughput."""

    def __init__(self) -> None:
        self.memory = ThroughputMemory()
        self.now = 1000.0
        self.total = 0.0

    def minutes(
        self, minutes: float, *, threads: int, jobs_per_second: float, busy: int | None = None
    ) -> ThroughputMemory:
        for _ in range(int(minutes * 12)):
            self.now += 5.0
            self.total += 5.0 * jobs_per_second
            facts = reading(threads, int(self.total), busy=busy)
            self.memory = remember_throughput(self.memory, facts, self.now)
        return self.memory


def test_twice_the_threads_with_the_same_throughput_is_growth_in_vain() -> None:
    fleet = Fleet()
    assert fleet.minutes(2, threads=50, jobs_per_second=100.0).verdict is None
    memory = fleet.minutes(3, threads=100, jobs_per_second=105.0)
    assert memory.verdict == SizeVerdict.GROWTH_IN_VAIN
    assert memory.pace is not None
    assert memory.pace.threads == 100


def test_growth_that_brings_throughput_has_paid() -> None:
    fleet = Fleet()
    fleet.minutes(2, threads=50, jobs_per_second=100.0)
    assert fleet.minutes(3, threads=100, jobs_per_second=160.0).verdict == SizeVerdict.GROWTH_PAID


def test_a_shrink_that_costs_no_throughput_is_free_and_more_may_be_too_many() -> None:
    fleet = Fleet()
    fleet.minutes(2, threads=50, jobs_per_second=100.0)
    fleet.minutes(3, threads=100, jobs_per_second=100.0)
    memory = fleet.minutes(3, threads=75, jobs_per_second=100.0)
    assert memory.verdict == SizeVerdict.SHRINK_FREE
    sizes = sidekiq(processes=tuple(process(tag(n), threads=10, busy=10) for n in (1, 2)))
    assert too_many_instances(memory, sizes) == 2, "75 do what 50 did"
    memory = fleet.minutes(3, threads=50, jobs_per_second=70.0)
    assert memory.verdict == SizeVerdict.SHRINK_COSTLY


def test_threads_that_are_not_all_busy_show_nothing() -> None:
    fleet = Fleet()
    fleet.minutes(2, threads=50, jobs_per_second=100.0)
    assert fleet.minutes(3, threads=100, jobs_per_second=100.0, busy=70).verdict is None


def test_the_window_restarts_when_the_counter_resets_or_a_heartbeat_is_unreadable() -> None:
    fleet = Fleet()
    kept = fleet.minutes(2, threads=50, jobs_per_second=100.0)
    assert remember_throughput(kept, reading(50, 0), fleet.now + 5.0).samples[0].processed_jobs_total == 0
    assert remember_throughput(kept, reading(50, 9, complete=False), fleet.now + 5.0).samples == ()


def test_memory_is_bounded_however_often_it_is_read() -> None:
    memory = ThroughputMemory()
    for second in range(600):
        memory = remember_throughput(memory, reading(50, 10 * second), 1000.0 + second)
        assert len(memory.samples) <= SAMPLES_MAX
    assert memory.pace is not None


def test_a_shrink_that_loses_throughput_is_costly_and_growth_that_regains_it_pays() -> None:
    fleet = Fleet()
    fleet.minutes(2, threads=100, jobs_per_second=100.0)
    assert fleet.minutes(3, threads=80, jobs_per_second=100.0).verdict == SizeVerdict.SHRINK_FREE
    assert fleet.minutes(3, threads=60, jobs_per_second=70.0).verdict == SizeVerdict.SHRINK_COSTLY
    assert fleet.minutes(3, threads=80, jobs_per_second=95.0).verdict == SizeVerdict.GROWTH_PAID


def test_slightly_less_throughput_is_taken_for_chance() -> None:
    fleet = Fleet()
    fleet.minutes(2, threads=100, jobs_per_second=100.0)
    assert fleet.minutes(3, threads=80, jobs_per_second=94.0).verdict is None


def test_a_verdict_is_forgotten_after_five_minutes() -> None:
    fleet = Fleet()
    fleet.minutes(2, threads=50, jobs_per_second=100.0)
    memory = fleet.minutes(5.5, threads=100, jobs_per_second=100.0)
    assert memory.verdict == SizeVerdict.GROWTH_IN_VAIN
    assert fleet.minutes(1, threads=100, jobs_per_second=100.0).verdict is None


def test_only_a_whole_minute_has_a_pace() -> None:
    fleet = Fleet()
    assert fleet.minutes(0.95, threads=50, jobs_per_second=100.0).pace is None
    assert fleet.minutes(0.2, threads=50, jobs_per_second=100.0).pace is not None


def test_threads_are_efficient_if_they_do_about_as_much_as_they_ever_did() -> None:
    fleet = Fleet()
    assert not fleet.memory.efficient
    assert fleet.minutes(2, threads=50, jobs_per_second=100.0).efficient
    assert fleet.minutes(2, threads=60, jobs_per_second=110.0).efficient
    assert not fleet.minutes(2, threads=80, jobs_per_second=110.0).efficient
