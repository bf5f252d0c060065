"""A picture of a simulation as SVG: waits against targets, instances, connections, one below the other per policy."""

from __future__ import annotations

from html import escape

from fleetd.core.policy import Policy
from fleetd.simulate.run import Outcome

WIDTH, PANEL, GAP, LEFT, TOP = 1000, 84, 26, 70, 56
COLOURS = ("#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#3ca951", "#a463f2", "#97bbf5", "#9c6b4e")
#: A wait is drawn up to this many times its target.
RATIO_MAX = 4.0


def draw(name: str, policy: Policy, outcomes: list[Outcome]) -> str:
    """The picture; all policies share the scales, so that they can be compared by eye."""
    most = max((sum(c) for o in outcomes for c in zip(*o.curve.instances.values(), strict=True)), default=1)
    clients = max((max([*o.curve.claims, *o.curve.budget], default=1) for o in outcomes), default=1)
    queues = list(outcomes[0].curve.ages) if outcomes else []
    parts: list[str] = []
    y = TOP
    for outcome in outcomes:
        parts.append(_heading(outcome, y))
        parts.append(_waits(outcome, policy, queues, y + 20))
        parts.append(_instances(outcome, max(1, most), y + 20 + PANEL + GAP))
        parts.append(_connections(outcome, max(1, clients), y + 20 + 2 * (PANEL + GAP)))
        y += 3 * (PANEL + GAP) + 44
    legend = "".join(
        f'<rect x="{LEFT + 110 * i}" y="30" width="10" height="10" fill="{COLOURS[i % len(COLOURS)]}"/>'
        f'<text x="{LEFT + 14 + 110 * i}" y="39">{escape(queue)}</text>'
        for i, queue in enumerate(queues)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y}" viewBox="0 0 {WIDTH} {y}" '
        'font-family="sans-serif" font-size="11"><rect width="100%" height="100%" fill="white"/>'
        f'<text x="{LEFT}" y="18" font-size="15" font-weight="bold">{escape(name)}</text>'
        f"{legend}{''.join(parts)}</svg>\n"
    )


def _heading(outcome: Outcome, y: int) -> str:
    score = outcome.score
    said = (
        f"{outcome.policy}: {score.late_fraction:.2%} late, {score.instance_seconds / 3600:.1f} instance-hours, "
        f"{score.starts} starts, {score.reversals} reversals"
    )
    colour = "#1a7f37" if score.meets_objective else "#cf222e"
    return f'<text x="{LEFT}" y="{y + 8}" font-size="13" font-weight="bold" fill="{colour}">{escape(said)}</text>'


def _panel(title: str, top: str, y: int, content: str) -> str:
    right = WIDTH - 10
    return (
        f'<rect x="{LEFT}" y="{y}" width="{right - LEFT}" height="{PANEL}" fill="#f6f8fa"/>{content}'
        f'<text x="{LEFT - 6}" y="{y + 10}" text-anchor="end" fill="#57606a">{escape(top)}</text>'
        f'<text x="{LEFT - 6}" y="{y + PANEL}" text-anchor="end" fill="#57606a">0</text>'
        f'<text x="{LEFT + 4}" y="{y + PANEL + 13}" fill="#57606a">{escape(title)}</text>'
    )


def _line(values: list[float], most: float, y: int, colour: str, width: float = 1.5, dash: str = "") -> str:
    if not values:
        return ""
    step = (WIDTH - 10 - LEFT) / max(1, len(values) - 1)
    points = " ".join(
        f"{LEFT + step * i:.1f},{y + PANEL - PANEL * min(1.0, value / most):.1f}"
        for i, value in enumerate(values)
    )
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    return f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="{width}"{dashed}/>'


def _waits(outcome: Outcome, policy: Policy, queues: list[str], y: int) -> str:
    target = y + PANEL - PANEL / RATIO_MAX
    lines = [
        f'<line x1="{LEFT}" x2="{WIDTH - 10}" y1="{target}" y2="{target}" stroke="#8c959f" stroke-dasharray="4"/>'
    ]
    for i, queue in enumerate(queues):
        ratios = [age / policy.target_seconds(queue) for age in outcome.curve.ages[queue]]
        lines.append(_line(ratios, RATIO_MAX, y, COLOURS[i % len(COLOURS)]))
    return _panel("oldest job / its target (dashed: in time below)", f"{RATIO_MAX:.0f} ×", y, "".join(lines))


def _instances(outcome: Outcome, most: int, y: int) -> str:
    curves = outcome.curve.instances
    lines = [
        _line([float(n) for n in counts], most, y, COLOURS[i % len(COLOURS)], 2.0)
        for i, counts in enumerate(curves.values())
    ]
    return _panel(f"instances: {', '.join(curves)}", str(most), y, "".join(lines))


def _connections(outcome: Outcome, most: int, y: int) -> str:
    claims = _line([float(n) for n in outcome.curve.claims], most, y, "#0969da", 2.0)
    budget = _line([float(n) for n in outcome.curve.budget], most, y, "#cf222e", 1.0, "4")
    return _panel("connections claimed (dashed: the budget)", str(most), y, claims + budget)
