"""Which numbers may be started, and what is said of the others."""

from __future__ import annotations

import pytest

from fleetd.core.instances.host_memory import RETRIES_MAX, Failure, HostMemory
from fleetd.core.instances.lifecycle import Pin
from fleetd.core.instances.start import failed_sentence, free_numbers
from fleetd.core.model.facts import UnitFacts
from tests.support.builders.readings import process, seen, sidekiq, snapshot, systemd, tag, unit
from tests.support.world.ports import policy, strict

NOW = 10_000.0
RULES = policy(strict(numbers="1-4"))


def failure(ago: float, count: int = 1) -> Failure:
    return Failure(count=count, last_seconds=NOW - ago, ordered=True, why="died at once")


def free(memory: HostMemory, units: dict[int, UnitFacts] | None = None, *heard: int) -> list[int]:
    beats = tuple(process(tag(n), pid=100 + n) for n in heard)
    shot = snapshot(RULES, now=NOW, redis=sidekiq(processes=beats), units=systemd(units or {}))
    own = [v for v in seen(RULES, shot, memory) if v.profile]
    return free_numbers(shot, RULES.profiles[0], own, memory)[0]


def test_the_lowest_first() -> None:
    assert free(HostMemory()) == [1, 2, 3, 4]
    assert free(HostMemory(), {1: unit(pid=101), 3: unit("deactivating")}, 1) == [2, 4]


def test_one_that_failed_waits_the_others_do_not() -> None:
    assert free(HostMemory(failures={"1": failure(14.0)}), {1: unit("failed")}) == [2, 3, 4]
    assert free(HostMemory(failures={"1": failure(15.0)}), {1: unit("failed")}) == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("count", "pause"), [(1, 15.0), (2, 30.0), (3, 60.0), (4, 120.0), (5, 300.0), (9, 300.0)]
)
def test_the_pauses_grow(count: int, pause: float) -> None:
    assert 1 not in free(HostMemory(failures={"1": failure(pause - 1.0, count)}))
    assert 1 in free(HostMemory(failures={"1": failure(pause, count)}))


def test_given_up_is_given_up() -> None:
    assert 1 in free(HostMemory(failures={"1": failure(9e9, RETRIES_MAX)}))
    assert 1 not in free(HostMemory(failures={"1": failure(9e9, RETRIES_MAX + 1)}))


def test_where_two_failed_and_none_came_up_since_only_one_of_those_is_tried() -> None:
    both = HostMemory(failures={"1": failure(20.0), "2": failure(20.0)})
    assert free(both) == [1]
    assert free(HostMemory(failures={"1": failure(5.0), "2": failure(20.0)})) == [2]
    assert free(HostMemory(failures={"1": failure(5.0), "2": failure(5.0)})) == []


def test_not_while_one_is_being_tried() -> None:
    both = HostMemory(failures={"1": failure(20.0), "2": failure(20.0)})
    assert free(both, {1: unit("activating", age=3.0)}) == []


def test_one_that_came_up_since_shows_that_it_can() -> None:
    both = HostMemory(failures={"1": failure(20.0), "2": failure(20.0)})
    assert free(both, {3: unit(pid=103, age=15.0)}, 3) == [1, 2, 4]
    assert free(both, {3: unit(pid=103, age=900.0)}, 3) == [1], "it has run since before"


def test_stopped_by_hand_is_not_free() -> None:
    pin = Pin(wants="stopped", since_seconds=0.0, until_seconds=NOW + 1.0)
    assert free(HostMemory(pins={"2": pin})) == [1, 3, 4]


def test_what_is_said_of_those_that_failed() -> None:
    memory = HostMemory(failures={"1": failure(5.0, 2), "2": failure(0.0, 3)})
    assert failed_sentence([1, 2], memory, NOW).startswith(
        "failed 2 times: died at once; @1 is tried again in 25 s"
    )
    assert failed_sentence([3], memory, NOW) == "would fail like the others: held"
    over = HostMemory(failures={"1": failure(5.0, RETRIES_MAX + 1)})
    assert "`fleetctl release 1`" in failed_sentence([1], over, NOW)
