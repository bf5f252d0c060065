"""Lines, areas and axes of a picture, as SVG text. Lengths are pixels, times seconds since the begin of a trace."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from typing import NamedTuple

INK, FAINT, PAPER = "#57606a", "#d8dee4", "#f6f8fa"
#: The widest a letter of this picture's 11 px sans-serif is on average.
CHARACTER_PIXELS = 6.6
#: A longer name is cut: it would run into its neighbour.
NAME_CHARACTERS_MAX = 40
#: At most so many marks on the axis of time, and so many steps on one of counts.
TIME_MARKS_MAX, COUNT_STEPS_MAX = 6, 4
TIME_STEPS_SECONDS = (
    *(60, 300, 600, 1800, 3600, 7200, 10_800, 14_400, 21_600, 43_200, 86_400, 172_800, 604_800),
)

Mark = tuple[float, str]  # value, label


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
        """Where a value lies; one beyond the axis lies on its end."""
        if self.logarithmic:
            share = math.log(max(value, self.least) / self.least) / math.log(self.most / self.least)
        else:
            share = (value - self.least) / (self.most - self.least)
        return self.bottom - self.height * min(1.0, max(0.0, share))


def shown(name: str, characters_max: int = NAME_CHARACTERS_MAX) -> str:
    """A name from a trace as XML may hold it: no markup, and no control or other invisible character."""
    cut = name if len(name) <= characters_max else name[: characters_max - 1] + "…"
    return escape("".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in cut))


def label(x: float, y: float, text: str, attributes: str = f'fill="{INK}"') -> str:
    """A text that is safe already (see `shown`)."""
    return f'<text x="{x:.1f}" y="{y:.1f}" {attributes}>{text}</text>'


def stroke(path: str, colour: str, width: float, dashes: str = "", name: str = "") -> str:
    """A line; `name` is shown where the pointer rests on it."""
    dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
    return _path(path, f'fill="none" stroke="{colour}" stroke-width="{width:.1f}"{dashed}', name)


def fill(path: str, colour: str, opacity: float, name: str = "") -> str:
    """An area, named alike."""
    return _path(path, f'fill="{colour}" fill-opacity="{opacity}"', name)


def _path(path: str, attributes: str, name: str) -> str:
    title = f"<title>{shown(name)}</title>" if name else ""
    return f'<path d="{path}" {attributes}>{title}</path>' if path else ""


def box(left: float, right: float, top: float, bottom: float) -> str:
    """A path around a rectangle."""
    return f"M{left:.1f},{top:.1f}H{right:.1f}V{bottom:.1f}H{left:.1f}z"


def stepped(panel: Panel, values: Iterable[float | None]) -> str:
    """A path that is level for each step, and broken where there is no value."""
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
    """A path around a box for each step, from its top to its bottom; those of no height are left out."""
    step = panel.step_seconds
    return "".join(
        box(panel.x(index * step), panel.x((index + 1) * step), top, bottom)
        for index, (top, bottom) in enumerate(heights)
        if bottom - top >= 0.1
    )


def frame(panel: Panel, marks: Iterable[Mark], content: str) -> str:
    """The paper, its marks, time below, and what is drawn on it."""
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
    """Hours, or minutes where there are few of them."""
    step = next((s for s in TIME_STEPS_SECONDS if seconds / s <= TIME_MARKS_MAX), TIME_STEPS_SECONDS[-1])
    for at in range(0, math.floor(seconds) + 1, step):
        yield float(at), "0" if at == 0 else f"{at / 3600:g} h" if step >= 1800 else f"{at / 60:g} min"


def count_marks(most: float) -> list[Mark]:
    """0 and a few whole, round numbers, none above the top."""
    size = 10.0 ** math.floor(math.log10(max(1.0, most)))
    steps = [size * share for share in (0.2, 0.25, 0.5, 1.0, 2.0, 2.5, 5.0)]
    step = next(s for s in steps if s.is_integer() and most / s <= COUNT_STEPS_MAX)
    return [(step * n, f"{step * n:.0f}") for n in range(math.floor(most / step) + 1)]


def decade_marks(least: float, most: float) -> list[Mark]:
    """Every power of ten from `least` to `most`."""
    decades = range(round(math.log10(least)), round(math.log10(most)) + 1)
    return [(10.0**n, f"{10.0**n:.{max(0, -n)}f}") for n in decades]
