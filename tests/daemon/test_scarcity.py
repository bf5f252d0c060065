"""Scarce connections: a more important profile takes from a less important one, slowly and never below its min."""

from __future__ import annotations

from itertools import pairwise

from fleetd.core.capacity.admission import STARVING_SECONDS, YIELD_EVERY_SECONDS
from fleetd.core.instances.orders import SetInstances
from fleetd.core.model.policy_tables import PacePolicy
from tests.support.world.fleets import said
from tests.support.world.ports import Rig, policy, strict
from tests.support.world.world import World

PACE = PacePolicy(hold_down_seconds=60.0)


def rivals(*, low: int = 1) -> Rig:
    """Room for six: one `local` and five `bulk`. Only `bulk` has work."""
    rules = policy(strict("local", "1-6", queues="default"), strict("bulk", "11-16", queues="pull", low=low), pace=PACE)
    rig = Rig(World(rules))
    rig.world.max_connections = 3 + 10 + 20 + 6 * 7
    rig.world.rates = {"pull": 12.5}  # 25 busy threads at 2 s a job: all that is left, and more
    rig.world.enqueue("pull", 20_000)
    rig.run(120.0)
    assert (rig.serving("local"), rig.serving("bulk")) == (1, 5)
    rig.units.orders.clear()
    return rig


def test_a_less_important_profile_slowly_yields_to_one_that_starves() -> None:
    rig = rivals()
    rig.world.rates["default"] = 8.0  # 16 threads: four instances
    begun = rig.world.now
    ticks = rig.run(STARVING_SECONDS)
    assert rig.ordered("quiet") == [], "not at once: it may pass"
    assert "what is left is kept for local, which is more important and late" in said(ticks[-1])
    rig.run(900.0)
    assert rig.serving("local") >= 4
    quiets = [at for at, step in rig.units.orders if step.verb == "quiet" and step.profile == "bulk"]
    assert quiets[0] - begun >= STARVING_SECONDS
    assert all(b - a >= YIELD_EVERY_SECONDS for a, b in pairwise(quiets))
    assert rig.world.accounted()


def test_a_profile_never_yields_below_its_min() -> None:
    rig = rivals(low=4)
    rig.world.rates["default"] = 30.0
    rig.run(1800.0)
    assert rig.serving("bulk") == 4
    assert rig.serving("local") == 2


def test_a_profile_that_a_person_set_to_a_count_yields_nothing() -> None:
    rig = rivals()
    rig.order(SetInstances(profile="bulk", instances=5))
    rig.world.rates["default"] = 8.0
    rig.run(900.0)
    assert rig.ordered("quiet") == []
    assert (rig.serving("local"), rig.serving("bulk")) == (1, 5)


def test_yielded_instances_do_not_go_back_and_forth() -> None:
    rig = rivals()
    rig.world.rates["default"] = 8.0
    rig.run(900.0)
    settled = rig.serving("local"), rig.serving("bulk")
    rig.units.orders.clear()
    rig.run(1800.0)
    assert (rig.serving("local"), rig.serving("bulk")) == settled
    assert rig.units.orders == []


def test_no_profile_yields_to_one_that_is_not_late() -> None:
    rig = rivals()
    rig.world.rates["default"] = 2.0  # 4 threads: what one instance carries
    rig.run(900.0)
    assert rig.ordered("quiet") == []


def test_no_profile_yields_if_that_would_not_make_room_for_one_more() -> None:
    rules = policy(
        strict("local", "1-3", queues="default", threads=30),
        strict("bulk", "11-12", queues="pull", low=1),
        pace=PACE,
    )
    rig = Rig(World(rules))
    rig.world.max_connections = 3 + 10 + 20 + 32 + 2 * 7
    rig.world.rates = {"default": 40.0, "pull": 6.0}
    rig.world.enqueue("default", 3_000)
    rig.run(900.0)
    assert rig.ordered("quiet") == []
    assert (rig.serving("local"), rig.serving("bulk")) == (1, 2)
