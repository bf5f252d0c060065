"""Laws 7 and 9: everything is bounded; the same input gives the same decision. Tested tick by tick."""

from __future__ import annotations

import msgspec

from fleetd.core.instances.drain import DRAIN_ORDERS_MAX
from fleetd.core.instances.host_memory import HostMemory
from fleetd.core.model.policy_tables import PacePolicy
from tests.support.world.fleets import (
    HOUR,
    QUICK,
    idle_fleet,
)
from tests.support.world.ports import Rig, policy, strict, weighted
from tests.support.world.world import World


def test_law_7_the_steps_of_a_tick_are_bounded() -> None:
    rules = policy(strict(numbers="1-60"), pace=PacePolicy(hold_down_seconds=0.0, drains_per_tick=16))
    rig = idle_fleet(rules, 60)
    most = max(len(result.host.steps) for result in rig.run(400.0))
    assert 16 < most <= 16 + DRAIN_ORDERS_MAX
    assert rig.serving() == 1


def test_law_7_memory_does_not_grow_over_a_week() -> None:
    rig = Rig(World(policy(strict(numbers="1-3"), pace=QUICK)))
    rig.world.rates = {"default": 0.2}
    sizes = []
    for hour in range(24):
        rig.world.enqueue("default", 100)
        result = rig.run(HOUR / 6)[-1]
        rig.world.kill_worker(1 + hour % 3)
        sizes.append(len(msgspec.json.encode((result.fleet.memory, result.host.memory))))
    assert max(sizes) < 6000


def test_law_7_of_many_jobs_pushed_back_the_newest_are_remembered() -> None:
    older, newer = (frozenset(f"{age}-{n}" for n in range(300)) for age in ("older", "newer"))
    memory = HostMemory().with_pushed_back(older, 1000.0).with_pushed_back(newer, 2000.0)
    assert len(memory.pushed_back) == 512
    assert newer <= memory.pushed_back.keys()


def test_law_9_two_equal_worlds_develop_equally() -> None:
    def one() -> list[bytes]:
        rig = Rig(World(policy(strict(numbers="1-4"), weighted(numbers="5-8"), pace=QUICK), seed=7))
        rig.world.rates = {"default": 6.0, "push": 1.0}
        ticks = rig.run(600.0)
        return [msgspec.json.encode((t.fleet, t.host.steps, t.host.memory)) for t in ticks]

    assert one() == one()
