"""Carries out what a rival desires: within the budget that binds everyone, by drains that lose no job.

A rival is evaluated at its own interval, whatever the trace's tick. Its desired counts are carried out right after each
evaluation and again at each tick.
"""

from __future__ import annotations

from fleetd.core.model.decision import Step, Verb
from fleetd.core.model.reasons.base import Reason
from fleetd.simulate.policies.rivals import Rival
from fleetd.simulate.world.fleet import Instance, UnitState
from fleetd.simulate.world.machine import Machine
from fleetd.simulate.world.world import World


class ByRival(Reason, frozen=True, kw_only=True):
    """A rival gives no reason."""


class Scaler:
    """Starts and drains instances towards the counts that a rival desires."""

    def __init__(self, world: World, rival: Rival) -> None:
        self.world = world
        self.rival = rival
        self._tick_seconds = max(1, round(world.trace.tick_seconds))
        self._next_evaluation = self._next_tick = 0

    @property
    def machine(self) -> Machine:
        """The only host: no rival knows several."""
        return self.world.machine

    async def act(self) -> int:
        """Evaluate the rival if it is due, and scale; returns the second at which to act again."""
        if self.world.now == self._next_evaluation:
            self.rival.evaluate()
            self._next_evaluation += self.rival.interval_seconds
        if self.world.now == self._next_tick:
            self._next_tick += self._tick_seconds
        self.scale(self.rival.desired)
        return min(self._next_evaluation, self._next_tick)

    def scale(self, desired: dict[str, int]) -> None:
        """Go on with the drains, then scale each profile, the most important first, as far as the budget allows."""
        world = self.world
        if "systemd" in world.down:
            return
        # Without heartbeats nobody knows what is idle, so nothing is drained.
        readable = "redis" not in world.down
        if readable:
            self._stop_drained()
        free_connections = world.budget_connections() - world.claims_connections()
        for group in world.groups:
            profile = group.profile
            goal = min(profile.max_instances, max(profile.min_instances, desired[profile.name]))
            capacity = [i for i in group.present if i.quieted_at is None]
            stopped = [i for i in group.instances if not i.present]
            while (
                len(capacity) < goal
                and stopped
                and free_connections >= profile.claim_connections
                and self._memory_fits_one_more()
            ):
                capacity.append(stopped.pop(0))
                self._order("start", capacity[-1])
                free_connections -= profile.claim_connections
            if readable:
                self._drain(capacity, len(capacity) - goal)
        if free_connections < 0 and readable:
            self._give_way(-free_connections)

    def _memory_fits_one_more(self) -> bool:
        """Whether memory suffices for one more instance once it and those that run have grown for a day."""
        host = self.world.trace.host
        usable_bytes = host.memory_bytes * 0.95 - self.world.policy.memory.reserve_bytes
        present = sum(len(group.present) for group in self.world.groups)
        return (present + 1) * host.instance_memory_bytes[1] <= usable_bytes

    def _give_way(self, excess_connections: int) -> None:
        """The budget has shrunk: until claims fit, drain down to each min, the least important profile first."""
        excess_connections -= sum(
            group.profile.claim_connections
            for group in self.world.groups
            for i in group.present
            if i.quieted_at is not None
        )
        for group in reversed(self.world.groups):
            capacity = [i for i in group.present if i.quieted_at is None]
            while excess_connections > 0 and len(capacity) > group.profile.min_instances:
                self._drain(capacity, 1)
                capacity = [i for i in capacity if i.quieted_at is None]
                excess_connections -= group.profile.claim_connections

    def _drain(self, capacity: list[Instance], surplus: int) -> None:
        """Let go of as many: those that still boot first, then the least busy."""
        capacity = sorted(capacity, key=lambda i: (i.state is UnitState.ACTIVE, len(i.jobs), -i.key))
        for instance in capacity[: max(0, surplus)]:
            if instance.state is UnitState.ACTIVATING:
                self._order("stop", instance)
            elif instance.state is UnitState.ACTIVE:
                self._order("quiet", instance)

    def _stop_drained(self) -> None:
        """Stop instances that a heartbeat calls quiet and idle, and those past their deadline, whose jobs go back."""
        deadline_seconds = self.world.policy.pace.drain_seconds_max
        for instance in self.world.machine.instances.values():
            quieted_at = instance.quieted_at
            if quieted_at is None or instance.state is not UnitState.ACTIVE:
                continue
            if instance.idle_since_quiet or self.world.now - quieted_at > deadline_seconds:
                self._order("stop", instance)

    def _order(self, verb: Verb, instance: Instance) -> None:
        profile = instance.group.profile.name
        self.world.carry_out(Step(verb=verb, key=instance.key, profile=profile, why=ByRival()))
