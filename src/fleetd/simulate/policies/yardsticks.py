"""Two yardsticks that no daemon can be: `reactive` knows the true present, `oracle` the future.

reactive: the true arrival rates and service times of this moment. At every tick of the trace it starts everything that
is useful and affordable, and between bursts it stands at the size that fleetd had at that time.

oracle: a feasible greedy schedule. Each queue's work is spread evenly over nine tenths of its target after it came in;
the threads that takes, all queues together, make the size a profile needs at each second; every instance is ordered as
long before as a boot takes at most, and drained a few seconds after its last second of need, unless it is needed again
within the time of a drain and a boot. The smallest of a few margins (0 to 60 %) that meets the objective is taken, so
it is a fleet that could really be run, not a bound. It looks every second, whatever the tick.
"""

from __future__ import annotations

import math
from array import array
from collections import deque

from fleetd.core.demand.needed import home
from fleetd.core.model.policy import Policy
from fleetd.simulate.policies.rival import Rival, true_rate
from fleetd.simulate.world.fleet import Group
from fleetd.simulate.world.world import World

ORACLE_MARGINS = (0.0, 0.05, 0.1, 0.2, 0.35, 0.6)
#: Work is spread over this share of a target.
SPREAD_SHARE = 0.9
#: A drain by the next heartbeat and the stop after it.
DRAIN_SECONDS = 30
#: Jobs take longer than their mean as often as shorter: what is planned to be done by then is done a little later.
OVERTIME_SECONDS = 5


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
        rise, stay = self._plan[group.profile.name]
        second = min(self.world.now, len(rise) - 1)
        return max(rise[second], min(now, stay[second]))


def schedule(world: World, policy: Policy, margin: float) -> dict[str, tuple[array[int], array[int]]]:
    """Instances that each profile must have ordered by each second, and those of them that are not let go then."""
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
    plan = {}
    for profile in policy.profiles:
        threads, most = profile.threads / (1.0 + margin), profile.max_instances
        counts = array("l", (min(most, math.ceil(n / threads - 1e-9)) for n in needs[profile.name]))
        plan[profile.name] = (_highest(counts, lead), _highest(counts, lead + DRAIN_SECONDS))
    return plan


def _highest(counts: array[int], ahead_seconds: int) -> array[int]:
    """At each second the highest count from `OVERTIME_SECONDS` ago to so far ahead."""
    ahead: deque[int] = deque()
    plan = array("l", bytes(counts.itemsize * len(counts)))
    for second in range(len(counts) - 1, -1, -1):
        while ahead and counts[ahead[-1]] <= counts[second]:
            ahead.pop()
        ahead.append(second)
        while ahead[0] > second + OVERTIME_SECONDS + ahead_seconds:
            ahead.popleft()
        plan[second] = counts[ahead[0]]
    # Each second takes what was found for the one that much earlier; the first ones what they would have seen.
    first = array("l", (max(counts[: second + ahead_seconds + 1]) for second in range(OVERTIME_SECONDS)))
    return (first + plan)[: len(plan)]
