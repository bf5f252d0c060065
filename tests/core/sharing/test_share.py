"""Which host gets how many. What must hold of any fleet is in test_share_properties.py."""

from __future__ import annotations

from msgspec import structs

from fleetd.core.model import reasons
from fleetd.core.sharing.fleet_plan import FleetPlan
from fleetd.core.sharing.report import HostReport
from fleetd.core.sharing.shapes import fleet_profiles
from fleetd.core.sharing.share import Shares, share
from tests.support.builders.hosts import host, profile

NOW = 1_000.0


def shared(
    wanted: int | dict[str, int],
    *hosts: HostReport,
    previous: FleetPlan | None = None,
    maintenance: frozenset[str] = frozenset(),
    moved: float | None = None,
    on_all: frozenset[str] = frozenset(),
) -> Shares:
    reports = {h.host: h for h in hosts}
    profiles = fleet_profiles(hosts[0].host, reports, maintenance)
    desired = wanted if isinstance(wanted, dict) else {"default": wanted}
    return share(
        desired,
        profiles,
        reports,
        previous,
        maintenance=maintenance,
        set_on_all=on_all,
        now_seconds=NOW,
        moved_seconds=moved,
    )


def goals(shares: Shares, name: str = "default") -> list[int]:
    return [own[name].goal_instances for own in shares.hosts.values() if name in own]


def now(shares: Shares, name: str = "default") -> list[int]:
    return [own[name].desired_instances for own in shares.hosts.values()]


def why(shares: Shares, name: str, own: str = "default") -> reasons.SharedReason | None:
    return shares.hosts[name][own].why


def as_plan(shares: Shares) -> FleetPlan:
    return FleetPlan(leader="a", hosts=shares.hosts)


def test_what_exists_counts_where_it_is() -> None:
    found = shared(9, host("a", profile(7)), host("b", profile(2)))
    assert goals(found) == [7, 2]
    assert (why(found, "a"), why(found, "b"), found.clamps) == (None, None, {})


def test_more_go_where_there_are_the_fewest_for_the_cores() -> None:
    found = shared(8, host("a", profile(2), cores=8), host("b", profile(2), cores=2))
    assert goals(found) == [6, 2]
    assert why(found, "a") == reasons.GrowsHere(
        host="a", fleet_instances=8, started_instances=4, present_instances=2, cores=8
    )
    assert why(found, "b") is None


def test_of_equal_hosts_the_one_with_the_most_memory_left_grows_and_then_the_first_by_name() -> None:
    assert goals(shared(3, host("a", profile(1), left=2048), host("b", profile(1), left=4096))) == [1, 2]
    assert goals(shared(3, host("a", profile(1)), host("b", profile(1)))) == [2, 1]


def test_a_large_growth_is_spread() -> None:
    assert goals(shared(12, host("a", profile(0)), host("b", profile(0)), host("c", profile(0)))) == [4, 4, 4]


def test_boots_elsewhere_and_instances_of_other_profiles_count() -> None:
    busy = host("a", profile(1), profile(6, name="mail", queues=(2,)))
    assert goals(shared({"default": 3, "mail": 6}, busy, host("b", profile(1)))) == [1, 2]


def test_a_host_without_a_free_number_room_or_right_to_grow_does_not() -> None:
    b = host("b", profile(1))
    for full, code in (
        (host("a", profile(1, free=0)), "no_number_free"),
        (host("a", profile(1, high=1)), "max"),
        (host("a", profile(1), left=1000), "memory"),
        (host("a", profile(1), left=None), "memory_unknown"),
        (host("a", profile(1), refused="oom_killed"), "oom_killed"),
        (host("a", profile(1, refused="connections")), "connections"),
        (host("a", profile(1), held="paused"), "paused"),
    ):
        found = shared(5, full, b)
        assert goals(found) == [1, 4], code
        short = shared(5, full)
        assert goals(short) == [1]
        reason = short.clamps["default"].reason
        assert reason == reasons.NoHostTakesMore(
            missing_instances=4, hosts=(reasons.NotTaken(host="a", why=code),), more_hosts=0
        )


def test_profiles_of_one_host_share_its_memory_the_more_important_first() -> None:
    a = host("a", profile(0), profile(0, name="mail", queues=(2,)), left=3 * 1024)
    found = shared({"default": 2, "mail": 2}, a)
    assert (goals(found), goals(found, "mail")) == ([2], [1])


def test_each_host_goes_up_to_its_min_even_without_room() -> None:
    found = shared(2, host("a", profile(0, low=2), left=0, refused="host_pressure"), host("b", profile(0)))
    assert goals(found) == [2, 0]
    assert why(found, "a") == reasons.GoesUpToMin(host="a", fleet_instances=2, min_instances=2)


def test_a_min_that_can_not_be_reached_is_made_up_for_elsewhere() -> None:
    found = shared(4, host("a", profile(0, low=2, free=0)), host("b", profile(2)))
    assert goals(found) == [2, 4]


def test_fewer_go_where_it_is_pressed_and_then_where_there_are_the_most() -> None:
    a, b = host("a", profile(4), cores=8, refused="host_pressure"), host("b", profile(4), cores=1)
    found = shared(7, a, b)
    assert goals(found) == [3, 4]
    gone = why(found, "a")
    assert isinstance(gone, reasons.GoesHere)
    assert (gone.pressed, gone.ended_instances) == ("host_pressure", 1)
    assert goals(shared(7, host("a", profile(4), cores=8), b)) == [4, 3]


def test_what_was_not_started_yet_goes_first() -> None:
    a, b = host("a", profile(2), cores=8), host("b", profile(2), cores=1)
    plan = as_plan(shared(6, a, b))
    assert plan.desired_instances("a") == {"default": 4}
    assert goals(shared(5, a, b, previous=plan)) == [3, 2]


def test_what_was_to_go_and_is_there_stays_first() -> None:
    a, b = host("a", profile(2), cores=8), host("b", profile(4), cores=1)
    plan = as_plan(shared(5, a, b))
    assert goals(shared(5, a, b, previous=plan)) == [2, 3]
    assert goals(shared(6, a, b, previous=plan)) == [2, 4]


def test_what_was_planned_stays_planned_although_another_host_would_be_first_now() -> None:
    a, b = host("a", profile(1)), host("b", profile(1))
    plan = as_plan(shared(3, a, b))
    assert goals(shared(3, a, host("b", profile(1), cores=64), previous=plan)) == [2, 1]
    grows = why(shared(3, a, host("b", profile(1), cores=64), previous=plan), "a")
    assert isinstance(grows, reasons.GrowsHere)
    assert goals(shared(3, host("a", profile(1), refused="memory"), b, previous=plan)) == [1, 2]


def test_never_below_a_host_s_min_nor_above_its_max() -> None:
    found = shared(0, host("a", profile(3, low=2)), host("b", profile(3)))
    assert goals(found) == [2, 0]
    assert found.clamps["default"].reason == reasons.HostsKeepMore(extra_instances=2, hosts=("a",))
    assert goals(shared(9, host("a", profile(6, high=4)), host("b", profile(3)))) == [4, 5]


def test_a_held_host_keeps_what_it_has() -> None:
    found = shared(1, host("a", profile(3, low=4), held="upgrade"), host("b", profile(3)))
    assert goals(found) == [3, 0]
    assert why(found, "a") == reasons.NotMoved(host="a", fleet_instances=1, instances=3, held="upgrade")


def test_a_person_s_count_on_a_host_is_kept() -> None:
    found = shared(8, host("a", profile(3, wanted=5)), host("b", profile(1)))
    assert goals(found) == [5, 3]
    assert why(found, "a") == reasons.SetOnHost(host="a", fleet_instances=8, instances=5)
    assert goals(shared(8, host("a", profile(3, wanted=1)), host("b", profile(1)))) == [1, 7]


def test_instances_that_people_started_stay() -> None:
    a = host("a", profile(3))
    pinned = tuple(structs.replace(i, flags="rbrun") for i in a.instances[:2])
    a = structs.replace(a, instances=(*pinned, a.instances[2]))
    assert goals(shared(0, a)) == [2]
    assert goals(shared(0, a, host("b", profile(0)), maintenance=frozenset({"a"}))) == [2, 0]


def test_capacity_leaves_a_host_in_maintenance_once_it_serves_elsewhere() -> None:
    a, b, away = host("a", profile(3, low=1)), host("b", profile(1)), frozenset({"a"})
    begun = shared(4, a, b, maintenance=away)
    assert (goals(begun), now(begun)) == ([0, 4], [3, 4])
    assert why(begun, "a") == reasons.InMaintenance(host="a", fleet_instances=4, kept_instances=0)
    boots = shared(4, a, host("b", profile(4), starting=2), maintenance=away, previous=as_plan(begun))
    assert (goals(boots), now(boots)) == ([0, 4], [2, 4])
    done = shared(4, a, host("b", profile(4)), maintenance=away, previous=as_plan(boots))
    assert now(done) == [0, 4]


def test_a_host_in_maintenance_drains_although_others_have_no_room() -> None:
    found = shared(4, host("a", profile(3)), host("b", profile(1, high=2)), maintenance=frozenset({"a"}))
    assert (goals(found), now(found)) == ([0, 2], [1, 2])
    assert isinstance(found.clamps["default"].reason, reasons.NoHostTakesMore)
    found = shared(4, host("a", profile(3)), host("b", profile(2, high=2)), maintenance=frozenset({"a"}))
    assert now(found) == [0, 2]


def test_a_queue_comes_to_a_second_host_as_it_grows() -> None:
    a = host("a", profile(1), cores=64)
    b = host("b", profile(0), profile(8, name="mail", queues=(2,)), cores=1)
    assert goals(shared({"default": 2, "mail": 8}, a, b)) == [1, 1]


def test_a_queue_is_moved_to_a_second_host_without_need() -> None:
    a, b = host("a", profile(3)), host("b", profile(0))
    found = shared(3, a, b)
    assert (goals(found), now(found)) == ([2, 1], [3, 1])
    assert why(found, "a") == reasons.MovesAway(host="a", fleet_instances=3, to_host="b", queue="default", pressed="")
    assert why(found, "b") == reasons.MovesHere(host="b", fleet_instances=3, from_host="a", queue="default", pressed="")
    assert found.moved_seconds == NOW
    later = shared(3, a, host("b", profile(1), starting=1), previous=as_plan(found), moved=found.moved_seconds)
    assert (goals(later), now(later)) == ([2, 1], [3, 1])
    assert isinstance(why(later, "a"), reasons.MovesAway)
    done = shared(3, a, host("b", profile(1)), previous=as_plan(later), moved=found.moved_seconds)
    assert now(done) == [2, 1]


def test_a_queue_with_one_instance_stays_on_one_host() -> None:
    found = shared(1, host("a", profile(1)), host("b", profile(0)))
    assert (goals(found), found.moved_seconds) == ([1, 0], None)


def test_a_shrink_leaves_each_queue_on_two_hosts() -> None:
    assert goals(shared(3, host("a", profile(1), cores=1), host("b", profile(3), cores=64))) == [1, 2]
    assert goals(shared(1, host("a", profile(1), cores=1), host("b", profile(3), cores=64))) == [0, 1]


def test_pressure_moves_one_at_a_time_to_where_there_are_fewer() -> None:
    a, b = host("a", profile(6), refused="host_pressure"), host("b", profile(2))
    found = shared(8, a, b)
    assert (goals(found), now(found)) == ([5, 3], [6, 3])
    away = why(found, "a")
    assert isinstance(away, reasons.MovesAway)
    assert away.pressed == "host_pressure"
    after = host("a", profile(5), refused="host_pressure"), host("b", profile(3))
    assert goals(shared(8, *after, previous=as_plan(found), moved=NOW - 119.0)) == [5, 3]
    assert goals(shared(8, *after, previous=as_plan(found), moved=NOW - 120.0)) == [4, 4]
    assert goals(shared(8, host("a", profile(4), refused="host_pressure"), host("b", profile(4)))) == [4, 4]
    assert goals(shared(8, a, host("b", profile(2), refused="host_pressure"))) == [6, 2]
    assert goals(shared(8, a, host("b", profile(2), starting=1))) == [6, 2]  # something boots


def test_a_lost_host_s_capacity_is_replaced() -> None:
    three = host("a", profile(2)), host("b", profile(2)), host("c", profile(2))
    plan = as_plan(shared(6, *three))
    assert goals(shared(6, *three[:2], previous=plan)) == [3, 3]


def test_profiles_are_known_by_shape() -> None:
    other = host("b", profile(0, name="x", queues=(1,)), profile(0, name="all"))
    found = shared({"default": 3, "x": 0}, host("a", profile(1), cores=1), other)
    assert found.hosts["b"]["all"].goal_instances == 2
    assert found.hosts["b"]["x"].goal_instances == 0


def test_a_starting_instance_is_not_counted_twice() -> None:
    assert goals(shared(4, host("a", profile(3), starting=3), host("b", profile(1)))) == [3, 1]


def test_once_two_hosts_serve_a_queue_only_room_decides() -> None:
    mail = profile(1, name="mail", queues=(2,))
    b, c = host("b", profile(0), mail, cores=1), host("c", profile(0), mail, cores=1)
    assert goals(shared({"default": 3, "mail": 2}, host("a", profile(0), cores=64), b, c)) == [2, 1, 0]


def test_what_comes_is_waited_for_by_one_host_only() -> None:
    a, b, away = host("a", profile(1)), host("b", profile(1)), frozenset({"a", "b"})
    assert now(shared(2, a, b, host("c", profile(0)), maintenance=away)) == [1, 1, 2]
    assert now(shared(2, a, b, host("c", profile(2), starting=1), maintenance=away)) == [1, 0, 2]


def test_no_move_takes_another_queue_s_second_host() -> None:
    # `default` is on a alone; what b could take of it also serves `push`, which b has already.
    both = profile(1, queues=(0, 1))
    a = host("a", both, profile(1, name="more"))
    b = host("b", profile(0, queues=(0, 1)), profile(1, name="push", queues=(1,)))
    assert shared({"default": 1, "more": 1, "push": 1}, a, b).moved_seconds is None
    b = host("b", profile(1, queues=(0, 1)))
    a = host("a", both, profile(6, name="mail", queues=(2,), low=6), refused="host_pressure")
    assert shared({"default": 2, "mail": 6}, a, b).moved_seconds is None  # a and b serve it
    c = host("c", profile(0, queues=(0, 1)))
    assert goals(shared({"default": 2, "mail": 6}, a, b, c)) == [0, 1, 1]


def test_a_person_s_count_for_all_may_be_below_the_min_of_hosts_and_no_other_is() -> None:
    hosts = host("a", profile(2, low=2)), host("b", profile(2, low=2))
    assert sum(goals(shared(1, *hosts))) == 4
    for wanted in (0, 1, 3, 4, 5):
        assert sum(goals(shared(wanted, *hosts, on_all=frozenset({"default"})))) == wanted
    pinned = structs.replace(hosts[0], held="paused")
    assert goals(shared(0, pinned, hosts[1], on_all=frozenset({"default"}))) == [2, 0], "what is held is not moved"
