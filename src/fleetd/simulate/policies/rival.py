"""What every rival is: one look at a time, at its own cadence; each profile by itself.

The metric of those that scale on latency is the greatest of age / target over a profile's queues. While Redis is away
none of them has a metric, and all keep what they have (the Kubernetes HPA and Nomad skip the evaluation; the others get
no report).
"""

from __future__ import annotations

from fleetd.core.model.policy import Policy, Profile
from fleetd.simulate.policies.steering import counted
from fleetd.simulate.world.fleet import Group
from fleetd.simulate.world.world import World


class Rival:
    """A policy that says, every `every_seconds`, how many instances it wants of each profile."""

    name = ""
    every_seconds = 15

    def __init__(self, world: World, policy: Policy) -> None:
        self.world = world
        self.policy = policy
        self.wanted = {g.profile.name: counted(g) for g in world.groups}

    def look(self) -> dict[str, int]:
        """The wanted counts, never below min."""
        if "redis" not in self.world.down:
            for group in self.world.groups:
                now = self._now(group)
                self.wanted[group.profile.name] = max(group.profile.min_instances, self.want(group, now))
        return self.wanted

    def _now(self, group: Group) -> int:
        return counted(group)

    def want(self, group: Group, now: int) -> int:
        """What it wants of a profile that has `now` instances."""
        raise NotImplementedError

    def ratio(self, profile: Profile) -> float:
        """The greatest age / target of the profile's queues."""
        second = self.world.now
        return max(
            (
                self.world.queues[name].latency_seconds(second) / self.policy.target_seconds(name)
                for name, _ in profile.queues
                if name in self.world.queues
            ),
            default=0.0,
        )

    def waiting_jobs(self, profile: Profile) -> int:
        """In all of the profile's queues."""
        return sum(self.world.queues[name].waiting for name, _ in profile.queues if name in self.world.queues)


def true_rate(world: World, name: str, seconds: int = 60) -> float:
    """Jobs a second that came in during the last minute, as nobody outside a simulator knows it."""
    end = min(world.now, len(world.queues[name].arrivals))
    begin = max(0, end - seconds)
    return sum(world.queues[name].arrivals[begin:end]) / max(1, end - begin)
