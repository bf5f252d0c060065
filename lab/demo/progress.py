"""Shows the steps of installing and booting, one line each with its time. A terminal gets a spinner."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from fleetd.cli.advice.verdict import Level
from fleetd.cli.terminal.lines import fit
from fleetd.cli.terminal.symbols import QUIET, STYLES, Symbols


class Steps:
    """`begin` ends the previous step. Use it as a context manager; an error inside marks the last step as failed."""

    def __init__(self, console: Console, symbols: Symbols, *, plain: bool) -> None:
        self._console = console
        self._symbols = symbols
        self._began = self._step_began = time.monotonic()
        self._step = ""
        self._detail = ""
        self._spinner = Spinner("line" if symbols.ascii_only else "dots")
        self._plain = plain
        self._live: Live | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._finish(well=error is None)

    def begin(self, step: str) -> None:
        """Begin this step."""
        self._finish(well=True)
        self._step, self._detail, self._step_began = step, "", time.monotonic()
        if self._plain:
            print(f"{self._step_began - self._began:6.1f} s  {step}", flush=True)
            return
        self._live = Live(console=self._console, get_renderable=self._under_way, refresh_per_second=8, transient=True)
        self._live.start()

    def end(self) -> None:
        """End the current step."""
        self._finish(well=True)

    def detail(self, text: str) -> None:
        """Show a detail of the current step."""
        self._detail = text
        if self._plain and self._step:
            print(f"          {text}", flush=True)

    def _finish(self, *, well: bool) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None
            level = Level.OK if well else Level.BAD
            line = Text.assemble((self._symbols.signs[level], f"bold {STYLES[level]}"), f" {self._step}")
            line.append(f"  {time.monotonic() - self._step_began:.1f} s", QUIET)
            self._console.print(line, soft_wrap=True)
        self._step = ""

    def _under_way(self) -> RenderableType:
        now = time.monotonic()
        frame = self._spinner.render(now)
        mark = frame if isinstance(frame, Text) else Text("*")
        detail = f" ({self._detail})" if self._detail else ""
        text = fit(f"{self._step}{detail}", self._console.width - 12, self._symbols)
        return Text.assemble(mark, " ", text, (f"  {now - self._step_began:.0f} s", QUIET))
