"""Rivals as their own documentation has them, on numbers worked out by hand."""

from __future__ import annotations

import pytest

from fleetd.simulate.policies.laravel import Laravel
from fleetd.simulate.policies.rival import Rival, true_rate
from fleetd.simulate.policies.rivals import Hpa, Judoscale, KedaLength, Nomad, Static
from fleetd.simulate.world.world import World
from tests.support.builders.traces import queue, trace, world

PROFILE = '[profiles.local]\norder = "strict"\nqueues = ["default"]\nthreads = 10\ninstances = 20\nmin = 1\n'


def at(second: int, *, age: int = 0, waiting: int = 0, initial: int = 2, low: int = 1) -> tuple[World, type]:
    """A world at a second of its trace whose queue has so many jobs, the oldest so old; its target is 10 s."""
    made, rules = world(
        trace(
            "[targets]\ndefault = 10\n" + queue("default", "[]", 0.5),
            seconds=6000,
            profile=PROFILE.replace("min = 1", f"min = {low}"),
            head=f"initial_instances = {initial}",
        )
    )
    made.down.add("redis")  # nobody serves: the queue stays as it is set
    made.advance_to(second)
    made.down.clear()
    _set(made, age, waiting)
    return made, rules  # type: ignore[return-value]


def _set(made: World, age: int, waiting: int) -> None:
    q = made.queues["default"]
    q.batches.clear()
    q.waiting = 0
    if waiting:
        q.enqueue(made.now - age, waiting)


def asked(kind: type[Rival], *, age: int = 0, waiting: int = 0, initial: int = 2) -> int:
    made, rules = at(0, age=age, waiting=waiting, initial=initial)
    return kind(made, rules).look()["local"]  # type: ignore[arg-type]


def test_static_is_its_maximum() -> None:
    assert asked(Static) == 20


@pytest.mark.parametrize(
    ("initial", "age", "wanted"),
    [
        # "if the current metric value is 200m and the desired value is 100m, the replicas will be doubled"
        (2, 20, 4),
        (4, 5, 4),  # half the value; but the size it finds counts as its first recommendation, for 300 s
        (3, 10, 3),
        (10, 9, 10),  # within the tolerance of 0.1
        (2, 1000, 6),  # at most +4 or +100 %, whichever is more
        (8, 1000, 16),
    ],
)
def test_hpa(initial: int, age: int, wanted: int) -> None:
    assert asked(Hpa, age=age, waiting=5, initial=initial) == wanted


def test_hpa_halves_at_half_the_value_once_the_size_it_found_is_five_minutes_old() -> None:
    made, rules = at(1000, age=5, waiting=5, initial=4)
    rival = Hpa(made, rules)  # type: ignore[arg-type]
    for _ in range(20):
        assert rival.look()["local"] == 4
        made.now += 15
        _set(made, 5, 5)
    assert rival.look()["local"] == 2


def test_hpa_is_disabled_at_zero_and_with_a_min_of_zero_comes_back_with_the_ratio() -> None:
    made, rules = at(0, age=25, waiting=5, initial=0)
    (group,) = made.groups
    assert Hpa(made, rules).want(group, 0) == 0  # type: ignore[arg-type]
    for age, wanted in ((0, 0), (1, 1), (25, 3), (1000, 4)):
        made, rules = at(0, age=age, waiting=5, initial=0, low=0)
        assert Hpa(made, rules).look()["local"] == wanted  # type: ignore[arg-type]


def test_hpa_goes_down_to_the_highest_of_five_minutes() -> None:
    made, rules = at(1000, age=10, waiting=5, initial=4)
    rival = Hpa(made, rules)  # type: ignore[arg-type]
    assert rival.look()["local"] == 4
    _set(made, 0, 0)
    made.now += 15
    assert rival.look()["local"] == 4
    made.now += 301
    assert rival.look()["local"] == 1, "min"


@pytest.mark.parametrize(("waiting", "wanted"), [(10, 2), (11, 3), (30, 6), (1000, 6)])
def test_keda_wants_a_replica_for_five_jobs(waiting: int, wanted: int) -> None:
    assert asked(KedaLength, waiting=waiting) == wanted


def test_keda_polls_every_30_s_at_zero_and_goes_back_after_five_minutes_without_a_job() -> None:
    made, rules = at(1000, initial=0, low=0)
    rival = KedaLength(made, rules)  # type: ignore[arg-type]
    (group,) = made.groups
    assert rival.every_seconds == 15
    assert rival.want(group, 0) == 0
    _set(made, 0, 100)
    made.now += 15
    assert rival.want(group, 0) == 0, "no poll yet"
    made.now += 15
    assert rival.want(group, 0) == 1
    made.now += 15
    assert rival.want(group, 1) == 5, "now its HPA"
    _set(made, 0, 0)
    made.now += 284
    assert rival.want(group, 1) == 1, "the last poll with a job was 299 s ago"
    made.now += 30
    assert rival.want(group, 1) == 0


def test_judoscale_goes_up_by_one_every_three_minutes_and_down_by_one_after_ten() -> None:
    made, rules = at(1000, age=11, waiting=5)
    rival = Judoscale(made, rules)  # type: ignore[arg-type]
    assert rival.look()["local"] == 3
    made.now += 60
    _set(made, 11, 5)
    assert rival.look()["local"] == 2, "counted now: none has been started here"
    made.now += 121
    _set(made, 11, 5)
    assert rival.look()["local"] == 3
    _set(made, 0, 0)
    for _ in range(60):
        made.now += 10
        wanted = rival.look()["local"]
    assert wanted == 2
    made.now += 10
    assert rival.look()["local"] == 1


def test_nomad_rounds_up_and_cools_down() -> None:
    made, rules = at(1000, age=15, waiting=5)
    rival = Nomad(made, rules)  # type: ignore[arg-type]
    assert rival.look()["local"] == 3
    _set(made, 1000, 5)
    made.now += 200
    assert rival.look()["local"] == 3, "cools down"
    made.now += 100
    assert rival.look()["local"] == 20


def test_nomad_takes_the_factor_as_the_new_count_at_zero() -> None:
    for age, wanted in ((0, 0), (1, 1), (10, 1), (15, 2)):
        made, rules = at(1000, age=age, waiting=5, initial=0, low=0)
        assert Nomad(made, rules).look()["local"] == wanted  # type: ignore[arg-type]


def test_without_redis_everybody_keeps_what_it_has() -> None:
    for kind in (Hpa, KedaLength, Judoscale, Nomad, Laravel):
        made, rules = at(1000, age=500, waiting=500, initial=3)
        made.down = {"redis"}
        assert kind(made, rules).look()["local"] == 3  # type: ignore[arg-type]


def test_the_true_rate_is_that_of_the_last_minute() -> None:
    made, _ = world(trace(queue("default", "[[0, 20]]")))
    made.advance_to(120)
    assert true_rate(made, "default") == pytest.approx(20, rel=0.15)
