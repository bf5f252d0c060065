"""The comparison of simulation and reality: its arithmetic, and that a wrong simulator does not pass."""

from __future__ import annotations

from dataclasses import replace

import pytest
from msgspec import structs

from benchmarks.beside_sidekiq import HEADING, replaced
from fleetd import config
from fleetd.simulate.run import policy_of
from fleetd.simulate.trace.arrivals import arrivals
from lab.jobs import traffic
from tests.support.lab import simulated_twin as honest
from tests.support.lab.agreement import (
    Course,
    Life,
    counts_differ,
    counts_of,
    disagreements,
    instance_seconds_of,
    lives_of,
    rows,
    steps_told,
    worst_count,
)

COURSE = Course(
    jobs={"push": 100},
    p95_wait_seconds={"push": 20.0},
    counts=[1, 2, 2, 3],
    instance_seconds=100.0,
)


def test_a_life_ends_as_capacity_when_it_is_quieted() -> None:
    steps = [(-5.0, "start", 1), (1.0, "start", 2), (3.0, "quiet", 2), (4.0, "stop", 2), (6.0, "gone", 2)]
    assert lives_of(steps) == [Life(1.0, 3.0, 6.0), Life(-5.0)]


def test_an_instance_that_is_stopped_while_it_boots_is_let_go_by_the_stop() -> None:
    assert lives_of([(1.0, "start", 2), (2.0, "stop", 2), (3.0, "gone", 2)]) == [Life(1.0, 2.0, 3.0)]


def test_one_number_can_live_twice() -> None:
    steps = [(0.0, "start", 1), (1.0, "gone", 1), (2.0, "start", 1)]
    assert lives_of(steps) == [Life(0.0, 1.0, 1.0), Life(2.0)]


def test_counts_and_seconds_lie_within_the_trace() -> None:
    lives = [Life(-5.0), Life(1.0, 3.0, 6.0)]
    assert counts_of(lives, 5) == [1, 2, 2, 1, 1]
    assert instance_seconds_of(lives, 5) == 5.0 + 4.0


def test_the_difference_of_counts() -> None:
    other = replace(COURSE, counts=[1, 1, 2, 5])
    assert counts_differ(COURSE, other) == 3 / 8
    assert worst_count(COURSE, other) == (3, 3, 5)
    assert steps_told(COURSE.counts) == "1, at 1 s 2, at 3 s 3"
    assert rows("day", COURSE, other) == ["| day | push | 100 | 20.0 s | 20 s | 0.028 | 0.028 | 38% | 3 to 5, at 3 s |"]


def test_small_differences_agree() -> None:
    near = replace(COURSE, p95_wait_seconds={"push": 24.9}, instance_seconds=124.0, counts=[1, 2, 3, 3])
    assert disagreements(COURSE, near) == []
    quick = replace(COURSE, p95_wait_seconds={"push": 0.1})
    assert disagreements(quick, replace(quick, p95_wait_seconds={"push": 1.0})) == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"jobs": {"push": 99}}, "not the same jobs"),
        ({"p95_wait_seconds": {"push": 25.1}}, "p95 wait on push"),
        ({"p95_wait_seconds": {"push": 14.9}}, "p95 wait on push"),
        ({"instance_seconds": 126.0}, "instance-seconds"),
        ({"counts": [1, 2, 2, 6]}, "instance counts"),
    ],
)
def test_each_large_difference_is_reported(change: dict[str, object], told: str) -> None:
    [sentence] = disagreements(COURSE, replace(COURSE, **change))  # type: ignore[arg-type]
    assert sentence.startswith(told)


@pytest.mark.parametrize("name", [*honest.LONG, honest.SHORT])
def test_a_simulator_with_a_wrong_service_time_does_not_pass(name: str) -> None:
    trace = honest.trace_of(name)
    right = honest.simulated(trace)
    assert disagreements(right, right) == []
    for times in (0.4, 1.5):
        assert disagreements(right, honest.simulated(honest.slower(trace, times)))


@pytest.mark.parametrize("name", [*honest.LONG, honest.SHORT])
def test_both_worlds_run_the_same_configuration(name: str) -> None:
    trace, own = honest.trace_of(name), config.load(honest.CONFIG).policy
    ran = policy_of(trace, own)
    assert (ran.profiles, ran.targets_seconds, ran.pace) == (own.profiles, own.targets_seconds, own.pace)
    assert trace.initial_instances == own.profiles[0].min_instances


def test_the_jobs_of_a_trace_have_the_simulated_times_and_lengths() -> None:
    trace = honest.trace_of(honest.SHORT)
    jobs = traffic.jobs_of(trace)
    assert [job.due for job in jobs] == sorted(job.due for job in jobs)
    for queue in trace.queues:
        own = [job for job in jobs if job.queue == queue]
        counts = arrivals(trace, queue)
        assert [sum(1 for job in own if int(job.due) == second) for second in range(60)] == list(counts)
    push = [job.seconds for job in jobs if job.queue == "push"]
    assert sum(push) / len(push) == pytest.approx(0.5, rel=0.15)
    assert [job.seconds for job in traffic.jobs_of(trace)] == [job.seconds for job in jobs]
    assert [job.seconds for job in traffic.jobs_of(structs.replace(trace, seed=1))] != [j.seconds for j in jobs]


def test_the_simulator_is_told_how_long_boots_and_jobs_took() -> None:
    trace = honest.trace_of("celebrity-post")
    drawn = honest.mean_by_queue((job.queue, job.seconds) for job in traffic.jobs_of(trace))
    took = {queue: seconds * 1.1 for queue, seconds in drawn.items()}
    told = honest.as_it_was(trace, honest.Played(COURSE, [7.0, 9.0, 8.0], took, ""))
    means = {name: queue.service_seconds.mean for name, queue in told.queues.items()}
    assert told.boot_seconds == (7.0, 9.0)
    assert means["push"] == pytest.approx(took["push"]), "in counts: the mean of what there was"
    assert means["pull"] == pytest.approx(1.5 * 1.1), "one by one: each as drawn, and a tenth longer"


def test_a_boot_lasts_from_its_order_to_ready() -> None:
    happened = [
        (-9.0, "start", 1),
        (10.0, "start", 2),
        (50.0, "quiet", 2),
        (70.0, "start", 2),
        (90.0, "start", 3),
    ]
    assert honest.boots_of(happened, [(-5.0, 1), (17.0, 2), (78.0, 2)]) == [7.0, 8.0]


def test_new_figures_replace_the_old_ones_and_nothing_else() -> None:
    before = f"# Policies\n\nTables.\n\n{HEADING}\n\nold\n\n## Later\n\nmore\n"
    assert replaced(before, f"{HEADING}\n\nnew\n") == before.replace("old", "new")
    assert replaced("# Policies\n", f"{HEADING}\n\nnew\n") == f"# Policies\n\n{HEADING}\n\nnew\n"
