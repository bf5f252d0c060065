"""A picture of a simulation as SVG: a row for each policy; beside each other waits, instances and connections.

All rows share their scales, so that policies can be compared by eye. Waits are drawn as a share of the queue's target
and on a logarithmic scale: a queue that is just late and one that is late by hours are both to be seen.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from html import escape
from typing import NamedTuple

from fleetd.core.policy import Policy
from fleetd.simulate.run import Outcome

MARGIN, LEFT, GAP = 16, 46, 58
PANEL_WIDTH, PANEL_HEIGHT, ROW_HEIGHT = 400, 96, 144
LEGEND_TOP, LEGEND_LINE, CHARACTER = 48, 16, 6.6
#: Told apart also by who can't tell red from green; the second set is the darker, so no profile is taken for a queue.
QUEUE_COLOURS = (
    "#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#3ca951", "#ff8ab7", "#a463f2", "#97bbf5", "#9c6b4e", "#9498a0",
)  # fmt: skip
PROFILE_COLOURS = ("#14397d", "#c2410c", "#0f766e", "#86198f", "#854d0e", "#334155", "#be123c", "#3f6212")
CLAIMS_COLOUR, BUDGET_COLOUR = "#0969da", "#cf222e"
INK, FAINT, PAPER = "#57606a", "#d8dee4", "#f6f8fa"
#: Waits are drawn between these shares of a target; less lies on the bottom, more on the top.
SHARE_MIN, SHARE_MAX = 0.01, 100.0
#: At most so many marks on the axis of time.
TIME_MARKS_MAX = 6
_TIME_STEPS_SECONDS = (
    60,
    300,
    600,
    1800,
    3600,
    7200,
    10_800,
    14_400,
    21_600,
    43_200,
    86_400,
    172_800,
    604_800,
)

Entry = tuple[str, str, str]  # colour, dashes, name


class Panel(NamedTuple):
    """Where one diagram lies, and what its top stands for."""

    left: float
    top: float
    most: float

    @property
    def bottom(self) -> float:
        return self.top + PANEL_HEIGHT

    def height(self, value: float) -> float:
        """Where a value lies."""
        return self.bottom - PANEL_HEIGHT * min(1.0, value / self.most)


def draw(name: str, policy: Policy, outcomes: list[Outcome]) -> str:
    """The picture."""
    instances = max(
        (max(counts, default=0) for o in outcomes for counts in o.curve.instances.values()), default=0
    )
    clients = max((max([*o.curve.claims, *o.curve.budget], default=0) for o in outcomes), default=0)
    legends = _legends(outcomes)
    lines = [line for _, entries in legends for line in _lines_of(entries)]
    rows_top = LEGEND_TOP + LEGEND_LINE * (1 + max((n for n, _ in lines), default=0)) + 34
    parts = [_legend(place, title, entries) for place, (title, entries) in enumerate(legends)]
    for row, outcome in enumerate(outcomes):
        top = rows_top + ROW_HEIGHT * row
        parts.append(_heading(outcome, top - 8))
        parts.append(_waits(outcome, policy, Panel(_left(0), top, 1.0)))
        parts.append(_instances(outcome, Panel(_left(1), top, max(1, instances))))
        parts.append(_connections(outcome, Panel(_left(2), top, max(1, clients))))
    width, height = _left(2) + PANEL_WIDTH + MARGIN, rows_top + ROW_HEIGHT * len(outcomes)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="11"><rect width="100%" height="100%" fill="white"/>'
        f'<text x="{MARGIN}" y="24" font-size="16" font-weight="bold">{escape(name)}</text>'
        f"{''.join(parts)}</svg>\n"
    )


def _left(place: int) -> int:
    return MARGIN + LEFT + place * (PANEL_WIDTH + GAP)


def _legends(outcomes: list[Outcome]) -> list[tuple[str, list[Entry]]]:
    """What the colours of each column mean."""
    curve = outcomes[0].curve if outcomes else None
    queues = _coloured(list(curve.ages) if curve else [], QUEUE_COLOURS)
    profiles = _coloured(list(curve.instances) if curve else [], PROFILE_COLOURS)
    return [
        ("oldest job's wait, in targets of its queue", [*queues, ("black", "4 3", "target")]),
        ("instances", profiles),
        ("database connections", [(CLAIMS_COLOUR, "", "claimed"), (BUDGET_COLOUR, "4 3", "budget")]),
    ]


def _coloured(names: list[str], colours: tuple[str, ...]) -> list[Entry]:
    """Past the last colour the first comes again, dashed."""
    return [
        (colours[i % len(colours)], "" if i < len(colours) else "2 2", name) for i, name in enumerate(names)
    ]


def _lines_of(entries: list[Entry]) -> Iterator[tuple[int, float]]:
    """In which line of the legend, and how far to the right, each entry stands."""
    line, x = 0, 0.0
    for _, _, name in entries:
        width = 24 + CHARACTER * len(name)
        if x and x + width > PANEL_WIDTH:
            line, x = line + 1, 0.0
        yield line, x
        x += width


def _legend(place: int, title: str, entries: list[Entry]) -> str:
    left = _left(place)
    parts = [f'<text x="{left}" y="{LEGEND_TOP - 2}" font-weight="bold">{escape(title)}</text>']
    for (colour, dashes, name), (line, x) in zip(entries, _lines_of(entries), strict=True):
        y = LEGEND_TOP + 12 + LEGEND_LINE * line
        parts.append(_stroke(f"M{left + x:.0f},{y}h14", colour, 3.0 if not dashes else 1.5, dashes))
        parts.append(f'<text x="{left + x + 18:.0f}" y="{y + 4}">{escape(name)}</text>')
    return "".join(parts)


def _heading(outcome: Outcome, y: int) -> str:
    score = outcome.score
    sign, colour = ("✔", "#1a7f37") if score.meets_objective else ("✖", BUDGET_COLOUR)
    worst = max(score.queues.items(), key=lambda item: item[1].late_fraction, default=None)
    late = f"{score.late_fraction:.2%} late"
    if worst is not None and worst[1].late_fraction > 0.0:
        late += f" ({worst[0]} {worst[1].late_fraction:.1%})"
    said = f"{late} · {score.instance_seconds / 3600:.1f} instance-hours · {score.starts} starts"
    said += f" · {score.reversals} reversals"
    lost = f" · {score.lost_jobs} jobs lost" if score.lost_jobs else ""
    return (
        f'<text x="{_left(0)}" y="{y}"><tspan font-size="13" font-weight="bold" fill="{colour}">'
        f'{sign} {escape(outcome.policy)}</tspan><tspan dx="10" fill="{INK}">{escape(said + lost)}</tspan></text>'
    )


def _stroke(path: str, colour: str, width: float, dashes: str = "") -> str:
    dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
    return f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="{width}" stroke-linejoin="round"{dashed}/>'


def _frame(panel: Panel, seconds: float, marks: list[tuple[float, str]], content: str) -> str:
    """The paper, its marks (height, label), hours below, and what is drawn on it."""
    right = panel.left + PANEL_WIDTH
    parts = [
        f'<rect x="{panel.left}" y="{panel.top}" width="{PANEL_WIDTH}" height="{PANEL_HEIGHT}" fill="{PAPER}"/>'
    ]
    for y, label in marks:
        parts.append(_stroke(f"M{panel.left},{y:.1f}H{right}", FAINT, 1.0))
        parts.append(
            f'<text x="{panel.left - 5}" y="{y + 4:.1f}" text-anchor="end" fill="{INK}">{escape(label)}</text>'
        )
    for share, label in _times(seconds):
        x = panel.left + PANEL_WIDTH * share
        parts.append(_stroke(f"M{x:.1f},{panel.top}V{panel.bottom}", FAINT, 1.0))
        anchor = "start" if share == 0.0 else "end" if share > 0.97 else "middle"
        parts.append(
            f'<text x="{x:.1f}" y="{panel.bottom + 13}" text-anchor="{anchor}" fill="{INK}">{label}</text>'
        )
    return f"{''.join(parts)}{content}"


def _times(seconds: float) -> Iterator[tuple[float, str]]:
    """Marks on the axis of time: share of the whole, label."""
    step = next((s for s in _TIME_STEPS_SECONDS if seconds / s <= TIME_MARKS_MAX), _TIME_STEPS_SECONDS[-1])
    for mark in range(math.floor(seconds / step) + 1):
        at = mark * step
        label = f"{at / 3600:g} h" if step >= 1800 else f"{at / 60:g} min"
        yield at / max(1.0, seconds), "0" if at == 0 else label


def _curve(panel: Panel, values: list[float], *, steps: bool) -> str:
    """A path through the values, evenly spaced; `steps`: level until the next one."""
    wide = PANEL_WIDTH / max(1, len(values) - 1)
    parts: list[str] = []
    last = math.nan
    for i, value in enumerate(values):
        x, y = panel.left + wide * i, panel.height(value)
        if steps:
            if y != last:
                parts.append(f"{'H' if parts else 'M'}{x:.1f}{'V' if parts else ','}{y:.1f}")
        else:
            parts.append(f"{'L' if parts else 'M'}{x:.1f},{y:.1f}")
        last = y
    if steps and parts:
        parts.append(f"H{panel.left + PANEL_WIDTH}")
    return "".join(parts)


def _seconds(outcome: Outcome) -> float:
    return float(outcome.curve.step_seconds * max(1, len(outcome.curve.claims)))


def _share(ratio: float) -> float:
    """How high a wait lies, from 0 at SHARE_MIN to 1 at SHARE_MAX."""
    return math.log(max(ratio, SHARE_MIN) / SHARE_MIN) / math.log(SHARE_MAX / SHARE_MIN)


def _waits(outcome: Outcome, policy: Policy, panel: Panel) -> str:
    marks = [
        (panel.height(_share(ratio)), label)
        for ratio, label in ((0.1, "0.1 ×"), (1.0, "1 ×"), (10.0, "10 ×"), (100.0, "100 ×"))
    ]
    lines = []
    for colour, dashes, queue in _coloured(list(outcome.curve.ages), QUEUE_COLOURS):
        shares = [_share(age / policy.target_seconds(queue)) for age in outcome.curve.ages[queue]]
        lines.append(_stroke(_curve(panel, shares, steps=False), colour, 1.4, dashes))
    y = panel.height(_share(1.0))
    target = _stroke(f"M{panel.left},{y:.1f}h{PANEL_WIDTH}", "black", 1.0, "4 3")
    return _frame(panel, _seconds(outcome), marks, "".join(lines) + target)


def _instances(outcome: Outcome, panel: Panel) -> str:
    """Curves that lie on each other stay visible: the first is the broadest, the last the thinnest."""
    curves = outcome.curve.instances
    lines = []
    for i, (colour, dashes, name) in enumerate(_coloured(list(curves), PROFILE_COLOURS)):
        path = _curve(panel, [float(n) for n in curves[name]], steps=True)
        lines.append(_stroke(path, colour, 1.4 + 1.2 * min(3, len(curves) - 1 - i), dashes))
    marks = [(panel.height(n), f"{n:.0f}") for n in _round_marks(panel.most)]
    return _frame(panel, _seconds(outcome), marks, "".join(lines))


def _connections(outcome: Outcome, panel: Panel) -> str:
    claims = _curve(panel, [float(n) for n in outcome.curve.claims], steps=True)
    budget = _curve(panel, [float(n) for n in outcome.curve.budget], steps=True)
    marks = [(panel.height(n), f"{n:.0f}") for n in _round_marks(panel.most)]
    content = _stroke(claims, CLAIMS_COLOUR, 1.8) + _stroke(budget, BUDGET_COLOUR, 1.4, "4 3")
    return _frame(panel, _seconds(outcome), marks, content)


def _round_marks(most: float) -> list[float]:
    """0 and up to four whole, round numbers, none above the top."""
    size = 10.0 ** math.floor(math.log10(max(1.0, most)))
    steps = [size * share for share in (0.2, 0.25, 0.5, 1.0, 2.0, 2.5, 5.0)]
    step = next(s for s in steps if s.is_integer() and most / s <= 4)
    return [step * n for n in range(math.floor(most / step) + 1)]
