"""Draws the pictures of `fleetctl status` and `fleetctl connections` in the docs, from realistic statuses.

Run from the project's root: `python docs/draw_status.py`. It renders with the code of fleetctl itself.
"""

from __future__ import annotations

import sys
from io import StringIO
from pathlib import Path

from msgspec.structs import replace
from rich.console import Console
from rich.terminal_theme import TerminalTheme

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from fleetd import __version__  # noqa: E402
from fleetd.cli.screens.connections import connection_screen  # noqa: E402
from fleetd.cli.screens.status import status_screen  # noqa: E402
from fleetd.cli.terminal.lines import Lines, Page  # noqa: E402
from fleetd.cli.terminal.symbols import UNICODE  # noqa: E402
from tests.support.builders import status_examples  # noqa: E402

WIDTH, HEIGHT = 100, 34

THEME = TerminalTheme(
    (22, 24, 33),
    (205, 209, 224),
    [
        (22, 24, 33),
        (240, 97, 109),
        (124, 199, 132),
        (236, 190, 105),
        (104, 156, 245),
        (198, 146, 240),
        (92, 201, 220),
        (205, 209, 224),
    ],
)

# rich's own frame loads a font from the net; whoever looks at a README should tell nobody else.
FRAME = """\
<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
    <style>
    .{unique_id}-matrix {{
        font-family: "Cascadia Mono", "DejaVu Sans Mono", Menlo, Consolas, monospace;
        font-size: {char_height}px; line-height: {line_height}px; font-variant-east-asian: full-width;
    }}
    .{unique_id}-title {{ font-size: 18px; font-weight: bold; font-family: sans-serif; }}
    {styles}
    </style>
    <defs>
    <clipPath id="{unique_id}-clip-terminal">
      <rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
    </clipPath>
    {lines}
    </defs>
    {chrome}
    <g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
    {backgrounds}
    <g class="{unique_id}-matrix">
    {matrix}
    </g>
    </g>
</svg>
"""


def draw(command: str, lines: Lines, width: int) -> str:
    """The picture of a screen."""
    console = Console(file=StringIO(), record=True, width=width, force_terminal=True, color_system="truecolor")
    for line in lines:
        console.print(line)
    return console.export_svg(title=command, theme=THEME, code_format=FRAME, unique_id="fleetctl")


if __name__ == "__main__":
    page = Page(WIDTH, UNICODE)
    for command, lines in (
        ("status", status_screen(replace(status_examples.surge(), version=__version__), page, height=HEIGHT)),
        ("connections", connection_screen(replace(status_examples.ALL["direct"](), version=__version__), page)),
    ):
        picture = draw(f"fleetctl {command}", lines, WIDTH)
        (ROOT / "docs" / f"fleetctl-{command}.svg").write_text(picture, encoding="utf-8")
