"""An installation changes the workers' units: nothing moves until a person says so. A drop-in is rolled out."""

from __future__ import annotations

import pytest
from msgspec import structs

from fleetd.core.instances.orders import Restart, Resume
from fleetd.core.model.identity import SCHEDULER_UNIT, TEMPLATE_UNIT
from fleetd.core.model.reasons.counts import HoldReason, UnitsUpgraded
from fleetd.words.reasons import sentence
from tests.support.world.fleets import HOUR, QUICK, serving_true, settled
from tests.support.world.ports import Rig, policy, strict

HELD = UnitsUpgraded(units=(TEMPLATE_UNIT, SCHEDULER_UNIT))


def fleet() -> Rig:
    rig = settled(policy(strict(numbers="1-4", low=3), pace=QUICK), 3)
    rig.tick()
    rig.units.orders.clear()
    return rig


def install(rig: Rig, version: str = "unit-2") -> None:
    rig.world.installed_unit = rig.world.unit_file = version


def holds(rig: Rig) -> list[HoldReason]:
    return [hold.reason for hold in rig.tick().tick.constraints.holds]


def pids(rig: Rig) -> set[int]:
    return {process.pid for process in rig.world.processes()}


def test_an_installation_is_a_hold_and_no_roll() -> None:
    rig = fleet()
    before = pids(rig)
    install(rig)
    rig.run(HOUR)
    assert holds(rig) == [HELD]
    assert pids(rig) == before
    assert rig.units.orders == []
    assert "`fleetctl restart`" in sentence(HELD)


def test_the_hold_outlives_the_restart_of_fleetd_that_an_upgrade_is() -> None:
    rig = fleet()
    install(rig)
    rig.kill_fleetd()
    rig.run(60.0)
    assert holds(rig) == [HELD]
    assert rig.units.orders == []


def test_restart_replaces_all_of_them_one_at_a_time() -> None:
    rig = fleet()
    before = pids(rig)
    install(rig)
    rig.tick()
    rig.order(Restart())
    least = 3
    for _ in range(120):
        rig.tick()
        rig.world.advance(5.0)
        least = min(least, serving_true(rig.world))
    assert least == 3
    assert not before & pids(rig)
    assert holds(rig) == []


def test_resume_leaves_those_that_run_as_they_are() -> None:
    rig = fleet()
    before = pids(rig)
    install(rig)
    rig.tick()
    rig.order(Resume())
    rig.run(HOUR)
    assert holds(rig) == []
    assert pids(rig) == before


def test_going_back_to_the_version_before_ends_it() -> None:
    rig = fleet()
    install(rig)
    assert holds(rig) == [HELD]
    install(rig, "unit-1")
    assert holds(rig) == []


def test_a_drop_in_of_theirs_is_no_installation() -> None:
    rig = fleet()
    before = pids(rig)
    rig.world.unit_file = "unit-1 with a drop-in"
    notes = {i.note for i in rig.status(rig.tick()).instances if i.state == "outdated"}
    assert notes == {"a drop-in of its unit changed: to be replaced"}
    ticks = rig.run(600.0)
    assert any("a drop-in of its unit changed" in sentence(s.why) for tick in ticks for s in tick.host.steps)
    assert not before & pids(rig)


@pytest.mark.parametrize("changed", [True, False])
def test_a_memory_of_the_version_before_knows_of_no_units(changed: bool) -> None:
    """0.1.0 rolled them out by itself: its memory has no installed units, but with which unit each instance runs."""
    rig = fleet()
    if changed:
        install(rig)
    rig.ticker.host_memory = structs.replace(rig.ticker.host_memory, shipped=None)
    rig.run(600.0)
    assert holds(rig) == ([UnitsUpgraded(units=(TEMPLATE_UNIT,))] if changed else [])  # no scheduler runs here
    assert rig.units.orders == []
