"""From arrivals between readings to the rates and bursts of a trace: as few steps as tell the same.

Rates are steps, level between two points, so that as many jobs come as were seen to come. Neighbours that differ by no
more than chance are one step: a trace draws its own chance anew, and must not have it twice.
"""

from __future__ import annotations

import math
from itertools import pairwise
from statistics import median

from fleetd.simulate.trace_file import Points
from fleetd.simulate.work import Arrivals

#: A step is at least this long, and there are at most so many; the longer a recording, the coarser.
BIN_SECONDS_MIN, BINS_MAX = 30.0, 2880
#: Steps are drawn together up to this length: a slow rise must not become one.
STEP_SECONDS_MAX = 600.0
#: How far from what is expected is chance. Chance is more than Poisson's: heartbeats flush the counter in lumps.
SIGMAS, EXCESS_VARIANCE = 2.0, 3.0
#: A burst: so many more at once than the intervals before and after have, and no chance.
BURST_JOBS_MIN, BURST_SIGMAS, NEIGHBOURS = 20.0, 6.0, 6

Pieces = list[tuple[float, float, float]]  # from, to, jobs


def pieces_of(queue: str, found: list[Arrivals]) -> Pieces:
    return [(a.from_second, a.to_second, a.jobs[queue]) for a in found if queue in a.jobs]


def bursts_of(pieces: Pieces, idle_ages: dict[float, float]) -> tuple[Points, Pieces]:
    """Jobs that came at once, and what is left without them.

    `idle_ages`: by the end of a piece at whose begin the queue was empty, the age of the oldest job: that is when they
    came.
    """
    rates = [jobs / max(to - begin, 1e-9) for begin, to, jobs in pieces]
    bursts: list[tuple[float, float]] = []
    left: Pieces = []
    for index, (begin, to, jobs) in enumerate(pieces):
        before, after = rates[max(0, index - NEIGHBOURS) : index], rates[index + 1 : index + 1 + NEIGHBOURS]
        usual = max(median(before) if before else 0.0, median(after) if after else 0.0, 0.0) * (to - begin)
        more = float(round(jobs - usual))
        if more >= max(BURST_JOBS_MIN, BURST_SIGMAS * math.sqrt(usual + 1.0)):
            age = idle_ages.get(to, (to - begin) / 2.0)
            bursts.append((round(min(to, max(begin, to - age)), 1), more))
        else:
            more = 0.0
        left.append((begin, to, jobs - more))
    return tuple(bursts), left


def steps_of(pieces: Pieces, duration_seconds: float) -> Points:
    """The rates as points: two for each step."""
    width = max(BIN_SECONDS_MIN, duration_seconds / BINS_MAX)
    counts = _binned(pieces, duration_seconds, width)
    steps: list[list[float]] = []  # bins, jobs
    for jobs in counts:
        last = steps[-1] if steps else None
        if last is not None and (last[0] + 1) * width <= STEP_SECONDS_MAX and _alike(last, jobs):
            last[0] += 1
            last[1] += jobs
        else:
            steps.append([1.0, jobs])
    points: list[tuple[float, float]] = []
    at = 0.0
    for bins, jobs in steps:
        ends = min(at + bins * width, duration_seconds)
        rate = round(jobs / max(ends - at, 1e-9), 4)
        points += [(round(at, 1), rate), (round(ends, 1), rate)]
        at = ends
    return _without_doubles(points)


def _binned(pieces: Pieces, duration_seconds: float, width: float) -> list[float]:
    """Jobs of each bin, none below 0: what noise takes from one, its neighbour gives."""
    counts = [0.0] * max(1, math.ceil(duration_seconds / width - 1e-9))
    for begin, to, jobs in pieces:
        first, last = int(begin / width), min(len(counts) - 1, int((to - 1e-9) / width))
        for index in range(first, last + 1):
            overlap = min(to, (index + 1) * width) - max(begin, index * width)
            counts[index] += jobs * max(0.0, overlap) / max(to - begin, 1e-9)
    owed = 0.0
    for index, jobs in enumerate(counts):
        owed += jobs
        counts[index] = max(0.0, owed)
        owed = min(0.0, owed)
    return counts


def _alike(step: list[float], jobs: float) -> bool:
    """Whether the next bin could be of the same rate."""
    bins, total = step
    mean = total / bins
    spread = math.sqrt(EXCESS_VARIANCE * max(mean, 1.0) * (1.0 + 1.0 / bins))
    return abs(jobs - mean) <= SIGMAS * spread


def _without_doubles(points: list[tuple[float, float]]) -> Points:
    """No point that lies on the line between its neighbours; () for a queue on which nothing came."""
    if all(rate == 0.0 for _, rate in points):
        return ()
    kept = [points[0]]
    for here, after in pairwise(points[1:]):
        if not (kept[-1][1] == here[1] == after[1]):
            kept.append(here)
    return (*kept, points[-1])
