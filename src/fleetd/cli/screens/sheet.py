"""How much room there is, and how it is spent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from rich.text import Text

from fleetd.cli.advice.last_words import LastWords
from fleetd.cli.terminal.lines import left
from fleetd.cli.terminal.symbols import Symbols

LABEL_CELLS = 13


@dataclass(frozen=True)
class Sheet:
    """What a section may use; a denser sheet says less per thing, never about fewer."""

    width: int
    symbols: Symbols
    subline: bool = True
    cell_kind: str = "wide"  # wide | middle | small: an instance's cell
    blank_lines: bool = True
    events: int = 4
    wrap_lines: int = 4  # of one sentence
    last_words: Mapping[str, LastWords] = field(default_factory=dict)  # by unit
    journal_lines: int = 3  # of one unit

    def label(self, text: str) -> Text:
        return Text(left(text, LABEL_CELLS if self.width >= 50 else LABEL_CELLS - 1, self.symbols), "bold")
