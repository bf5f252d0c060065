"""The target of all workers: while people have stopped it, fleetd starts nothing; starting it is all that is needed."""

from __future__ import annotations

import pytest

from fleetd.cli.advice.findings import findings
from fleetd.core.instances.orders import DrainInstance, ReleaseInstance, Restart, SetInstances
from fleetd.core.model.identity import SCHEDULER, InstanceKey
from fleetd.core.model.policy_tables import SchedulerPolicy
from fleetd.errors import OrderRefusedError
from tests.support.world.fleets import HOUR, QUICK, said, settled
from tests.support.world.ports import FakeStore, Rig, policy, strict
from tests.support.world.world import World

HERE = policy(strict(numbers="1-4", low=2), scheduler=SchedulerPolicy(place="here", threads=5, db_pool=7), pace=QUICK)


def running() -> Rig:
    """Two instances and the scheduler, started by a boot, and watched until that is long past."""
    rig = settled(HERE, 2)
    rig.world.start_target(at_boot=(1, 2, SCHEDULER))
    rig.run(600.0)
    assert rig.serving() == 2
    assert rig.world.schedulers()
    rig.units.orders.clear()
    return rig


def stopped() -> Rig:
    rig = running()
    rig.world.stop_target()
    rig.run(60.0)
    return rig


def test_while_the_target_is_stopped_nothing_starts_however_long_that_is() -> None:
    rig = stopped()
    rig.world.enqueue("default", 5000)
    rig.run(5 * HOUR)  # longer than any pin
    assert rig.units.orders == []
    assert rig.world.processes() == []


def test_a_stopped_target_is_shown_as_what_it_is_with_the_line_that_ends_it() -> None:
    rig = stopped()
    rig.run(660.0)
    status = rig.status(rig.tick())
    [hold] = status.holds
    assert (hold.kind, hold.seconds_left) == ("stopped", None)
    assert "stopped 12 min ago, with mastodon-sidekiq.target" in hold.sentence
    assert "systemctl start mastodon-sidekiq.target" in hold.sentence
    assert status.overrides == (), "it is a fact of systemd's, and no order that expires"
    assert findings(status)[0].banner == "STOPPED"
    assert "NO SCHEDULER RUNS, and none is started: all workers" in status.scheduler.sentence
    assert "HELD (stopped)" in status.summary
    assert status.next_sentence == "nothing until mastodon-sidekiq.target is started"


def test_starting_the_target_ends_it_and_nobodys_pin_is_left() -> None:
    rig = stopped()
    rig.run(HOUR)
    rig.world.start_target(at_boot=(1, 2, SCHEDULER))
    rig.world.enqueue("default", 5000)
    rig.run(60.0)
    status = rig.status(rig.tick())
    assert (status.holds, status.overrides) == ((), ())
    assert rig.serving() == 4, "it grows again"


def test_a_start_that_the_stop_of_the_target_overtakes_is_no_failure() -> None:
    rig = running()
    rig.world.enqueue("default", 5000)
    rig.tick()
    assert 3 in rig.ordered("start")
    rig.world.stop_target()  # before systemd shows the start
    rig.world.advance(QUICK.tick_seconds)
    status = rig.status(rig.tick())
    assert {i.state for i in status.instances} <= {"stopped", "stopping"}
    assert rig.run(120.0)[-1].host.memory.units.failures == {}


def test_a_target_that_is_being_started_holds_nothing() -> None:
    rig = stopped()
    rig.world.target_job = "start"  # it waits for its workers, a few at a time
    rig.run(30.0)
    assert sorted(rig.ordered("start")) == [SCHEDULER, 1, 2]


def test_a_restart_of_the_target_is_no_stop() -> None:
    rig = running()
    rig.world.target, rig.world.target_stopped_at, rig.world.target_job = "inactive", rig.world.now, "restart"
    rig.world.restart_together([1, 2, SCHEDULER])
    result = rig.tick()
    assert rig.status(result).holds == ()
    rig.world.target, rig.world.target_job = "active", ""
    rig.run(60.0)
    status = rig.status(rig.tick())
    assert (status.holds, status.overrides) == ((), ())
    assert rig.serving() == 2


@pytest.mark.parametrize("state", [None, "inactive"])
def test_a_target_that_was_never_started_holds_nothing(state: str | None) -> None:
    world = World(HERE)
    world.target = state
    rig = Rig(world)
    rig.run(90.0)
    assert rig.serving() == 2
    assert world.schedulers()


def test_the_hold_outlives_fleetd_and_ends_with_the_boot() -> None:
    rig = stopped()
    rig.kill_fleetd()
    rig.run(60.0)
    assert rig.units.orders == []
    assert isinstance(rig.store, FakeStore)
    rig.store.content = None  # even a fleetd without a memory sees it
    rig.kill_fleetd()
    rig.run(60.0)
    assert rig.units.orders == []
    assert rig.status(rig.tick()).holds[0].kind == "stopped"
    rig.world.reboot()
    rig.run(120.0)
    assert rig.serving() == 2


def test_what_systemd_has_unloaded_or_does_not_say_is_as_last_known() -> None:
    rig = running()
    rig.world.systemd_up = False
    rig.run(30.0)
    rig.world.systemd_up = True
    assert rig.status(rig.tick()).holds == ()
    rig.world.stop_target()
    rig.world.target = None  # unloaded at once, with its times
    rig.run(60.0)
    assert rig.units.orders == []
    rig.world.systemd_up = False
    rig.run(30.0)
    rig.world.systemd_up = True
    assert rig.status(rig.tick()).holds[0].kind == "stopped"
    assert rig.units.orders == []


def test_what_a_person_starts_meanwhile_runs_and_orders_say_what_has_to_end_first() -> None:
    rig = stopped()
    with pytest.raises(OrderRefusedError, match="nothing to restart; to start them: systemctl start mastodon-side"):
        rig.order(Restart())
    assert "Nothing happens before this has ended: all workers" in rig.order(
        SetInstances(profile="default-first", instances=4)
    )
    rig.world.start(3)
    rig.run(120.0)
    assert rig.units.orders == []
    assert rig.serving() == 1
    assert "Nothing happens before this has ended: all workers" in rig.order(Restart())
    assert "all workers of this host were stopped" in said(rig.tick())
    rig.run(60.0)
    assert rig.units.orders == []


def test_the_start_of_all_is_a_later_order_than_the_stop_of_one() -> None:
    rig = running()
    rig.world.stop(1)
    rig.run(600.0)
    rig.world.stop_target()
    rig.run(60.0)
    assert [one.what for one in rig.status(rig.tick()).overrides] == ["@1"]
    rig.world.start_target(at_boot=(1, 2, SCHEDULER))
    rig.run(60.0)
    status = rig.status(rig.tick())
    assert status.overrides == ()
    assert rig.world.units[1].state == "active"


def test_an_instance_started_by_hand_goes_with_the_target_and_is_no_order_afterwards() -> None:
    rig = running()
    rig.world.start(4)
    rig.run(60.0)
    assert [one.what for one in rig.status(rig.tick()).overrides] == ["@4"]
    rig.world.stop_target()
    rig.run(60.0)
    assert rig.status(rig.tick()).overrides == ()


def test_what_goes_with_the_target_counts_as_left_out_of_a_rollout_and_not_as_replaced() -> None:
    rig = running()
    rig.order(Restart())
    rig.run(5.0)
    rig.world.stop_target()
    rig.run(20.0)
    rollout = rig.status(rig.tick()).rollout
    assert rollout is not None
    assert (rollout.ended, rollout.done_instances, rollout.total_instances) == ("done", 0, 0)


def test_a_start_by_hand_soon_after_the_targets_start_is_not_canceled() -> None:
    """It was taken for the target's own start, which is nobody's order for a single instance."""
    rig = running()
    rig.world.stop_target()
    rig.run(30.0)
    rig.world.start_target(at_boot=(1, 2, SCHEDULER))
    rig.run(60.0)
    rig.order(DrainInstance(key=InstanceKey(2)))
    rig.run(60.0)
    rig.order(ReleaseInstance(key=InstanceKey(2)))
    rig.world.start(2)
    rig.run(120.0)
    assert rig.world.units[2].state == "active"
    assert [one.what for one in rig.status(rig.tick()).overrides] == ["@2"]
