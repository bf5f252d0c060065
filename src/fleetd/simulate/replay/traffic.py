"""Arrivals, from queue lengths, busy threads and one counter for all queues; and from them a trace's rates and bursts.

The counter says how many jobs were done. A queue's share of them is its busy thread-seconds / service time
(service_fit.py). The growth of a length is exact, so a surge that backs up is found to the second; one that does not is
as sharp as the counter.

Rates are level steps, so that as many jobs arrive as were seen to arrive. Neighbours that differ by no more than chance
become one step: a trace adds its own chance, and would have it twice.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from itertools import accumulate, pairwise
from statistics import median

from fleetd.core.demand.service_time import PRIOR_OTHER_SECONDS
from fleetd.core.model.facts import Value
from fleetd.simulate.replay.service_fit import BEAT_SECONDS, Window, YoungShare
from fleetd.simulate.replay.timeline import Moment, Reading
from fleetd.simulate.trace.trace import Fault, Points

#: Service times are fitted to windows of this length: short enough for a burst of one queue to stand out.
WINDOW_SECONDS = 60.0
WINDOW_READINGS_MIN, SLACK_SECONDS = 4, 0.5
#: Readings further apart than this say little about the time in between.
CLOSE_SECONDS = 60.0
#: The counter is averaged over this long to both sides: heartbeats flush it every 10 s, so it moves in lumps.
COUNTER_SECONDS = 15.0
#: Each queue's share of the work is averaged over this many thread-seconds, but not further than this to both sides. If
#: few threads are busy, it is chance for longer which queue they are busy on.
SHARE_THREAD_SECONDS, SHARE_SECONDS_MAX = 1500.0, 180.0
#: Steps are at least this long, and longer if a recording would have more than BINS_MAX.
BIN_SECONDS_MIN, BINS_MAX = 30.0, 2880
#: Steps are joined up to this length only, or a slow rise would become one step.
STEP_SECONDS_MAX = 600.0
#: Differences up to SIGMAS are chance. Its variance is larger than Poisson's, because the counter moves in lumps.
SIGMAS, EXCESS_VARIANCE = 2.0, 3.0
#: A burst has at least this many jobs more than the intervals before and after it, and more than chance makes.
BURST_JOBS_MIN, BURST_SIGMAS, NEIGHBOURS = 20.0, 6.0, 6

Pieces = list[tuple[float, float, float]]  # from, to, jobs


class Interval(Value, frozen=True, kw_only=True):
    """Between two readings."""

    from_second: float
    to_second: float
    done_jobs: float  # by the counter, of all queues
    busy_thread_seconds: dict[str, float]
    growth_jobs: dict[str, int]  # of the queues' lengths


def intervals(readings: list[Reading]) -> list[Interval]:
    """No job counts as done where the counter went back (Redis lost it) or a gap was cut out."""
    found = []
    for before, after in pairwise(readings):
        seconds = after.second - before.second
        both = {name: (before.queues[name], queue) for name, queue in after.queues.items() if name in before.queues}
        done = after.processed_jobs_total - before.processed_jobs_total
        found.append(
            Interval(
                from_second=before.second,
                to_second=after.second,
                done_jobs=float(max(0, done)) if before.stretch == after.stretch else 0.0,
                busy_thread_seconds={
                    name: (was.busy_threads + now.busy_threads) / 2.0 * seconds for name, (was, now) in both.items()
                },
                growth_jobs={name: now.length_jobs - was.length_jobs for name, (was, now) in both.items()},
            )
        )
    return found


def learnt_seconds(moments: list[Moment]) -> dict[str, float]:
    """Service times as fleetd had learnt them by the end of the recording."""
    learnt = [m.sample.service_milliseconds for m in moments if m.sample.service_milliseconds]
    return {name: ms / 1000.0 for name, ms in learnt[-1].items()} if learnt else {}


def windows(readings: list[Reading]) -> list[Window]:
    """Jobs done and busy thread-seconds of a minute each, wherever readings are close enough.

    Readings a heartbeat apart are taken, so that no two see the same heartbeat, and go to the two sets in turn.
    """
    found: list[Window] = []
    start: Reading | None = None
    last = readings[0]
    taken: list[Reading] = []
    for reading in readings[1:]:
        passed = reading.second - last.second
        if passed < BEAT_SECONDS - SLACK_SECONDS:
            continue
        counts_on = reading.processed_jobs_total >= last.processed_jobs_total
        if reading.stretch != last.stretch or passed > CLOSE_SECONDS or not counts_on:
            # Leave this reading out, too: its heartbeats are from before.
            start, taken, last = None, [], reading
            continue
        last = reading
        if start is None:
            start = reading
            continue
        taken.append(reading)
        lasted = reading.second - start.second
        if lasted >= WINDOW_SECONDS and len(taken) >= WINDOW_READINGS_MIN:
            found.append(
                Window(
                    done_jobs=float(reading.processed_jobs_total - start.processed_jobs_total),
                    first=_thread_seconds(taken[::2], lasted),
                    second=_thread_seconds(taken[1::2], lasted),
                )
            )
            start, taken = reading, []
    return found


def _thread_seconds(taken: list[Reading], lasted_seconds: float) -> dict[str, float]:
    busy: dict[str, float] = defaultdict(float)
    for reading in taken:
        for name, queue in reading.queues.items():
            if queue.busy_threads:
                busy[name] += queue.busy_threads * lasted_seconds / len(taken)
    return busy


def young_shares(readings: list[Reading]) -> dict[str, YoungShare]:
    """The share of young jobs in each queue for which it is recorded."""
    busy: dict[str, float] = defaultdict(float)
    young: dict[str, float] = defaultdict(float)
    for before, after in pairwise(readings):
        seconds = min(CLOSE_SECONDS, after.second - before.second)
        for name, queue in after.queues.items():
            if queue.young_threads is not None and queue.busy_threads:
                busy[name] += queue.busy_threads * seconds
                young[name] += min(queue.young_threads, queue.busy_threads) * seconds
    return {name: YoungShare(busy[name], young[name]) for name in busy}


def arrivals(found: list[Interval], service_seconds: dict[str, float]) -> list[dict[str, float]]:
    """Jobs that arrived on each queue in each interval: the growth of its length, and its share of the jobs done.

    Noise may make one slightly negative.
    """
    spent = _running(sum(interval.busy_thread_seconds.values()) for interval in found)
    done = _running(interval.done_jobs for interval in found)
    worked = {  # jobs that each queue's busy threads should have done
        name: _running(
            interval.busy_thread_seconds.get(name, 0.0) / service_seconds.get(name, PRIOR_OTHER_SECONDS)
            for interval in found
        )
        for name in sorted({name for interval in found for name in interval.busy_thread_seconds})
    }
    jobs = []
    for index, interval in enumerate(found):
        first, last = _around(found, index, spent, math.inf, COUNTER_SECONDS)
        rate = (done[last] - done[first]) / (found[last - 1].to_second - found[first].from_second)
        total = rate * (interval.to_second - interval.from_second)
        first, last = _around(found, index, spent, SHARE_THREAD_SECONDS, SHARE_SECONDS_MAX)
        shares = {name: sums[last] - sums[first] for name, sums in worked.items()}
        if not any(shares.values()):  # no heartbeat showed a busy thread, but the counter went on
            shares = {name: sums[-1] for name, sums in worked.items()}
        whole = sum(shares.values())
        jobs.append(
            {
                name: growth + (total * shares.get(name, 0.0) / whole if whole > 0.0 else 0.0)
                for name, growth in interval.growth_jobs.items()
            }
        )
    return jobs


def _running(values: Iterable[float]) -> list[float]:
    """Running sums: the values from i up to, but not including, j add up to sums[j] − sums[i]."""
    return list(accumulate(values, initial=0.0))


def _around(
    found: list[Interval], index: int, spent: list[float], thread_seconds: float, seconds_max: float
) -> tuple[int, int]:
    """The slice of intervals around this one that holds so many thread-seconds, within a time to both sides."""
    middle = (found[index].from_second + found[index].to_second) / 2.0
    first, last = index, index + 1
    while spent[last] - spent[first] < thread_seconds:
        before = first > 0 and middle - found[first - 1].from_second <= seconds_max
        after = last < len(found) and found[last].to_second - middle <= seconds_max
        if not (before or after):
            break
        first, last = first - before, last + after
    return first, last


def pieces_of(queue: str, found: list[Interval], jobs: list[dict[str, float]], faults: list[Fault]) -> Pieces:
    """One queue's arrivals. Nobody can enqueue while Redis is down, so jobs found after an outage came after it."""
    ends = [fault.until for fault in faults if fault.source == "redis"]
    return [
        (max([i.from_second, *(end for end in ends if i.from_second < end < i.to_second)]), i.to_second, came[queue])
        for i, came in zip(found, jobs, strict=True)
        if queue in came
    ]


def bursts_of(pieces: Pieces, idle_ages: dict[float, float]) -> tuple[Points, Pieces]:
    """Jobs that arrived at once, and the pieces without them.

    `idle_ages`: for pieces that start with an empty queue, the age of the oldest job at their end, by that end. It
    tells when a burst arrived.
    """
    rates = [jobs / max(end - start, 1e-9) for start, end, jobs in pieces]
    bursts: list[tuple[float, float]] = []
    left: Pieces = []
    for index, (start, end, jobs) in enumerate(pieces):
        before, after = rates[max(0, index - NEIGHBOURS) : index], rates[index + 1 : index + 1 + NEIGHBOURS]
        usual = max(median(before) if before else 0.0, median(after) if after else 0.0, 0.0) * (end - start)
        more = float(round(jobs - usual))
        if more >= max(BURST_JOBS_MIN, BURST_SIGMAS * math.sqrt(usual + 1.0)):
            age = idle_ages.get(end, (end - start) / 2.0)
            bursts.append((round(min(end, max(start, end - age)), 1), more))
        else:
            more = 0.0
        left.append((start, end, jobs - more))
    return tuple(bursts), left


def steps_of(pieces: Pieces, duration_seconds: float) -> Points:
    """The rates as points, two for each step; () if nothing arrived."""
    width = max(BIN_SECONDS_MIN, duration_seconds / BINS_MAX)
    steps: list[tuple[int, float]] = []  # bins, jobs
    for jobs in _binned(pieces, duration_seconds, width):
        bins, total = steps[-1] if steps else (0, 0.0)
        if bins and (bins + 1) * width <= STEP_SECONDS_MAX and _is_chance(jobs, total / bins, bins):
            steps[-1] = (bins + 1, total + jobs)
        else:
            steps.append((1, jobs))
    points: list[tuple[float, float]] = []
    start = 0.0
    for bins, jobs in steps:
        end = min(start + bins * width, duration_seconds)
        rate = round(jobs / max(end - start, 1e-9), 4)
        points += [(round(start, 1), rate), (round(end, 1), rate)]
        start = end
    if all(rate == 0.0 for _, rate in points):
        return ()
    kept = [points[0]]  # without points on the line between their neighbours
    for here, after in pairwise(points[1:]):
        if not (kept[-1][1] == here[1] == after[1]):
            kept.append(here)
    return (*kept, points[-1])


def _binned(pieces: Pieces, duration_seconds: float, width: float) -> list[float]:
    """Jobs in each bin. What is negative by noise is taken from the next bins."""
    counts = [0.0] * max(1, math.ceil(duration_seconds / width - 1e-9))
    for start, end, jobs in pieces:
        first, last = int(start / width), min(len(counts) - 1, int((end - 1e-9) / width))
        for index in range(first, last + 1):
            overlap = min(end, (index + 1) * width) - max(start, index * width)
            counts[index] += jobs * max(0.0, overlap) / max(end - start, 1e-9)
    owed = 0.0
    for index, jobs in enumerate(counts):
        owed += jobs
        counts[index] = max(0.0, owed)
        owed = min(0.0, owed)
    return counts


def _is_chance(jobs: float, mean_jobs: float, bins: int) -> bool:
    """Whether a bin may well have the same rate as the mean of the bins before it."""
    spread = math.sqrt(EXCESS_VARIANCE * max(mean_jobs, 1.0) * (1.0 + 1.0 / bins))
    return abs(jobs - mean_jobs) <= SIGMAS * spread
