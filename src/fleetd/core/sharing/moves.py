"""Moves without need: so that two hosts serve a queue, and away from a host under pressure; one at a time.

Nothing is moved while anything starts, ends or boots for an earlier decision, nor soon after the last move, because the
pressure of the last minute still shows what was before it. Pressure moves one only to a host without any that then
still has fewer instances for its cores, so that nothing moves to and fro.
"""

from __future__ import annotations

from collections.abc import Iterator

from fleetd.core.model import reasons
from fleetd.core.model.reasons.base import ClampCode
from fleetd.core.sharing.places import Fleet, Place, growth_order

MOVE_EVERY_SECONDS = 120.0


class Move:
    """One instance goes from one host to another."""

    def __init__(self, giver: Place, taker: Place, *, queue: str = "") -> None:
        self.giver = giver
        self.taker = taker
        self.queue = queue

    def why(self, place: Place, wanted: int) -> reasons.SharedReason:
        """The reason at either of the two."""
        pressed = "" if self.queue else self.giver.room.pressed
        giver, taker = self.giver.room.name, self.taker.room.name
        if place is self.giver:
            return reasons.MovesAway(
                host=giver, fleet_instances=wanted, to_host=taker, queue=self.queue, pressed=pressed
            )
        return reasons.MovesHere(host=taker, fleet_instances=wanted, from_host=giver, queue=self.queue, pressed=pressed)


def move_one(fleet: Fleet, now_seconds: float, moved_seconds: float | None) -> Move | None:
    """Plan for one move, if one is due."""
    if moved_seconds is not None and 0.0 <= now_seconds - moved_seconds < MOVE_EVERY_SECONDS:
        return None
    if any(p.count != p.running or p.serving < p.running for p in fleet.all()):
        return None
    move = next(_to_a_second_host(fleet), None) or next(_from_pressure(fleet), None)
    if move is not None:
        move.giver.become(move.giver.count - 1)
        move.taker.become(move.taker.count + 1)
    return move


def _to_a_second_host(fleet: Fleet) -> Iterator[Move]:
    """Each queue that one host alone serves, with two instances or more, where another offers it."""
    for queue, hosts in fleet.coverage.hosts.items():
        if len(hosts) != 1 or sum(hosts.values()) < 2:
            continue
        for profile in reversed(fleet.profiles):
            if not profile.profile.serves(queue):
                continue
            places = fleet.places[profile.name]
            givers = [p for p in places if p.room.name in hosts and not p.fixed and p.count > p.low]
            takers = [p for p in places if p.room.name not in hosts and not p.refusal()]
            for giver in givers:
                if takers and not (giver.count == 1 and _loses(giver, takers)):
                    yield Move(giver, min(takers, key=growth_order), queue=queue)


def _loses(giver: Place, takers: list[Place]) -> bool:
    """Whether a queue that two hosts serve would lose one of them."""
    taker = min(takers, key=growth_order)
    hosts = giver.room.name, taker.room.name
    covered = (giver.coverage_of(queue) for queue in giver.queues)
    return any(len(c) == 2 and c.get(hosts[0]) == 1 and hosts[1] in c for c in covered)


def _from_pressure(fleet: Fleet) -> Iterator[Move]:
    pressed = [r for r in fleet.rooms.values() if r.pressed == ClampCode.HOST_PRESSURE]
    for room in sorted(pressed, key=lambda r: (-r.ratio, r.name)):
        for profile in reversed(fleet.profiles):
            places = fleet.places[profile.name]
            giver = next((p for p in places if p.room is room and not p.fixed and p.count > p.low), None)
            if giver is None or giver.breaks:
                continue
            takers = [p for p in places if p.room is not room and not p.room.pressed and not p.refusal()]
            takers = [p for p in takers if (p.room.instances + 1) / (p.room.report.cores or 1) < room.ratio]
            if takers:
                yield Move(giver, min(takers, key=growth_order))
