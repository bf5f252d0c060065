"""What people do: pins by hand and by order, drains, set counts, pauses. What is refused changes nothing."""

from __future__ import annotations

import msgspec
import pytest

from fleetd.core.fleet.orders import ORDER_SECONDS_MAX
from fleetd.core.instances.orders import (
    DrainInstance,
    Order,
    Pause,
    PinInstance,
    ReleaseInstance,
    Restart,
    Resume,
    SetInstances,
)
from fleetd.core.model.identity import InstanceKey
from fleetd.core.model.person import Person
from fleetd.core.model.policy_tables import PacePolicy
from fleetd.errors import OrderRefusedError
from fleetd.words.reasons import sentence
from tests.support.world.fleets import HOUR, QUICK, busy_fleet, loaded, noticed, said, settled, states, tight
from tests.support.world.ports import Rig, policy, strict, weighted
from tests.support.world.world import World

QUICK_PINS = PacePolicy(hold_down_seconds=30.0, drain_seconds_max=60.0, pin_seconds=HOUR)


def fleet(count: int = 2, numbers: str = "1-4", *, low: int = 1, pace: PacePolicy = QUICK_PINS) -> Rig:
    rig = settled(policy(strict(numbers=numbers, low=count), pace=pace), count)
    profile = msgspec.structs.replace(rig.world.policy.profiles[0], min_instances=low)
    rules = msgspec.structs.replace(rig.world.policy, profiles=(profile,))
    rig.world.policy = rig.world.rendered_policy = rig.ticker.policy = rules
    rig.units.orders.clear()
    rig.tick()
    return rig


def refused(rig: Rig, order: Order) -> str:
    """The reason for which an order is refused. Checks that nothing was changed."""
    before = msgspec.json.encode(rig.ticker.host_memory)
    with pytest.raises(OrderRefusedError) as error:
        rig.order(order)
    assert msgspec.json.encode(rig.ticker.host_memory) == before
    return str(error.value)


ALICE = Person(user="root", login="alice")
BY_ALICE = "root (sudo alice)"


def test_what_is_ordered_says_who_ordered_it_even_after_a_restart_of_fleetd() -> None:
    rig = fleet(count=3)
    rig.order(SetInstances(profile="default-first", instances=3), ALICE)
    rig.order(PinInstance(key=InstanceKey(1)), ALICE)
    rig.order(DrainInstance(key=InstanceKey(2)), ALICE)
    rig.order(Pause(reason="moving the database"), ALICE)
    rig.kill_fleetd()
    result = rig.tick()
    assert f"drained by {BY_ALICE}" in [sentence(step.why) for step in result.host.steps]
    status = rig.status(result)
    assert status.holds[0].sentence == f"paused by {BY_ALICE}: moving the database; `fleetctl resume` ends it"
    assert {(order.what, order.sentence) for order in status.overrides} == {
        ("fleet", "moving the database"),
        ("default-first", f"3 instances, by {BY_ALICE}"),
        ("@1", f"kept running by {BY_ALICE}"),
        ("@2", f"kept stopped by {BY_ALICE}"),
    }
    rig.order(Resume())
    assert f"set to 3 by {BY_ALICE}" in said(rig.tick())


def test_a_restart_says_who_ordered_it() -> None:
    rig = fleet(count=2)
    rig.order(Restart(), ALICE)
    ticks = rig.run(60.0)
    whys = [sentence(step.why) for tick in ticks for step in tick.host.steps]
    assert any(why.endswith(f"restarted by {BY_ALICE}") for why in whys)


# -- pin, release


def test_a_pin_to_run_is_kept_across_a_restart_of_fleetd_until_its_end() -> None:
    rig = fleet()
    assert "runs and is kept running for 60 min" in rig.order(PinInstance(key=InstanceKey(2)))
    rig.run(60.0)
    rig.kill_fleetd()
    rig.run(HOUR - 90.0)
    assert rig.ordered("quiet") == []
    status = rig.status(rig.tick())
    [override] = status.overrides
    assert (override.kind, override.what) == ("pin", "@2")
    rig.run(200.0)
    assert rig.ordered("quiet") == [2]
    assert rig.status(rig.tick()).overrides == ()


def test_an_instance_pinned_as_stopped_is_not_started_though_needed() -> None:
    rig = fleet()
    assert "is stopped and kept so" in rig.order(PinInstance(key=InstanceKey(3)))
    rig.world.enqueue("default", 20_000)
    ticks = rig.run(300.0)
    assert set(rig.ordered("start")) == {4}
    assert "@3 stopped by people and left so" in said(ticks[-1])
    assert states(ticks[-1])[3] == "pinned"
    rig.order(ReleaseInstance(key=InstanceKey(3)))
    rig.run(30.0)
    assert 3 in rig.ordered("start")


def test_a_released_instance_is_under_fleetds_control_again() -> None:
    rig = fleet()
    rig.order(PinInstance(key=InstanceKey(2)))
    rig.run(100.0)
    assert rig.units.orders == []
    rig.order(ReleaseInstance(key=InstanceKey(2)))
    rig.run(100.0)
    assert rig.ordered("quiet") == [2]


def test_an_instance_quieted_by_hand_and_released_is_drained() -> None:
    rig = fleet(count=3, numbers="1-4", low=3)
    rig.world.quiet(2)
    rig.run(60.0)
    assert rig.ordered("stop") == []
    assert "it is drained now" in rig.order(ReleaseInstance(key=InstanceKey(2)))
    rig.run(60.0)
    assert rig.ordered("stop") == [2]


def test_an_instance_quieted_by_hand_and_then_ordered_to_drain_is_stopped() -> None:
    rig = fleet(count=3, numbers="1-4", low=3)
    rig.world.quiet(2)
    rig.run(60.0)
    rig.order(DrainInstance(key=InstanceKey(2)))
    rig.run(60.0)
    assert rig.ordered("quiet") == [], "it is quiet already"
    assert rig.ordered("stop") == [2]


def test_who_starts_again_what_they_stopped_is_not_answered_with_a_canceled_start() -> None:
    """Another one stands in meanwhile, so one is too many: none goes before the person's start is through."""
    rig = fleet(count=1, numbers="1-4", low=1)
    rig.world.boot_seconds = 60.0
    rig.world.stop(1)
    rig.run(90.0)
    assert rig.ordered("start") == [2]
    rig.world.start(1)
    while rig.world.units[1].state != "active":
        rig.run(5.0)
        assert rig.ordered("quiet") == rig.ordered("stop") == []
    rig.run(1200.0)
    assert rig.serving() == 1, "then one of them goes, without losing a job"
    assert rig.ticker.host_memory.people.returning == ()


def test_after_a_stop_by_hand_another_number_stands_in_only_for_min() -> None:
    rig = fleet(count=2, numbers="1-4", low=2)
    rig.world.stop(1)
    ticks = rig.run(120.0)
    [step] = [s for _, s in rig.units.orders]
    assert (step.verb, step.key) == ("start", 3)
    assert "takes over for @1, stopped by people, because min is 2" in sentence(step.why)
    notes = {i.number: i.note for i in rig.status(ticks[-1]).instances}
    assert "stopped by hand" in notes[1]
    assert notes[3] == "stands in for @1, stopped by people"
    rig.kill_fleetd()
    ticks = rig.run(10.0)
    assert "stands in" in {i.number: i.note for i in rig.status(ticks[-1]).instances}[3]
    rig.order(ReleaseInstance(key=InstanceKey(1)))
    ticks = rig.run(10.0)
    assert "stands in" not in {i.number: i.note for i in rig.status(ticks[-1]).instances}[3]


def test_an_instance_started_by_hand_is_kept_though_the_fleet_shrinks() -> None:
    rig = fleet(count=3, numbers="1-4")
    rig.world.start(4)
    rig.run(600.0)
    assert [n for n, u in rig.world.units.items() if u.state == "active"] == [1, 4]


# -- drain


def test_an_instance_drained_by_order_is_stopped_once_idle_and_stays_so() -> None:
    rig = busy_fleet(2, seconds=30.0, pace=QUICK_PINS)
    rig.tick()
    assert "is drained, 5 jobs to finish" in rig.order(DrainInstance(key=InstanceKey(1)))
    rig.run(100.0)
    assert rig.ordered("quiet")[0] == 1
    assert rig.ordered("stop")[0] == 1
    assert rig.world.lost == rig.world.pushed_back == 0
    rig.kill_fleetd()
    rig.run(HOUR / 2)
    assert 1 not in rig.ordered("start")
    assert states(rig.tick())[1] == "pinned"


def test_an_instance_ordered_to_drain_while_it_boots_is_stopped() -> None:
    rig = fleet()
    rig.world.boot_seconds = 60.0
    rig.order(SetInstances(profile="default-first", instances=3))
    rig.run(15.0)
    rig.order(DrainInstance(key=InstanceKey(3)))
    rig.run(120.0)
    assert rig.ordered("stop") == [3]
    assert rig.world.units[3].state == "inactive"
    assert states(rig.tick())[3] == "pinned"


@pytest.mark.parametrize("late", [0.0, 12.0])
def test_an_instance_ordered_to_drain_right_after_its_start_does_not_stay(late: float) -> None:
    """systemd does not show the start yet when the drain is ordered."""
    rig = fleet()
    rig.world.start_job_seconds = late
    rig.order(SetInstances(profile="default-first", instances=3))
    rig.tick()
    assert rig.ordered("start") == [3]
    for order in (DrainInstance(key=InstanceKey(3)), PinInstance(key=InstanceKey(3))):
        assert "is being started at this moment" in refused(rig, order)
    rig.world.advance(2.0)
    rig.tick()
    rig.order(DrainInstance(key=InstanceKey(3)))
    for _ in range(30):
        rig.world.advance(5.0)
        rig.tick()
    assert rig.world.units[3].state == "inactive"
    assert states(rig.tick())[3] == "pinned"
    assert rig.ticker.host_memory.units.failures == {}


def test_the_last_instance_may_be_drained_and_another_takes_over_for_min() -> None:
    rig = fleet(count=1)
    rig.order(DrainInstance(key=InstanceKey(1)))
    rig.run(120.0)
    assert [n for n, u in rig.world.units.items() if u.state == "active"] == [2]


# -- set


def test_a_count_set_higher_is_kept_until_it_ends() -> None:
    rig = fleet(count=1)
    rig.order(SetInstances(profile="default-first", instances=4, for_seconds=600.0))
    ticks = rig.run(60.0)
    assert rig.serving() == 4
    assert "set to 4 by fleetctl" in said(ticks[-1])
    rig.kill_fleetd()
    rig.run(500.0)
    assert rig.serving() == 4
    [override] = rig.status(rig.tick()).overrides
    assert (override.kind, override.what) == ("set", "default-first")
    assert 0.0 < override.seconds_left <= 60.0
    rig.run(400.0)
    assert rig.serving() == 1
    assert rig.status(rig.tick()).overrides == ()


def test_a_count_set_below_min_is_obeyed() -> None:
    rig = fleet(count=3, low=2)
    assert "That is below min (2)." in rig.order(SetInstances(profile="default-first", instances=0))
    rig.run(200.0)
    assert rig.serving() == 0
    rig.run(HOUR)
    assert rig.serving() == 2


def test_a_count_set_too_high_grows_as_far_as_connections_allow() -> None:
    rig = fleet(count=1)
    rig.world.max_connections, rig.world.other_clients = tight(15)
    rig.order(SetInstances(profile="default-first", instances=4))
    ticks = rig.run(200.0)
    assert rig.serving() == 2
    assert "one more needs 7 connections" in said(ticks[-1])


def test_a_count_set_lower_while_redis_is_away_stops_nothing() -> None:
    rig = fleet(count=3)
    rig.world.redis_up = False
    rig.tick()
    rig.order(SetInstances(profile="default-first", instances=1))
    ticks = rig.run(120.0)
    assert rig.units.orders == []
    assert "queue latency is unknown: nothing stops" in said(ticks[-1])


# -- pause


def test_a_pause_holds_growth_and_shrinking_and_is_reported() -> None:
    rig = fleet(count=3)
    rig.order(Pause(for_seconds=900.0, reason="migration"))
    rig.world.enqueue("default", 5000)
    ticks = rig.run(300.0)
    assert rig.units.orders == []
    status = rig.status(ticks[-1])
    assert status.holds[0].kind == "pause"
    assert "migration" in status.holds[0].sentence
    assert "paused by fleetctl: migration" in status.summary
    rig.kill_fleetd()
    rig.world.queues["default"].clear()
    rig.run(500.0)
    assert rig.units.orders == []
    rig.run(300.0)
    assert rig.ordered("quiet"), "it has expired"
    assert rig.status(rig.tick()).holds == ()


def test_resume_ends_a_pause() -> None:
    rig = fleet(count=1)
    rig.order(Pause())
    rig.world.enqueue("default", 5000)
    rig.run(60.0)
    assert rig.units.orders == []
    rig.order(Resume())
    rig.run(30.0)
    assert rig.ordered("start")


def test_drains_under_way_go_on_in_a_pause() -> None:
    rig = busy_fleet(2, seconds=50.0, pace=QUICK)
    rig.tick()
    rig.order(SetInstances(profile="default-first", instances=1))
    rig.run(10.0)
    [quieted] = rig.ordered("quiet")
    assert "1 drain under way goes on" in rig.order(Pause())
    rig.units.orders.clear()
    rig.run(120.0)
    assert [(s.verb, s.key) for _, s in rig.units.orders] == [("stop", quieted)]


def test_in_a_pause_instances_still_give_way_to_the_connection_budget() -> None:
    rig = fleet(count=3)
    rig.order(Pause())
    rig.world.max_connections, rig.world.other_clients = tight(15)
    rig.run(120.0)
    assert rig.serving() == 2


def test_a_failed_instance_is_not_started_in_a_pause() -> None:
    rig = fleet(count=2, low=2)
    rig.order(Pause())
    rig.world.broken.add(1)
    rig.world.boot_seconds = 2.0
    rig.world.kill_worker(1)
    rig.run(600.0)
    assert rig.units.orders == []


def test_an_instance_that_people_stop_or_kill_in_a_pause_stays_down() -> None:
    rig = fleet(count=3, low=3)
    rig.order(Pause())
    rig.world.stop(1)
    rig.world.stop(2)
    rig.run(300.0)
    assert rig.units.orders == []


# -- most of the fleet


def test_most_of_the_fleet_quieted_by_hand_is_a_hold() -> None:
    rig = fleet(count=4, numbers="1-6", low=1)
    rig.world.enqueue("default", 20_000)
    for number in (1, 2, 3, 4):
        rig.world.quiet(number)
    rig.world.advance(12.0)
    ticks = rig.run(300.0)
    assert rig.units.orders == []
    assert "were quieted by hand: nothing starts or stops" in said(ticks[-1])
    assert rig.status(ticks[-1]).holds[0].kind == "quieted"


def test_one_of_many_quieted_by_hand_is_only_a_pin() -> None:
    rig = fleet(count=4, numbers="1-6", low=1)
    rig.world.quiet(3)
    ticks = rig.run(30.0)
    assert ticks[-1].tick.constraints.holds == ()
    assert rig.status(ticks[-1]).overrides[0].what == "@3"


# -- what is refused


REFUSED: tuple[tuple[Order, str], ...] = (
    (Resume(), "nothing to resume"),
    (SetInstances(profile="no-such", instances=1), "there is no profile 'no-such'; there are: default-first"),
    (SetInstances(profile="default-first", instances=5), "has 0 to 4 instances"),
    (SetInstances(profile="default-first", instances=-1), "has 0 to 4 instances"),
    (SetInstances(profile="default-first", instances=None), "is not set to a number"),
    (SetInstances(profile="default-first", instances=None, for_seconds=60.0), "leave the time out"),
    (PinInstance(key=InstanceKey(77)), "no profile of fleetd.toml owns @77"),
    (PinInstance(key=InstanceKey(1), for_seconds=ORDER_SECONDS_MAX + 1), "at most 7 days"),
    (Pause(for_seconds=-1.0), "can't hold for -1 s: at most 7 days"),
    (Pause(for_seconds=float("nan")), "at most 7 days"),
    (ReleaseInstance(key=InstanceKey(1)), "there is nothing to release"),
    (DrainInstance(key=InstanceKey(4)), "does not run"),
    (DrainInstance(key=InstanceKey(77)), "no profile of fleetd.toml owns @77"),
    (Restart(profile="no-such"), "there is no profile"),
)


@pytest.mark.parametrize(("order", "reason"), REFUSED, ids=[f"{type(c).__name__} {r}" for c, r in REFUSED])
def test_an_order_is_refused_with_the_reason_and_nothing_is_changed(order: Order, reason: str) -> None:
    assert reason in refused(fleet(), order)


def test_before_the_first_tick_orders_are_refused() -> None:
    rig = Rig(World(policy()))
    assert "has just started" in refused(rig, Pause())


def test_while_systemd_is_unknown_orders_about_instances_are_refused() -> None:
    rig = fleet()
    rig.world.systemd_up = False
    rig.tick()
    for order in (PinInstance(key=InstanceKey(1)), DrainInstance(key=InstanceKey(1)), Restart()):
        assert "systemd can't be read now" in refused(rig, order)
    rig.order(Pause())


def test_a_draining_instance_is_not_pinned() -> None:
    rig = busy_fleet(2, seconds=50.0)
    rig.tick()
    rig.order(DrainInstance(key=InstanceKey(2)))
    rig.run(10.0)
    assert "is being drained" in refused(rig, PinInstance(key=InstanceKey(2)))


def test_a_second_drain_joins_the_one_under_way_and_keeps_the_instance_stopped_for_as_long_as_it_says() -> None:
    rig = busy_fleet(2, seconds=50.0)
    rig.tick()
    rig.order(DrainInstance(key=InstanceKey(2), for_seconds=600.0))
    rig.run(10.0)
    drain = rig.ticker.host_memory.drains[InstanceKey(2)]
    assert "is being drained already, 5 jobs to finish" in rig.order(
        DrainInstance(key=InstanceKey(2), for_seconds=7200.0)
    )
    assert rig.ticker.host_memory.drains[InstanceKey(2)] == drain, "it is the same one"
    rig.run(1800.0)
    assert states(rig.tick())[2] == "pinned"
    assert rig.ordered("quiet").count(2) == 1


def with_a_second_one_failed() -> Rig:
    """systemd has given up @2, which was to serve beside @1."""
    rig = settled(policy(strict(numbers="1-3", low=1), pace=QUICK), 1)
    rig.order(SetInstances(profile="default-first", instances=2, for_seconds=600.0))
    while states(rig.tick())[2] != "starting":
        rig.world.advance(5.0)
    rig.world.advance(5.0)
    rig.tick()
    rig.world.units[InstanceKey(2)].become("failed", rig.world.now)
    assert states(rig.tick())[2] == "failed"
    return rig


def test_after_a_release_no_failure_is_shown_although_systemd_remembers_one() -> None:
    rig = with_a_second_one_failed()
    rig.order(SetInstances(profile="default-first", instances=None))
    assert "1 failure is forgotten" in rig.order(ReleaseInstance(key=InstanceKey(2)))
    for _ in range(3):
        status = rig.status(rig.tick())
        assert [(i.state, i.note) for i in status.instances if i.number == 2] == [("stopped", "")]
        rig.kill_fleetd()
    assert rig.world.units[InstanceKey(2)].state == "failed"


def test_what_fails_again_after_a_release_is_shown() -> None:
    rig = with_a_second_one_failed()
    rig.world.broken.add(2)
    rig.order(ReleaseInstance(key=InstanceKey(2)))
    rig.order(SetInstances(profile="default-first", instances=3, for_seconds=600.0))
    rig.run(300.0)
    assert rig.ticker.host_memory.units.released == ()
    assert InstanceKey(2) in rig.ticker.host_memory.units.failures


def test_a_second_restart_joins_the_one_under_way() -> None:
    rig = loaded(policy(strict(numbers="1-4", low=2), pace=QUICK), 2)
    rig.order(Restart())
    rig.run(10.0)
    before = rig.ticker.host_memory
    assert "under way, 0 of 2 done" in rig.order(Restart())
    assert "under way, 0 of 2 done" in rig.order(Restart(profile="default-first"))
    assert rig.ticker.host_memory == before


def test_a_restart_of_more_than_the_one_under_way_is_refused() -> None:
    rules = policy(strict(numbers="1-4", low=2), weighted(numbers="7-9", low=1), pace=QUICK)
    rig = Rig(World(rules))
    rig.run(400.0)
    rig.order(Restart(profile="default-first"))
    rig.run(10.0)
    assert "a restart of others is under way" in refused(rig, Restart())
    assert "under way, 0 of 2 done" in rig.order(Restart(profile="default-first"))


def test_orders_end_at_a_reboot_and_that_is_reported() -> None:
    rig = fleet()
    rig.order(Pause())
    rig.world.reboot(at_boot=(1,))
    rig.kill_fleetd()
    result = rig.tick()
    assert "rebooted: pins, pauses and set counts from before no longer hold" in noticed(result)
    assert result.tick.constraints.holds == ()
