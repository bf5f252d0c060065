"""What came in, the same for every policy: jobs a second of each queue, its bursts, and what went wrong meanwhile.

The axis is logarithmic: a queue of one job a minute and one of a hundred a second are both to be seen.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

from fleetd.simulate.plot.svg import (
    CHARACTER_PIXELS,
    INK,
    NAME_CHARACTERS_MAX,
    Entry,
    Level,
    Panel,
    decade_marks,
    fill,
    frame,
    label,
    shown,
    stepped,
    stroke,
)
from fleetd.simulate.trace.arrivals import arrivals
from fleetd.simulate.trace.trace import Fault, QueueTraffic, Trace

#: A level is the mean over at least so many jobs (fewer show chance), but never over more of the trace than this.
LEVEL_JOBS_MIN, LEVEL_SHARE_MAX = 200, 1 / 40
#: A level is at least so wide.
LEVEL_PIXELS = 2.0
#: What is rarer than the most by more than this lies on the bottom.
DECADES_MAX = 5
#: An arrow of a burst is so wide.
BURST_PIXELS = 3.0
FAULT_COLOUR = "#cf222e"

Room = tuple[float, float]  # from x to x
Burst = tuple[float, str, float]  # x, queue, jobs


def draw_arrivals(
    trace: Trace, left: float, top: float, width: float, height: float, queues: list[Entry]
) -> str:
    """The panel; `queues` in the trace's order."""
    seconds = math.ceil(trace.duration_seconds)
    cuts = {s for fault in _outages(trace) for s in (fault.at_seconds, fault.until_seconds)}
    found = [levels(came_in(trace, queue), width, cuts) for queue in trace.queues]
    least, most = axis([rate for queue in found for _, _, rate in queue])
    panel = Panel(left, top, width, height, seconds, most, least, logarithmic=True)
    parts = list[str]()
    for (colour, dashes, name), parted in zip(queues, found, strict=True):
        path = stepped(panel, [level for level in parted if level[2] > 0.0])
        parts.append(stroke(path, colour, 1.4, dashes, name))
    taken: list[Room] = []
    parts.append(_faults(trace, panel, taken))
    parts.append(_bursts(trace, panel, {name: colour for colour, _, name in queues}, taken))
    return frame(panel, decade_marks(least, most), "".join(parts))


def came_in(trace: Trace, queue: QueueTraffic) -> list[int]:
    """Jobs by second without the bursts; while Redis is away nothing can come in."""
    counts = list(arrivals(trace, queue))
    for at, jobs in queue.bursts:
        if at < len(counts):
            counts[int(at)] -= round(jobs)
    for fault in _outages(trace):
        begin, end = math.ceil(fault.at_seconds), min(len(counts), math.ceil(fault.until_seconds))
        counts[begin:end] = [0] * max(0, end - begin)
    return counts


def _outages(trace: Trace) -> list[Fault]:
    return [fault for fault in trace.faults if fault.source == "redis"]


def levels(counts: Sequence[int], width_pixels: float, cuts: Collection[float] = ()) -> list[Level]:
    """Mean jobs a second, each over a time that is wide enough to be seen and to mean something, none across a cut."""
    ends = {math.ceil(cut) for cut in cuts} | {len(counts)}
    shortest = len(counts) * LEVEL_PIXELS / width_pixels
    longest = max(shortest, len(counts) * LEVEL_SHARE_MAX)
    found: list[Level] = []
    begin, jobs = 0, 0
    for second, came in enumerate(counts, 1):
        jobs += came
        lasts = second - begin
        means_something = lasts >= (shortest if jobs >= LEVEL_JOBS_MIN else longest)
        if second in ends and not means_something and found and begin not in ends:
            before, _, rate = found.pop()  # a rest belongs to the level before it
            jobs += round(rate * (begin - before))
            begin = round(before)
        if second in ends or means_something:
            found.append((float(begin), float(second), jobs / (second - begin)))
            begin, jobs = second, 0
    return found


def axis(rates: list[float]) -> tuple[float, float]:
    """Its ends: a power of ten, and the next of 1, 2 and 5 times one above the highest."""
    some = [rate for rate in rates if rate > 0.0] or [1.0]
    size = 10.0 ** math.floor(math.log10(max(some)))
    most = next(size * share for share in (1.0, 2.0, 5.0, 10.0) if size * share >= max(some))
    least = 10.0 ** math.floor(math.log10(max(min(some), most / 10.0**DECADES_MAX)))
    return least, max(most, 10.0 * least)


def _bursts(trace: Trace, panel: Panel, colours: dict[str, str], taken: list[Room]) -> str:
    """An arrow from the bottom to the top: jobs at once have no rate. The largest are labelled, where there is room."""
    parts: list[str] = []
    for x, queue, jobs in sorted(bursts(trace, panel), key=lambda burst: -burst[2]):
        top, colour = panel.top, colours[queue]
        parts.append(stroke(f"M{x:.1f},{panel.bottom}V{top + 6}", colour, 2.0, name=queue))
        parts.append(fill(f"M{x - 4:.1f},{top + 7}h8l-4,-7z", colour, 1.0))
        said = f"+{round(jobs):_} ".replace("_", " ") + queue
        half = CHARACTER_PIXELS * min(len(said), NAME_CHARACTERS_MAX) / 2.0
        middle = min(max(x, panel.left + half), panel.right - half)
        if _fits(middle - half, middle + half, taken):
            parts.append(label(middle, top - 4, shown(said), f'text-anchor="middle" fill="{INK}"'))
    return "".join(parts)


def _fits(begin: float, end: float, taken: list[Room]) -> bool:
    """Whether a text touches none of those before it; then its room is taken."""
    free = all(end + 6.0 < left or right + 6.0 < begin for left, right in taken)
    if free:
        taken.append((begin, end))
    return free


def bursts(trace: Trace, panel: Panel) -> list[Burst]:
    """Those of a queue that would lie on each other are one; those of several queues stand beside each other."""
    found: dict[int, dict[str, Burst]] = {}
    outages = _outages(trace)
    for queue in trace.queues:
        for at, jobs in queue.bursts:
            away = any(fault.at_seconds <= int(at) < fault.until_seconds for fault in outages)
            if jobs and at < panel.seconds and not away:
                x = panel.x(at)
                here = found.setdefault(round(x / BURST_PIXELS), {})
                x, _, before = here.get(queue.name, (x + BURST_PIXELS * len(here), queue.name, 0.0))
                here[queue.name] = (x, queue.name, before + jobs)
    return [burst for here in found.values() for burst in here.values()]


def _faults(trace: Trace, panel: Panel, taken: list[Room]) -> str:
    """Grey while a source is away, a dashed line where instances are killed; each said, where there is room."""
    parts: list[str] = []
    for fault in trace.faults:
        x = panel.x(fault.at_seconds)
        if fault.kill_instances:
            said = f"{fault.kill_instances} killed"
            parts.append(stroke(f"M{x:.1f},{panel.top}V{panel.bottom}", FAULT_COLOUR, 1.0, "2 3"))
        else:
            said = f"{fault.source} away"
            end = max(x + 1.0, panel.x(fault.until_seconds))
            parts.append(fill(f"M{x:.1f},{panel.top}H{end:.1f}V{panel.bottom}H{x:.1f}z", INK, 0.15))
        wide = CHARACTER_PIXELS * len(said)
        left = min(x, panel.right - wide)
        if _fits(left, left + wide, taken):
            parts.append(label(left, panel.top - 4, said, f'fill="{FAULT_COLOUR}"'))
    return "".join(parts)
