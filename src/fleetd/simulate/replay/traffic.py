"""What came in and what was worked off, from lengths, busy threads and one counter for all queues; and that as rates.

The counter says how many jobs were done, the busy threads on whose behalf: a queue's part of it goes by its busy
thread-seconds / service time (service_fit.py). A length's growth is exact; so a surge that backs up is found to the
second, and one that does not is as sharp as the counter.

Rates are steps, level between two points, so that as many jobs come as were seen to come. Neighbours that differ by no
more than chance are one step: a trace draws its own chance anew, and must not have it twice.
"""

from __future__ import annotations

import math
from itertools import pairwise
from statistics import median

from fleetd.core.demand.service_time import PRIOR_OTHER_SECONDS
from fleetd.core.model.facts import Value
from fleetd.simulate.replay.service_fit import BEAT_SECONDS, Seen, Window
from fleetd.simulate.replay.timeline import Reading, Timeline
from fleetd.simulate.trace.keys import Points

#: Service times are fitted to windows of this length: short enough for a burst of one queue to stand out.
WINDOW_SECONDS = 60.0
LOOKS_MIN, SLACK_SECONDS = 4, 0.5
#: Readings further apart say little of what was busy in between.
CLOSE_SECONDS = 60.0
#: Heartbeats flush the counter every 10 s: over less than this to both sides it swings.
COUNTER_SECONDS = 15.0
#: Each queue's share of the work is taken from so many thread-seconds around, within these times to both sides: where
#: few threads are busy, which queue they are busy on is chance for longer.
SHARE_THREAD_SECONDS, SHARE_SECONDS_MAX = 1500.0, 180.0


class Flow(Value, frozen=True, kw_only=True):
    """Between two readings."""

    from_second: float
    to_second: float
    done_jobs: float  # by the counter
    busy_thread_seconds: dict[str, float]
    growth_jobs: dict[str, int]  # of the queues' lengths


def flows(readings: list[Reading], seams: tuple[float, ...]) -> list[Flow]:
    """A counter that went back (Redis lost it) says nothing: 0 there; so it is at `seams`, where time was cut out."""
    return [
        Flow(
            from_second=before.second,
            to_second=after.second,
            done_jobs=0.0
            if any(before.second < seam <= after.second for seam in seams)
            else float(max(0, after.processed_jobs_total - before.processed_jobs_total)),
            busy_thread_seconds={
                name: (before.queues[name].busy_threads + queue.busy_threads)
                / 2.0
                * (after.second - before.second)
                for name, queue in after.queues.items()
                if name in before.queues
            },
            growth_jobs={
                name: queue.length_jobs - before.queues[name].length_jobs
                for name, queue in after.queues.items()
                if name in before.queues
            },
        )
        for before, after in pairwise(readings)
    ]


def learnt_seconds(line: Timeline) -> dict[str, float]:
    """Service times as fleetd had learnt them at the end."""
    for moment in reversed(line.moments):
        if moment.sample.service_milliseconds:
            return {name: ms / 1000.0 for name, ms in moment.sample.service_milliseconds.items()}
    return {}


def windows(read: list[Reading], seams: tuple[float, ...]) -> list[Window]:
    """Jobs done and busy thread-seconds over a minute each; what was not watched closely is left out.

    Looks are taken a beat apart, so none sees a heartbeat that another saw, and go to the two sets in turn.
    """
    found: list[Window] = []
    begun: Reading | None = None
    last = read[0]
    looks: list[Reading] = []
    for reading in read[1:]:
        passed = reading.second - last.second
        if passed < BEAT_SECONDS - SLACK_SECONDS:
            continue
        broken = any(last.second < seam <= reading.second for seam in seams)
        if broken or passed > CLOSE_SECONDS or reading.processed_jobs_total < last.processed_jobs_total:
            begun, looks, last = None, [], reading  # and this look is left out: its heartbeats are of before
            continue
        last = reading
        if begun is None:
            begun = reading
            continue
        looks.append(reading)
        lasted = reading.second - begun.second
        if lasted >= WINDOW_SECONDS and len(looks) >= LOOKS_MIN:
            found.append(
                Window(
                    done_jobs=float(reading.processed_jobs_total - begun.processed_jobs_total),
                    first=_thread_seconds(looks[::2], lasted),
                    second=_thread_seconds(looks[1::2], lasted),
                )
            )
            begun, looks = reading, []
    return found


def _thread_seconds(looks: list[Reading], lasted_seconds: float) -> dict[str, float]:
    busy: dict[str, float] = {}
    for look in looks:
        for name, queue in look.queues.items():
            if queue.busy_threads:
                busy[name] = busy.get(name, 0.0) + queue.busy_threads * lasted_seconds / len(looks)
    return busy


def seen_young(read: list[Reading]) -> dict[str, Seen]:
    """Of each queue, where it is recorded, how much of its work was young at the beat."""
    sums: dict[str, list[float]] = {}
    for before, after in pairwise(read):
        passed = min(CLOSE_SECONDS, after.second - before.second)
        for name, queue in after.queues.items():
            if queue.young_threads is not None and queue.busy_threads:
                so_far = sums.setdefault(name, [0.0, 0.0])
                so_far[0] += queue.busy_threads * passed
                so_far[1] += min(queue.young_threads, queue.busy_threads) * passed
    return {name: Seen(busy_thread_seconds=a, young_thread_seconds=b) for name, (a, b) in sums.items()}


class Arrivals(Value, frozen=True, kw_only=True):
    """What came in on each queue between two readings; noise may make one a little negative."""

    from_second: float
    to_second: float
    jobs: dict[str, float]


def arrivals(parts: list[Flow], seconds: dict[str, float]) -> list[Arrivals]:
    """Growth of the length, and the queue's share of what was done."""
    spent = _summed([{"": sum(flow.busy_thread_seconds.values())} for flow in parts])[""]
    done = _summed([{"": flow.done_jobs} for flow in parts])[""]
    worked = _summed([_expected(flow, seconds) for flow in parts])
    usual = {name: sums[-1] for name, sums in worked.items()}
    found = []
    for index, flow in enumerate(parts):
        lasted = flow.to_second - flow.from_second
        first, last = _around(parts, index, spent, 0.0, COUNTER_SECONDS)
        total = (done[last] - done[first]) / (parts[last - 1].to_second - parts[first].from_second) * lasted
        first, last = _around(parts, index, spent, SHARE_THREAD_SECONDS, SHARE_SECONDS_MAX)
        shares = {name: sums[last] - sums[first] for name, sums in worked.items()}
        if not any(shares.values()):  # heartbeats that saw nobody at work, while the counter went on
            shares = usual
        whole = sum(shares.values())
        jobs = {
            name: growth + (total * shares.get(name, 0.0) / whole if whole > 0.0 else 0.0)
            for name, growth in flow.growth_jobs.items()
        }
        found.append(Arrivals(from_second=flow.from_second, to_second=flow.to_second, jobs=jobs))
    return found


def _expected(flow: Flow, seconds: dict[str, float]) -> dict[str, float]:
    """Jobs of each queue that its busy threads should have done."""
    return {
        name: busy / seconds.get(name, PRIOR_OTHER_SECONDS) for name, busy in flow.busy_thread_seconds.items()
    }


def _summed(rows: list[dict[str, float]]) -> dict[str, list[float]]:
    """Running sums of each name: the sum of rows i to j (without j) is sums[j] − sums[i]."""
    names = {name for row in rows for name in row}
    sums = {name: [0.0] for name in names}
    for row in rows:
        for name, so_far in sums.items():
            so_far.append(so_far[-1] + row.get(name, 0.0))
    return sums


def _around(
    parts: list[Flow], index: int, spent: list[float], thread_seconds: float, seconds_max: float
) -> tuple[int, int]:
    """The parts around this one: within the time, and no more than hold so many thread-seconds (0: all within it)."""
    middle = (parts[index].from_second + parts[index].to_second) / 2.0
    first, last = index, index + 1
    while not thread_seconds or spent[last] - spent[first] < thread_seconds:
        before = first > 0 and middle - parts[first - 1].from_second <= seconds_max
        after = last < len(parts) and parts[last].to_second - middle <= seconds_max
        if not (before or after):
            break
        first, last = first - before, last + after
    return first, last


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
