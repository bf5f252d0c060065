"""laravel-queue-autoscale, on the examples of its own tests (v3.11.1, tests/Unit) and in a small world."""

from __future__ import annotations

import pytest

from fleetd.simulate.policies.rivals import Laravel, Pool, drain_workers
from fleetd.simulate.world.world import World
from tests.support.builders.traces import queue_toml, small_trace, world_of

PROFILE = '[profiles.local]\norder = "strict"\nqueues = ["default"]\nthreads = 10\ninstances = 20\nmin = 1\n'


@pytest.mark.parametrize(
    ("waiting", "age", "sla", "service", "workers"),
    [
        (0, 25, 30, 2.0, 0.0),
        (50, 0, 30, 1.0, 50 / 30),  # no age is known, so the whole target is left
        (100, 10, 30, 2.0, 0.0),  # less than half of it has passed
        (100, 15, 30, 2.0, 100 / 7.5),
        (80, 60, 100, 5.0, 10.8),
        (100, 80, 100, 2.0, 17.2),
        (100, 90, 100, 2.0, 45.6),
        (100, 30, 30, 2.0, 150.0),
        (100, 45, 30, 2.0, 250.0),  # at most five times as many
    ],
)
def test_drain(waiting: int, age: int, sla: float, service: float, workers: float) -> None:
    assert drain_workers(waiting, age, sla, service) == pytest.approx(workers)


def test_down_by_one_per_evaluation_while_throughput_is_steady() -> None:
    pool = Pool(12)
    for _ in range(5):
        pool.smoothed(12, 1440.0)
    assert [pool.smoothed(8, 1440.0) for _ in range(5)] == [11, 10, 9, 8, 8]
    assert pool.smoothed(12, 1440.0) == 12, "up at once"


def test_down_at_once_when_throughput_swings_or_is_not_known_yet() -> None:
    pool = Pool(12)
    for throughput in (800.0, 1600.0, 800.0, 1600.0, 800.0):
        pool.smoothed(12, throughput)
    assert pool.smoothed(6, 1600.0) == 6
    fresh = Pool(12)
    fresh.smoothed(12, 1440.0)
    assert fresh.smoothed(8, 1440.0) == 8


def test_never_down_by_more_than_a_quarter() -> None:
    pool = Pool(10)
    pool.move(5, 0, late=False)
    assert pool.workers == 7


def test_a_change_of_direction_waits_a_minute_unless_a_job_is_late() -> None:
    pool = Pool(10)
    pool.move(20, 0, late=False)
    pool.move(30, 5, late=False)
    assert pool.workers == 30
    pool.move(29, 64, late=False)
    assert pool.workers == 30, "59 s after the last action"
    pool.move(29, 65, late=False)
    assert pool.workers == 29
    pool.move(28, 70, late=False)
    assert pool.workers == 28
    pool.move(40, 75, late=False)
    assert pool.workers == 28
    pool.move(40, 80, late=True)
    assert pool.workers == 40


def after_two_minutes(rate: float, target: int = 40) -> tuple[World, Laravel]:
    """The policy after two minutes of 0.5 s jobs with 3 × 10 threads. Boots take 15 s on average."""
    world = world_of(
        small_trace(
            f"[targets]\ndefault = {target}\n" + queue_toml("default", f"[[0, {rate}]]", 0.5),
            profile=PROFILE,
            head="initial_instances = 3",
        )
    )
    world.advance_to(120)
    return world, Laravel(world)


def test_arrivals_times_service_time_in_whole_instances() -> None:
    # 30/s × 0.5 s = 15 threads. At most a quarter goes at once: from 30 to 22, then about 16, then what is needed.
    _, rival = after_two_minutes(30.0)
    assert [rival.evaluate()["local"] for _ in range(4)] == [3, 2, 2, 2]


def test_a_saturated_group_that_needs_no_more_still_gets_one_more_worker() -> None:
    # 60 threads would be needed. All 30 are busy, and no job has waited for half of its target.
    world, rival = after_two_minutes(120.0, target=1000)
    world.queues["default"].arrivals[60:120] = type(world.queues["default"].arrivals)("l", [0] * 60)
    assert rival.evaluate()["local"] == 4, "31 threads"


def test_a_backlog_is_cleared_within_the_target_minus_a_boot() -> None:
    world, rival = after_two_minutes(0.0)
    world.queues["default"].enqueue(world.now - 20, 200)
    # 20 of 25 s have passed, so it needs 200 jobs / (5 s / 0.5 s) × (1 + 8 × 0.3²) = 34.4 threads.
    assert rival.evaluate()["local"] == 4
