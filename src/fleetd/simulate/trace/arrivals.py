"""Arrivals of a trace, second by second: sampled once, and the same for every policy."""

from __future__ import annotations

import math
import random
from array import array
from functools import lru_cache

from fleetd.simulate.trace.trace import QueueTraffic, Trace

#: Above this mean a Poisson count is sampled as a rounded normal; the error is far below the count's own spread.
NORMAL_FROM_JOBS = 30.0


def poisson(mean: float, chance: random.Random) -> int:
    """A Poisson count (Knuth, The Art of Computer Programming 2, 3.4.1)."""
    if mean <= 0.0:
        return 0
    if mean > NORMAL_FROM_JOBS:
        return max(0, round(chance.gauss(mean, math.sqrt(mean))))
    draw = chance.random
    limit, product, count = math.exp(-mean), draw(), 0
    while product > limit:
        product *= draw()
        count += 1
    return count


def arrivals(trace: Trace, queue: str) -> array[int]:
    """Jobs that arrive in each second of the trace, bursts included. The array is shared: do not change it."""
    return _sample(trace.seed, math.ceil(trace.duration_seconds), queue, trace.queues[queue])


@lru_cache(maxsize=16)  # for the next policy of the same run
def _sample(seed: int, seconds: int, name: str, queue: QueueTraffic) -> array[int]:
    chance = random.Random(f"{seed}/arrivals/{name}")
    counts = array("l", bytes(8 * seconds))
    points = queue.arrivals_per_second
    index = 0
    for second in range(seconds if points else 0):
        at = second + 0.5
        while index + 1 < len(points) and points[index + 1][0] <= at:
            index += 1
        began, rate = points[index]
        if at > began and index + 1 < len(points):
            ended, later = points[index + 1]
            rate += (later - rate) * (at - began) / (ended - began)
        counts[second] = poisson(rate, chance)
    for at, jobs in queue.bursts:
        if jobs and at < seconds:
            counts[int(at)] += round(jobs)
    return counts
