"""Numbers and profiles that the configuration names no more: what fleetd rendered is drained, and shown until then."""

from __future__ import annotations

import pytest
from msgspec import structs

from fleetd.core.instances.orders import DrainInstance, Pause, PinInstance, ReleaseInstance, Restart, Resume
from fleetd.core.model.identity import SCHEDULER, TEMPLATE_UNIT, InstanceKey
from fleetd.core.model.policy_tables import PacePolicy, SchedulerPolicy
from fleetd.core.model.reasons.units import Died
from fleetd.core.model.status import InstanceStatus, Status
from tests.support.world.fleets import (
    HOUR,
    QUICK,
    configured,
    idle_fleet,
    loaded,
    serving_true,
    settled,
    with_scheduler,
)
from tests.support.world.ports import Rig, policy, strict, weighted

SLOW = PacePolicy(hold_down_seconds=30.0, drain_seconds_max=HOUR)


def loaded_six(pace: PacePolicy = QUICK) -> Rig:
    """@1 to @6 run and are all needed."""
    return loaded(policy(strict(numbers="1-6", low=1), pace=pace), 6)


def shown(status: Status, number: int) -> InstanceStatus | None:
    return next((i for i in status.instances if i.number == number), None)


def up(rig: Rig) -> set[int]:
    return {n for n, unit in rig.world.units.items() if unit.process is not None}


def least_serving(rig: Rig, seconds: float) -> int:
    least = serving_true(rig.world)
    for _ in range(int(seconds / 5)):
        rig.run(5.0)
        least = min(least, serving_true(rig.world))
    return least


def test_numbers_that_the_configuration_names_no_more_are_drained_without_losing_a_job() -> None:
    rig = loaded_six()
    configured(rig, policy(strict(numbers="1-2"), pace=QUICK))
    rig.run(900.0)
    assert up(rig) == {1, 2}
    assert sorted(rig.ordered("quiet")) == sorted(rig.ordered("stop")) == [3, 4, 5, 6]
    assert rig.world.lost == 0
    assert rig.ordered("start") == []


def test_they_are_shown_and_claim_what_they_may_open_until_they_are_gone() -> None:
    rig = loaded_six(SLOW)
    rig.world.job_seconds = (300.0, 300.0)
    rig.run(30.0)
    configured(rig, policy(strict(numbers="1-2"), pace=SLOW))
    rig.run(30.0)
    result = rig.tick()
    status = rig.status(result)
    for number in (3, 4, 5, 6):
        instance = shown(status, number)
        assert instance is not None
        assert (instance.configured, instance.state) == (False, "draining")
        assert instance.note.startswith("fleetd.toml names it no more")
    assert shown(status, 1) is not None
    assert all(i.configured for i in status.instances if i.number < 3)
    assert result.fleet.claims_connections == 6 * 7
    rig.run(900.0)
    status = rig.status(rig.tick())
    assert [i.number for i in status.instances] == [1, 2]
    assert status.overrides == ()


def test_a_moved_range_is_replaced_one_by_one_without_a_gap() -> None:
    rig = loaded(policy(strict(numbers="1-3"), pace=QUICK), 3)
    configured(rig, policy(strict(numbers="7-9"), pace=QUICK))
    assert least_serving(rig, 1800.0) >= 2
    assert up(rig) == {7, 8, 9}
    assert rig.ordered("start") == [7, 8, 9]
    assert rig.world.lost == 0


def test_one_that_moved_to_another_profile_is_replaced_by_one_of_that() -> None:
    rig = settled(policy(strict(numbers="1-4", low=4), weighted(numbers="7-8", low=1), pace=QUICK), 4)
    rig.run(120.0)
    configured(rig, policy(strict(numbers="1-3", low=3), weighted(numbers="4-8", low=2), pace=QUICK))
    rig.run(900.0)
    process = rig.world.units[4].process
    if process is not None:
        assert process.weighted
    assert serving_true(rig.world, "default-first") == 3
    assert serving_true(rig.world, "weighted") == 2
    assert rig.world.lost == 0


def test_a_profile_that_was_removed_leaves_once_the_others_have_what_they_need() -> None:
    rig = loaded(policy(strict("old", numbers="1-3"), pace=QUICK), 3)
    configured(rig, policy(strict("new", numbers="5-8", low=2), pace=QUICK))
    assert least_serving(rig, 1800.0) >= 2
    assert up(rig) >= {5, 6}
    assert up(rig) <= {5, 6, 7, 8}
    assert rig.world.lost == 0


def test_one_of_a_removed_profile_is_shown_with_its_name() -> None:
    rig = settled(policy(strict("old", numbers="1-2"), pace=SLOW), 2)
    configured(rig, policy(strict("new", numbers="5-8"), pace=SLOW))
    instance = shown(rig.status(rig.tick()), 1)
    assert instance is not None
    assert (instance.profile, instance.configured) == ("old", False)


def test_it_is_drained_also_if_fleetd_was_restarted_with_the_new_configuration() -> None:
    rig = loaded_six()
    configured(rig, policy(strict(numbers="1-2"), pace=QUICK))
    rig.kill_fleetd()
    rig.run(60.0)
    rig.host.readable = False  # then what was known stays
    rig.run(30.0)
    assert shown(rig.status(rig.tick()), 6) is not None or 6 not in up(rig)
    rig.host.readable = True
    rig.run(900.0)
    assert up(rig) == {1, 2}
    assert rig.ticker.host_memory.people.pins == {}


def test_orders_understand_it() -> None:
    rig = settled(policy(strict(numbers="1-4", low=4), pace=QUICK), 4)
    configured(rig, policy(strict(numbers="1-2", low=2), pace=QUICK))
    rig.order(Pause())
    rig.run(60.0)
    assert up(rig) == {1, 2, 3, 4}, "it is drained of fleetd's own accord, so a pause holds that"
    assert "names it no more, so it does not come back" in rig.order(DrainInstance(key=InstanceKey(3)))
    assert "kept running" in rig.order(PinInstance(key=InstanceKey(4)))
    rig.run(60.0)
    assert up(rig) == {1, 2, 4}
    rig.order(Resume())
    rig.run(300.0)
    assert up(rig) == {1, 2, 4}, "a person wants it to run"
    rig.order(ReleaseInstance(key=InstanceKey(4)))
    rig.run(300.0)
    assert 4 not in up(rig)


def test_a_restart_replaces_it_by_a_number_that_is_configured() -> None:
    rig = loaded(policy(strict(numbers="1-3"), pace=QUICK), 3)
    configured(rig, policy(strict(numbers="3-6"), pace=QUICK))
    rig.tick()
    rig.order(Restart())
    rig.run(1800.0)
    assert up(rig) <= {3, 4, 5, 6}
    assert rig.ticker.host_memory.rollout is None or not rig.ticker.host_memory.rollout.left
    assert rig.world.lost == 0


def test_a_number_that_was_never_ours_is_left_alone() -> None:
    rig = idle_fleet(policy(strict(numbers="1-2", low=2), pace=QUICK), 2)
    rig.world.units[50] = type(rig.world.units[1])("mastodon-sidekiq@50.service", InstanceKey(50), state="active")
    rig.run(600.0)
    assert rig.units.orders == []
    assert shown(rig.status(rig.tick()), 50) is None
    assert 50 not in rig.ticker.host_memory.units.seen


def test_one_that_a_person_starts_again_is_kept_for_a_while() -> None:
    rig = settled(policy(strict(numbers="1-3", low=1), pace=structs.replace(QUICK, pin_seconds=HOUR)), 1)
    configured(rig, policy(strict(numbers="1-2", low=1), pace=rig.world.policy.pace))
    rig.world.left_over = {3: strict(numbers="3-3")}  # not rendered anew since
    rig.run(60.0)
    rig.world.rendered.add(3)
    rig.world.start(3)
    rig.run(HOUR - 120.0)
    assert 3 in up(rig)
    rig.run(600.0)
    assert 3 not in up(rig)


def test_a_scheduler_whose_place_is_elsewhere_now_says_so_and_goes_on() -> None:
    rig = settled(with_scheduler("here"), 1)
    rig.run(60.0)
    assert rig.world.schedulers()
    elsewhere = SchedulerPolicy(place="elsewhere", threads=5, db_pool=7)
    configured(rig, structs.replace(rig.world.policy, scheduler=elsewhere))
    rig.run(900.0)
    assert rig.world.schedulers(), "nobody knows whether another host would take over"
    assert "systemctl stop mastodon-sidekiq-scheduler" in rig.status(rig.tick()).scheduler.sentence
    rig.world.stop(SCHEDULER)
    rig.run(60.0)
    assert "configured never to start it" in rig.status(rig.tick()).scheduler.sentence


@pytest.mark.parametrize("name", ["default-first", "new"])
@pytest.mark.parametrize("wrong", ["broken", "masked"])
def test_while_nothing_comes_up_in_their_place_they_go_on(name: str, wrong: str) -> None:
    rig = settled(policy(strict(numbers="1-3", low=3), pace=QUICK), 3)
    rig.run(700.0)
    if wrong == "broken":
        rig.world.broken |= {7, 8, 9}
    else:
        rig.world.masked_units = (TEMPLATE_UNIT,)
    configured(rig, policy(strict(name, numbers="7-9", low=3), pace=QUICK))
    assert least_serving(rig, 2 * HOUR) >= 2
    rig.world.broken -= {7, 8, 9}
    rig.world.masked_units = ()
    for number in rig.ticker.host_memory.units.failures:
        rig.order(ReleaseInstance(key=number))
    rig.run(2 * HOUR)
    assert up(rig) == {7, 8, 9}


def test_a_death_of_one_is_told() -> None:
    rig = loaded_six(SLOW)
    rig.world.job_seconds = (900.0, 900.0)
    rig.run(30.0)
    configured(rig, policy(strict(numbers="1-2"), pace=SLOW))
    rig.run(10.0)
    rig.world.kill_worker(6)
    told = [reason for result in rig.run(30.0) for reason in result.noticed if isinstance(reason, Died)]
    assert InstanceKey(6) in {key for reason in told for key in reason.keys}


def test_a_second_drain_of_one_joins_the_first_and_keeps_nothing_stopped() -> None:
    rig = loaded_six(SLOW)
    rig.world.job_seconds = (300.0, 300.0)
    rig.run(30.0)
    configured(rig, policy(strict(numbers="1-2"), pace=SLOW))
    rig.tick()
    rig.order(DrainInstance(key=InstanceKey(6)))
    rig.tick()
    said = rig.order(DrainInstance(key=InstanceKey(6)))
    assert "is being drained already" in said
    assert "kept stopped" not in said
    assert rig.ticker.host_memory.people.pins == {}


def three_of_a_removed_profile(*, paused: bool, kept: bool = False) -> Rig:
    """@1 to @3 are left over of a profile that was removed; @7 is another one's min."""
    rig = settled(policy(strict(numbers="1-3", low=3), strict("new", numbers="7-9", low=1), pace=SLOW), 3)
    rig.run(60.0)
    if paused:
        rig.order(Pause(for_seconds=HOUR))
    for number in (1, 2, 3) if kept else ():
        rig.order(PinInstance(key=InstanceKey(number)))
    configured(rig, policy(strict("new", numbers="7-9", low=1), pace=SLOW))
    return rig


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("paused", [True, False])
def test_a_full_database_is_not_said_to_leave_only_min_while_some_of_a_removed_profile_run(
    paused: bool, kept: bool
) -> None:
    rig = three_of_a_removed_profile(paused=paused, kept=kept)
    rig.world.other_clients = 290
    full = [said for said in rig.status(rig.run(20.0)[-1]).clamps if "may run out" in said.sentence]
    assert full
    assert ("kept by people" if kept else "lets") in full[0].sentence, full[0].sentence


def test_a_pause_keeps_them_unless_others_need_their_connections() -> None:
    rig = three_of_a_removed_profile(paused=True)
    rig.run(300.0)
    assert up(rig) == {1, 2, 3, 7}
    rig.world.other_clients = 162
    told = [clamp.sentence for result in rig.run(300.0) for clamp in rig.status(result).clamps]
    assert any("giving way" in sentence for sentence in told)
    assert up(rig) == {1, 2, 7}, "one of them is enough"
    rig.world.other_clients = 290
    rig.run(300.0)
    assert up(rig) == {7}
    assert rig.world.lost == 0
