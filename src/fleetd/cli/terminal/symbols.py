"""Signs and bars; each level has a sign of its own, so that nothing hangs on colour alone."""

from __future__ import annotations

from dataclasses import dataclass

from rich.text import Text

from fleetd.cli.advice.verdict import Level

STYLES = {
    Level.OK: "green",
    Level.MOVING: "cyan",
    Level.WARN: "yellow",
    Level.UNKNOWN: "magenta",
    Level.BAD: "red",
}
QUIET = "dim"


@dataclass(frozen=True)
class Symbols:
    """What the terminal can draw."""

    ascii_only: bool
    signs: dict[Level, str]
    fill: str
    half: str  # half a cell of fill; "" where there is none
    track: str
    mark: str  # where the target is in a bar that goes beyond it
    segments: tuple[str, str, str, str, str]  # others, perhaps others', claims, headroom, reserve
    dot: str
    pin: str
    quote: str  # before what another program said
    ellipsis: str
    arrow: str
    minus: str
    at_most: str


UNICODE = Symbols(
    ascii_only=False,
    signs={Level.OK: "✔", Level.MOVING: "»", Level.WARN: "▲", Level.UNKNOWN: "?", Level.BAD: "✖"},
    fill="━",
    half="╸",
    track="─",
    mark="┃",
    segments=("█", "▚", "▓", "░", "▒"),
    dot="·",
    pin="◆",
    quote="│",
    ellipsis="…",
    arrow="→",
    minus="−",
    at_most="≤",
)
ASCII = Symbols(
    ascii_only=True,
    signs={Level.OK: "+", Level.MOVING: ">", Level.WARN: "!", Level.UNKNOWN: "?", Level.BAD: "X"},
    fill="#",
    half="",
    track=".",
    mark="|",
    segments=("#", "?", "=", ".", "x"),
    dot="-",
    pin="=",
    quote="|",
    ellipsis="~",
    arrow="->",
    minus="-",
    at_most="<=",
)

BANNER_STYLE = "bold reverse yellow"
PIN_STYLE = "bold blue"
SEGMENT_STYLES = ("blue", "magenta", "cyan", "green", "yellow")


def bar(share: float, cells: int, style: str, symbols: Symbols) -> Text:
    """`share` of `cells` filled; anything above 0 shows at least a trace, only 1 and more is full."""
    share = min(max(share, 0.0), 1.0)
    halves = round(share * cells * 2)
    if 0 < share < 1:
        halves = min(max(halves, 1), cells * 2 - 1)
    full, half = divmod(halves, 2)
    if half and not symbols.half:
        full, half = (full + 1, 0) if full == 0 else (full, 0)
    return Text.assemble(
        (symbols.fill * full + symbols.half * half, style), (symbols.track * (cells - full - half), QUIET)
    )


def stacked(shares: tuple[int, ...], cells: int, symbols: Symbols) -> Text:
    """Segments that fill `cells` exactly, in proportion; one above 0 gets a cell of its own if there is room."""
    total = sum(shares)
    if total <= 0 or cells <= 0:
        return Text(symbols.track * cells, QUIET)
    exact = [share * cells / total for share in shares]
    widths = [max(int(width), 1) if share else 0 for width, share in zip(exact, shares, strict=True)]
    while sum(widths) > cells:
        widths[widths.index(max(widths))] -= 1
    while sum(widths) < cells:
        short = [
            width - have if share else -1.0 for width, have, share in zip(exact, widths, shares, strict=True)
        ]
        widths[short.index(max(short))] += 1
    line = Text()
    for width, glyph, style in zip(widths, symbols.segments, SEGMENT_STYLES, strict=True):
        line.append(glyph * width, style)
    return line


def sign(level: Level, symbols: Symbols) -> tuple[str, str]:
    """The sign with its style, ready for Text.assemble."""
    return symbols.signs[level], f"bold {STYLES[level]}"
