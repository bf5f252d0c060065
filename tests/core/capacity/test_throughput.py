"""Whether more threads bring more throughput, told by whole minutes in which all threads were busy."""

from __future__ import annotations

from fleetd.core.capacity.saturation import (
    SAMPLES_MAX,
    ThroughputMemory,
    remember_throughput,
    too_many_instances,
)
from fleetd.core.model.facts import SidekiqFacts
from tests.support.builders.readings import process, sidekiq, tag


def reading(threads: int, total: int, *, busy: int | None = None, complete: bool = True) -> SidekiqFacts:
    beat = process(tag(1), threads=threads, busy=threads if busy is None else busy)
    cron = process(tag("scheduler"), queues="scheduler", threads=10, busy=0)
    return sidekiq(processes=(beat, cron), total=total, complete=complete)


class Fleet:
    """Minutes of a fleet of some size and throughput, one after the other."""

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


def test_twice_the_threads_with_the_same_throughput_are_fruitless() -> None:
    fleet = Fleet()
    assert not fleet.minutes(2, threads=50, jobs_per_second=100.0).fruitless
    memory = fleet.minutes(3, threads=100, jobs_per_second=105.0)
    assert memory.fruitless
    assert memory.pace is not None
    assert memory.pace.threads == 100


def test_growth_that_helps_is_not() -> None:
    fleet = Fleet()
    fleet.minutes(2, threads=50, jobs_per_second=100.0)
    assert not fleet.minutes(3, threads=100, jobs_per_second=160.0).fruitless


def test_a_step_back_that_costs_nothing_says_so_and_that_there_may_be_more_too_many() -> None:
    fleet = Fleet()
    fleet.minutes(2, threads=50, jobs_per_second=100.0)
    fleet.minutes(3, threads=100, jobs_per_second=100.0)
    told = fleet.minutes(3, threads=75, jobs_per_second=100.0)
    assert (told.fruitless, told.spared) == (False, True)
    sizes = sidekiq(processes=tuple(process(tag(n), threads=10, busy=10) for n in (1, 2)))
    assert too_many_instances(told, sizes) == 2, "75 do what 50 did"
    told = fleet.minutes(3, threads=50, jobs_per_second=70.0)
    assert (told.fruitless, told.spared, told.costly) == (False, False, True)


def test_threads_that_are_not_all_busy_tell_nothing() -> None:
    fleet = Fleet()
    fleet.minutes(2, threads=50, jobs_per_second=100.0)
    assert not fleet.minutes(3, threads=100, jobs_per_second=100.0, busy=70).fruitless


def test_a_counter_that_went_back_and_a_heartbeat_that_is_garbage_begin_anew() -> None:
    fleet = Fleet()
    kept = fleet.minutes(2, threads=50, jobs_per_second=100.0)
    assert remember_throughput(kept, reading(50, 0), fleet.now + 5.0).samples[0].processed_jobs_total == 0
    assert remember_throughput(kept, reading(50, 9, complete=False), fleet.now + 5.0).samples == ()


def test_memory_is_bounded_at_any_cadence() -> None:
    memory = ThroughputMemory()
    for second in range(600):
        memory = remember_throughput(memory, reading(50, 10 * second), 1000.0 + second)
        assert len(memory.samples) <= SAMPLES_MAX
    assert memory.pace is not None


def test_a_shrink_that_takes_the_throughput_along_is_costly_and_growth_that_brings_it_has_paid() -> None:
    fleet = Fleet()
    fleet.minutes(2, threads=100, jobs_per_second=100.0)
    assert not fleet.minutes(3, threads=80, jobs_per_second=100.0).costly
    assert fleet.minutes(3, threads=60, jobs_per_second=70.0).costly
    grown = fleet.minutes(3, threads=80, jobs_per_second=95.0)
    assert (grown.costly, grown.paid) == (False, True)


def test_a_twentieth_less_is_chance_and_no_cost() -> None:
    fleet = Fleet()
    fleet.minutes(2, threads=100, jobs_per_second=100.0)
    told = fleet.minutes(3, threads=80, jobs_per_second=94.0)
    assert (told.fruitless, told.costly) == (False, False)


def test_what_a_change_of_size_showed_is_forgotten_after_five_minutes() -> None:
    fleet = Fleet()
    fleet.minutes(2, threads=50, jobs_per_second=100.0)
    assert fleet.minutes(5.5, threads=100, jobs_per_second=100.0).fruitless
    assert not fleet.minutes(1, threads=100, jobs_per_second=100.0).fruitless


def test_a_minute_is_a_whole_one() -> None:
    fleet = Fleet()
    assert fleet.minutes(0.95, threads=50, jobs_per_second=100.0).pace is None
    assert fleet.minutes(0.2, threads=50, jobs_per_second=100.0).pace is not None


def test_efficient_is_what_does_about_as_much_as_a_thread_ever_did() -> None:
    fleet = Fleet()
    assert not fleet.memory.efficient
    assert fleet.minutes(2, threads=50, jobs_per_second=100.0).efficient
    assert fleet.minutes(2, threads=60, jobs_per_second=110.0).efficient
    assert not fleet.minutes(2, threads=80, jobs_per_second=110.0).efficient
