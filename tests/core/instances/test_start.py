"""Which numbers may be started, and what is reported about the others."""

from __future__ import annotations

import pytest

from fleetd.core.instances.host_memory import RETRIES_MAX, Failure, HostMemory
from fleetd.core.instances.start import free_numbers, start_failed
from fleetd.core.model.facts import UnitFacts
from fleetd.core.model.identity import InstanceKey
from fleetd.core.model.reasons.units import PinKind, StartFailed, SystemdResult
from fleetd.words.reasons import sentence
from tests.support.builders.decisions import pinned
from tests.support.builders.readings import process, sidekiq, snapshot, systemd, tag, tick_of, unit
from tests.support.world.ports import policy, strict

NOW = 10_000.0
RULES = policy(strict(numbers="1-4"))
ONE, TWO, THREE = (InstanceKey(n) for n in (1, 2, 3))
TOO_OFTEN = SystemdResult(result="start-limit-hit")


def failure(ago: float, count: int = 1) -> Failure:
    return Failure(count=count, last_seconds=NOW - ago, ordered=True, cause=TOO_OFTEN)


def failed(failures: dict[int, Failure]) -> HostMemory:
    return HostMemory().with_failures({InstanceKey(n): f for n, f in failures.items()})


def free(memory: HostMemory, units: dict[int, UnitFacts] | None = None, *heard: int) -> list[int]:
    beats = tuple(process(tag(n), pid=100 + n) for n in heard)
    shot = snapshot(RULES, now=NOW, redis=sidekiq(processes=beats), units=systemd(units or {}))
    tick, profile = tick_of(RULES, shot, memory), RULES.profiles[0]
    return list(free_numbers(tick, profile, tick.of(profile.name), memory).free)


def test_free_numbers_come_lowest_first() -> None:
    assert free(HostMemory()) == [1, 2, 3, 4]
    assert free(HostMemory(), {1: unit(pid=101), 3: unit("deactivating")}, 1) == [2, 4]


def test_only_the_instance_that_failed_waits() -> None:
    assert free(failed({1: failure(14.0)}), {1: unit("failed")}) == [2, 3, 4]
    assert free(failed({1: failure(15.0)}), {1: unit("failed")}) == [1, 2, 3, 4]


@pytest.mark.parametrize(("count", "pause"), [(1, 15.0), (2, 30.0), (3, 60.0), (4, 120.0), (5, 300.0), (9, 300.0)])
def test_the_pause_grows_with_each_failure(count: int, pause: float) -> None:
    assert 1 not in free(failed({1: failure(pause - 1.0, count)}))
    assert 1 in free(failed({1: failure(pause, count)}))


def test_an_instance_that_is_given_up_is_never_free_again() -> None:
    assert 1 in free(failed({1: failure(9e9, RETRIES_MAX)}))
    assert 1 not in free(failed({1: failure(9e9, RETRIES_MAX + 1)}))


def test_when_two_failed_and_none_came_up_since_only_one_of_them_is_tried() -> None:
    assert free(failed({1: failure(20.0), 2: failure(20.0)})) == [1]
    assert free(failed({1: failure(5.0), 2: failure(20.0)})) == [2]
    assert free(failed({1: failure(5.0), 2: failure(5.0)})) == []


def test_only_one_failed_instance_is_tried_at_a_time() -> None:
    both = failed({1: failure(20.0), 2: failure(20.0)})
    assert free(both, {1: unit("activating", age=3.0)}) == []


def test_once_an_instance_came_up_all_may_be_tried_again() -> None:
    both = failed({1: failure(20.0), 2: failure(20.0)})
    assert free(both, {3: unit(pid=103, age=15.0)}, 3) == [1, 2, 4]
    assert free(both, {3: unit(pid=103, age=900.0)}, 3) == [1], "it has run since before"


def test_an_instance_stopped_by_hand_is_not_free() -> None:
    assert free(pinned({2: PinKind.STOPPED})) == [1, 3, 4]


def test_of_failed_instances_the_one_to_be_tried_next_is_reported() -> None:
    memory = failed({1: failure(5.0, 2), 2: failure(0.0, 3)})
    why = start_failed((ONE, TWO), memory, NOW)
    assert why == StartFailed(keys=(ONE, TWO), tried_key=ONE, failures=2, cause=TOO_OFTEN, retry_seconds=25.0)
    assert sentence(why).startswith(
        "@1, @2 failed 2 times: died at once, too often (start-limit-hit); @1 is tried again in 25 s"
    )


def test_one_whose_pause_is_over_is_not_tried_again_in_0_seconds() -> None:
    why = start_failed((ONE,), failed({1: failure(100.0)}), NOW)
    assert sentence(why).endswith("@1 is tried again when the next one is needed")


def test_instances_that_would_fail_like_the_others_are_reported_as_held() -> None:
    why = start_failed((THREE,), failed({1: failure(5.0, 2), 2: failure(0.0, 3)}), NOW)
    assert why == StartFailed(keys=(THREE,))
    assert sentence(why) == "@3 would fail like the others: held"


def test_the_reason_for_giving_up_names_the_command_to_release_it() -> None:
    why = start_failed((ONE,), failed({1: failure(5.0, RETRIES_MAX + 1)}), NOW)
    assert why == StartFailed(keys=(ONE,), tried_key=ONE, given_up=True)
    assert "`fleetctl release 1`" in sentence(why)
