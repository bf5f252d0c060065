"""A picture of a simulation as SVG: what came in, and a row for each policy with waits, instances and connections.

All rows share their scales, so that policies can be compared by eye. Waits are drawn as a share of the queue's target
and on a logarithmic scale: a queue that is just late and one that is late by hours are both to be seen. What waits less
than a tenth of its target is not drawn: it would only lie on the others.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

from fleetd.core.model.policy import Policy
from fleetd.simulate.plot.arrivals import draw_arrivals
from fleetd.simulate.plot.svg import (
    CHARACTER_PIXELS,
    INK,
    NAME_CHARACTERS_MAX,
    Box,
    Entry,
    Level,
    Panel,
    boxes,
    count_marks,
    fill,
    frame,
    label,
    shown,
    stepped,
    stroke,
)
from fleetd.simulate.scoring.outcome import Outcome, Spread
from fleetd.simulate.scoring.score import LATE_SHARE_MAX, QUEUE_LATE_SHARE_MAX
from fleetd.simulate.trace.trace import Trace

MARGIN, LEFT, GAP = 16, 46, 58
PANEL_WIDTH, PANEL_HEIGHT, ROW_HEIGHT = 400, 96, 148
ARRIVALS_HEIGHT = 150
LEGEND_LINE, TEXT_TOP = 16, 46
#: Told apart also by who can't tell red from green, each dark enough to be seen on the paper; the second set is the
#: darker, so no profile is taken for a queue.
QUEUE_COLOURS = (
    "#4269d0", "#c77700", "#f0503c", "#1f9e8a", "#3c8f2f", "#dd4f93", "#9a4ff0", "#4a90e2", "#9c6b4e", "#7d828a",
)  # fmt: skip
PROFILE_COLOURS = ("#14397d", "#c2410c", "#0f766e", "#86198f", "#854d0e", "#334155", "#be123c", "#3f6212")
CLAIMS_COLOUR, BUDGET_COLOUR = "#0969da", "#cf222e"
IN_TIME_COLOUR, LATE_COLOUR = "#1a7f37", "#cf222e"
#: Waits are drawn between these shares of a target; less is left out, more lies on the top.
SHARE_MIN, SHARE_MAX = 0.1, 100.0
#: Bars of two queues that wait alike end so far from each other.
APART_PIXELS = 2.0
#: The highest value of a panel lies so far below its top.
HEADROOM = 1.06


def draw(trace: Trace, policy: Policy, outcomes: list[Outcome]) -> str:
    """The picture."""
    queues = _coloured([queue.name for queue in trace.queues], QUEUE_COLOURS)
    profiles = _coloured([profile.name for profile in policy.profiles], PROFILE_COLOURS)
    whole = _left(2) + PANEL_WIDTH - _left(0)
    y = TEXT_TOP + 26
    parts = [
        _title(trace),
        label(_left(0), y, "jobs a second that come in (arrows: jobs at once)", 'font-weight="bold"'),
    ]
    legend, lines = _legend(_left(0), y + 18, whole, queues)
    arrivals_top = y + 18 + LEGEND_LINE * lines + 14
    parts += [legend, draw_arrivals(trace, _left(0), arrivals_top, whole, ARRIVALS_HEIGHT, queues)]
    y = arrivals_top + ARRIVALS_HEIGHT + 46
    deepest = 0
    for place, (said, entries) in enumerate(_columns(profiles)):
        parts.append(label(_left(place), y, said, 'font-weight="bold"'))
        legend, lines = _legend(_left(place), y + 18, PANEL_WIDTH, entries)
        parts.append(legend)
        deepest = max(deepest, lines)
    rows_top = y + 18 + LEGEND_LINE * deepest + 26
    parts += _rows(trace, policy, outcomes, rows_top)
    width, height = _left(2) + PANEL_WIDTH + MARGIN, rows_top + ROW_HEIGHT * len(outcomes)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="11" fill="#1f2328"><rect width="100%" height="100%" fill="white"/>'
        f"{''.join(parts)}</svg>\n"
    )


def _left(place: int) -> int:
    return MARGIN + LEFT + place * (PANEL_WIDTH + GAP)


def _title(trace: Trace) -> str:
    objective = f"✔ in time: at most {LATE_SHARE_MAX:.0%} of all jobs late, and {QUEUE_LATE_SHARE_MAX:.0%} of a queue's"
    return label(MARGIN, 26, shown(trace.name, 100), 'font-size="18" font-weight="bold"') + label(
        MARGIN, TEXT_TOP, f"{trace.duration_seconds / 3600:.3g} h · seed {trace.seed} · {objective}"
    )


def _columns(profiles: list[Entry]) -> list[tuple[str, list[Entry]]]:
    """What stands above each column of the rows, and what its colours mean."""
    return [
        (
            "oldest job's wait, in targets of its queue (colours as above)",
            [("black", "4 3", "target: above it, late")],
        ),
        ("instances (pale: fewest to most in between)", profiles),
        ("database connections", [(CLAIMS_COLOUR, "", "claimed"), (BUDGET_COLOUR, "4 3", "budget")]),
    ]


def _coloured(names: list[str], colours: tuple[str, ...]) -> list[Entry]:
    """Past the last colour the first comes again, dashed."""
    return [
        (colours[i % len(colours)], "" if i < len(colours) else "2 2", name) for i, name in enumerate(names)
    ]


def _legend(left: float, top: float, width: float, entries: list[Entry]) -> tuple[str, int]:
    """Colours and what they mean, and in how many lines."""
    parts, line, x = list[str](), 0, 0.0
    for colour, dashes, name in entries:
        wide = 34 + CHARACTER_PIXELS * min(len(name), NAME_CHARACTERS_MAX)
        if x and x + wide > width:
            line, x = line + 1, 0.0
        y = top + LEGEND_LINE * line
        parts.append(stroke(f"M{left + x:.0f},{y - 4}h16", colour, 4.0 if not dashes else 1.5, dashes))
        parts.append(label(left + x + 21, y, shown(name), ""))
        x += wide
    return "".join(parts), line + 1


def _rows(trace: Trace, policy: Policy, outcomes: list[Outcome], rows_top: float) -> Iterator[str]:
    """What each policy did."""
    seconds = math.ceil(trace.duration_seconds)
    curves = [outcome.curve for outcome in outcomes]
    sizes = [spread.highest for curve in curves for spreads in curve.instances.values() for spread in spreads]
    clients = [spread.highest for curve in curves for spread in curve.claims]
    clients += [budget for curve in curves for budget in curve.budget]
    for row, outcome in enumerate(outcomes):
        top = rows_top + ROW_HEIGHT * row
        size = (top, PANEL_WIDTH, PANEL_HEIGHT, seconds)
        yield _heading(outcome, top - 8)
        yield _waits(outcome, policy, Panel(_left(0), *size, SHARE_MAX, SHARE_MIN, logarithmic=True))
        yield _instances(outcome, Panel(_left(1), *size, HEADROOM * max([1, *sizes])))
        yield _connections(outcome, Panel(_left(2), *size, HEADROOM * max([1, *clients])))


def _heading(outcome: Outcome, y: float) -> str:
    score = outcome.score
    sign, colour = ("✔", IN_TIME_COLOUR) if score.meets_objective else ("✖", LATE_COLOUR)
    worst = max(score.queues.items(), key=lambda item: item[1].late_fraction, default=None)
    said = f"{score.instance_seconds / 3600:.1f} instance-hours · {score.starts} starts"
    said += f" · {score.reversals} reversals"
    said += f" · {score.lost_jobs} jobs lost" if score.lost_jobs else ""
    if worst is not None and worst[1].late_fraction > 0.0:
        said = f"{shown(worst[0])} {worst[1].late_fraction:.1%} · {said}"
    verdict = f"{sign} {shown(outcome.policy)} · {score.late_fraction:.2%} late"
    return (
        f'<text x="{_left(0)}" y="{y:.1f}"><tspan font-size="14" font-weight="bold" fill="{colour}">{verdict}</tspan>'
        f'<tspan dx="12" fill="{INK}">{said}</tspan></text>'
    )


def _levels(outcome: Outcome, values: list[float]) -> list[Level]:
    """A level for each point of the curve."""
    step = outcome.curve.step_seconds
    return [(i * step, (i + 1) * step, value) for i, value in enumerate(values)]


def _waits(outcome: Outcome, policy: Policy, panel: Panel) -> str:
    target_y = panel.y(1.0)
    parts = [fill(f"M{panel.left},{panel.top}H{panel.right}V{target_y:.1f}H{panel.left}z", LATE_COLOUR, 0.08)]
    bars = _bars(outcome, policy, panel)
    for colour, _, queue in _coloured(list(outcome.curve.ages), QUEUE_COLOURS):
        parts.append(fill(boxes(panel, bars[queue]), colour, 1.0, queue))
    parts.append(stroke(f"M{panel.left},{target_y:.1f}H{panel.right}", "black", 1.0, "4 3"))
    return frame(panel, [(ratio, f"{ratio:g} ×") for ratio in (0.1, 1.0, 10.0, 100.0)], "".join(parts))


def _bars(outcome: Outcome, policy: Policy, panel: Panel) -> dict[str, list[Box]]:
    """Of each queue at each point; one begins where the next lower one ends, so that all are seen."""
    curve = outcome.curve
    found: dict[str, list[Box]] = {queue: [] for queue in curve.ages}
    for i in range(len(curve.budget)):
        ratios = {queue: ages[i] / policy.target_seconds(queue) for queue, ages in curve.ages.items()}
        seen = sorted((panel.y(ratio), queue) for queue, ratio in ratios.items())
        tops: list[float] = []
        for y, _ in seen:
            tops.append(min(panel.bottom, max(y, tops[-1] + APART_PIXELS) if tops else y))
        for (_, queue), (top, bottom) in zip(seen, pairwise([*tops, panel.bottom]), strict=True):
            found[queue].append((i * curve.step_seconds, (i + 1) * curve.step_seconds, top, bottom))
    return found


def _breadth(place: int, count: int) -> float:
    """Lines that lie on each other stay visible: the first is the broadest, the last the thinnest."""
    return 1.4 + 0.9 * min(3, count - 1 - place)


def _spread(outcome: Outcome, panel: Panel, spreads: list[Spread], entry: Entry, width: float) -> str:
    """The mean as a line, and pale behind it all that lay between two points: what flaps is no solid block."""
    colour, dashes, name = entry
    means = _levels(outcome, [spread.mean for spread in spreads])
    bands = [
        (begin, end, panel.y(spread.highest), panel.y(spread.lowest))
        for (begin, end, _), spread in zip(means, spreads, strict=True)
    ]
    return fill(boxes(panel, bands), colour, 0.25) + stroke(
        stepped(panel, means), colour, width, dashes, name
    )


def _instances(outcome: Outcome, panel: Panel) -> str:
    curves = outcome.curve.instances
    lines = [
        _spread(outcome, panel, curves[entry[2]], entry, _breadth(i, len(curves)))
        for i, entry in enumerate(_coloured(list(curves), PROFILE_COLOURS))
    ]
    return frame(panel, count_marks(panel.most), "".join(lines))


def _connections(outcome: Outcome, panel: Panel) -> str:
    claims = _spread(outcome, panel, outcome.curve.claims, (CLAIMS_COLOUR, "", "claimed"), 1.6)
    budget = stepped(panel, _levels(outcome, [float(n) for n in outcome.curve.budget]))
    return frame(panel, count_marks(panel.most), claims + stroke(budget, BUDGET_COLOUR, 1.4, "4 3", "budget"))
