"""Two yardsticks that no daemon can be: `reactive` knows the true present, `oracle` the future.

reactive knows the arrival rates and service times of this moment. At every tick of the trace it starts everything that
is useful and fits the budget; between bursts it has as many instances as fleetd had at that time.

oracle is a feasible greedy schedule. Each queue's work is spread evenly over nine tenths of its target after it came
in. The threads that takes, all queues together, are the size that a profile needs at each second. Every instance is
ordered the longest boot ahead, and drained a few seconds after it was last needed, unless it is needed again within the
time of a drain and a boot. The smallest of a few margins (0 to 60 %) that meets the objective is taken, so this fleet
could really be run and is not a bound. It acts every second, whatever the tick.
"""

from __future__ import annotations

import math
from array import array
from collections import deque

from fleetd.core.demand.needed import home
from fleetd.simulate.policies.rivals import Rival, arrival_rate
from fleetd.simulate.world.fleet import Group
from fleetd.simulate.world.world import World

ORACLE_MARGINS = (0.0, 0.05, 0.1, 0.2, 0.35, 0.6)
#: Work is spread over this share of its target.
SPREAD_SHARE = 0.9
#: A drain takes until the next heartbeat, and the stop after it.
DRAIN_SECONDS = 30
#: A job may take longer than its mean, so planned work ends a little later.
OVERTIME_SECONDS = 5


class Reactive(Rival):
    """Knows the present. `sizes`: the instances of each profile that fleetd had, by second."""

    def __init__(self, world: World, sizes: dict[str, array[int]]) -> None:
        super().__init__(world)
        self.interval_seconds = max(1, round(world.trace.tick_seconds))
        self._sizes = sizes

    def desired_instances(self, group: Group, current: int) -> int:
        threads = 0.0
        for name, queue in self.world.queues.items():
            if home(self.world.policy, name).name == group.profile.name:
                threads += arrival_rate(self.world, name, 15) * queue.mean_seconds + queue.waiting
        useful = math.ceil(threads / group.profile.threads - 1e-9)
        sizes = self._sizes[group.profile.name]
        return max(useful, sizes[min(self.world.now, len(sizes) - 1)] if sizes else current)


class Oracle(Rival):
    """Knows the future. `margin`: a share of threads on top of the even spread."""

    interval_seconds = 1

    def __init__(self, world: World, margin: float) -> None:
        super().__init__(world)
        self._schedule = schedule(world, margin)

    def desired_instances(self, group: Group, current: int) -> int:
        ordered, kept = self._schedule[group.profile.name]
        second = min(self.world.now, len(ordered) - 1)
        return max(ordered[second], min(current, kept[second]))


def schedule(world: World, margin: float) -> dict[str, tuple[array[int], array[int]]]:
    """For each profile, by second: how many instances must have been ordered, and how many must be kept."""
    policy, seconds = world.policy, math.ceil(world.trace.duration_seconds)
    needed_threads = {p.name: array("d", bytes(8 * seconds)) for p in policy.profiles}
    for name, queue in world.queues.items():
        wanted = policy.target_seconds(name)
        # The work of a queue that may wait for ever is spread over as long as the whole trace.
        target = max(1, seconds if math.isinf(wanted) else int(wanted * SPREAD_SHARE))
        needed, jobs = needed_threads[home(policy, name).name], 0
        for second in range(seconds):
            jobs += queue.arrivals[second]
            if second >= target:
                jobs -= queue.arrivals[second - target]
            needed[second] += jobs * queue.mean_seconds / target
    lead = math.ceil(world.trace.boot_seconds[1]) + 1
    plan = {}
    for profile in policy.profiles:
        threads, most = profile.threads / (1.0 + margin), profile.max_instances
        counts = array("l", (min(most, math.ceil(n / threads - 1e-9)) for n in needed_threads[profile.name]))
        plan[profile.name] = (_highest(counts, lead), _highest(counts, lead + DRAIN_SECONDS))
    return plan


def _highest(counts: array[int], ahead_seconds: int) -> array[int]:
    """At each second, the highest count from `OVERTIME_SECONDS` ago to `ahead_seconds` from now."""
    ahead: deque[int] = deque()
    plan = array("l", bytes(counts.itemsize * len(counts)))
    for second in range(len(counts) - 1, -1, -1):
        while ahead and counts[ahead[-1]] <= counts[second]:
            ahead.pop()
        ahead.append(second)
        while ahead[0] > second + OVERTIME_SECONDS + ahead_seconds:
            ahead.popleft()
        plan[second] = counts[ahead[0]]
    # What is needed at a second is kept OVERTIME_SECONDS longer; the first seconds have nothing before them.
    first = array("l", (max(counts[: second + ahead_seconds + 1]) for second in range(OVERTIME_SECONDS)))
    return (first + plan)[: len(plan)]
