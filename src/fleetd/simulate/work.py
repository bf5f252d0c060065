"""What came in and what was worked off, from lengths, busy threads and one counter for all queues.

The counter says how many jobs were done, the busy threads on whose behalf: a queue's part of it goes by its busy
thread-seconds / service time (service_fit.py). A length's growth is exact; so a surge that backs up is found to the
second, and one that does not is as sharp as the counter.
"""

from __future__ import annotations

from itertools import pairwise

from fleetd.core.facts import Value
from fleetd.core.service_time import PRIOR_OTHER_SECONDS
from fleetd.simulate.service_fit import Window
from fleetd.simulate.timeline import Reading, Timeline

#: Service times are fitted to windows of this length: long enough for the chance in what heartbeats say to even out.
WINDOW_SECONDS = 120.0
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


def windows(parts: list[Flow]) -> list[Window]:
    """Jobs done and busy thread-seconds over about a minute each; what was not watched closely is left out."""
    found: list[Window] = []
    done, busy, began = 0.0, dict[str, float](), None
    for flow in parts:
        if flow.to_second - flow.from_second > CLOSE_SECONDS:
            done, busy, began = 0.0, {}, None
            continue
        began = flow.from_second if began is None else began
        done += flow.done_jobs
        for name, spent in flow.busy_thread_seconds.items():
            if spent:
                busy[name] = busy.get(name, 0.0) + spent
        if flow.to_second - began >= WINDOW_SECONDS:
            found.append((done, busy))
            done, busy, began = 0.0, {}, None
    return found


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
