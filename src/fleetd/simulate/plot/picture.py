"""A picture of a simulation as SVG: the arrivals, and for each policy a row of waits, instances and connections.

All rows share their scales, so that policies can be compared by eye. Arrivals and waits are on logarithmic scales, so
that one picture shows one job a minute and a hundred a second, and waits of seconds and of hours. Every value stands
for one step of the outcome's curves.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from itertools import pairwise
from statistics import fmean
from typing import NamedTuple

from fleetd.core.model.policy_tables import Policy
from fleetd.simulate.scoring.outcome import LATE_SHARE_MAX, QUEUE_LATE_SHARE_MAX, Outcome, Spread, step_seconds_of
from fleetd.simulate.trace.arrivals import arrivals
from fleetd.simulate.trace.hosts import outages_of
from fleetd.simulate.trace.trace import Trace
from fleetd.words.plain import is_plain

INK, FAINT, PAPER = "#57606a", "#d8dee4", "#f6f8fa"
#: The width of an average letter of this picture's 11 px sans-serif, rounded up.
CHARACTER_PIXELS = 6.6
#: A longer name would run into its neighbour and is cut.
NAME_CHARACTERS_MAX = 40
#: The most marks on the time axis, and steps on an axis of counts.
TIME_MARKS_MAX, COUNT_STEPS_MAX = 6, 4
TIME_STEPS_SECONDS = (*(60, 300, 600, 1800, 3600, 7200, 10_800, 14_400, 21_600, 43_200, 86_400, 172_800, 604_800),)
MARGIN, LEFT, GAP = 16, 46, 58
PANEL_WIDTH, PANEL_HEIGHT, ROW_HEIGHT = 400, 96, 148
ALL_PANELS_WIDTH = 3 * PANEL_WIDTH + 2 * GAP
ARRIVALS_HEIGHT = 150
LEGEND_LINE, TEXT_TOP = 16, 46
#: Can be told apart without telling red from green, and are dark enough on the paper. The second set is the darker one,
#: so that no profile is taken for a queue.
QUEUE_COLOURS = (
    "#4269d0", "#c77700", "#f0503c", "#1f9e8a", "#3c8f2f", "#dd4f93", "#9a4ff0", "#4a90e2", "#9c6b4e", "#7d828a",
)  # fmt: skip
PROFILE_COLOURS = ("#14397d", "#c2410c", "#0f766e", "#86198f", "#854d0e", "#334155", "#be123c", "#3f6212")
CLAIMS_COLOUR, BUDGET_COLOUR = "#0969da", "#cf222e"
IN_TIME_COLOUR, LATE_COLOUR, FAULT_COLOUR = "#1a7f37", "#cf222e", "#cf222e"
#: Rates lower than the highest by more decades than this lie on the bottom.
DECADES_MAX = 5
#: Waits are drawn between these shares of a target. Shorter ones are left out, longer ones end at the top.
SHARE_MIN, SHARE_MAX = 0.1, 100.0
#: The tops of two queues' bars are at least this far apart, so that both can be seen.
APART_PIXELS = 2.0
#: A panel's axis ends this much above its highest value.
HEADROOM = 1.06

Mark = tuple[float, str]  # value, label
Entry = tuple[str, str, str]  # of a legend: colour, dashes, name


def draw(trace: Trace, policy: Policy, outcomes: list[Outcome]) -> str:
    """The picture."""
    queues = _coloured(list(trace.queues), QUEUE_COLOURS)
    of_hosts = dict.fromkeys(name for outcome in outcomes for name in outcome.curve.instances)
    names = list(of_hosts) if trace.hosts else [profile.name for profile in policy.profiles]
    profiles = _coloured(names, PROFILE_COLOURS)
    parts = [_title(trace)]
    y = TEXT_TOP + 26
    legend, y = _legend(_left(0), y, "arrivals, jobs/s (arrows: jobs at once)", queues, ALL_PANELS_WIDTH)
    parts += [legend, _arrivals(trace, y, queues)]
    columns = (
        ("oldest job's wait / target of its queue (colours as above)", [("black", "4 3", "above: late")]),
        ("instances (pale: fewest to most in between)", profiles),
        ("database connections", [(CLAIMS_COLOUR, "", "claimed"), (BUDGET_COLOUR, "4 3", "budget")]),
    )
    y += ARRIVALS_HEIGHT + 46
    legends = [_legend(_left(i), y, *column, PANEL_WIDTH) for i, column in enumerate(columns)]
    parts += [legend for legend, _ in legends]
    y = max(end for _, end in legends) + 12
    parts += _rows(policy, outcomes, y, trace.duration_seconds)
    width, height = MARGIN + LEFT + ALL_PANELS_WIDTH + MARGIN, y + ROW_HEIGHT * len(outcomes)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="11" fill="#1f2328"><rect width="100%" height="100%" fill="white"/>'
        f"{''.join(parts)}</svg>\n"
    )


def _left(column: int) -> int:
    return MARGIN + LEFT + column * (PANEL_WIDTH + GAP)


def _title(trace: Trace) -> str:
    objective = f"✔ in time: at most {LATE_SHARE_MAX:.0%} of all jobs late, and {QUEUE_LATE_SHARE_MAX:.0%} of a queue's"
    return label(MARGIN, 26, shown(trace.name, 100), 'font-size="18" font-weight="bold"') + label(
        MARGIN, TEXT_TOP, f"{trace.duration_seconds / 3600:.3g} h · seed {trace.seed} · {objective}"
    )


def _coloured(names: list[str], colours: tuple[str, ...]) -> list[Entry]:
    """After the last colour, the first comes again, dashed."""
    return [(colours[i % len(colours)], "" if i < len(colours) else "2 2", name) for i, name in enumerate(names)]


def _legend(left: int, top: int, heading: str, entries: list[Entry], width: int) -> tuple[str, int]:
    """A column's heading and what its colours mean, and the y at which its panels may start."""
    parts, x, y = [label(left, top, heading, 'font-weight="bold"')], 0.0, top + 18
    for colour, dashes, name in entries:
        entry_width = 34 + CHARACTER_PIXELS * min(len(name), NAME_CHARACTERS_MAX)
        if x and x + entry_width > width:
            x, y = 0.0, y + LEGEND_LINE
        parts.append(stroke(f"M{left + x:.0f},{y - 4}h16", colour, 4.0 if not dashes else 1.5, dashes))
        parts.append(label(left + x + 21, y, shown(name), ""))
        x += entry_width
    return "".join(parts), y + LEGEND_LINE + 14


def _arrivals(trace: Trace, top: float, queues: list[Entry]) -> str:
    """Jobs a second of each queue; above them, faults and the largest bursts."""
    rates = [_rates(trace, name) for name in trace.queues]
    some = [rate for of_queue in rates for rate in of_queue if rate is not None] or [1.0]
    most = 10.0 ** math.ceil(math.log10(max(some)))
    least = 10.0 ** math.floor(math.log10(max(min(some), most / 10.0**DECADES_MAX)))
    size = (_left(0), top, ALL_PANELS_WIDTH, ARRIVALS_HEIGHT, trace.duration_seconds, step_seconds_of(trace))
    panel = Panel(*size, max(most, 10.0 * least), least, logarithmic=True)
    parts = [
        stroke(stepped(panel, of_queue), colour, 1.4, dashes, name)
        for (colour, dashes, name), of_queue in zip(queues, rates, strict=True)
    ]
    texts: list[tuple[float, str, str]] = []  # x, text, colour
    for fault in trace.faults:
        x = panel.x(fault.at)
        if fault.source is None:
            texts.append((x, f"{fault.kill_instances} killed", FAULT_COLOUR))
            parts.append(stroke(f"M{x:.1f},{panel.top}V{panel.bottom}", FAULT_COLOUR, 1.0, "2 3"))
        else:
            texts.append((x, f"{fault.source} away", FAULT_COLOUR))
            end = max(x + 1.0, panel.x(fault.until))
            parts.append(fill(box(x, end, panel.top, panel.bottom), INK, 0.15))
    for host in trace.hosts:
        for outage in outages_of(host):
            x = panel.x(outage.at)
            texts.append((x, f"{host.name} {outage.kind.replace('_', ' ')}", FAULT_COLOUR))
            parts.append(fill(box(x, max(x + 1.0, panel.x(outage.until)), panel.top, panel.bottom), INK, 0.08))
    bursts = [(jobs, at, entry) for entry in queues for at, jobs in trace.queues[entry[2]].bursts]
    for jobs, at, (colour, _, name) in sorted(bursts, reverse=True):
        if jobs and not _is_away(trace, int(at), int(at)):
            x = panel.x(at)
            texts.append((x, f"+{round(jobs):_} {name}".replace("_", " "), INK))
            parts.append(stroke(f"M{x:.1f},{panel.bottom}V{panel.top + 6}", colour, 2.0, name=name))
            parts.append(fill(f"M{x - 4:.1f},{panel.top + 7}h8l-4,-7z", colour, 1.0))
    return frame(panel, decade_marks(panel.least, panel.most), "".join([*parts, *_above(panel, texts)]))


def _rates(trace: Trace, queue: str) -> list[float | None]:
    """Jobs a second in each step, without the bursts. None: nothing arrived."""
    counts, step = list(arrivals(trace, queue)), step_seconds_of(trace)
    for at, jobs in trace.queues[queue].bursts:
        if at < len(counts):
            counts[int(at)] -= round(jobs)
    return [
        None if _is_away(trace, start, start + step - 1) else fmean(counts[start : start + step]) or None
        for start in range(0, len(counts), step)
    ]


def _is_away(trace: Trace, first: int, last: int) -> bool:
    """Whether Redis is away in any of these seconds, so that nothing can arrive."""
    return any(fault.source == "redis" and fault.at <= last and first < fault.until for fault in trace.faults)


def _above(panel: Panel, texts: list[tuple[float, str, str]]) -> Iterator[str]:
    """Texts above a panel. One that would touch an earlier one is left out."""
    taken: list[tuple[float, float]] = []
    for x, text, colour in texts:
        half = CHARACTER_PIXELS * min(len(text), NAME_CHARACTERS_MAX) / 2.0
        middle = min(max(x, panel.left + half), panel.right - half)
        if all(abs(middle - other) > half + other_half + 6.0 for other, other_half in taken):
            taken.append((middle, half))
            yield label(middle, panel.top - 4, shown(text), f'text-anchor="middle" fill="{colour}"')


def _rows(policy: Policy, outcomes: list[Outcome], top: float, seconds: float) -> Iterator[str]:
    """A row for each policy."""
    curves = [outcome.curve for outcome in outcomes]
    sizes = [spread.highest for curve in curves for spreads in curve.instances.values() for spread in spreads]
    connections = [spread.highest for curve in curves for spread in curve.claims]
    connections += [budget for curve in curves for budget in curve.budget]
    for outcome in outcomes:
        size = (top, PANEL_WIDTH, PANEL_HEIGHT, seconds, outcome.curve.step_seconds)
        yield _heading(outcome, top - 8)
        yield _waits(outcome, policy, Panel(_left(0), *size, SHARE_MAX, SHARE_MIN, logarithmic=True))
        yield _instances(outcome, Panel(_left(1), *size, HEADROOM * max([1, *sizes])))
        yield _connections(outcome, Panel(_left(2), *size, HEADROOM * max([1, *connections])))
        top += ROW_HEIGHT


def _heading(outcome: Outcome, y: float) -> str:
    score = outcome.score
    sign, colour = ("✔", IN_TIME_COLOUR) if score.meets_objective else ("✖", LATE_COLOUR)
    name, worst = max(score.queues.items(), key=lambda item: item[1].late_fraction)
    figures = [f"{shown(name)} {worst.late_fraction:.1%}"] if worst.late_fraction else []
    figures += [f"{score.instance_seconds / 3600:.1f} instance-hours", f"{score.starts} starts"]
    figures.append(f"{score.reversals} reversals")
    if score.lost_jobs:
        figures.append(f"{score.lost_jobs} jobs lost")
    verdict = f"{sign} {shown(outcome.policy)} · {score.late_fraction:.2%} late"
    return (
        f'<text x="{_left(0)}" y="{y:.1f}"><tspan font-size="14" font-weight="bold" fill="{colour}">{verdict}</tspan>'
        f'<tspan dx="12" fill="{INK}">{" · ".join(figures)}</tspan></text>'
    )


def _waits(outcome: Outcome, policy: Policy, panel: Panel) -> str:
    """Bars. Each starts where the next lower one ends, so that no queue hides another."""
    ages = outcome.curve.ages
    heights: dict[str, list[tuple[float, float]]] = {queue: [] for queue in ages}
    for i in range(len(outcome.curve.budget)):
        ys = sorted((panel.y(ages[queue][i] / policy.target_seconds(queue)), queue) for queue in ages)
        tops: list[float] = []
        for y, _ in ys:
            tops.append(min(panel.bottom, max(y, tops[-1] + APART_PIXELS) if tops else y))
        for (_, queue), height in zip(ys, pairwise([*tops, panel.bottom]), strict=True):
            heights[queue].append(height)
    target_y = panel.y(1.0)
    parts = [fill(box(panel.left, panel.right, panel.top, target_y), LATE_COLOUR, 0.08)]
    parts += [
        fill(bars(panel, heights[queue]), colour, 1.0, queue)
        for colour, _, queue in _coloured(list(ages), QUEUE_COLOURS)
    ]
    parts.append(stroke(f"M{panel.left},{target_y:.1f}H{panel.right}", "black", 1.0, "4 3"))
    return frame(panel, [(ratio, f"{ratio:g} ×") for ratio in (0.1, 1.0, 10.0, 100.0)], "".join(parts))


def _spread(panel: Panel, spreads: list[Spread], entry: Entry, width: float) -> str:
    """The mean as a line on a pale band from the fewest to the most, so that flapping can be seen."""
    colour, dashes, name = entry
    band = bars(panel, [(panel.y(spread.highest), panel.y(spread.lowest)) for spread in spreads])
    line = stepped(panel, [spread.mean for spread in spreads])
    return fill(band, colour, 0.25) + stroke(line, colour, width, dashes, name)


def _instances(outcome: Outcome, panel: Panel) -> str:
    """The first line is the broadest and the last the thinnest, so that equal ones can be seen."""
    curves = outcome.curve.instances
    entries = _coloured(list(curves), PROFILE_COLOURS)
    lines = [
        _spread(panel, curves[entry[2]], entry, 1.4 + 0.9 * min(3, len(curves) - 1 - i))
        for i, entry in enumerate(entries)
    ]
    return frame(panel, count_marks(panel.most), "".join(lines))


def _connections(outcome: Outcome, panel: Panel) -> str:
    claims = _spread(panel, outcome.curve.claims, (CLAIMS_COLOUR, "", "claimed"), 1.6)
    budget = stroke(stepped(panel, outcome.curve.budget), BUDGET_COLOUR, 1.4, "4 3", "budget")
    return frame(panel, count_marks(panel.most), claims + budget)


class Panel(NamedTuple):
    """Where one diagram lies, and what its axes stand for: time from 0, and values from `least` to `most`."""

    left: float
    top: float
    width: float
    height: float
    seconds: float
    step_seconds: float  # from one value of a series to the next
    most: float
    least: float = 0.0
    logarithmic: bool = False

    @property
    def right(self) -> float:
        return self.left + self.width

    @property
    def bottom(self) -> float:
        return self.top + self.height

    def x(self, second: float) -> float:
        return self.left + self.width * min(1.0, second / self.seconds)

    def y(self, value: float) -> float:
        """The y of a value. One beyond the axis lies on its end."""
        if self.logarithmic:
            share = math.log(max(value, self.least) / self.least) / math.log(self.most / self.least)
        else:
            share = (value - self.least) / (self.most - self.least)
        return self.bottom - self.height * min(1.0, max(0.0, share))


def shown(name: str, characters_max: int = NAME_CHARACTERS_MAX) -> str:
    """A name from a trace, safe in XML: no markup, and no control or other invisible characters."""
    cut = name if len(name) <= characters_max else name[: characters_max - 1] + "…"
    return escape("".join(c if is_plain(c) else "\N{REPLACEMENT CHARACTER}" for c in cut))


def label(x: float, y: float, text: str, attributes: str = f'fill="{INK}"') -> str:
    """A text, which must be safe already (see `shown`)."""
    return f'<text x="{x:.1f}" y="{y:.1f}" {attributes}>{text}</text>'


def stroke(path: str, colour: str, width: float, dashes: str = "", name: str = "") -> str:
    """A line. `name` is shown when the pointer rests on it."""
    dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
    return _path(path, f'fill="none" stroke="{colour}" stroke-width="{width:.1f}"{dashed}', name)


def fill(path: str, colour: str, opacity: float, name: str = "") -> str:
    """An area. `name` as for `stroke`."""
    return _path(path, f'fill="{colour}" fill-opacity="{opacity}"', name)


def _path(path: str, attributes: str, name: str) -> str:
    title = f"<title>{shown(name)}</title>" if name else ""
    return f'<path d="{path}" {attributes}>{title}</path>' if path else ""


def box(left: float, right: float, top: float, bottom: float) -> str:
    """A path around a rectangle."""
    return f"M{left:.1f},{top:.1f}H{right:.1f}V{bottom:.1f}H{left:.1f}z"


def stepped(panel: Panel, values: Iterable[float | None]) -> str:
    """A path that is level within each step, and broken where there is no value."""
    parts: list[str] = []
    before: float | None = None
    for index, value in enumerate(values):
        if value is not None:
            start = f"M{panel.x(index * panel.step_seconds):.1f}," if before is None else "V"
            end = panel.x((index + 1) * panel.step_seconds)
            parts.append(f"{start}{panel.y(value):.1f}H{end:.1f}")
        before = value
    return "".join(parts)


def bars(panel: Panel, heights: Sequence[tuple[float, float]]) -> str:
    """A path around a box for each step, from its top to its bottom. Boxes without height are left out."""
    step = panel.step_seconds
    return "".join(
        box(panel.x(index * step), panel.x((index + 1) * step), top, bottom)
        for index, (top, bottom) in enumerate(heights)
        if bottom - top >= 0.1
    )


def frame(panel: Panel, marks: Iterable[Mark], content: str) -> str:
    """A panel: paper, marks, the time axis, and its content on top."""
    parts = [fill(box(panel.left, panel.right, panel.top, panel.bottom), PAPER, 1.0)]
    for value, text in marks:
        y = panel.y(value)
        parts.append(stroke(f"M{panel.left},{y:.1f}H{panel.right}", FAINT, 1.0))
        parts.append(label(panel.left - 5, y + 4, text, f'text-anchor="end" fill="{INK}"'))
    for second, text in time_marks(panel.seconds):
        x = panel.x(second)
        anchor = "start" if second == 0.0 else "end" if second > 0.97 * panel.seconds else "middle"
        parts.append(stroke(f"M{x:.1f},{panel.top}V{panel.bottom}", FAINT, 1.0))
        parts.append(label(x, panel.bottom + 13, text, f'text-anchor="{anchor}" fill="{INK}"'))
    return f"{''.join(parts)}{content}"


def time_marks(seconds: float) -> Iterator[Mark]:
    """Marks of the time axis, in hours, or in minutes if it is short."""
    step = next((s for s in TIME_STEPS_SECONDS if seconds / s <= TIME_MARKS_MAX), TIME_STEPS_SECONDS[-1])
    for at in range(0, math.floor(seconds) + 1, step):
        yield float(at), "0" if at == 0 else f"{at / 3600:g} h" if step >= 1800 else f"{at / 60:g} min"


def count_marks(most: float) -> list[Mark]:
    """0 and a few round whole numbers up to `most`."""
    size = 10.0 ** math.floor(math.log10(max(1.0, most)))
    steps = [size * share for share in (0.2, 0.25, 0.5, 1.0, 2.0, 2.5, 5.0)]
    step = next(s for s in steps if s.is_integer() and most / s <= COUNT_STEPS_MAX)
    return [(step * n, f"{step * n:.0f}") for n in range(math.floor(most / step) + 1)]


def decade_marks(least: float, most: float) -> list[Mark]:
    """Every power of ten from `least` to `most`."""
    decades = range(round(math.log10(least)), round(math.log10(most)) + 1)
    return [(10.0**n, f"{10.0**n:.{max(0, -n)}f}") for n in decades]
