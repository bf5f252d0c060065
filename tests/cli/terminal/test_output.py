"""The console of standard output."""

from __future__ import annotations

import pytest

from fleetd.cli.terminal.output import open_console


@pytest.mark.parametrize(("columns", "width"), [("0", 80), ("5", 80), ("60", 60), ("132", 132)])
def test_a_width_in_which_nothing_can_be_drawn_is_none(
    monkeypatch: pytest.MonkeyPatch, columns: str, width: int
) -> None:
    """With COLUMNS=0 rich draws nothing at all, and reports no error."""
    monkeypatch.setenv("COLUMNS", columns)
    console, _ = open_console()
    assert console.width == width
