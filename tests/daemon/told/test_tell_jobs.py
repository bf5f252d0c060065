"""Jobs a second from Sidekiq's counters, and what is shown of jobs put aside; unknown is never zero."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetd.core.model.facts import FailingClass
from fleetd.core.model.status import JobsStatus
from fleetd.daemon.tell_jobs import WINDOW_SECONDS, CounterRate, JobRates, jobs_status
from tests.support.builders.readings import sidekiq
from tests.support.world.daemon import lived
from tests.support.world.ports import policy
from tests.support.world.world import World


def rate_of(*readings: tuple[float, int | None]) -> float | None:
    rate = CounterRate()
    for at, total in readings:
        rate.look(at, total)
    return rate.per_second()


def test_a_rate_is_taken_over_a_minute_because_counters_move_with_beats_only() -> None:
    flushed = [(5.0 * n, 1000 * (n // 2)) for n in range(100)]  # 1,000 jobs with each beat, read twice as often
    assert rate_of(*flushed) == pytest.approx(100.0, rel=0.1)


@pytest.mark.parametrize("until", [5.0, 15.0])
def test_a_rate_is_unknown_until_each_process_has_beaten_twice(until: float) -> None:
    assert rate_of((0.0, 5), (until, 900)) is None
    assert rate_of() is None


def test_a_counter_that_fell_begins_anew() -> None:
    before = [(5.0 * n, 10_000 + 50 * n) for n in range(13)]
    assert rate_of(*before) == pytest.approx(10.0)
    assert rate_of(*before, (65.0, 7)) is None
    assert rate_of(*before, (65.0, 7), (70.0, 17), (90.0, 57)) == pytest.approx(2.0)


def test_a_counter_that_could_not_be_read_begins_anew() -> None:
    assert rate_of((0.0, 0), (30.0, 30), (35.0, None)) is None
    assert rate_of((0.0, 0), (30.0, 30), (35.0, None), (40.0, 40)) is None


def test_what_came_before_a_gap_is_forgotten() -> None:
    assert rate_of((0.0, 0), (30.0, 30), (500.0, 40)) is None
    assert rate_of((0.0, 0), (30.0, 30), (500.0, 40), (525.0, 65)) == pytest.approx(1.0)


readings = st.tuples(st.floats(0.0, 1e6), st.none() | st.integers(0, 2**53))


@given(st.lists(readings, max_size=40))
def test_a_rate_is_possible_and_bounded_whatever_is_read(found: list[tuple[float, int | None]]) -> None:
    rate = CounterRate()
    for at, total in found:
        rate.look(at, total)
    per_second = rate.per_second()
    assert per_second is None or 0.0 <= per_second <= 2**53
    assert len(rate._readings) <= WINDOW_SECONDS / 4.0 + 1


def test_another_redis_begins_anew() -> None:
    rates = JobRates()
    for at in range(0, 65, 5):
        rates.look(sidekiq(total=100 * at, run_id="one"), float(at))
    assert rates.processed.per_second() == pytest.approx(100.0)
    rates.look(sidekiq(total=10**9, run_id="two"), 65.0)
    assert jobs_status(sidekiq(total=10**9, run_id="two"), rates).processed_per_second is None


def world() -> World:
    made = World(policy())
    made.rates = {"default": 4.0}
    made.retry_jobs, made.dead_jobs, made.scheduled_jobs = 3, 2, 1
    made.failing_classes = (FailingClass(name="LinkCrawlWorker", failed_jobs=5, processed_jobs=12),)
    return made


def test_the_daemon_tells_what_its_readings_say() -> None:
    jobs = lived(300.0, world=(made := world())).heard.statuses[-1][1].jobs
    assert jobs.processed_per_second == pytest.approx(4.0, rel=0.2)
    assert jobs.failed_per_second == 0.0
    assert jobs.processed_jobs_total == pytest.approx(made.done, abs=30)
    assert jobs.failed_jobs_total == 0
    assert (jobs.retry_jobs, jobs.dead_jobs, jobs.scheduled_jobs) == (3, 2, 1)
    assert jobs.failing_classes == made.failing_classes


def test_of_a_redis_that_cant_be_read_nothing_is_told() -> None:
    made = world()
    made.redis_up = False
    assert {status.jobs for _, status in lived(60.0, world=made).heard.statuses} == {JobsStatus()}
