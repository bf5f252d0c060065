"""Which of a profile's clamps led to the admitted count, and which are why fewer than that run."""

from __future__ import annotations

from fleetd.core.model.policy_tables import PacePolicy
from fleetd.core.model.reasons.base import ClampCode
from tests.support.world.ports import Rig, policy, strict
from tests.support.world.world import World


def test_the_chain_of_clamps_up_to_admission_ends_at_the_admitted_count() -> None:
    rig = Rig(World(policy(strict(numbers="1-10"), pace=PacePolicy(starts_per_tick=1, booting_max=2))))
    rig.world.max_connections, rig.world.other_clients = 61, 20  # room for four
    rig.world.enqueue("default", 50_000)
    seen_before, seen_after = set[ClampCode](), set[ClampCode]()
    for result in rig.run(60.0):
        [profile] = rig.status(result).profiles
        assert profile.clamps_before_admission is not None
        before = profile.clamps[: profile.clamps_before_admission]
        after = profile.clamps[profile.clamps_before_admission :]
        seen_before |= {clamp.code for clamp in before}
        seen_after |= {clamp.code for clamp in after}
        if before and before[-1].after_instances is not None:
            assert before[-1].after_instances == profile.admitted_instances
        for clamp in after:
            assert clamp.before_instances is None or clamp.before_instances <= (profile.admitted_instances or 0)
    assert ClampCode.CONNECTIONS in seen_before
    assert ClampCode.PACE in seen_after
    assert not seen_before & seen_after
