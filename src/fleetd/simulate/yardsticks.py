"""Two yardsticks that no daemon can be: `reactive` knows the true present, `oracle` the future.

reactive: the true arrival rates and service times of this moment. At every tick of the trace it starts everything that
is useful and affordable, and between bursts it stands at the size that fleetd had at that time.

oracle: a feasible greedy schedule. Each queue's work is spread evenly over nine tenths of its target after it came in;
the threads that takes, all queues together, make the size a profile needs at each second; every instance is ordered as
long before as a boot takes at most, and drained as soon as neither this second nor the time of a boot and a drain after
it needs it. The smallest of a few margins (0 to 60 %) that meets the objective is taken, so it is a fleet that could
really be run, not a bound. It looks every second, whatever the tick: an order is late by nothing.
"""

from __future__ import annotations

import math
from array import array
from collections import deque

from fleetd.core.demand import home
from fleetd.core.policy import Policy
from fleetd.simulate.fleet import Group
from fleetd.simulate.rival import Rival, true_rate
from fleetd.simulate.world import World

ORACLE_MARGINS = (0.0, 0.05, 0.1, 0.2, 0.35, 0.6)
#: Work is spread over this share of a target.
SPREAD_SHARE = 0.9
#: A drain by the next heartbeat and the stop after it.
DRAIN_SECONDS = 30


class Reactive(Rival):
    """`sizes`: fleetd's own instances of each profile, by second."""

    name = "reactive"

    def __init__(self, world: World, policy: Policy, sizes: dict[str, array[int]]) -> None:
        super().__init__(world, policy)
        self.every_seconds = max(1, round(world.trace.tick_seconds))
        self._sizes = sizes

    def want(self, group: Group, now: int) -> int:
        name, second = group.profile.name, self.world.now
        threads = 0.0
        for queue_name, queue in self.world.queues.items():
            if home(self.policy, queue_name).name == name:
                threads += true_rate(self.world, queue_name, 15) * queue.mean_seconds + queue.waiting
        useful = math.ceil(threads / group.profile.threads - 1e-9)
        sizes = self._sizes[name]
        stands = sizes[min(second, len(sizes) - 1)] if sizes else now
        return max(useful, stands)


class Oracle(Rival):
    """`margin`: share of threads on top of the even spread."""

    name = "oracle"
    every_seconds = 1

    def __init__(self, world: World, policy: Policy, margin: float) -> None:
        super().__init__(world, policy)
        self._plan = schedule(world, policy, margin)

    def want(self, group: Group, now: int) -> int:
        plan = self._plan[group.profile.name]
        return plan[min(self.world.now, len(plan) - 1)] if plan else now


def schedule(world: World, policy: Policy, margin: float) -> dict[str, array[int]]:
    """Instances of each profile at each second."""
    seconds = math.ceil(world.trace.duration_seconds)
    needs = {p.name: array("d", bytes(8 * seconds)) for p in policy.profiles}
    for name, queue in world.queues.items():
        target = max(1, int(policy.target_seconds(name) * SPREAD_SHARE))
        need, total = needs[home(policy, name).name], 0
        for second in range(seconds):
            total += queue.arrivals[second]
            if second >= target:
                total -= queue.arrivals[second - target]
            need[second] += total * queue.mean_seconds / target
    lead = math.ceil(world.trace.boot_seconds[1]) + 1
    linger = lead + DRAIN_SECONDS
    return {
        profile.name: _highest(
            needs[profile.name], lead, linger, profile.threads / (1.0 + margin), profile.max_instances
        )
        for profile in policy.profiles
    }


def _highest(need: array[float], lead: int, linger: int, threads: float, most: int) -> array[int]:
    """The highest count from now until a boot ordered now is over; what is needed again soon is not let go."""
    counts = array("l", (min(most, math.ceil(n / threads - 1e-9)) for n in need))
    ahead: deque[int] = deque()
    plan = array("l", bytes(8 * len(counts)))
    window = max(lead, linger)
    for second in range(len(counts) - 1, -1, -1):
        while ahead and counts[ahead[-1]] <= counts[second]:
            ahead.pop()
        ahead.append(second)
        while ahead[0] > second + window:
            ahead.popleft()
        plan[second] = counts[ahead[0]]
    return plan
