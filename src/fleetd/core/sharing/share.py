"""Which host gets how many: what exists counts where it is, and only the difference moves.

More go to the host that has a free number, room and no hold, and the fewest instances for its cores; then to that with
the most memory left, then by name. Fewer: first what was not started yet, then where the host is pressed, then where
there are the most for its cores. A queue stays on two hosts, or comes to a second one, where two offer it.

A host never gets fewer than its min nor more than its max. One that is held keeps what it has, and a person's count on
a host is kept. Law 3: one that was silent lately is held as well; nobody there would act.

One is moved without need only from a host under pressure, or so that two hosts serve a queue (moves.py). Wherever one
moves, it ends on the one host only when what came on the other serves.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping

from fleetd.core.model import reasons
from fleetd.core.model.facts import Value
from fleetd.core.sharing.fleet_plan import FleetClamp, FleetPlan, HostShare, about, share_of
from fleetd.core.sharing.moves import Move, move_one
from fleetd.core.sharing.places import Fleet, Place, growth_order
from fleetd.core.sharing.report import HostReport
from fleetd.core.sharing.shapes import FleetProfile

#: Hosts that one reason names.
NAMED_MAX = 4


class Shares(Value, frozen=True, kw_only=True):
    """What each host is to have. `clamps`: by profile of the fleet, where hosts take fewer or keep more than wanted."""

    hosts: dict[str, dict[str, HostShare]]
    clamps: dict[str, FleetClamp]
    counts: dict[str, int]  # by profile of the fleet: what hosts take together
    moved_seconds: float | None  # when one was last moved


def share(
    desired: Mapping[str, int],
    profiles: tuple[FleetProfile, ...],
    reports: Mapping[str, HostReport],
    previous: FleetPlan | None = None,
    *,
    maintenance: frozenset[str] = frozenset(),
    set_on_all: frozenset[str] = frozenset(),
    now_seconds: float = 0.0,
    moved_seconds: float | None = None,
) -> Shares:
    """Share `desired` out. `previous`: the last plan, whose goals hold where nothing speaks against them.

    `set_on_all`: profiles whose count a person set for all hosts together. It may be below the sum of their min.
    """
    fleet = Fleet(profiles, reports, maintenance)
    for name in set_on_all:
        places = fleet.places[name]
        if desired[name] < sum(_in_any_case(p) for p in places):
            for place in places:
                place.low = min(place.low, place.kept)
    for place in fleet.all():
        place.before = share_of(previous, place.room.name, place.own.name)
        _begin(place)
    for place in fleet.all():
        while place.count < place.low and not place.refusal():
            place.become(place.count + 1)
    for profile in profiles:
        places, wanted = fleet.places[profile.name], desired[profile.name]
        _grow(places, wanted - sum(p.count for p in places))
        _shrink(places, sum(p.count for p in places) - wanted)
    move = move_one(fleet, now_seconds, moved_seconds)
    hosts: dict[str, dict[str, HostShare]] = {host: {} for host in fleet.rooms}
    clamps = {}
    for number, profile in enumerate(profiles):
        places, wanted = fleet.places[profile.name], desired[profile.name]
        coming = sum(max(0, p.count - p.serving) for p in places if p.fixed != "held")
        for place in places:
            found = _share(place, number, coming, wanted, move)
            coming -= found.desired_instances - found.goal_instances
            hosts[place.room.name][place.own.name] = found
        clamp = _clamp(places, wanted)
        if clamp is not None:
            clamps[profile.name] = clamp
    return Shares(
        hosts=hosts,
        clamps=clamps,
        counts={name: sum(p.count for p in places) for name, places in fleet.places.items()},
        moved_seconds=now_seconds if move is not None else moved_seconds,
    )


def _in_any_case(place: Place) -> int:
    """What a host has of it whatever is wanted of all."""
    if not place.fixed:
        return place.low
    return {"held": place.running, "maintenance": place.kept, "set": place.own.set_instances or 0}[place.fixed]


def _begin(place: Place) -> None:
    """What exists counts where it is, and what was planned holds as far as it still can be."""
    goal = place.running if place.before is None else place.before.goal_instances
    if place.fixed == "held":
        return
    if place.fixed == "maintenance":
        place.become(place.kept)
    elif place.fixed == "set":
        place.become(min(place.own.set_instances or 0, place.running + place.own.free_numbers))
    elif goal <= place.running:
        place.become(min(max(goal, min(place.low, place.running)), place.high))
    else:
        place.become(min(place.running, place.high))
        while place.count < goal and not place.refusal():
            place.become(place.count + 1)


def _grow(places: list[Place], instances: int) -> None:
    _each(places, instances, 1, lambda p: not p.refusal(), growth_order)


def _shrink(places: list[Place], instances: int) -> None:
    def order(place: Place) -> tuple[bool | float | str, ...]:
        room = place.room
        return place.count <= place.running, place.breaks, not room.pressed, -room.ratio, room.name

    _each(places, instances, -1, lambda p: not p.fixed and p.count > p.low, order)


def _each(
    places: list[Place],
    instances: int,
    step: int,
    may: Callable[[Place], bool],
    order: Callable[[Place], tuple[bool | float | str, ...]],
) -> None:
    """Add or take one at a time, at the first place in this order. A step only ever puts a place further back."""
    if instances <= 0:
        return
    heap = [(order(p), p.room.name, p) for p in places if may(p)]
    heapq.heapify(heap)
    while instances and heap:
        key, name, place = heapq.heappop(heap)
        if not may(place):
            continue
        now = order(place)
        if now > key:
            heapq.heappush(heap, (now, name, place))
            continue
        place.become(place.count + step)
        place.touched = True
        instances -= 1
        heapq.heappush(heap, (order(place), name, place))


def _share(place: Place, number: int, coming: int, wanted: int, move: Move | None) -> HostShare:
    """`coming`: instances that are started elsewhere, and for which this host still keeps some."""
    goal = place.count
    if place.fixed == "set":
        goal = place.own.set_instances or 0
    elif not place.fixed:
        goal = max(goal, place.low)
    kept = 0
    if place.count < place.running:
        kept = max(0, min(coming, min(place.running, place.high) - place.count))
    return HostShare(
        profile=number,
        desired_instances=goal + kept,
        goal_instances=goal,
        why=_why(place, goal, wanted, move),
    )


def _why(place: Place, goal: int, wanted: int, move: Move | None) -> reasons.SharedReason | None:
    host, room = place.room.name, place.room
    if place.fixed == "held":
        return reasons.NotMoved(host=host, fleet_instances=wanted, instances=place.count, held=room.report.held)
    if place.fixed == "maintenance":
        return reasons.InMaintenance(host=host, fleet_instances=wanted, kept_instances=place.kept)
    if place.fixed == "set":
        return reasons.SetOnHost(host=host, fleet_instances=wanted, instances=goal)
    if move is not None and place in (move.giver, move.taker):
        return move.why(place, wanted)
    if goal == place.running:
        return None
    before = place.before
    if before is not None and before.why is not None and before.goal_instances == goal and not place.touched:
        return about(before.why, wanted)
    if goal > place.running:
        if goal == place.low:
            return reasons.GoesUpToMin(host=host, fleet_instances=wanted, min_instances=place.low)
        return reasons.GrowsHere(
            host=host,
            fleet_instances=wanted,
            started_instances=goal - place.running,
            present_instances=room.report.present,
            cores=room.report.cores,
        )
    return reasons.GoesHere(
        host=host,
        fleet_instances=wanted,
        ended_instances=place.running - goal,
        pressed=room.pressed,
        present_instances=room.report.present,
        cores=room.report.cores,
    )


def _clamp(places: list[Place], wanted: int) -> FleetClamp | None:
    """Why hosts take fewer together than is wanted, or keep more; None: they have what is wanted."""
    total = sum(p.count for p in places)
    if total < wanted:
        refused = [reasons.NotTaken(host=p.room.name, why=code) for p in places if (code := p.refusal())]
        why: reasons.NoHostTakesMore | reasons.HostsKeepMore = reasons.NoHostTakesMore(
            missing_instances=wanted - total,
            hosts=tuple(refused[:NAMED_MAX]),
            more_hosts=max(0, len(refused) - NAMED_MAX),
        )
    elif total > wanted:
        keep = tuple(p.room.name for p in places if p.count)
        why = reasons.HostsKeepMore(
            extra_instances=total - wanted, hosts=keep[:NAMED_MAX], more_hosts=max(0, len(keep) - NAMED_MAX)
        )
    else:
        return None
    return FleetClamp(reason=why, before_instances=wanted, after_instances=total)
