"""Law 8: every clamp has a reason. Tested tick by tick: from needed to admitted without a gap, whatever clamps."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fleetd.core.model.policy_tables import PacePolicy
from tests.support.laws.laws import EveryClampSpeaks, Notes
from tests.support.storm.storm import Storm
from tests.support.world.fleets import QUICK, tight
from tests.support.world.ports import policy, strict, weighted
from tests.support.world.world import World


def scarce_connections(world: World) -> None:
    world.max_connections, world.other_clients = tight(30)


def budget_shrinks(world: World) -> None:
    world.max_connections, world.other_clients = tight(30)
    world.other_clients += 20


def scarce_memory(world: World) -> None:
    world.memory_available_bytes = 4 * 1024**3


def no_postgres(world: World) -> None:
    world.postgres_up = False


def no_redis(world: World) -> None:
    world.redis_up = False


def broken_and_unrendered(world: World) -> None:
    world.broken |= {2, 6}
    world.rendered -= {3, 7}


def people(world: World) -> None:
    world.start(4)
    world.stop(1)
    world.quiet(5)


def unreadable_queue(world: World) -> None:
    world.unreadable.add("push")


@pytest.mark.parametrize(
    ("trouble", "code"),
    [
        (scarce_connections, "connections"),
        (budget_shrinks, "connections"),
        (scarce_memory, "memory"),
        (no_postgres, "headroom_unknown"),
        (no_redis, "latency_unknown"),
        (broken_and_unrendered, "not_rendered"),
        (people, "pinned"),
        (unreadable_queue, "latency_unknown"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_law_8_every_change_of_the_count_has_a_reason(trouble: Callable[[World], None], code: str) -> None:
    rules = policy(strict(numbers="1-4"), weighted(numbers="5-8", weights="default:2 push:1"), pace=QUICK)
    storm = Storm(rules, EveryClampSpeaks, Notes)
    storm.world.enqueue("default", 1000)
    for _ in range(3):  # growth is half done
        storm.tick()
    trouble(storm.world)
    storm.world.enqueue("default", 1000)
    for _ in range(120):
        storm.tick()
    notes = storm.checks[1]
    assert isinstance(notes, Notes)
    assert code in notes.seen.clamps


def test_law_8_the_pace_of_starts_is_reported_while_it_limits_growth() -> None:
    storm = Storm(policy(pace=PacePolicy(starts_per_tick=1)), EveryClampSpeaks)
    storm.world.enqueue("default", 3000)
    result = storm.tick()
    [pace] = [c for c in result.host.clamps if c.code.value == "pace"]
    assert (pace.before_instances, pace.after_instances) == (6, 1)
