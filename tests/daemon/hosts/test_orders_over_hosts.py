"""`fleetctl set` and `fleetctl restart` over a fleet of several hosts, on real Tickers."""

from __future__ import annotations

import pytest
from msgspec import structs

from fleetd.core.instances.orders import Pause, Restart, Resume, SetInstances
from fleetd.core.model.hosts import RestartOfFleet
from fleetd.core.model.reasons import RestartBegun, RestartNotBegun
from fleetd.core.sharing.orders.counts import SetHost
from fleetd.core.sharing.orders.restarts import RestartHost
from fleetd.core.sharing.orders.to_fleet import ForgetHost, Maintenance
from fleetd.errors import OrderRefusedError
from fleetd.words.sharing import restart_words
from tests.support.fleet.few import ALICE, host, power_off, replacing
from tests.support.fleet.few import two as with_a_scheduler
from tests.support.fleet.several import Fleet

PROFILE = "default-first"


def two(**options: object) -> Fleet:
    """w1 and w2 with their instances up, and no scheduler yet."""
    return with_a_scheduler(60.0, **options)


def fleet_set(instances: int | None, seconds: float = 0.0) -> SetInstances:
    return SetInstances(profile=PROFILE, instances=instances, for_seconds=seconds)


def counts(fleet: Fleet) -> list[int]:
    return [fleet.running(name) for name in fleet.rigs]


def explained(fleet: Fleet, name: str) -> str:
    [profile] = fleet.status(name).profiles
    return "; ".join(clamp.sentence for clamp in profile.clamps)


def overrides(fleet: Fleet, name: str) -> list[tuple[str, str]]:
    return [(o.what, o.sentence) for o in fleet.status(name).overrides if o.kind == "set"]


# What all hosts have together.


def test_a_count_is_shared_out_and_every_host_says_who_wants_it() -> None:
    fleet = two()
    said = fleet.order("w2", fleet_set(6, 3600.0), ALICE)
    assert "set to 6 on all hosts together (w1, w2) for 60 min" in said
    fleet.run(150.0)
    assert sum(counts(fleet)) == 6
    assert min(counts(fleet)) >= 2, "neither has all of them"
    for name in ("w1", "w2"):
        assert "set to 6 on all hosts together by root (sudo alice)" in explained(fleet, name)
        assert overrides(fleet, name) == [(f"{PROFILE} on all hosts", "6 instances, by root (sudo alice)")]
        [order] = fleet.hosts(name).orders
        assert (order.kind, order.host, order.profile) == ("set", "", PROFILE)
        assert "is set to 6 instances on all hosts together, ordered by root (sudo alice)" in order.sentence
        assert 3300 < order.seconds_left < 3600


def test_it_is_heard_once_by_every_host_and_noted() -> None:
    fleet = two()
    fleet.order("w1", fleet_set(4), ALICE)
    noted: dict[str, list[str]] = {"w1": [], "w2": []}
    for _ in range(6):
        for name, result in fleet.tick().items():
            noted[name] += [type(reason).__name__ for reason in result.noticed]
    assert noted == {"w1": ["CountHeard"], "w2": ["CountHeard"]}


def test_auto_on_any_host_ends_it() -> None:
    fleet = two()
    fleet.order("w1", fleet_set(6), ALICE)
    fleet.run(100.0)
    assert f"{PROFILE}: its queues decide again, on all hosts together" in fleet.order("w2", fleet_set(None))
    fleet.run(1500.0)
    assert sum(counts(fleet)) == 2
    assert all(overrides(fleet, name) == [] for name in fleet.rigs)
    with pytest.raises(OrderRefusedError, match="is not set to a number"):
        fleet.order("w1", fleet_set(None))


def test_it_ends_by_itself() -> None:
    fleet = two()
    fleet.order("w1", fleet_set(6, 200.0))
    fleet.run(150.0)
    assert sum(counts(fleet)) == 6
    fleet.run(1500.0)
    assert sum(counts(fleet)) == 2
    assert fleet.hosts("w1").orders == ()


def test_it_goes_below_min_and_stays_there_without_redis() -> None:
    fleet = two(low=2)
    assert sum(counts(fleet)) == 4
    assert "below min (4)" in fleet.order("w1", fleet_set(1))
    fleet.run(300.0)
    assert sum(counts(fleet)) == 1
    fleet.order("w2", fleet_set(0))
    fleet.run(300.0)
    assert sum(counts(fleet)) == 0
    fleet.shared.up = False
    fleet.run(60.0)
    assert sum(counts(fleet)) == 0


def test_it_goes_on_under_the_next_leader_and_on_the_host_that_is_left() -> None:
    fleet = two()
    fleet.order("w1", fleet_set(4), ALICE)
    fleet.run(100.0)
    assert sum(counts(fleet)) == 4
    leader = fleet.hosts("w1").leader
    other = next(name for name in fleet.rigs if name != leader)
    power_off(fleet, leader)
    fleet.run(200.0)
    assert fleet.hosts(other).leader == other
    assert fleet.running(other) == 4, "it takes the others' part"
    fleet.order(other, ForgetHost(host=leader))
    fleet.run(1500.0)
    assert fleet.running(other) == 4, "alone, it is its own count"
    fleet.order(other, fleet_set(None))
    fleet.run(1500.0)
    assert fleet.running(other) == 1


def test_what_is_set_on_one_host_counts_in_it() -> None:
    fleet = two()
    assert "set to 3 on w2" in fleet.order("w1", SetHost(host="w2", profile=PROFILE, instances=3), ALICE)
    fleet.run(100.0)
    assert counts(fleet) == [1, 3]
    assert overrides(fleet, "w2") == [(PROFILE, "3 instances, by root (sudo alice)")]
    assert overrides(fleet, "w1") == []
    assert "What is set on one host counts in it: 3 on w2" in fleet.order("w1", fleet_set(5))
    fleet.run(100.0)
    assert counts(fleet) == [2, 3]
    said = fleet.order("w1", fleet_set(None))
    assert "on all hosts together and on w2" in said
    assert fleet.hosts("w1").orders == ()


def test_the_count_of_a_host_that_is_forgotten_is_ended_by_its_name() -> None:
    fleet = two()
    fleet.order("w1", SetHost(host="w2", profile=PROFILE, instances=3))
    state = fleet.shared.memory.state
    assert state is not None
    fleet.shared.memory.state = structs.replace(state, hosts={"w1": state.hosts["w1"]})
    assert "on w2" in fleet.order("w1", SetHost(host="w2", profile=PROFILE, instances=None))
    assert fleet.hosts("w1").orders == ()


def test_what_no_host_can_have_is_refused() -> None:
    fleet = two()
    for order, words in (
        (fleet_set(9), r"0 to 8 instances on all hosts together: w1 4, w2 4 \(max\), not 9"),
        (SetHost(host="w2", profile=PROFILE, instances=5), r"0 to 4 instances on w2 \(max\), not 5"),
        (SetHost(host="w9", profile=PROFILE, instances=1), "there are: w1, w2"),
        (SetHost(host="", profile=PROFILE, instances=1), "no host of this fleet is called ''"),
        (RestartHost(host=""), "no host of this fleet is called ''"),
        (SetHost(host="w2", profile="pull", instances=1), "w2 has no profile 'pull'; there are: default-first"),
        (SetInstances(profile="pull", instances=1), "no host has a profile 'pull'; there are: default-first"),
        (SetHost(host="w2", profile=PROFILE, instances=None), "is not set to a number"),
        (fleet_set(None, 60.0), "has no end of its own"),
    ):
        with pytest.raises(OrderRefusedError, match=words):
            fleet.order("w1", order)


def test_one_name_for_two_things_has_no_count_of_all() -> None:
    other = host("w2")
    [profile] = other.profiles
    fleet = Fleet(host("w1"), structs.replace(other, profiles=(structs.replace(profile, threads=7),)))
    fleet.run(60.0)
    with pytest.raises(OrderRefusedError, match=r"--host HOST sets one of them"):
        fleet.order("w1", fleet_set(3))
    fleet.order("w1", SetHost(host="w2", profile=PROFILE, instances=2))


def test_a_profile_is_the_same_whatever_hosts_call_it() -> None:
    other = host("w2")
    [profile] = other.profiles
    fleet = Fleet(host("w1"), structs.replace(other, profiles=(structs.replace(profile, name="posts"),)))
    fleet.run(400.0)
    fleet.order("w2", SetInstances(profile="posts", instances=6))
    fleet.run(150.0)
    assert sum(counts(fleet)) == 6


def test_without_redis_only_this_host_is_set_and_a_later_order_of_all_hosts_holds() -> None:
    fleet = two()
    fleet.shared.up = False
    fleet.tick()
    with pytest.raises(OrderRefusedError, match=r"fleetctl set default-first 3 --host w1"):
        fleet.order("w1", fleet_set(3))
    with pytest.raises(OrderRefusedError, match=r"fleetctl set there, with --host w2"):
        fleet.order("w1", SetHost(host="w2", profile=PROFILE, instances=3))
    assert "set to 0 for" in fleet.order("w1", SetHost(host="w1", profile=PROFILE, instances=0))
    fleet.run(60.0)
    assert fleet.running("w1") == 1, "Redis is away, so no drain could be watched"
    fleet.shared.up = True
    fleet.run(200.0)
    assert fleet.running("w1") == 0
    with pytest.raises(OrderRefusedError, match="w1 has a number of its own, which is ended there"):
        fleet.order("w2", SetHost(host="w1", profile=PROFILE, instances=None))
    fleet.order("w2", SetHost(host="w1", profile=PROFILE, instances=2))
    fleet.run(100.0)
    assert fleet.running("w1") == 2, "the later order holds"


def test_counts_outlive_a_ledger_that_is_lost_and_a_reboot() -> None:
    fleet = two()
    fleet.order("w1", fleet_set(4))
    fleet.order("w1", SetHost(host="w2", profile=PROFILE, instances=1))
    fleet.run(100.0)
    fleet.shared.memory.state = None
    fleet.run(60.0)
    assert {(o.kind, o.host) for o in fleet.hosts("w2").orders} == {("set", ""), ("set", "w2")}
    fleet.worlds["w2"].reboot((1, 2))
    fleet.run(300.0)
    assert counts(fleet) == [3, 1]


def test_a_host_that_is_held_keeps_what_it_has_and_is_named() -> None:
    fleet = two()
    fleet.order("w1", Maintenance(host="w2"))
    fleet.order("w1", Pause())
    fleet.run(10.0)
    said = fleet.order("w1", fleet_set(4))
    assert "As they are until that ends: w1 (paused), w2 (paused)" in said
    fleet.run(60.0)
    assert sum(counts(fleet)) == 2


def older(fleet: Fleet, name: str) -> None:
    """This host's fleetd knows neither counts nor restarts."""
    state = fleet.shared.memory.state
    assert state is not None
    entry = state.hosts[name]
    told = entry.record.replace('"orders":1,', "").replace('"fleetd":"9"', '"fleetd":"0.2.9"')
    assert told != entry.record
    hosts = {**state.hosts, name: structs.replace(entry, record=told)}
    fleet.shared.memory.state = structs.replace(state, hosts=hosts)


def test_a_host_whose_fleetd_is_older_is_named() -> None:
    fleet = two()
    older(fleet, "w2")
    deaf = "w2 (fleetd 0.2.9) runs another fleetd, which does not know this order: upgrade it there."
    assert deaf in fleet.order("w1", fleet_set(4))
    assert deaf in fleet.order("w1", Restart())
    for order, command in (
        (SetHost(host="w2", profile=PROFILE, instances=1), "set"),
        (RestartHost(host="w2"), "restart"),
    ):
        with pytest.raises(
            OrderRefusedError, match=f"w2 runs fleetd 0.2.9, which obeys `fleetctl {command}` only on w2"
        ):
            fleet.order("w1", order)
    older(fleet, "w1")
    said = fleet.order("w2", fleet_set(4))
    assert "w1 leads and is one of them, so nothing changes before that." in said


def test_a_host_whose_fleetd_has_just_started_is_none_of_them() -> None:
    fleet = two()
    fleet.rigs["w2"].start_fleetd()
    fleet.tick()
    assert "another fleetd" not in fleet.order("w1", Restart())
    assert {h.host: h.phase for h in restart(fleet).hosts}["w2"] == "waits"
    with pytest.raises(OrderRefusedError, match="the fleetd of w2 has just started: try again"):
        fleet.order("w1", SetHost(host="w2", profile=PROFILE, instances=1))


def test_a_host_that_only_beats_is_named() -> None:
    fleet = two()
    state = fleet.shared.memory.state
    assert state is not None
    fleet.shared.memory.state = structs.replace(state, hosts={"w1": state.hosts["w1"]})
    assert "w2 runs another fleetd, which does not know this order" in fleet.order("w1", fleet_set(3))


def test_as_many_orders_as_the_ledger_keeps_are_refused_with_the_way_out() -> None:
    fleet = two()
    state = fleet.shared.memory.state
    assert state is not None
    text = '{"until_ms":9000000000000}'
    fleet.shared.memory.state = structs.replace(state, orders={f"pause h{n}": text for n in range(64)})
    with pytest.raises(OrderRefusedError, match="64 orders are in force"):
        fleet.order("w1", fleet_set(3))
    over = {f"pause h{n}": '{"until_ms":1}' for n in range(64)}
    fleet.shared.memory.state = structs.replace(state, orders=over)
    fleet.order("w1", fleet_set(3))
    assert fleet.shared.memory.state is not None
    kept = fleet.shared.memory.state.orders
    assert f"set {PROFILE}" in kept
    assert len(kept) < 64, "what has ended makes room"


# Restarts of all hosts.


def processes(fleet: Fleet, host: str = "") -> set[tuple[str, int]]:
    """Host and pid of every instance that runs."""
    units = [(name, key, unit) for name, world in fleet.worlds.items() for key, unit in world.units.items()]
    return {(name, u.process.pid) for name, key, u in units if u.process and key and host in ("", name)}


def restart(fleet: Fleet, asked: str = "w1") -> RestartOfFleet:
    [found] = fleet.hosts(asked).restarts
    return found


def until_ended(fleet: Fleet, asked: str = "w1", ticks: int = 200) -> RestartOfFleet:
    for _ in range(ticks):
        fleet.tick()
        assert len(replacing(fleet)) <= 1
        if restart(fleet, asked).ended:
            break
    return restart(fleet, asked)


def test_a_restart_goes_through_all_hosts_one_after_the_other_and_any_shows_it() -> None:
    fleet = with_a_scheduler(400.0, low=2)
    before = processes(fleet)
    said = fleet.order("w2", Restart(), ALICE)
    assert "5 to restart (" in said
    assert "on one host after the other" in said
    hosts: list[str] = []
    shown: set[str] = set()
    while not (found := restart(fleet, "w1")).ended:
        fleet.tick()
        hosts += replacing(fleet)
        shown.add(restart_words(found))
        assert len(hosts) < 400
    assert sorted(set(hosts)) == list(dict.fromkeys(hosts)), "one host after the other"
    assert not before & processes(fleet)
    assert any("w1 2 of 3" in words and "w2 0 of 2" in words for words in shown)
    assert sum(h.done_instances for h in found.hosts) == 5, "with the scheduler"
    assert [o.kind for o in fleet.hosts("w2").orders] == [], "it is over"


def test_the_same_order_while_one_is_under_way_joins_it_and_another_is_refused() -> None:
    fleet = two(low=2)
    fleet.order("w1", Restart())
    fleet.run(20.0)
    assert "A restart of all hosts is under way" in fleet.order("w2", Restart())
    assert "A restart of all hosts is under way" in fleet.order("w2", Restart(profile=PROFILE))
    with pytest.raises(OrderRefusedError, match="a restart of all hosts is under way"):
        fleet.order("w1", RestartHost(host="w2"))
    assert until_ended(fleet).ended == "done"


def test_one_host_alone_is_restarted_from_any() -> None:
    fleet = two(low=2)
    before = processes(fleet)
    assert "2 of default-first to restart (2 on w2)" in fleet.order(
        "w1", RestartHost(host="w2", profile=PROFILE), ALICE
    )
    found = until_ended(fleet)
    assert [(h.host, h.phase, h.done_instances) for h in found.hosts] == [("w2", "done", 2)]
    assert {name for name, _ in before - processes(fleet)} == {"w2"}


def test_this_host_alone_needs_no_redis() -> None:
    fleet = two(low=2)
    fleet.shared.up = False
    fleet.tick()
    with pytest.raises(OrderRefusedError, match=r"fleetctl restart default-first --host w1"):
        fleet.order("w1", Restart(profile=PROFILE))
    assert "to restart" in fleet.order("w1", RestartHost(host="w1"))


def test_a_restart_outlives_its_leader_fleetd_and_a_reboot() -> None:
    fleet = two(low=2)
    before = processes(fleet)
    fleet.order("w1", Restart())
    fleet.run(20.0)
    [first] = replacing(fleet)
    leader = fleet.hosts("w1").leader
    fleet.rigs[leader].on = False
    fleet.run(40.0)
    fleet.rigs[leader].on = True
    for rig in fleet.rigs.values():
        rig.start_fleetd()
    fleet.run(30.0)
    fleet.worlds[first].reboot((1, 2))
    fleet.run(600.0)
    found = restart(fleet)
    assert found.ended == "done"
    assert not before & processes(fleet)
    assert {h.phase for h in found.hosts} == {"done"}
    again = processes(fleet)
    fleet.run(100.0)
    assert processes(fleet) == again, "each host obeys it once"


def test_a_restart_outlives_a_lost_ledger_and_is_not_repeated() -> None:
    fleet = two(low=2)
    fleet.order("w1", Restart())
    assert until_ended(fleet).ended == "done"
    before = processes(fleet)
    fleet.shared.memory.state = None
    for _ in range(60):
        for result in fleet.tick().values():
            assert not any(isinstance(r, RestartBegun | RestartNotBegun) for r in result.noticed)
    assert processes(fleet) == before
    assert [(h.phase, h.done_instances) for h in restart(fleet).hosts] == [("done", 2), ("done", 2)]


def test_a_host_that_comes_back_restarts_only_what_is_older_than_the_order() -> None:
    fleet = two(low=2)
    fleet.rigs["w2"].on = False
    fleet.run(70.0)
    before = processes(fleet)
    fleet.order("w1", Restart())
    found = until_ended(fleet)
    assert [(h.host, h.phase) for h in found.hosts] == [("w1", "done"), ("w2", "lost")]
    assert found.ended == "done", "nobody waits for it"
    fleet.rigs["w2"].on = True
    fleet.run(400.0)
    assert [h.phase for h in restart(fleet).hosts] == ["done", "done"]
    assert not before & processes(fleet), "its workers had run on with the old code"


def test_a_host_that_boots_afterwards_has_nothing_to_restart() -> None:
    fleet = two(low=2)
    power_off(fleet, "w2")
    fleet.run(100.0)
    fleet.order("w1", Restart())
    assert until_ended(fleet).ended == "done"
    fleet.worlds["w2"].reboot((1, 2))
    fleet.rigs["w2"].on = True
    before = processes(fleet, "w2")
    fleet.run(200.0)
    assert processes(fleet, "w2") == before
    told = {h.host: (h.phase, h.total_instances) for h in restart(fleet).hosts}
    assert told["w2"] == ("done", 0)


def test_a_replacement_that_fails_on_one_host_ends_it_on_all() -> None:
    fleet = two(low=2)
    fleet.order("w2", Restart(), ALICE)
    fleet.run(20.0)
    [first] = replacing(fleet)
    other = next(name for name in fleet.rigs if name != first)
    left = processes(fleet, other)
    fleet.worlds[first].broken = {1, 2, 3, 4}
    found = until_ended(fleet)
    assert found.ended == "given_up"
    assert {h.host: h.phase for h in found.hosts} == {first: "given_up", other: "stopped"}
    fleet.run(100.0)
    assert processes(fleet, other) == left
    assert fleet.status(other).rollout is None


def test_a_host_that_is_lost_in_mid_restart_is_not_waited_for() -> None:
    fleet = two(low=2)
    fleet.order("w1", Restart())
    fleet.run(30.0)
    [first] = replacing(fleet)
    other = next(name for name in fleet.rigs if name != first)
    fleet.rigs[first].on = False
    for _ in range(120):
        fleet.tick()
    found = restart(fleet, other)
    assert {h.host: h.phase for h in found.hosts} == {first: "lost", other: "done"}
    assert found.ended == "done"


def test_a_pause_holds_a_restart_and_it_goes_on_after_it() -> None:
    fleet = two(low=2)
    fleet.order("w1", Restart())
    fleet.run(20.0)
    fleet.order("w1", Pause())
    fleet.run(200.0)
    held = processes(fleet)
    fleet.run(100.0)
    assert processes(fleet) == held
    assert restart(fleet).ended == ""
    fleet.order("w2", Resume())
    assert until_ended(fleet).ended == "done"


def test_nothing_to_restart_is_refused() -> None:
    fleet = two()
    with pytest.raises(OrderRefusedError, match="no instance of pull runs on any host"):
        fleet.order("w1", Restart(profile="pull"))
    fleet.rigs["w2"].on = False
    fleet.run(70.0)
    with pytest.raises(OrderRefusedError, match="w2 was last heard 70 s ago, so it would not hear this"):
        fleet.order("w1", RestartHost(host="w2"))


def test_an_upgrade_is_accepted_by_every_host_and_by_none_again_where_it_fails() -> None:
    fleet = two(low=2)
    for world in fleet.worlds.values():
        world.code = "code-2"
    fleet.run(20.0)
    assert [[h.kind for h in fleet.status(name).holds] for name in fleet.rigs] == [["upgrade"], ["upgrade"]]
    said = fleet.order("w2", Restart())
    assert "What is on disk on w1, w2 is accepted there." in said
    fleet.run(10.0)
    assert [fleet.status(name).holds for name in fleet.rigs] == [(), ()]
    for world in fleet.worlds.values():
        world.code_broken = True
    found = until_ended(fleet)
    assert found.ended == "given_up"
    assert sorted(h.phase for h in found.hosts) == ["given_up", "stopped"]
    fleet.tick()
    assert [[h.kind for h in fleet.status(name).holds] for name in fleet.rigs] == [["upgrade"], ["upgrade"]]
    for world in fleet.worlds.values():
        world.code_broken, world.code = False, "code-3"
    fleet.run(20.0)
    fleet.order("w1", Restart())
    assert until_ended(fleet).ended == "done"
    assert {u.process.code for w in fleet.worlds.values() for k, u in w.units.items() if u.process and k} == {"code-3"}


def test_a_fleetd_that_only_observes_restarts_when_ordered_and_keeps_its_count() -> None:
    fleet = Fleet(host("w1"), structs.replace(host("w2"), mode="observe"))
    fleet.worlds["w2"].start(1)
    fleet.run(60.0)
    assert counts(fleet) == [1, 1]
    assert "As they are until that ends: w2 (its fleetd only observes)" in fleet.order("w1", fleet_set(4))
    fleet.run(100.0)
    assert counts(fleet) == [3, 1]
    before = processes(fleet)
    fleet.order("w1", Restart())
    assert until_ended(fleet).ended == "done"
    assert not before & processes(fleet)
    fleet.order("w1", SetHost(host="w2", profile=PROFILE, instances=2))
    fleet.run(60.0)
    assert fleet.running("w2") == 2


def test_a_count_of_one_host_is_its_part_of_what_all_have_together_also_below_the_min_of_the_others() -> None:
    fleet = Fleet(host("w1"), host("w2"), host("w3"))
    fleet.run(400.0)
    fleet.order("w1", fleet_set(4), ALICE)
    fleet.order("w1", SetHost(host="w2", profile="default-first", instances=3), ALICE)
    fleet.run(600.0)
    assert (fleet.running("w2"), sum(counts(fleet))) == (3, 4)
