"""Carries out what a rival wants: the same budget for everyone, starts at once, drains that lose nothing."""

from __future__ import annotations

from fleetd.core.model.decision import Step
from fleetd.core.model.identity import InstanceKey
from fleetd.core.model.policy import Policy
from fleetd.core.model.reasons.base import Reason
from fleetd.simulate.world.fleet import Group, Instance
from fleetd.simulate.world.world import World


def budget_connections(world: World, policy: Policy) -> int:
    """What claims may reach now; every policy is held to it."""
    return world.trace.max_connections - policy.connections.reserve - world.others()


def memory_carries(world: World, policy: Policy, more: int) -> bool:
    """Whether so many instances more would still fit when they, and those that run, have grown."""
    grown = world.trace.instance_memory_bytes[1]
    usable = world.trace.memory_bytes * 0.95 - policy.memory.reserve_bytes
    there = sum(len(group.present) for group in world.groups)
    return (there + more) * grown <= usable


class RivalDecided(Reason, frozen=True, kw_only=True):
    """A rival's wish; it gives no reasons."""


class Steering:
    """Starts and drains towards wanted counts."""

    def __init__(self, world: World, policy: Policy) -> None:
        self.world = world
        self.policy = policy
        self.steps: list[tuple[int, Step]] = []
        self._quieted: dict[int, int] = {}

    def towards(self, wanted: dict[str, int]) -> None:
        """One look: drains go on, then each profile in order of importance moves to what it wants and may have."""
        world = self.world
        if "systemd" in world.down:
            return
        self._go_on()
        room = budget_connections(world, self.policy) - world.claims()
        for group in world.groups:
            profile = group.profile
            goal = min(profile.max_instances, max(profile.min_instances, wanted[profile.name]))
            counted = [i for i in group.present if not i.quiet]
            while (
                len(counted) < goal
                and room >= profile.claim_connections
                and memory_carries(world, self.policy, 1)
            ):
                instance = next((i for i in group.instances if not i.present), None)
                if instance is None:
                    break
                self._do("start", instance)
                counted.append(instance)
                room -= profile.claim_connections
            if "redis" not in world.down:
                self._drain(counted, len(counted) - goal)
        if room < 0 and "redis" not in world.down:
            self._give_way(-room)

    def _give_way(self, over: int) -> None:
        leaving = sum(
            i.profile.claim_connections for i in self.world.instances.values() if i.present and i.quiet
        )
        over -= leaving
        for group in reversed(self.world.groups):
            counted = [i for i in group.instances if i.present and not i.quiet]
            while over > 0 and len(counted) > group.profile.min_instances:
                self._drain(counted, 1)
                counted = [i for i in counted if not i.quiet and i.present]
                over -= group.profile.claim_connections

    def _drain(self, counted: list[Instance], surplus: int) -> None:
        """The ones that still boot first, then the least busy."""
        for instance in sorted(counted, key=lambda i: (i.state == "active", i.held, -i.number))[
            : max(0, surplus)
        ]:
            if instance.state == "activating":
                self._do("stop", instance)
            elif instance.state == "active":
                self._do("quiet", instance)
                self._quieted[instance.number] = self.world.now

    def _go_on(self) -> None:
        """Stop what is idle, or past its deadline while Redis takes what is pushed back."""
        for number, since in list(self._quieted.items()):
            instance = self.world.instances[number]
            if instance.state != "active" or not instance.quiet:
                del self._quieted[number]
                continue
            idle = instance.beat_quiet and not instance.beat_busy.total() and instance.beat_at > since
            late = self.world.now - since > self.policy.pace.drain_seconds_max
            if "redis" not in self.world.down and (idle or late):
                self._do("stop", instance)
                del self._quieted[number]

    def _do(self, verb: str, instance: Instance) -> None:
        order = {"start": self.world.start, "quiet": self.world.quiet, "stop": self.world.stop}[verb]
        order(instance.number)
        step = Step(verb=verb, key=InstanceKey(instance.number), why=RivalDecided(), profile=instance.profile.name)
        self.steps.append((self.world.now, step))


def counted(group: Group) -> int:
    """Instances that are capacity, now or soon."""
    return group.counted
