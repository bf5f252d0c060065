"""Orders to a fleet of several hosts, and what each of them tells of the others, on real Tickers."""

from __future__ import annotations

import pytest
from msgspec import structs

from fleetd.core.fleet.calls import Code, Commit, Refusal
from fleetd.core.fleet.orders import FleetOrder, written
from fleetd.core.fleet.state import ORDERS_MAX
from fleetd.core.instances.orders import Order, Pause, Restart, Resume
from fleetd.core.model.identity import SCHEDULER, InstanceKey
from fleetd.core.sharing.orders.to_fleet import EndMaintenance, ForgetHost, Maintenance, PauseHost, ResumeHost
from fleetd.errors import OrderRefusedError, SourceUnavailableError
from tests.support.fleet.few import ALICE, host, power_off, replacing, two
from tests.support.fleet.several import Fleet


def test_every_host_is_told_from_any_of_them() -> None:
    fleet = two()
    for asked in ("w1", "w2"):
        told = fleet.hosts(asked)
        assert (told.host, told.problem, told.leader) == (asked, "", "w1")
        assert [(h.host, h.instances, h.fleetd, h.leads) for h in told.hosts] == [
            ("w1", 1, "9", True),
            ("w2", 1, "9", False),
        ]
        assert all(h.silent_seconds is not None and h.silent_seconds <= 10.0 for h in told.hosts)
        assert told.hosts[1].profiles[0].name == "default-first"
        assert [told.scheduler_host] == fleet.scheduler()


def test_settings_that_differ_from_the_leaders_are_named_on_every_host() -> None:
    fleet = Fleet(host("w1"), structs.replace(host("w2"), targets_seconds={"default": 1.0}))
    fleet.run(60.0)
    found = [fleet.status(name).fleet for name in ("w1", "w2")]
    told = [one.differences for one in found if one is not None]
    assert [one.leader for one in found if one is not None] == ["w1", "w1"]
    assert told[0] == told[1]
    assert any("targets.default" in sentence and "w2" in sentence for sentence in told[0])


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (Code.TOO_LARGE, "the plan for all hosts is larger than the ledger takes"),
        (Code.EPOCH, "the ledger did not take this host's plan"),
        (None, "the ledger in Redis gave no answer to this host's plan"),
    ],
)
def test_a_leader_whose_plan_is_not_taken_says_why_nothing_grows(code: Code | None, said: str) -> None:
    fleet = two()

    async def refused(call: Commit) -> Refusal | None:
        if code is None:
            raise SourceUnavailableError("Redis is away")
        return Refusal(code=code)

    fleet.rigs["w1"].ledger.commit = refused  # type: ignore[method-assign]
    fleet.worlds["w1"].enqueue("default", 5_000)
    fleet.run(60.0)
    assert fleet.running("w1") == 1
    assert any(said in clamp.sentence for clamp in fleet.status("w1").clamps)


def test_a_host_whose_workers_beat_is_not_forgotten_although_its_fleetd_is_down() -> None:
    fleet = two()
    fleet.rigs["w2"].on = False
    fleet.run(120.0)
    with pytest.raises(OrderRefusedError, match="workers of w2 beat in Redis, so only its fleetd is down"):
        fleet.order("w1", ForgetHost(host="w2"))


def test_a_host_without_a_record_is_named_while_its_workers_beat() -> None:
    fleet = two()
    old = fleet.worlds["w1"].appear("old", "default", key=InstanceKey(1))
    fleet.tick()
    for name in ("w1", "w2"):
        status = fleet.status(name).fleet
        assert status is not None
        assert (status.untold, fleet.hosts(name).untold) == (("old",), ("old",))
    fleet.worlds["w1"].vanish(old)
    fleet.run(90.0)
    assert fleet.hosts("w2").untold == ()


def test_without_redis_the_others_are_named_and_unknown() -> None:
    fleet = two()
    fleet.shared.up = False
    fleet.tick()
    told = fleet.hosts("w2")
    assert "can't be reached" in told.problem
    assert [(h.host, h.instances) for h in told.hosts] == [("w1", None), ("w2", 1)]


def test_a_host_with_a_local_ledger_says_that_it_is_alone() -> None:
    fleet = two()
    fleet.rigs["w2"].sources.ledger = None
    fleet.tick()
    told = fleet.hosts("w2")
    assert told.alone
    assert [h.host for h in told.hosts] == ["w2"]


def test_a_host_that_beats_is_not_forgotten_and_a_lost_one_is_freed() -> None:
    fleet = two()
    for name, words in (("w2", "w2 has beaten"), ("w1", "w1 is this host"), ("w9", "there are: w1, w2")):
        with pytest.raises(OrderRefusedError, match=words):
            fleet.order("w1", ForgetHost(host=name))
    fleet.order("w1", PauseHost(host="w2"), ALICE)
    power_off(fleet, "w2")
    fleet.run(90.0)
    said = fleet.order("w1", ForgetHost(host="w2"), ALICE)
    assert "w2 is forgotten" in said
    assert "1 order about it" in said
    fleet.tick()
    assert [h.host for h in fleet.hosts("w1").hosts] == ["w1"]


def test_a_host_that_ticks_slowly_beats() -> None:
    slow = host("w2")
    fleet = Fleet(host("w1"), structs.replace(slow, pace=structs.replace(slow.pace, tick_seconds=60.0)))
    fleet.run(60.0)
    fleet.rigs["w2"].on = False
    fleet.run(70.0)
    with pytest.raises(OrderRefusedError, match="w2 has beaten"):
        fleet.order("w1", ForgetHost(host="w2"))
    assert "moves to w2" in fleet.order("w1", Maintenance(host="w1"))


def test_a_pause_holds_the_whole_fleet_and_survives_a_restart_without_redis() -> None:
    fleet = two()
    said = fleet.order("w2", Pause(for_seconds=3600.0, reason="moving the database"), ALICE)
    assert "The whole fleet (2 hosts) is paused" in said
    fleet.worlds["w1"].enqueue("default", 5000)
    fleet.run(60.0)
    assert [fleet.running(h) for h in ("w1", "w2")] == [1, 1]
    for name in ("w1", "w2"):
        [hold] = fleet.status(name).holds
        assert hold.kind == "pause"
        assert "the whole fleet is paused by root (sudo alice): moving the database" in hold.sentence
        [override] = fleet.status(name).overrides
        assert (override.kind, override.what) == ("pause", "all hosts")
    fleet.shared.up = False
    fleet.rigs["w1"].start_fleetd()
    fleet.run(10.0)
    assert [hold.kind for hold in fleet.status("w1").holds] == ["pause"]
    fleet.shared.up = True
    fleet.run(400.0)
    assert "the pause of the whole fleet has ended" in fleet.order("w1", Resume(), ALICE)
    fleet.run(100.0)
    assert fleet.status("w2").holds == ()
    assert sum(fleet.running(h) for h in ("w1", "w2")) > 2


def test_a_pause_of_one_host_is_ordered_on_another() -> None:
    fleet = two()
    fleet.order("w1", PauseHost(host="w2"))
    fleet.worlds["w1"].enqueue("default", 5000)
    fleet.run(100.0)
    assert fleet.running("w2") == 1
    assert fleet.running("w1") > 1
    [hold] = fleet.status("w2").holds
    assert "`fleetctl resume --host w2` ends it" in hold.sentence
    assert fleet.status("w1").holds == ()
    with pytest.raises(OrderRefusedError, match="nothing to resume"):
        fleet.order("w2", ResumeHost(host="w1"))
    assert "the pause of w2 has ended." in fleet.order("w1", ResumeHost(host="w2"))
    fleet.order("w1", Pause())
    fleet.order("w1", PauseHost(host="w2"))
    assert "w2 has ended, but the whole fleet is still paused" in fleet.order("w1", ResumeHost(host="w2"))


def test_a_pause_ends_by_itself_also_while_redis_is_away() -> None:
    fleet = two()
    fleet.order("w1", Pause(for_seconds=120.0))
    fleet.tick()
    assert fleet.status("w2").holds
    fleet.shared.up = False
    fleet.run(130.0)
    assert fleet.status("w2").holds == ()


def test_without_redis_only_this_host_can_be_paused() -> None:
    fleet = two()
    fleet.shared.up = False
    fleet.tick()
    with pytest.raises(OrderRefusedError, match=r"fleetctl pause --host w1"):
        fleet.order("w1", Pause())
    assert "Paused for" in fleet.order("w1", PauseHost(host="w1"))
    fleet.tick()
    assert [hold.kind for hold in fleet.status("w1").holds] == ["pause"]


def test_maintenance_moves_the_work_then_the_scheduler_and_a_boot_is_drained_again() -> None:
    fleet = two(low=2)
    [had] = fleet.scheduler()
    other = "w2" if had == "w1" else "w1"
    said = fleet.order(other, Maintenance(host=had, for_seconds=86400.0, reason="new kernel"), ALICE)
    assert f"move to {other}" in said
    assert "then its scheduler" in said
    for _ in range(80):
        fleet.tick()
        assert len(fleet.scheduler()) <= 1
        assert fleet.scheduler() != [other] or fleet.running(had) == 0, "the scheduler goes last"
    assert fleet.running(had) == 0
    assert fleet.running(other) >= 2
    assert fleet.scheduler() == [other]
    [hold] = fleet.status(had).holds
    assert hold.kind == "maintenance"
    assert "by root (sudo alice): new kernel" in hold.sentence
    fleet.worlds[had].reboot((1, 2))
    assert fleet.running(had) == 2
    fleet.run(300.0)
    assert fleet.running(had) == 0
    assert [hold.kind for hold in fleet.status(had).holds] == ["maintenance"]
    told = {h.host: h for h in fleet.hosts(other).hosts}
    assert told[had].maintenance
    fleet.order(had, EndMaintenance(host=had))
    fleet.run(100.0)
    assert fleet.running(had) >= 2
    assert fleet.scheduler() == [other], "it does not move back by itself"


def test_the_last_host_is_left_by_force_only() -> None:
    fleet = two()
    fleet.order("w1", Maintenance(host="w1"))
    with pytest.raises(OrderRefusedError, match="w2 is the last one"):
        fleet.order("w1", Maintenance(host="w2"))
    fleet.order("w1", Maintenance(host="w2", force=True))
    fleet.run(400.0)
    assert fleet.running("w2") == 0
    assert fleet.running("w1") == 1, "not forced, so it stays while no other serves"


def test_one_host_at_a_time_replaces_its_instances() -> None:
    fleet = two(low=2)
    before = {h: {k: u.process for k, u in w.units.items() if u.process} for h, w in fleet.worlds.items()}
    fleet.order("w2", Restart())
    waited = ""
    for _ in range(150):
        fleet.tick()
        assert len(replacing(fleet)) <= 1
        waits = [fleet.status(h).rollout for h in ("w1", "w2")]
        waited += " ".join(rollout.sentence for rollout in waits if rollout is not None)
    for name, world in fleet.worlds.items():
        assert not [k for k, u in world.units.items() if u.process in before[name].values() and u.process], name
        ended = fleet.status(name).rollout
        assert ended is not None
        assert ended.ended == "done"
    assert "w1 replaces instances now; of several hosts one at a time does" in waited


def test_orders_outlive_a_ledger_that_is_lost() -> None:
    fleet = two()
    fleet.order("w1", Pause(for_seconds=3600.0))
    fleet.order("w1", Maintenance(host="w2"))
    fleet.run(10.0)
    fleet.shared.memory.state = None
    fleet.run(60.0)
    assert [order.kind for order in fleet.hosts("w2").orders] == ["maintenance", "pause"]
    assert [hold.kind for hold in fleet.status("w2").holds] == ["pause", "maintenance"]
    fleet.order("w2", Resume())
    fleet.run(60.0)
    assert [hold.kind for hold in fleet.status("w2").holds] == ["maintenance"]
    assert fleet.status("w1").holds == ()


@pytest.mark.parametrize("ticks", [0, 1, 10])
def test_what_a_person_ends_while_a_lost_ledger_gathers_is_not_told_again(ticks: int) -> None:
    """w2 is away and comes back before the gathering ends: it remembers the orders, but not their end."""
    fleet = two()
    fleet.order("w1", Pause(for_seconds=3600.0))
    fleet.order("w1", Maintenance(host="w2"))
    fleet.run(10.0)
    fleet.rigs["w2"].on = False
    fleet.shared.memory.state = None
    fleet.tick()
    fleet.run(5.0 * ticks)
    assert "has ended" in fleet.order("w1", Resume())
    fleet.order("w1", EndMaintenance(host="w2"))
    fleet.rigs["w2"].on = True
    fleet.run(60.0)
    assert [fleet.status(h).holds for h in ("w1", "w2")] == [(), ()]
    assert fleet.hosts("w1").orders == ()


def test_what_a_person_ends_before_it_was_told_again_is_not_told_again() -> None:
    """Of more orders than one tick tells."""
    fleet = two()
    others = (Maintenance(host="w1"), Maintenance(host="w2", force=True), PauseHost(host="w1"), PauseHost(host="w2"))
    for order in others:
        fleet.order("w1", order)
    fleet.order("w1", Pause())
    fleet.run(10.0)
    fleet.shared.memory.state = None
    fleet.tick()
    fleet.order("w1", Resume())
    fleet.run(60.0)
    assert [order.kind for order in fleet.hosts("w2").orders] == ["maintenance", "maintenance"]


@pytest.mark.parametrize("order", [Resume(), ResumeHost(host="w1")])
def test_the_last_host_ends_a_pause_that_was_ordered_while_there_were_more(order: Order) -> None:
    fleet = two()
    fleet.order("w1", Pause() if isinstance(order, Resume) else PauseHost(host="w1"))
    power_off(fleet, "w2")
    fleet.run(90.0)
    fleet.order("w1", ForgetHost(host="w2"))
    fleet.run(10.0)
    [hold] = fleet.status("w1").holds
    assert hold.kind == "pause"
    assert "has ended" in fleet.order("w1", order)
    fleet.run(10.0)
    assert fleet.status("w1").holds == ()


def test_orders_that_are_over_make_room_for_new_ones() -> None:
    fleet = two()
    state = fleet.shared.memory.state
    assert state is not None
    over = {f"maintenance vm{n}": written(FleetOrder(until_ms=state.clock_ms - 1)) for n in range(ORDERS_MAX - 1)}
    later = {"swap vm1": '{"until_ms":0}'}  # of a later fleetd's kind
    fleet.shared.memory.state = structs.replace(state, orders=over | later)
    assert "is paused" in fleet.order("w1", Pause())
    while len(fleet.shared.memory.state.orders) > 2:
        before = len(fleet.shared.memory.state.orders)
        fleet.order("w1", Pause())
        assert len(fleet.shared.memory.state.orders) < before
    assert fleet.shared.memory.state.orders.keys() == {"pause", *later}


def test_an_order_for_which_there_is_no_room_is_refused_for_that() -> None:
    fleet = two()
    state = fleet.shared.memory.state
    assert state is not None
    text = written(FleetOrder(until_ms=state.clock_ms + 10**6))
    fleet.shared.memory.state = structs.replace(state, orders={f"pause w{n}": text for n in range(3, ORDERS_MAX + 3)})
    with pytest.raises(OrderRefusedError, match="64 orders are in force, and there is no room for more: end one"):
        fleet.order("w1", Maintenance(host="w2"))


@pytest.mark.parametrize("order", [PauseHost(host=""), ResumeHost(host="")])
def test_an_order_to_a_host_without_a_name_is_not_one_to_all(order: Order) -> None:
    fleet = two()
    with pytest.raises(OrderRefusedError, match="no host of this fleet is called ''"):
        fleet.order("w1", order)
    assert fleet.hosts("w1").orders == ()


def test_a_vm_put_back_to_a_snapshot_is_heard_again_and_says_meanwhile_what_is_wrong() -> None:
    """Its clock is that of the snapshot, and so is the id of its boot."""
    fleet = two()
    had = fleet.scheduler()
    fleet.worlds["w2"].now -= 900.0
    fleet.tick()
    told = fleet.status("w2").fleet
    assert told is not None
    assert "put back to a snapshot" in told.problem
    for _ in range(70):
        fleet.tick()
        assert fleet.scheduler() == had
    told = fleet.status("w2").fleet
    assert told is not None
    assert (told.problem, told.leader) == ("", "w1")
    assert [h.silent_seconds < 20.0 for h in fleet.hosts("w1").hosts if h.silent_seconds is not None] == [True, True]


def test_a_host_that_is_lost_in_mid_restart_keeps_nobody_from_one() -> None:
    fleet = two(low=2)
    fleet.order("w1", Restart())
    fleet.run(30.0)
    assert replacing(fleet) == ["w1"]
    fleet.rigs["w1"].on = False
    fleet.run(600.0)
    ended = fleet.status("w2").rollout
    assert ended is not None
    assert ended.ended == "done"


def test_a_cloned_host_ends_the_scheduler_that_its_boot_started() -> None:
    """It has the name of the host that schedules, so its unit sees no other host's. Whoever has the name stays."""
    fleet = two(place="here")
    assert fleet.scheduler() == ["w1"]
    clone = fleet.clone("w1")
    clone.start(SCHEDULER)
    fleet.run(10.0)
    assert fleet.scheduler() == ["w1", "w1-clone"]
    fleet.run(60.0)  # it boots for 20 s, drains, and is stopped
    assert fleet.scheduler() == ["w1"]
    told = fleet.status("w1-clone").fleet
    assert told is not None
    assert "another machine is w1" in told.problem
    fleet.run(600.0)
    assert fleet.scheduler() == ["w1"]
    assert fleet.running("w1") == 1


def test_a_reboot_within_seconds_is_no_clone_of_itself() -> None:
    """The ledger takes a new boot for another machine's, for 15 s; the heartbeats of the boot before are none."""
    fleet = two(place="here")
    rig, world = fleet.rigs["w1"], fleet.worlds["w1"]
    world.reboot()
    world.start(SCHEDULER)
    rig.start_fleetd()
    fleet.run(5.0)
    refused = fleet.last["w1"].tick.fleet.refusal
    assert refused is not None
    for _ in range(24):
        fleet.run(5.0)
        assert fleet.scheduler() == ["w1"]
