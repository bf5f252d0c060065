"""Tables of figures: whatever the width, no figure is cut and no line is too long."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from fleetd.cli.terminal.symbols import ASCII, UNICODE
from fleetd.cli.terminal.tables import Column, table

COLUMNS = (
    Column("queue", left=True, least=8),
    Column("jobs"),
    Column("p95"),
    Column("late"),
)
figures = st.integers(0, 10**9).map(str)
rows = st.lists(
    st.tuples(st.from_regex(r"[a-z_]{1,64}", fullmatch=True), figures, figures, figures), min_size=1
)


@given(rows=rows, width=st.integers(20, 120))
def test_every_figure_is_whole_and_no_line_too_long(rows: list[tuple[str, ...]], width: int) -> None:
    lines = [line.plain for line in table(COLUMNS, [list(row) for row in rows], width, ASCII)]
    assert max(map(cell_len, lines)) <= width
    words = [word for line in lines for word in line.split()]
    assert [w for w in words if w.isdigit()] == [figure for row in rows for figure in row[1:]]


def test_names_are_cut_before_rows_are_stacked() -> None:
    row = ["a_queue_of_a_long_name", "1234567", "120 s", "12.34%"]
    stacked = [line.plain for line in table(COLUMNS, [row], 24, UNICODE)]
    assert stacked == [
        " a_queue_of_a_long_name",
        "   jobs 1234567",
        "   p95  120 s",
        "   late 12.34%",
    ]


@pytest.mark.parametrize("width", [36, 40, 50])
def test_what_fits_is_a_line_each(width: int) -> None:
    row = ["a_queue_of_a_long_name", "1234567", "120 s", "12.34%"]
    head, line = (line.plain for line in table(COLUMNS, [row], width, UNICODE))
    assert len(head) == len(line) <= width
    assert line.startswith(" a_queue")
    assert line.endswith("1234567  120 s  12.34%")
