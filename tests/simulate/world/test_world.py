"""The simulated world is no kinder than reality: service, heartbeats, boots, faults, lost jobs."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from fleetd.core.model.identity import InstanceKey
from fleetd.simulate.trace.arrivals import arrivals, poisson
from fleetd.simulate.world.daemon import SimulatedSidekiq
from fleetd.simulate.world.world import World
from tests.support.builders.traces import PROFILE, queue_toml, small_trace, world_of


def served_jobs(world: World) -> int:
    return sum(q.jobs - q.waiting for q in world.queues.values())


def test_arrivals_are_poisson_around_their_curve_and_the_same_for_the_same_seed() -> None:
    ramp = small_trace(queue_toml("default", "[[0, 10], [600, 30]]", bursts="[[300, 500]]"))
    counts = arrivals(ramp, "default")
    assert counts == arrivals(ramp, "default")
    assert sum(counts) == pytest.approx(600 * 20 + 500, rel=0.03)
    assert sum(counts[:100]) == pytest.approx(100 * (10 + 20 / 12), rel=0.1)
    assert counts[300] > 500


@pytest.mark.parametrize("mean", [0.0, 0.3, 8.0, 200.0])
def test_poisson_counts_have_their_mean_and_their_variance(mean: float) -> None:
    chance = random.Random(1)
    counts = [poisson(mean, chance) for _ in range(4000)]
    average = sum(counts) / len(counts)
    assert average == pytest.approx(mean, rel=0.08, abs=1e-9)
    assert sum((n - average) ** 2 for n in counts) / len(counts) == pytest.approx(mean, rel=0.15, abs=1e-9)


def test_an_instance_serves_what_its_threads_can_and_the_rest_waits() -> None:
    world = world_of(small_trace(queue_toml("default", "[[0, 100]]")))  # work for 20 threads, of which there are 10
    world.advance_to(100)
    assert served_jobs(world) == pytest.approx(100 * 10 / 0.2, rel=0.02)
    assert world.queues["default"].latency_seconds(100) == pytest.approx(50, abs=3)
    assert world.busy_threads == pytest.approx(10.0)


def test_a_strict_order_gives_to_later_queues_only_what_earlier_ones_leave() -> None:
    world = world_of(small_trace(queue_toml("default", "[[0, 40]]") + queue_toml("push", "[[0, 40]]")))  # 8 + 8 threads
    world.advance_to(200)
    assert world.queues["default"].waiting < 20
    assert world.queues["push"].waiting == pytest.approx(200 * 40 * (1 - 2 / 8), rel=0.15)


def test_a_weighted_order_shares_by_weight_and_passes_on_unused_shares() -> None:
    shares = '[profiles.even]\norder = "weighted"\nweights = { default = 3, push = 1 }\nthreads = 10\ninstances = 2\n'
    both = queue_toml("default", "[]", bursts="[[0, 90000]]") + queue_toml("push", "[]", bursts="[[0, 90000]]")
    world = world_of(small_trace(both, profile=shares))
    world.advance_to(200)
    done = {name: q.jobs - q.waiting for name, q in world.queues.items()}
    assert done["default"] / done["push"] == pytest.approx(3.0, rel=0.05)
    idle = queue_toml("default", "[[0, 1]]") + queue_toml("push", "[]", bursts="[[0, 90000]]")
    world = world_of(small_trace(idle, profile=shares))
    world.advance_to(200)
    assert world.queues["push"].jobs - world.queues["push"].waiting == pytest.approx(200 * 10 / 0.2, rel=0.05)


def test_service_is_not_preemptive() -> None:
    """Long imports hold threads, so `default` waits although there is room for all the work on average."""
    long = queue_toml("default", "[[0, 20]]") + queue_toml("pull", "[]", 60.0, sigma=0.1, bursts="[[20, 10]]")
    world = world_of(small_trace(long))
    world.advance_to(50)
    assert world.queues["default"].latency_seconds(50) > 5
    world.advance_to(200)
    assert world.queues["default"].waiting == 0


def test_a_thread_takes_the_next_job_when_one_ends_not_at_the_next_second() -> None:
    world = world_of(small_trace(queue_toml("push", "[]", mean=1.3, sigma=1.0, bursts="[[0, 9000]]"), seconds=900))
    world.advance_to(900)  # 10 threads
    assert served_jobs(world) == pytest.approx(900 * 10 / 1.3, rel=0.05)
    assert all(len(i.jobs) <= i.threads for i in world.machine.instances.values())


@pytest.mark.parametrize("seconds", [5, 10])
def test_a_process_beats_as_often_as_the_trace_says(seconds: int) -> None:
    world = world_of(small_trace(queue_toml("default", "[[0, 10]]"), head=f"beat_seconds = {seconds}"))
    [instance] = [i for i in world.machine.instances.values() if i.present]
    beats = set()
    for second in range(1, 101):
        world.advance_to(second)
        beats.add(instance.beat_at)
    assert len(beats) == pytest.approx(100 / seconds, abs=1)


def test_readings_are_up_to_a_beat_old_and_staggered() -> None:
    many = small_trace(queue_toml("default", "[[0, 100]]"), head="initial_instances = 4")
    world = world_of(many)
    world.advance_to(40)
    ages = {p.beat_age_seconds for p in SimulatedSidekiq(world).facts().processes}
    assert len(ages) > 1
    assert max(ages) <= 10
    totals = []
    for second in range(41, 81):
        world.advance_to(second)
        totals.append(SimulatedSidekiq(world).facts().processed_jobs_total or 0)
    steps = [b - a for a, b in pairwise(totals)]
    assert 0 in steps, "counters move with heartbeats"
    assert sum(steps) == pytest.approx(40 * 100, rel=0.35)


def test_an_instance_boots_is_quieted_becomes_idle_and_ends() -> None:
    world = world_of(
        small_trace(queue_toml("default", "[[0, 5]]") + queue_toml("pull", "[]", 30.0, sigma=0.1, bursts="[[30, 4]]"))
    )
    assert world.start(InstanceKey(2)) == "done"
    assert world.start(InstanceKey(2)) == "skipped"
    assert world.quiet(InstanceKey(2)) == "failed"
    world.advance_to(9)
    assert world.machine.instances[InstanceKey(2)].state == "activating"
    world.advance_to(35)
    assert world.machine.instances[InstanceKey(2)].state == "active"
    running = len(world.machine.instances[InstanceKey(2)].jobs)
    assert running > 0
    world.quiet(InstanceKey(2))
    world.advance_to(45)
    assert len(world.machine.instances[InstanceKey(2)].jobs) == running, "a quiet one finishes what it has"
    world.advance_to(90)
    sidekiq, instance = SimulatedSidekiq(world), world.machine.instances[InstanceKey(2)]
    beat = next(p for p in sidekiq.facts().processes if p.pid == instance.pid)
    assert beat.quiet
    assert beat.busy_threads == 0
    world.stop(InstanceKey(2))
    world.advance_to(95)
    assert world.machine.instances[InstanceKey(2)].state == "inactive"
    assert world.lost_jobs == 0


def test_a_stop_pushes_unfinished_jobs_back() -> None:
    world = world_of(small_trace(queue_toml("pull", "[]", 500.0, sigma=0.1, bursts="[[5, 6]]")))
    world.advance_to(10)
    world.stop(InstanceKey(1))
    world.advance_to(60)
    assert world.queues["pull"].waiting == 6
    assert world.lost_jobs == 0


def test_faults_take_sources_away_and_kill() -> None:
    faults = (
        '[[faults]]\nat = 100\nfor_seconds = 50\nsource = "redis"\n'
        '[[faults]]\nat = 200\nfor_seconds = 50\nsource = "postgres"\n'
        "[[faults]]\nat = 300\nkill_instances = 1\n"
    )
    world = world_of(small_trace(queue_toml("default", "[[0, 20]]"), profile=PROFILE + faults))
    world.advance_to(120)
    assert world.down == {"redis"}
    at_outage = world.queues["default"].jobs
    world.advance_to(149)
    assert world.queues["default"].jobs == at_outage, "nobody can enqueue"
    world.advance_to(240)
    assert world.down == {"postgres"}
    assert world.queues["default"].waiting > 0, "jobs stall"
    world.advance_to(290)
    assert world.queues["default"].waiting == 0
    world.advance_to(301)
    assert world.lost_jobs > 0
    assert world.machine.instances[InstanceKey(1)].state == "activating"
    world.advance_to(340)
    assert world.machine.instances[InstanceKey(1)].state == "active"


def test_while_postgres_is_away_every_thread_hangs_in_a_job() -> None:
    body = queue_toml("default", "[[0, 20]]") + queue_toml("pull", "[[0, 0.2]]", 2.0)
    fault = '[[faults]]\nat = 200\nfor_seconds = 60\nsource = "postgres"\n'
    world = world_of(small_trace(body, head="initial_instances = 2", profile=PROFILE + fault))
    world.advance_to(200)
    before = served_jobs(world)
    world.advance_to(240)
    threads = sum(i.threads for i in world.machine.instances.values() if i.present)
    seen = SimulatedSidekiq(world).facts()
    assert sum(p.busy_threads for p in seen.processes) == threads, "Sidekiq shows them at work"
    assert not any(q.young_threads for q in seen.queues.values()), "for more than 10 s"
    assert threads / 2 < served_jobs(world) - before <= threads, "one each, beside what was under way"
    world.advance_to(400)
    assert world.queues["default"].waiting == 0
    assert sum(p.busy_threads for p in SimulatedSidekiq(world).facts().processes) < threads
    flushed_later = sum(group.unflushed_jobs for group in world.groups)
    under_way = sum(len(i.jobs) for i in world.machine.instances.values())
    assert world.processed_jobs + flushed_later + under_way == pytest.approx(served_jobs(world)), "and all are counted"


def test_beyond_the_knee_jobs_get_slower() -> None:
    knee = "[database]\nknee_busy_threads = 20\n"
    body = queue_toml("default", "[]", bursts="[[0, 90000]]")
    alike = world_of(small_trace(body, head="initial_instances = 2", profile=PROFILE + knee))
    double = world_of(small_trace(body, head="initial_instances = 4", profile=PROFILE + knee))
    alike.advance_to(200)
    double.advance_to(200)
    assert served_jobs(double) == pytest.approx(served_jobs(alike), rel=0.1)


def test_no_job_vanishes() -> None:
    world = world_of(small_trace(queue_toml("default", "[[0, 30]]") + queue_toml("pull", "[[0, 0.3]]", 5.0)))
    for second in range(10, 600, 10):
        world.advance_to(second)
        for q in world.queues.values():
            assert sum(q.waits.values()) == q.jobs - q.waiting
            assert q.waiting == sum(jobs for _, jobs in q.batches)
