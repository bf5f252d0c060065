"""An installation changes the workers' units: nothing moves until a person says so. A drop-in is rolled out."""

from __future__ import annotations

from typing import Literal

import pytest
from msgspec import structs

from fleetd.core.instances.host_memory import RolloutPhase
from fleetd.core.instances.orders import Restart, Resume
from fleetd.core.model.identity import SCHEDULER_UNIT, TEMPLATE_UNIT
from fleetd.core.model.policy_tables import SchedulerPolicy
from fleetd.core.model.reasons.counts import HoldReason, UnitsUpgraded
from fleetd.errors import OrderRefusedError
from fleetd.words.reasons import sentence
from tests.support.world.fleets import HOUR, QUICK, configured, serving_true, settled
from tests.support.world.ports import Rig, policy, strict, weighted
from tests.support.world.world import World

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
    notes = [i.note for i in rig.status(rig.tick()).instances if i.state == "outdated"]
    assert len(notes) == 3
    assert all(note.endswith("a drop-in of its unit changed: to be replaced") for note in notes)
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


def with_two_profiles() -> Rig:
    rules = policy(strict(numbers="1-4", low=2), weighted(numbers="7-10", low=2), pace=QUICK)
    rig = Rig(World(rules))
    for number in (1, 2, 7, 8):
        rig.world.start(number)
    rig.world.advance(60.0)
    rig.run(300.0)
    return rig


def here(place: Literal["here", "elsewhere"]) -> Rig:
    rules = policy(
        strict(numbers="1-4", low=2), pace=QUICK, scheduler=SchedulerPolicy(place=place, threads=5, db_pool=7)
    )
    rig = settled(rules, 2)
    rig.run(120.0)
    return rig


def of(rig: Rig) -> dict[int, int]:
    return {key: unit.process.pid for key, unit in rig.world.units.items() if unit.process is not None}


def test_a_restart_of_one_profile_leaves_the_others_as_they_are() -> None:
    rig = with_two_profiles()
    install(rig)
    rig.tick()
    before = of(rig)
    rig.order(Restart(profile="weighted"))
    rig.run(HOUR)
    assert holds(rig) == []
    assert {before[1], before[2]} < set(of(rig).values())
    assert not {before[7], before[8]} & set(of(rig).values())


def test_an_instance_that_has_not_served_yet_accepts_nothing() -> None:
    rig = here("elsewhere")
    install(rig)
    rig.tick()
    rig.world.broken = {1, 2, 3, 4}
    rig.world.restart_together([1, 2])
    rig.run(30.0)
    assert [type(reason) for reason in holds(rig)] == [UnitsUpgraded]


def test_a_restart_that_is_given_up_holds_again() -> None:
    rig = here("elsewhere")
    install(rig)
    rig.tick()
    rig.order(Restart())
    rig.world.broken = {1, 2, 3, 4}
    rig.run(1800.0)
    rollout = rig.ticker.host_memory.rollout
    assert rollout is not None
    assert rollout.phase == RolloutPhase.GIVEN_UP
    assert [type(reason) for reason in holds(rig)] == [UnitsUpgraded]


def test_an_installation_between_the_schedulers_stop_and_its_start_leaves_no_fleet_without_one() -> None:
    rig = here("here")
    rig.order(Restart())
    for _ in range(400):
        rig.tick()
        if not rig.world.schedulers():
            break
        rig.world.advance(5.0)
    install(rig)
    rig.run(300.0)
    assert len(rig.world.schedulers()) == 1


def test_resume_still_rolls_out_settings_that_have_changed_too() -> None:
    rig = here("elsewhere")
    install(rig)
    rig.tick()
    profiles = tuple(structs.replace(p, threads=6, db_pool=8) for p in rig.world.policy.profiles)
    configured(rig, structs.replace(rig.world.policy, profiles=profiles))
    rig.run(60.0)
    rig.order(Resume())
    rig.run(HOUR)
    assert {unit.process.threads for unit in rig.world.units.values() if unit.process is not None} == {6}


def test_resume_while_the_host_can_not_be_read_is_refused_and_rolls_nothing() -> None:
    rig = here("elsewhere")
    install(rig)
    rig.tick()
    before = of(rig)
    rig.host.readable = False
    rig.tick()
    with pytest.raises(OrderRefusedError, match="can't be read"):
        rig.order(Resume())
    rig.host.readable = True
    rig.run(900.0)
    assert of(rig) == before


def test_restarting_all_by_hand_ends_it_where_no_scheduler_runs() -> None:
    rig = here("elsewhere")
    install(rig)
    rig.tick()
    rig.world.restart_together([1, 2])
    rig.run(300.0)
    assert holds(rig) == []
