"""Law 3: unknown holds. Tested tick by tick, in the situations that it was written for."""

from __future__ import annotations

from fleetd.core.model.policy_tables import PacePolicy
from tests.support.world.fleets import (
    HOUR,
    QUICK,
    idle_fleet,
    steps,
)
from tests.support.world.ports import Rig, policy, strict
from tests.support.world.world import World


def test_law_3_with_unknown_latency_nothing_stops_or_grows_above_min() -> None:
    rig = idle_fleet(policy(strict(numbers="1-6", low=2), pace=QUICK), 4)
    rig.world.redis_up = False
    ticks = rig.run(HOUR)
    assert steps(ticks) == []
    for number in (2, 3, 4):
        rig.world.units[number].state, rig.world.units[number].process = "inactive", None
    rig.store.content = None  # type: ignore[attr-defined]
    rig.kill_fleetd()
    rig.run(300.0)
    assert rig.serving() == 2


def test_law_3_with_unknown_latency_nothing_stops_even_for_the_budget() -> None:
    rig = idle_fleet(policy(strict(numbers="1-6"), pace=QUICK), 4)
    rig.world.redis_up = False
    rig.world.max_connections = 40
    assert steps(rig.run(300.0)) == []
    rig.world.redis_up = True
    rig.run(10.0)
    assert rig.ordered("quiet") != []


def test_law_3_with_unknown_headroom_nothing_grows_above_min() -> None:
    rig = Rig(World(policy(strict(numbers="1-6", low=2), pace=QUICK)))
    rig.world.postgres_up = False
    rig.world.enqueue("default", 10_000)
    rig.run(900.0)
    assert rig.serving() == 2


def test_law_3_an_unreadable_queue_holds_its_profiles() -> None:
    rules = policy(strict(numbers="1-4"), strict("mail", "5-8", queues="mailers"), pace=QUICK)
    world = World(rules)
    for number in (1, 2, 3, 5, 6, 7):
        world.start(number)
    world.advance(60.0)
    world.unreadable.add("pull")
    rig = Rig(world)
    rig.run(HOUR)
    assert rig.serving("default-first") == 3
    assert rig.serving("mail") == 1


def test_law_3_an_outage_restarts_the_hold_window() -> None:
    rig = idle_fleet(policy(strict(numbers="1-4"), pace=PacePolicy(hold_down_seconds=120.0)), 4)
    rig.run(110.0)
    rig.world.redis_up = False
    rig.run(60.0)
    rig.world.redis_up = True
    rig.run(120.0)
    assert rig.ordered("quiet") == []
    rig.run(120.0)
    assert rig.ordered("quiet") != []


def test_law_3_a_freeze_restarts_the_hold_window() -> None:
    rig = idle_fleet(policy(strict(numbers="1-4"), pace=PacePolicy(hold_down_seconds=120.0)), 4)
    rig.run(60.0)
    rig.world.advance(HOUR)
    rig.run(115.0)
    assert rig.ordered("quiet") == []


def test_law_3_with_systemd_unknown_nothing_moves() -> None:
    rig = idle_fleet(policy(strict(numbers="1-6", low=2), pace=QUICK), 1)
    rig.world.systemd_up = False
    rig.world.enqueue("default", 10_000)
    ticks = rig.run(300.0)
    assert steps(ticks) == []
    assert all(t.fleet.plan.profiles == {"w1": {}} for t in ticks)
