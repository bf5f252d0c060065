"""The laws, checked after every tick of a simulation against the truth of the world; a break names the tick."""

from __future__ import annotations

from fleetd.core.decision import Step
from fleetd.core.policy import Policy
from fleetd.simulate.steering import budget_connections
from fleetd.simulate.world import World


class LawChecks:
    """Watches one policy. Breaks are sentences with seed and second, at most a few are kept."""

    KEPT_MAX = 20

    def __init__(self, world: World, policy: Policy) -> None:
        self.world = world
        self.policy = policy
        self.breaks: list[str] = []
        self.breaks_total = 0

    def after_tick(self, orders: list[Step], running: dict[str, int]) -> None:
        """`orders`: of this tick, already carried out. `running`: what ran of each profile before it."""
        world = self.world
        starts = [step for step in orders if step.verb == "start"]
        if starts and world.claims() > budget_connections(world, self.policy):
            over = world.claims() - budget_connections(world, self.policy)
            self._broken(2, f"started with claims {over} above the budget")
        if orders and "systemd" in world.down:
            self._broken(3, "an order while systemd can't be read")
        if "redis" in world.down and any(step.verb != "start" for step in orders):
            self._broken(3, "something was stopped while latency is unknown")
        if world.down & {"redis", "postgres"}:
            for profile in self.policy.profiles:
                grown = running[profile.name] + sum(1 for s in starts if s.profile == profile.name)
                if grown > max(running[profile.name], profile.min_instances):
                    self._broken(3, f"{profile.name} grew above min while a reading is unknown")

    def _broken(self, law: int, what: str) -> None:
        self.breaks_total += 1
        if len(self.breaks) < self.KEPT_MAX:
            trace = self.world.trace
            self.breaks.append(f"law {law}, {trace.name} seed {trace.seed} at {self.world.now} s: {what}")
