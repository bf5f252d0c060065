"""What holds of any fleet: totals, bounds, least movement, order of nothing, two hosts for each queue, holds."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from fleetd.core.sharing.fleet_plan import FleetPlan
from fleetd.core.sharing.places import Fleet
from fleetd.core.sharing.report import HostReport
from fleetd.core.sharing.shapes import fleet_profiles
from fleetd.core.sharing.share import Shares, share
from tests.support.builders.hosts import host, profile

FEW = settings(max_examples=60, deadline=None)
SHAPES: tuple[dict[str, Any], ...] = (
    {"name": "default", "queues": (0, 1)},
    {"name": "push", "queues": (1, 2)},
    {"name": "pull", "queues": (2,)},
)
HELD = ("", "", "", "paused", "silent")
REFUSED = ("", "", "", "host_pressure", "oom_killed")


@st.composite
def hosts(draw: st.DrawFn, *, calm: bool = False) -> dict[str, HostReport]:
    """Up to five hosts; `calm`: without holds, pressure, sets and boots."""
    found = {}
    for name in "abcde"[: draw(st.integers(1, 5))]:
        shapes = draw(st.lists(st.sampled_from(SHAPES), min_size=1, max_size=3, unique_by=lambda s: str(s["name"])))
        own = []
        for shape in shapes:
            high = draw(st.integers(0, 8))
            low = draw(st.integers(0, high))
            running = draw(st.integers(0, 8))
            wanted = None if calm else draw(st.sampled_from((None, None, None, 0, 3)))
            own.append(profile(running, low=low, high=high, free=draw(st.integers(0, 8)), wanted=wanted, **shape))
        found[name] = host(
            name,
            *own,
            cores=draw(st.sampled_from((None, 1, 2, 4, 64))),
            left=draw(st.sampled_from((None, 0, 3000, 64 * 1024))),
            held="" if calm else draw(st.sampled_from(HELD)),
            refused="" if calm else draw(st.sampled_from(REFUSED)),
            starting=0 if calm else draw(st.integers(0, 2)),
        )
    return found


def wanted_of(data: st.DataObject, reports: dict[str, HostReport]) -> dict[str, int]:
    return {p.name: data.draw(st.integers(0, 24)) for p in fleet_profiles(min(reports), reports)}


def shared(
    wanted: dict[str, int],
    reports: dict[str, HostReport],
    previous: FleetPlan | None = None,
    *,
    now: float = 0.0,
    moved: float | None = None,
    away: frozenset[str] = frozenset(),
) -> Shares:
    profiles = fleet_profiles(min(reports), reports, away)
    return share(wanted, profiles, reports, previous, now_seconds=now, moved_seconds=moved, maintenance=away)


def as_plan(shares: Shares) -> FleetPlan:
    return FleetPlan(leader="a", hosts=shares.hosts)


def obeyed(shares: Shares, reports: dict[str, HostReport]) -> dict[str, HostReport]:
    """The hosts once they have done what they were to do, and all of it serves."""
    found = {}
    for name, report in reports.items():
        own, left = [], report.memory_left_mib
        for p in report.profiles:
            goal = shares.hosts[name][p.name].desired_instances
            count = min(goal, p.running + p.free_numbers)
            more = count - p.running
            if left is not None:
                left = max(0, left - max(0, more) * p.instance_mib)
            own.append(structs.replace(p, running=count, free_numbers=p.free_numbers - more))
        done = host(name, *own, cores=report.cores, left=left, held=report.held, refused=report.refused)
        found[name] = done
    return found


@FEW
@given(data=st.data())
def test_a_host_never_gets_more_than_its_max_its_numbers_and_its_room(data: st.DataObject) -> None:
    reports = data.draw(hosts())
    found = shared(wanted_of(data, reports), reports)
    for name, report in reports.items():
        used = 0
        for own in report.profiles:
            got = found.hosts[name][own.name]
            if report.held:
                assert got.goal_instances == got.desired_instances == own.running
                continue
            if own.set_instances is not None:
                assert got.goal_instances == own.set_instances
                continue
            assert own.min_instances <= got.goal_instances <= own.max_instances
            assert got.goal_instances <= got.desired_instances <= max(own.running, got.goal_instances)
            above = got.goal_instances - max(own.running, own.min_instances)
            if above > 0:
                assert got.goal_instances <= own.running + own.free_numbers
                assert not report.refused
                assert report.memory_left_mib is not None
                used += above * own.instance_mib
        assert used <= (report.memory_left_mib or 0)


@FEW
@given(data=st.data())
def test_hosts_have_together_what_is_wanted_where_room_allows(data: st.DataObject) -> None:
    reports = data.draw(hosts())
    wanted = wanted_of(data, reports)
    found = shared(wanted, reports)
    for name, count in found.counts.items():
        clamp = found.clamps.get(name)
        assert (clamp is None) == (count == wanted[name])
        if count < wanted[name]:  # then nobody takes one more
            fleet = Fleet(fleet_profiles(min(reports), reports), reports, frozenset())
            for other, places in fleet.places.items():
                for place in places:
                    share_ = found.hosts[place.room.name][place.own.name]
                    reachable = min(share_.goal_instances, place.running + place.own.free_numbers)
                    place.become(place.running if place.fixed == "held" else reachable)
                assert other in found.counts
            assert all(place.refusal() for place in fleet.places[name])
        if count > wanted[name]:  # then everybody has as few as may be
            for report in reports.values():
                for own in report.profiles:
                    got = found.hosts[report.host][own.name]
                    fixed = report.held or own.set_instances is not None
                    if _name(reports, report, own.name) == name and not fixed:
                        assert got.goal_instances == own.min_instances


def _name(reports: dict[str, HostReport], report: HostReport, own: str) -> str:
    profiles = fleet_profiles(min(reports), reports)
    places = {p.name: p.places.get(report.host) for p in profiles}
    return next(name for name, place in places.items() if place is not None and report.profiles[place].name == own)


@FEW
@given(data=st.data())
def test_no_order_of_hosts_matters(data: st.DataObject) -> None:
    reports = data.draw(hosts())
    wanted = wanted_of(data, reports)
    first = shared(wanted, reports)
    turned = dict(reversed(reports.items()))
    assert shared(dict(reversed(wanted.items())), turned) == first
    again = shared(wanted, reports, as_plan(first))
    assert shared(wanted, turned, as_plan(again)) == shared(wanted, reports, as_plan(again))


@FEW
@given(data=st.data())
def test_only_the_difference_moves(data: st.DataObject) -> None:
    reports = data.draw(hosts(calm=True))
    bounds = {p.name: p.profile for p in fleet_profiles(min(reports), reports)}
    wanted = wanted_of(data, reports)
    found = shared(wanted, reports, now=1.0, moved=0.0)  # so soon after a move nothing else is moved
    for name, own in bounds.items():
        places = [(r, p) for r in reports.values() for p in r.profiles if _name(reports, r, p.name) == name]
        inside = [min(max(p.running, p.min_instances), p.max_instances) for _, p in places]
        changes = [found.hosts[r.host][p.name].goal_instances - was for (r, p), was in zip(places, inside, strict=True)]
        assert all(c >= 0 for c in changes) or all(c <= 0 for c in changes)
        assert own.name == name


@FEW
@given(data=st.data())
def test_what_was_obeyed_stays_as_it_is(data: st.DataObject) -> None:
    reports = data.draw(hosts(calm=True))
    wanted = wanted_of(data, reports)
    plan = shared(wanted, reports)
    for tick in range(40):  # the moves to a second host come to an end
        reports = obeyed(plan, reports)
        after = shared(wanted, reports, as_plan(plan), now=tick * 200.0, moved=plan.moved_seconds)
        rests = _counts(after) == _counts(plan) and not _moving(after, reports)
        plan = after
        if rests:
            break
    else:
        raise AssertionError("it never comes to rest")
    again = shared(wanted, reports, as_plan(plan), now=1e6, moved=plan.moved_seconds)
    assert _counts(again) == _counts(plan)
    assert again.moved_seconds == plan.moved_seconds


def _counts(shares: Shares) -> dict[tuple[str, str], int]:
    return {(h, name): s.goal_instances for h, own in shares.hosts.items() for name, s in own.items()}


def _moving(shares: Shares, reports: dict[str, HostReport]) -> bool:
    return any(
        shares.hosts[r.host][p.name].desired_instances not in (p.running, p.min_instances)
        for r in reports.values()
        for p in r.profiles
    )


@FEW
@given(data=st.data())
def test_pressure_that_stays_does_not_move_instances_to_and_fro(data: st.DataObject) -> None:
    reports = data.draw(hosts(calm=True))
    pressed = data.draw(st.sets(st.sampled_from(sorted(reports))))
    reports = {n: structs.replace(r, refused="host_pressure" if n in pressed else "") for n, r in reports.items()}
    wanted = wanted_of(data, reports)
    plan, seen = shared(wanted, reports), []
    for tick in range(120):
        reports = obeyed(plan, reports)
        plan = shared(wanted, reports, as_plan(plan), now=tick * 200.0, moved=plan.moved_seconds)
        seen.append(_counts(plan))
    assert seen[-1] == seen[-2] == seen[-3]


@FEW
@given(data=st.data())
def test_a_queue_that_two_hosts_could_serve_is_served_by_two(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 4))
    reports = {
        n: host(n, profile(data.draw(st.integers(0, 4)), high=8), cores=data.draw(st.sampled_from((1, 4, 64))))
        for n in "abcd"[:count]
    }
    wanted = {"default": data.draw(st.integers(0, 8))}
    plan = shared(wanted, reports)
    for tick in range(10):
        reports = obeyed(plan, reports)
        plan = shared(wanted, reports, as_plan(plan), now=tick * 200.0, moved=plan.moved_seconds)
    serving = [n for n, own in plan.hosts.items() if own["default"].goal_instances]
    assert len(serving) >= min(2, count, wanted["default"])


@FEW
@given(data=st.data())
def test_maintenance_ends_nothing_before_it_serves_elsewhere_and_then_everything(data: st.DataObject) -> None:
    reports = {n: host(n, profile(data.draw(st.integers(0, 4)), high=20)) for n in "abc"}
    wanted = {"default": sum(r.profiles[0].running for r in reports.values())}
    away, plan = frozenset({"a"}), None
    for _ in range(10):
        found = shared(wanted, reports, plan, away=away)
        plan = as_plan(found)
        slow = {
            n: structs.replace(
                r,
                profiles=(
                    structs.replace(
                        r.profiles[0],
                        running=min(found.hosts[n]["default"].desired_instances, r.profiles[0].running + 1),
                    ),
                ),
            )
            for n, r in reports.items()
        }
        reports = {n: host(n, *r.profiles) for n, r in slow.items()}
        assert sum(r.profiles[0].running for r in reports.values()) >= wanted["default"]
    assert reports["a"].profiles[0].running == 0
