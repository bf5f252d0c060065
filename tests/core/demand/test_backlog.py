"""How much of a backlog is cleared in time by instances that run or boot, and when more are needed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetd.core.demand.backlog import (
    INSTANCE_BOOT_SECONDS,
    Capacity,
    Waiting,
    capacity_of,
    threads_in_time,
)
from tests.support.builders.readings import fleet, sidekiq, snapshot, tick_of
from tests.support.storm.storm import steady
from tests.support.world.ports import policy, strict, weighted

LOCAL = strict(queues="default push pull")


def waiting(name: str, work: float, left: float = 60.0, *, load: float = 0.0, service: float = 0.2) -> Waiting:
    return Waiting(queue=name, load_threads=load, work_seconds=work, left_seconds=left, service_seconds=service)


def test_work_that_running_threads_finish_in_time_needs_no_more() -> None:
    assert threads_in_time(LOCAL, [waiting("default", 299.0)], Capacity(serving_threads=5.0)) == 0.0


def test_work_left_over_goes_to_new_threads_in_the_time_after_their_boot() -> None:
    # In 60 s, 5 threads do 300 of 500 thread-seconds. For the other 200, in the 40 s after a boot, 5 more are needed.
    needed = threads_in_time(LOCAL, [waiting("default", 500.0)], Capacity(serving_threads=5.0))
    assert needed == pytest.approx(10.0)


def test_no_more_threads_than_jobs_are_needed() -> None:
    """Two imports of ten minutes need two threads, however late they are."""
    imports = Waiting(
        queue="default",
        load_threads=5.0,
        work_seconds=1200.0,
        left_seconds=-9.0,
        service_seconds=600.0,
        jobs=2,
    )
    assert threads_in_time(LOCAL, [imports], Capacity(serving_threads=5.0)) == 7.0


def test_work_that_arrives_meanwhile_counts() -> None:
    # Of 5 threads, 3 are busy with new work. So 120 of 320 are done and 200 are left over.
    needed = threads_in_time(LOCAL, [waiting("default", 320.0, load=3.0)], Capacity(serving_threads=5.0))
    assert needed == pytest.approx(10.0)


def test_an_instance_that_boots_counts_from_when_it_serves() -> None:
    started = Capacity(serving_threads=5.0, coming=((5.0, 20.0),))
    assert threads_in_time(LOCAL, [waiting("default", 500.0)], started) == 0.0
    later = Capacity(serving_threads=5.0, coming=((5.0, 10.0),))
    assert threads_in_time(LOCAL, [waiting("default", 450.0, left=50.0)], later) == 0.0


def test_a_backlog_does_not_become_more_urgent_while_its_instances_boot() -> None:
    """The number that was right at the first look stays right at every later one."""
    work, age, boots = 2000.0, 0.0, 0.0
    while boots < INSTANCE_BOOT_SECONDS:
        coming = ((60.0, INSTANCE_BOOT_SECONDS - boots),) if boots else ()
        needed = threads_in_time(
            LOCAL, [waiting("default", work, left=60.0 - age)], Capacity(serving_threads=5.0, coming=coming)
        )
        assert needed == (0.0 if boots else pytest.approx(5.0 + 1700.0 / 40.0))
        work, age, boots = work - 25.0, age + 5.0, boots + 5.0


def test_a_late_backlog_is_cleared_soon_and_a_large_late_one_sooner() -> None:
    small = threads_in_time(LOCAL, [waiting("default", 200.0, left=-40.0)], Capacity(serving_threads=5.0))
    assert small == pytest.approx(5.0 + (200.0 - 5.0 * 30.0) / 10.0)
    large = threads_in_time(LOCAL, [waiting("default", 5150.0, left=-40.0)], Capacity(serving_threads=5.0))
    assert large == pytest.approx(5.0 + 5000.0 / 3.0)


def test_in_a_strict_order_later_queues_wait_for_earlier_ones() -> None:
    queues = [waiting("default", 0.0, load=4.0), waiting("push", 200.0)]
    needed = threads_in_time(LOCAL, queues, Capacity(serving_threads=5.0))
    assert needed == pytest.approx(5.0 + (200.0 - 60.0) / 40.0)
    first = [waiting("default", 200.0), waiting("push", 0.0, load=4.0)]
    assert threads_in_time(LOCAL, first, Capacity(serving_threads=5.0)) == 0.0


def test_long_jobs_of_a_later_queue_keep_their_threads() -> None:
    imports = [waiting("default", 200.0), waiting("pull", 0.0, load=4.0, service=60.0)]
    needed = threads_in_time(LOCAL, imports, Capacity(serving_threads=5.0))
    assert needed == pytest.approx(5.0 + (200.0 - 60.0) / 40.0)


def test_with_weights_a_queue_gets_its_share_of_the_fetches() -> None:
    both = weighted(weights="default:3 push:1")
    queues = [waiting("default", 240.0), waiting("push", 9999.0, left=600.0)]
    alone = [waiting("default", 240.0), waiting("push", 0.0, left=600.0)]
    capacity = Capacity(serving_threads=5.0)
    assert threads_in_time(both, alone, capacity) == 0.0
    assert threads_in_time(both, queues, capacity) >= 5.0 + (240.0 - 0.75 * 300.0) / (0.75 * 40.0)


def test_capacity_is_what_serves_and_what_boots() -> None:
    rules = policy()
    units, beats = fleet(2)
    tick = tick_of(rules, snapshot(rules, redis=sidekiq(processes=beats), units=units))
    found = capacity_of(rules.profiles[0], tick.active, {"default-first": 33.0})
    assert (found.serving_threads, found.coming, found.boot_seconds) == (10.0, (), 33.0)
    silent = tick_of(rules, snapshot(rules, redis=sidekiq(processes=beats[:1]), units=units))
    found = capacity_of(rules.profiles[0], silent.active, {})
    assert (found.serving_threads, len(found.coming), found.boot_seconds) == (5.0, 1, INSTANCE_BOOT_SECONDS)


works = st.floats(0.0, 1e5)
lefts = st.floats(-1e4, 1e4)


@steady(200)
@given(
    st.lists(st.tuples(works, lefts, st.floats(0.0, 100.0), st.floats(0.002, 120.0)), min_size=3, max_size=3),
    st.floats(0.0, 500.0),
    st.lists(st.tuples(st.floats(1.0, 60.0), st.floats(0.0, 120.0)), max_size=4),
)
def test_the_need_is_finite_and_booting_instances_never_raise_it(
    given_queues: list[tuple[float, float, float, float]], serving: float, coming: list[tuple[float, float]]
) -> None:
    queues = [
        waiting(name, work, left, load=load, service=service)
        for (work, left, load, service), (name, _) in zip(given_queues, LOCAL.queues, strict=True)
    ]
    bare = Capacity(serving_threads=serving)
    helped = Capacity(serving_threads=serving, coming=tuple(coming))
    alone, together = threads_in_time(LOCAL, queues, bare), threads_in_time(LOCAL, queues, helped)
    assert 0.0 <= together < 1e7
    assert max(0.0, together - helped.threads) <= max(0.0, alone - bare.threads) + 1e-6
    assert together == 0.0 or together >= helped.threads
