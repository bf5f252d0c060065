"""Of several hosts one at a time replaces instances."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from fleetd.core.fleet.view import FleetView, RestartStopped
from fleetd.core.instances.host_memory import HostMemory, Rollout
from fleetd.core.instances.outdated import rolls_elsewhere
from fleetd.core.model import reasons
from fleetd.core.model.identity import InstanceKey
from fleetd.core.sharing.fleet_plan import FleetPlan
from fleetd.core.sharing.report import HostReport, RestartReport
from fleetd.core.sharing.rolling import Rolls, rolls_of
from fleetd.core.sharing.rolls import host_that_rolls, restart_stopped
from tests.support.builders.fleets import fleet_view
from tests.support.builders.hosts import host, tick

ROLLOUT = Rollout(cause=reasons.ReplaceCause.RESTART, left={InstanceKey(1): "x"}, total_instances=2, since_seconds=0.0)


def reports(**rolls: Rolls) -> dict[str, HostReport]:
    return {name: structs.replace(host(name), rolls=what) for name, what in rolls.items()}


def test_whose_turn_it_is_goes_on_until_it_has_nothing_more_or_is_kept_from_it() -> None:
    assert host_that_rolls(reports(a="", b=""), "a") is None
    assert host_that_rolls(reports(a="ready", b="ready"), None) == "a"
    assert host_that_rolls(reports(a="ready", b="ready"), "b") == "b"
    assert host_that_rolls(reports(a="ready", b="busy"), None) == "b"
    assert host_that_rolls(reports(a="ready", b=""), "b") == "a"
    held = reports(a="ready", b="busy")
    held["b"] = structs.replace(held["b"], held="paused")
    assert host_that_rolls(held, "b") == "a"


@given(st.lists(st.sampled_from(["", "ready", "busy"]), max_size=5), st.none() | st.integers(0, 5))
def test_it_is_somebody_s_turn_while_one_has_something_to_replace(told: list[Rolls], before: int | None) -> None:
    found = {f"w{n}": structs.replace(host(f"w{n}"), rolls=rolls) for n, rolls in enumerate(told)}
    named = host_that_rolls(found, None if before is None else f"w{before}")
    assert (named is not None) == any(told)
    assert named is None or found[named].rolls == max(told, key=["", "ready", "busy"].index) or named == f"w{before}"


def test_what_is_told_of_a_rollout() -> None:
    assert rolls_of(HostMemory()) == ""
    assert rolls_of(HostMemory(rollout=ROLLOUT)) == "ready"
    waits = reasons.NextNotRendered(old_key=InstanceKey(1))
    assert rolls_of(HostMemory(rollout=structs.replace(ROLLOUT, waits=waits))) == ""
    assert rolls_of(HostMemory(rollout=structs.replace(ROLLOUT, unavailable_in="default-first"))) == "busy"
    assert rolls_of(HostMemory(rollout=structs.replace(ROLLOUT, spare=InstanceKey(2), waits=waits))) == "busy"


def waits(view: FleetView, rollout: Rollout = ROLLOUT) -> str | None:
    found = rolls_elsewhere(structs.replace(tick("w1"), fleet=view), rollout)
    return None if found is None else found.host


def test_a_host_waits_for_its_turn() -> None:
    planned = fleet_view(desired={"default-first": 1})
    assert waits(FleetView()) is None, "it is the only one"
    assert waits(structs.replace(planned, rolls_host="w1")) is None
    assert waits(structs.replace(planned, rolls_host="w2")) == "w2"
    assert waits(planned) == "", "nobody was named yet"
    assert waits(fleet_view()) == "", "none begins without a plan"
    assert waits(fleet_view(), structs.replace(ROLLOUT, done_instances=1)) is None, "what was begun goes on"


def test_a_restart_that_one_host_gave_up_stays_so_until_a_later_one_is() -> None:
    def gave_up(name: str, until_ms: int, *, phase: str = "given_up", whole: bool = True) -> HostReport:
        return structs.replace(host(name), restarts=(RestartReport(until_ms=until_ms, whole=whole, phase=phase),))

    assert restart_stopped({"a": gave_up("a", 5, phase="done"), "b": gave_up("b", 5, whole=False)}, None) is None
    first = restart_stopped({"a": gave_up("a", 5, phase="under_way"), "b": gave_up("b", 5)}, None)
    assert first == RestartStopped(until_ms=5, host="b")
    plan = FleetPlan(leader="a", restart_stopped=first)
    assert restart_stopped({"a": gave_up("a", 5, phase="stopped")}, plan) == first
    assert restart_stopped({"a": gave_up("a", 9)}, plan) == RestartStopped(until_ms=9, host="a")
