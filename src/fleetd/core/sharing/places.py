"""The hosts of a fleet while its instances are shared out: what each has by now, and what it would still take."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from fleetd.core.model.decision import InstanceState
from fleetd.core.model.reasons.base import ClampCode
from fleetd.core.model.reasons.units import PinKind
from fleetd.core.sharing.fleet_plan import HostShare
from fleetd.core.sharing.report import HostReport, ProfileReport
from fleetd.core.sharing.shapes import FleetProfile, least, most

#: What a host is short of where instances are rather ended, or moved away from.
PRESSED = frozenset({ClampCode.HOST_PRESSURE.value, ClampCode.OOM_KILLED.value})

Fixed = Literal["", "held", "set", "maintenance"]


class Room:
    """One host: what there is of it."""

    def __init__(self, report: HostReport, *, maintained: bool) -> None:
        self.report = report
        self.name = report.host
        self.maintained = maintained
        self.instances = report.present  # with those planned, without those that go
        self.left_mib = report.memory_left_mib
        self.pressed = report.refused if report.refused in PRESSED else ""

    @property
    def ratio(self) -> float:
        """Instances for each core."""
        return self.instances / (self.report.cores or 1)


class Place:
    """One profile on one host. `count`: what it is to have by now, as far as it can have that."""

    def __init__(self, room: Room, own: ProfileReport, place: int, coverage: Coverage, queues: tuple[str, ...]) -> None:
        self.room, self.own = room, own
        self.running = self.count = own.running
        self.before: HostShare | None = None  # in the last plan
        self.touched = False  # whether this plan wants another count than the last
        found = [i for i in room.report.instances if i.profile == place]
        starting = sum(1 for i in found if i.state == InstanceState.STARTING)
        self.kept = min(own.running, sum(1 for i in found if i.pinned == PinKind.RUN))  # by people
        self.serving = max(0, own.running - starting)
        self.fixed: Fixed = "held" if room.report.held else "maintenance" if room.maintained else ""
        if not self.fixed and own.set_instances is not None:
            self.fixed = "set"
        self.low = max(least(room.report, own), self.kept) if not self.fixed else 0
        self.high = max(most(own), self.kept)
        self.queues = queues
        self._coverage = coverage
        coverage.add(self, own.running)

    def refusal(self) -> str:
        """Why it takes no more: a code; "": it does."""
        if self.fixed:
            return self.room.report.held if self.fixed == "held" else self.fixed
        if self.count >= self.high:
            return ClampCode.MAX.value
        if self.count < self.running:  # it is there
            return ""
        if self.count - self.running >= self.own.free_numbers:
            return ClampCode.NO_NUMBER_FREE.value
        if self.own.refused:
            return self.own.refused
        if self.count < self.low:
            return ""
        if self.room.report.refused:
            return self.room.report.refused
        if self.room.left_mib is None:
            return ClampCode.MEMORY_UNKNOWN.value
        return ClampCode.MEMORY.value if self.room.left_mib < self.own.instance_mib else ""

    def become(self, count: int) -> None:
        """Plan for another count here."""
        before, self.count = self.count, count
        self.room.instances += count - before
        if self.room.left_mib is not None:
            more = max(0, count - self.running) - max(0, before - self.running)
            self.room.left_mib -= more * self.own.instance_mib
        self._coverage.add(self, count - before)

    def coverage_of(self, queue: str) -> Mapping[str, int]:
        """By host: the instances that are to serve this queue."""
        return self._coverage.hosts.get(queue, {})

    @property
    def gains(self) -> bool:
        """Whether one more here would be the first on this host of a queue that fewer than two hosts serve."""
        return not self.count and self._coverage.gains(self)

    @property
    def breaks(self) -> bool:
        """Whether without one more of it a queue would be served by fewer than two hosts, and is by two now."""
        return self.count == 1 and self._coverage.breaks(self)


def growth_order(place: Place) -> tuple[bool | float | str, ...]:
    """The first takes the next one: what is to go stays, a queue comes to its second host, then room, then the name."""
    room = place.room
    left = -1 if room.left_mib is None else room.left_mib
    return place.count >= place.running, not place.gains, room.ratio, -left, room.name


class Coverage:
    """By queue: how many instances on each host are to serve it."""

    def __init__(self) -> None:
        self.hosts: dict[str, dict[str, int]] = {}

    def add(self, place: Place, more: int) -> None:
        name = place.room.name
        if not more:
            return
        for queue in place.queues:
            found = self.hosts.setdefault(queue, {})
            count = found.get(name, 0) + more
            if count > 0:
                found[name] = count
            else:
                found.pop(name, None)

    def gains(self, place: Place) -> bool:
        name = place.room.name
        for queue in place.queues:
            found = self.hosts.get(queue, {})
            if len(found) < 2 and name not in found:
                return True
        return False

    def breaks(self, place: Place) -> bool:
        name = place.room.name
        for queue in place.queues:
            found = self.hosts.get(queue, {})
            if len(found) <= 2 and found.get(name, 0) == 1:
                return True
        return False


class Fleet:
    """All hosts, and the places of each profile; hosts by name."""

    def __init__(
        self, profiles: tuple[FleetProfile, ...], reports: Mapping[str, HostReport], maintenance: frozenset[str]
    ) -> None:
        self.profiles = profiles
        self.coverage = Coverage()
        self.rooms = {host: Room(reports[host], maintained=host in maintenance) for host in sorted(reports)}
        self.places: dict[str, list[Place]] = {}
        for profile in profiles:
            self.places[profile.name] = [
                Place(room, room.report.profiles[place], place, self.coverage, profile.queues)
                for host, room in self.rooms.items()
                if (place := profile.places.get(host)) is not None
            ]

    def all(self) -> list[Place]:
        return [place for places in self.places.values() for place in places]
