"""The rivals do what their documentation says, with numbers worked out by hand."""

from __future__ import annotations

import pytest

from fleetd.simulate.policies.rivals import (
    Hpa,
    Judoscale,
    KedaLength,
    Laravel,
    Nomad,
    Rival,
    Static,
    arrival_rate,
)
from fleetd.simulate.world.world import World
from tests.support.builders.traces import queue_toml, small_trace, world_of

PROFILE = '[profiles.local]\norder = "strict"\nqueues = ["default"]\nthreads = 10\ninstances = 20\nmin = 1\n'


def world_with(*, second: int = 0, age: int = 0, waiting: int = 0, initial: int = 2, min_instances: int = 1) -> World:
    """A world at a second of its trace, with this many jobs in the queue, the oldest this old. The target is 10 s."""
    world = world_of(
        small_trace(
            "[targets]\ndefault = 10\n" + queue_toml("default", "[]", 0.5),
            seconds=6000,
            profile=PROFILE.replace("min = 1", f"min = {min_instances}"),
            head=f"initial_instances = {initial}",
        )
    )
    world.down.add("redis")  # nothing is served, so the queue stays as it is set
    world.advance_to(second)
    world.down.clear()
    set_queue(world, age, waiting)
    return world


def set_queue(world: World, age: int, waiting: int) -> None:
    default = world.queues["default"]
    default.batches.clear()
    default.waiting = 0
    if waiting:
        default.enqueue(world.now - age, waiting)


def desired_by(kind: type[Rival], *, age: int = 0, waiting: int = 0, initial: int = 2) -> int:
    return kind(world_with(age=age, waiting=waiting, initial=initial)).evaluate()["local"]


def test_static_is_its_maximum() -> None:
    assert desired_by(Static) == 20


@pytest.mark.parametrize(
    ("initial", "age", "wanted"),
    [
        # "if the current metric value is 200m and the desired value is 100m, the replicas will be doubled"
        (2, 20, 4),
        (4, 5, 4),  # half the value, but the initial size counts as its first recommendation for 300 s
        (3, 10, 3),
        (10, 9, 10),  # within the tolerance of 0.1
        (2, 1000, 6),  # at most +4 or +100 %, whichever is more
        (8, 1000, 16),
    ],
)
def test_hpa(initial: int, age: int, wanted: int) -> None:
    assert desired_by(Hpa, age=age, waiting=5, initial=initial) == wanted


def test_hpa_halves_at_half_the_value_once_the_initial_size_is_five_minutes_old() -> None:
    world = world_with(second=1000, age=5, waiting=5, initial=4)
    rival = Hpa(world)
    for _ in range(20):
        assert rival.evaluate()["local"] == 4
        world.now += 15
        set_queue(world, 5, 5)
    assert rival.evaluate()["local"] == 2


def test_hpa_is_disabled_at_zero_and_with_a_min_of_zero_comes_back_with_the_ratio() -> None:
    world = world_with(age=25, waiting=5, initial=0)
    (group,) = world.groups
    assert Hpa(world).desired_instances(group, 0) == 0
    for age, wanted in ((0, 0), (1, 1), (25, 3), (1000, 4)):
        world = world_with(age=age, waiting=5, initial=0, min_instances=0)
        assert Hpa(world).evaluate()["local"] == wanted


def test_hpa_goes_down_to_the_highest_of_five_minutes() -> None:
    world = world_with(second=1000, age=10, waiting=5, initial=4)
    rival = Hpa(world)
    assert rival.evaluate()["local"] == 4
    set_queue(world, 0, 0)
    world.now += 15
    assert rival.evaluate()["local"] == 4
    world.now += 301
    assert rival.evaluate()["local"] == 1, "min"


@pytest.mark.parametrize(("waiting", "wanted"), [(10, 2), (11, 3), (30, 6), (1000, 6)])
def test_keda_wants_a_replica_for_five_jobs(waiting: int, wanted: int) -> None:
    assert desired_by(KedaLength, waiting=waiting) == wanted


def test_keda_polls_every_30_s_at_zero_and_goes_back_after_5_min_without_a_job() -> None:
    world = world_with(second=1000, initial=0, min_instances=0)
    rival = KedaLength(world)
    (group,) = world.groups
    assert rival.interval_seconds == 15
    assert rival.desired_instances(group, 0) == 0
    set_queue(world, 0, 100)
    world.now += 15
    assert rival.desired_instances(group, 0) == 0, "no poll yet"
    world.now += 15
    assert rival.desired_instances(group, 0) == 1
    world.now += 15
    assert rival.desired_instances(group, 1) == 5, "now its HPA"
    set_queue(world, 0, 0)
    world.now += 284
    assert rival.desired_instances(group, 1) == 1, "the last poll with a job was 299 s ago"
    world.now += 30
    assert rival.desired_instances(group, 1) == 0


def test_judoscale_goes_up_by_one_every_three_minutes_and_down_by_one_after_ten() -> None:
    world = world_with(second=1000, age=11, waiting=5)
    rival = Judoscale(world)
    assert rival.evaluate()["local"] == 3
    world.now += 60
    set_queue(world, 11, 5)
    assert rival.evaluate()["local"] == 2, "counted now: none has been started here"
    world.now += 121
    set_queue(world, 11, 5)
    assert rival.evaluate()["local"] == 3
    set_queue(world, 0, 0)
    for _ in range(60):
        world.now += 10
        wanted = rival.evaluate()["local"]
    assert wanted == 2
    world.now += 10
    assert rival.evaluate()["local"] == 1


def test_nomad_rounds_up_and_cools_down() -> None:
    world = world_with(second=1000, age=15, waiting=5)
    rival = Nomad(world)
    assert rival.evaluate()["local"] == 3
    set_queue(world, 1000, 5)
    world.now += 200
    assert rival.evaluate()["local"] == 3, "cools down"
    world.now += 100
    assert rival.evaluate()["local"] == 20


def test_nomad_takes_the_factor_as_the_new_count_at_zero() -> None:
    for age, wanted in ((0, 0), (1, 1), (10, 1), (15, 2)):
        world = world_with(second=1000, age=age, waiting=5, initial=0, min_instances=0)
        assert Nomad(world).evaluate()["local"] == wanted


def test_without_redis_every_policy_keeps_its_count() -> None:
    for kind in (Hpa, KedaLength, Judoscale, Nomad, Laravel):
        world = world_with(second=1000, age=500, waiting=500, initial=3)
        world.down = {"redis"}
        assert kind(world).evaluate()["local"] == 3


def test_the_true_rate_is_that_of_the_last_minute() -> None:
    world = world_of(small_trace(queue_toml("default", "[[0, 20]]")))
    world.advance_to(120)
    assert arrival_rate(world, "default") == pytest.approx(20, rel=0.15)
