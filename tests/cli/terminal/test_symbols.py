from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fleetd.cli.advice.verdict import Level
from fleetd.cli.terminal.symbols import ASCII, UNICODE, Symbols, bar, stacked

SYMBOLS = st.sampled_from([ASCII, UNICODE])


@given(st.floats(-1, 3), st.integers(2, 80), SYMBOLS)
def test_a_bar_has_its_width_and_looks_empty_or_full_only_if_it_is(share: float, cells: int, symbols: Symbols) -> None:
    text = bar(share, cells, "red", symbols).plain
    assert len(text) == cells
    assert (text == symbols.fill * cells) == (share >= 1)
    assert (text == symbols.track * cells) == (share <= 0)


def test_a_half_filled_bar() -> None:
    assert bar(0.5, 8, "red", ASCII).plain == "####...."
    assert bar(0.44, 8, "red", UNICODE).plain == "━━━╸────"


@given(st.tuples(*[st.integers(0, 1000)] * 5), st.integers(8, 120), SYMBOLS)
def test_segments_fill_the_bar_in_proportion(shares: tuple[int, ...], cells: int, symbols: Symbols) -> None:
    text = stacked(shares, cells, symbols).plain
    assert len(text) == cells
    total = sum(shares)
    for share, glyph in zip(shares, symbols.segments, strict=True):
        if total:
            assert (glyph in text) == (share > 0)
            assert abs(text.count(glyph) - share * cells / total) < 4


def test_every_level_and_every_segment_has_its_own_sign() -> None:
    for symbols in (ASCII, UNICODE):
        assert len({symbols.signs[level] for level in Level}) == len(Level)
        assert len(set(symbols.segments)) == 5
