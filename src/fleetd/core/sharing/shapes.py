"""The profiles of a fleet: those of all its hosts, by shape. A shape is an order of queues with its threads.

Names may differ between hosts; instances of one shape do the same work, whatever it is called. Several profiles of one
host with the same shape stay apart, in their order. The order of importance is the leader's, then that of the hosts by
name.
"""

from __future__ import annotations

from collections.abc import Mapping

from fleetd.core.model.facts import Value
from fleetd.core.model.policy_tables import Profile
from fleetd.core.sharing.report import HostReport, ProfileReport

#: A shape, and which of the host's profiles with it.
_Shape = tuple[str, tuple[tuple[str, int], ...], int, int]


class FleetProfile(Value, frozen=True, kw_only=True):
    """One profile of the fleet. `profile`: without numbers, and with the min and max of all hosts together."""

    name: str  # the leader's, or that of the first host that has it
    profile: Profile
    places: dict[str, int]  # by host: its place in the host's report

    @property
    def queues(self) -> tuple[str, ...]:
        return tuple(queue for queue, _ in self.profile.queues)

    def is_called(self, name: str, reports: Mapping[str, HostReport]) -> bool:
        """Whether some host has it under this name."""
        return any(reports[host].profiles[place].name == name for host, place in self.places.items())


def fleet_profiles(
    leader: str, reports: Mapping[str, HostReport], maintenance: frozenset[str] = frozenset()
) -> tuple[FleetProfile, ...]:
    """All profiles, in order of importance. `reports`: the leader's among them."""
    places: dict[_Shape, dict[str, int]] = {}
    firsts: dict[_Shape, tuple[HostReport, ProfileReport]] = {}
    for host in sorted(reports, key=lambda h: (h != leader, h)):
        for place, (shape, profile) in enumerate(shapes_of(reports[host])):
            places.setdefault(shape, {})[host] = place
            firsts.setdefault(shape, (reports[host], profile))
    found, names = [], set[str]()
    for shape, (report, profile) in firsts.items():
        name = profile.name if profile.name not in names else f"{profile.name}@{report.host}"
        names.add(name)
        own = [(reports[h], reports[h].profiles[place]) for h, place in places[shape].items() if h not in maintenance]
        found.append(
            FleetProfile(
                name=name,
                places=places[shape],
                profile=Profile(
                    name=name,
                    order=profile.order,
                    queues=report.queues_of(profile),
                    threads=profile.threads,
                    db_pool=profile.claim_connections,
                    numbers=(),
                    min_instances=sum(least(r, p) for r, p in own),
                    max_instances=sum(most(p) for _, p in own),
                ),
            )
        )
    return tuple(found)


def shapes_of(report: HostReport) -> list[tuple[_Shape, ProfileReport]]:
    """A host's profiles with the shape of each."""
    found: list[tuple[_Shape, ProfileReport]] = []
    seen: dict[_Shape, int] = {}
    for profile in report.profiles:
        queues = report.queues_of(profile)
        same = queues if profile.order == "strict" else tuple(sorted(queues))
        shape = (profile.order, same, profile.threads, 0)
        seen[shape] = seen.get(shape, -1) + 1
        found.append(((*shape[:3], seen[shape]), profile))
    return found


def least(report: HostReport, profile: ProfileReport) -> int:
    """What this host keeps in any case: a person's count, or its min. One that is held does not go up to it."""
    if report.held:
        return min(profile.min_instances, profile.running)
    return profile.min_instances if profile.set_instances is None else profile.set_instances


def most(profile: ProfileReport) -> int:
    return profile.max_instances if profile.set_instances is None else profile.set_instances
