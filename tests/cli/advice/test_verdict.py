"""How bad a profile is, and which clamps need no words of their own."""

from __future__ import annotations

from msgspec import structs

from fleetd.cli.advice.verdict import Level, profile_level, told_for_all
from fleetd.core.model.reasons.base import ClampCode
from fleetd.core.model.status import ClampStatus
from tests.support.builders import status_examples
from tests.support.builders.status_healthy import healthy


def test_a_clamp_that_makes_an_instance_go_is_told_although_its_reason_is_told_for_all() -> None:
    status = status_examples.surge()
    status = structs.replace(
        status, connections=structs.replace(status.connections, saturation="PgBouncer's clients wait")
    )
    profile = status.profiles[0]
    running = profile.running_instances
    assert running is not None

    def clamp(after: int) -> ClampStatus:
        return ClampStatus(
            code=ClampCode.DATABASE_SATURATED,
            sentence="x",
            profile=profile.name,
            before_instances=running + 2,
            after_instances=after,
        )

    assert told_for_all(status, clamp(running)), "it only keeps the profile from growing"
    assert not told_for_all(status, clamp(running - 1))


def test_a_number_that_fleetd_only_observes_is_as_it_should_be() -> None:
    few = structs.replace(healthy().profiles[0], running_instances=0)
    assert profile_level(few) == Level.WARN
    assert profile_level(few, observed=True) == Level.OK
