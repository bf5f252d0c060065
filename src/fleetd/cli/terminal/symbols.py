"""Signs and bars. Each level has its own sign, since colours may be off and some people can't tell them apart."""

from __future__ import annotations

from dataclasses import dataclass

from rich.text import Text

from fleetd.cli.advice.verdict import Level

STYLES = {Level.OK: "green", Level.MOVING: "cyan", Level.WARN: "yellow", Level.UNKNOWN: "magenta", Level.BAD: "red"}
QUIET = "dim"


@dataclass(frozen=True)
class Symbols:
    """The characters that a terminal can draw."""

    ascii_only: bool
    signs: dict[Level, str]
    fill: str
    half: str | None  # half a cell of fill; None: the terminal has none
    track: str
    mark: str  # where the target is in a bar that goes past it, and before a line of the journal
    segments: tuple[str, str, str, str, str]  # others, perhaps others', claims, headroom, reserve
    dot: str
    pin: str
    ellipsis: str
    arrow: str
    minus: str


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
    ellipsis="…",
    arrow="→",
    minus="−",
)
ASCII = Symbols(
    ascii_only=True,
    signs={Level.OK: "+", Level.MOVING: ">", Level.WARN: "!", Level.UNKNOWN: "?", Level.BAD: "X"},
    fill="#",
    half=None,
    track=".",
    mark="|",
    segments=("#", "?", "=", ".", "x"),
    dot="-",
    pin="=",
    ellipsis="~",
    arrow="->",
    minus="-",
)

BANNER_STYLE = "bold reverse yellow"
PIN_STYLE = "bold blue"
SEGMENT_STYLES = ("blue", "magenta", "cyan", "green", "yellow")


def bar(share: float, cells: int, style: str, symbols: Symbols) -> Text:
    """A bar of `cells`, filled to `share`. It looks empty only at 0 or less, and full only at 1 or more."""
    share = min(max(share, 0.0), 1.0)
    halves = round(share * cells * 2)
    if 0 < share < 1:
        halves = min(max(halves, 1), cells * 2 - 1)
    full, half = divmod(halves, 2)
    if half and symbols.half is None:
        full, half = max(full, 1), 0
    filled = symbols.fill * full + (symbols.half or "") * half
    return Text.assemble((filled, style), (symbols.track * (cells - full - half), QUIET))


def stacked(shares: tuple[int, ...], cells: int, symbols: Symbols) -> Text:
    """A bar of `cells`, divided in proportion. Each share above 0 gets at least one cell if there is room."""
    total = sum(shares)
    if total <= 0 or cells <= 0:
        return Text(symbols.track * cells, QUIET)
    exact = [share * cells / total for share in shares]
    widths = [max(int(width), 1) if share else 0 for width, share in zip(exact, shares, strict=True)]
    while sum(widths) > cells:
        widths[widths.index(max(widths))] -= 1
    while sum(widths) < cells:
        short = [width - have if share else -1.0 for width, have, share in zip(exact, widths, shares, strict=True)]
        widths[short.index(max(short))] += 1
    line = Text()
    for width, glyph, style in zip(widths, symbols.segments, SEGMENT_STYLES, strict=True):
        line.append(glyph * width, style)
    return line


def sign(level: Level, symbols: Symbols) -> tuple[str, str]:
    """The level's sign and style, for Text.assemble."""
    return symbols.signs[level], f"bold {STYLES[level]}"
