"""Text and tables fitted to a width: no line is too long, and no number is cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.text import Text

from fleetd.cli.terminal.lines import Column, Page, columns, hanging, table
from fleetd.cli.terminal.symbols import ASCII, UNICODE

COLUMNS = (
    Column("queue", left=True, cells_min=8),
    Column("jobs"),
    Column("p95"),
    Column("late"),
)
numbers = st.integers(0, 10**9).map(str)
rows = st.lists(st.tuples(st.from_regex(r"[a-z_]{1,64}", fullmatch=True), numbers, numbers, numbers), min_size=1)


@given(rows=rows, width=st.integers(20, 120))
def test_every_number_is_whole_and_no_line_too_long(rows: list[tuple[str, ...]], width: int) -> None:
    lines = [line.plain for line in table(COLUMNS, rows, Page(width, ASCII))]
    assert max(map(cell_len, lines)) <= width
    words = [word for line in lines for word in line.split()]
    assert [w for w in words if w.isdigit()] == [number for row in rows for number in row[1:]]


def test_names_are_cut_before_rows_are_stacked() -> None:
    row = ["a_queue_of_a_long_name", "1234567", "120 s", "12.34%"]
    stacked = [line.plain for line in table(COLUMNS, [row], Page(24, UNICODE))]
    assert stacked == [
        "  a_queue_of_a_long_name",
        "    jobs  1234567",
        "    p95   120 s",
        "    late  12.34%",
    ]


@pytest.mark.parametrize("width", [37, 40, 50])
def test_rows_that_fit_take_one_line_each(width: int) -> None:
    row = ["a_queue_of_a_long_name", "1234567", "120 s", "12.34%"]
    head, line = (line.plain for line in table(COLUMNS, [row], Page(width, UNICODE)))
    assert len(head) == len(line) <= width
    assert line.startswith("  a_queue")
    assert line.endswith("1234567  120 s  12.34%")


def test_a_long_body_is_wrapped_beside_its_head_or_below_it() -> None:
    lines = Page(30, ASCII).wrap("head: ", "one two three four five six seven")
    assert [line.plain for line in lines] == ["head: one two three four five", "      six seven"]
    narrow = Page(20, ASCII).wrap("a long head: ", "one two three four")
    assert [line.plain for line in narrow] == ["a long head: ", "  one two three four"]


def test_a_text_is_cut_with_an_ellipsis_only_on_request() -> None:
    cut = hanging(Text("> "), "one two three four", 12, symbols=UNICODE, lines_max=1)
    assert [line.plain for line in cut] == ["> one two…"]
    assert len(hanging(Text("> "), "word " * 50, 12, symbols=UNICODE)) == 25


def test_cells_fill_as_many_columns_as_fit() -> None:
    cells = [Text(word) for word in ("one", "three", "five", "seven")]
    assert [line.plain for line in columns(cells, Page(14, ASCII), indent=2)] == [
        "  one    three",
        "  five   seven",
    ]
    assert [line.plain for line in columns(cells, Page(8, ASCII, dense=True), indent=2)] == [
        "  one",
        "  three",
        "  five",
        "  seven",
    ]


def test_blocks_are_joined_with_an_empty_line_unless_dense() -> None:
    blocks = [[Text("a")], [], [Text("b" * 50)]]
    assert [line.plain for line in Page(20, ASCII).joined(blocks)] == ["a", "", "b" * 20]
    assert [line.plain for line in Page(20, ASCII, dense=True).joined(blocks)] == ["a", "b" * 20]
