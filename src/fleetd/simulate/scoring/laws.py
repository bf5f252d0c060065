"""The laws, checked after every tick of a simulation against the truth of the world; a break names the tick.

Of every policy: no start above the budget, no order while systemd is away, nothing let go while Redis is, nothing
quieted below min, no job lost by a stop, and none pushed back before its drain's deadline. Of fleetd alone, for nobody
else promises it: no growth above min on an unknown reading, and no more orders at a tick than its pace allows.
"""

from __future__ import annotations

from collections import Counter

from fleetd.core.instances.drain import DRAIN_ORDERS_MAX
from fleetd.core.model.decision import Step
from fleetd.core.model.policy import Policy
from fleetd.simulate.policies.steering import budget_connections
from fleetd.simulate.world.world import World


class LawChecks:
    """Watches one policy; `own`: it is fleetd. Breaks are sentences with seed and second, at most a few are kept."""

    KEPT_MAX = 20

    def __init__(self, world: World, policy: Policy, *, own: bool) -> None:
        self.world = world
        self.policy = policy
        self.own = own
        self.breaks: list[str] = []
        self.breaks_total = 0
        self._quieted_at: dict[int, int] = {}
        self._lost_jobs = 0

    def after_tick(self, orders: list[Step], running: dict[str, int]) -> None:
        """`orders`: of this tick, already carried out. `running`: what ran of each profile before it."""
        self.losses()
        if not orders:
            return
        world = self.world
        starts = Counter(step.profile for step in orders if step.verb == "start")
        budget = budget_connections(world, self.policy)
        if starts and world.claims() > budget:
            self._broken(2, f"started with claims {world.claims() - budget} above the budget")
        if "systemd" in world.down:
            self._broken(3, "an order while systemd can't be read")
        if "redis" in world.down and any(step.verb != "start" for step in orders):
            self._broken(3, "something was stopped while latency is unknown")
        self._let_go(orders)
        if self.own:
            self._bounded(len(orders))
            if world.down & {"redis", "postgres"}:
                self._unknown_holds(starts, running)

    def losses(self) -> None:
        """Jobs that were lost since the last look, but for those of `kill_instances`."""
        lost = self.world.lost_by_stops_jobs - self._lost_jobs
        if lost:
            self._lost_jobs += lost
            self._broken(4, f"{lost} jobs lost by a stop")

    def _let_go(self, orders: list[Step]) -> None:
        world = self.world
        quieted: set[str] = set()
        for step in orders:
            number = step.key
            if step.verb == "quiet":
                self._quieted_at[number] = world.now
                quieted.add(step.profile)
            elif step.verb == "stop":
                began = self._quieted_at.pop(number, world.now)
                held = world.instances[number].held
                if held and world.now - began < self.policy.pace.drain_seconds_max:
                    self._broken(4, f"@{number} was stopped with {held} jobs in flight before its deadline")
            else:
                self._quieted_at.pop(number, None)
        for group in world.groups:
            if group.profile.name in quieted and group.counted < group.profile.min_instances:
                self._broken(2, f"{group.profile.name} was brought below min")

    def _bounded(self, orders: int) -> None:
        pace = self.policy.pace
        if orders > DRAIN_ORDERS_MAX + pace.starts_per_tick + pace.drains_per_tick:
            self._broken(7, f"{orders} orders at one tick")

    def _unknown_holds(self, starts: Counter[str], running: dict[str, int]) -> None:
        for profile in self.policy.profiles:
            grown = running[profile.name] + starts[profile.name]
            if grown > max(running[profile.name], profile.min_instances):
                self._broken(3, f"{profile.name} grew above min while a reading is unknown")

    def _broken(self, law: int, what: str) -> None:
        self.breaks_total += 1
        if len(self.breaks) < self.KEPT_MAX:
            trace = self.world.trace
            self.breaks.append(f"law {law}, {trace.name} seed {trace.seed} at {self.world.now} s: {what}")
