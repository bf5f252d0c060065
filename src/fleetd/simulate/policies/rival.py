"""What every rival is: a policy that is evaluated at its own interval, for each profile by itself.

The metric of those that scale on latency is the greatest of age / target over a profile's queues. While Redis is down
none of them has a metric, and all keep what they have (the Kubernetes HPA and Nomad skip the evaluation; the others get
no report).
"""

from __future__ import annotations

from fleetd.simulate.world.fleet import Group
from fleetd.simulate.world.world import World


class Rival:
    """A policy that says, every `interval_seconds`, how many instances of each profile there should be."""

    interval_seconds = 15

    def __init__(self, world: World) -> None:
        self.world = world
        self.desired = {group.profile.name: group.capacity for group in world.groups}

    def evaluate(self) -> dict[str, int]:
        """The desired count of each profile, never below its min."""
        if "redis" not in self.world.down:
            for group in self.world.groups:
                desired = self.desired_instances(group, group.capacity)
                self.desired[group.profile.name] = max(group.profile.min_instances, desired)
        return self.desired

    def desired_instances(self, group: Group, current: int) -> int:
        """What it wants of a profile that has `current` instances."""
        raise NotImplementedError

    def latency_ratio(self, group: Group) -> float:
        """The greatest age / target of the profile's queues; above 1.0 a job is late."""
        second, target_seconds = self.world.now, self.world.policy.target_seconds
        return max((q.latency_seconds(second) / target_seconds(q.name) for q in group.queues), default=0.0)

    def waiting_jobs(self, group: Group) -> int:
        """In all of the profile's queues."""
        return sum(queue.waiting for queue in group.queues)


def arrival_rate(world: World, name: str, seconds: int = 60) -> float:
    """Jobs a second that truly came in lately, which only a simulator knows."""
    end = min(world.now, len(world.queues[name].arrivals))
    begin = max(0, end - seconds)
    return sum(world.queues[name].arrivals[begin:end]) / max(1, end - begin)
