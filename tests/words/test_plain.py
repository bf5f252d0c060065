"""What people are shown of others' names: one line, and nothing in it that can't be seen."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetd.words.plain import is_plain, plain


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("default", "default"),
        ("a\nb\tc\r", r"a\nb\tc\r"),
        ("\x1b[2J", r"\x1b[2J"),
        ("\x9b31m\x7f", r"\x9b31m\x7f"),
        ("txt.\u202eexe", r"txt.\u202eexe"),
        ("\u202a\u202d\u2066\u2069\u200e\u200f\u061c", r"\u202a\u202d\u2066\u2069\u200e\u200f\u061c"),
        ("\u200b\u200c\u200d\u2060\ufeff\u00ad", r"\u200b\u200c\u200d\u2060\ufeff\xad"),
        ("\u2028\u2029", r"\u2028\u2029"),
        ("\U000e0041\U000e0101", r"\U000e0041\U000e0101"),
        ("\u3164\u115f\ufe0f\u2800", r"\u3164\u115f\ufe0f\u2800"),
        ("\udcff", r"\udcff"),
        ("a\u00a0b\u2009c\u3000d", "a b c d"),
        ("für … → „日本“ ×", "für … → „日本“ ×"),
    ],
)
def test_what_is_shown(text: str, shown: str) -> None:
    assert plain(text) == shown


@given(st.text())
def test_nothing_is_left_that_steers_or_hides(text: str) -> None:
    shown = plain(text)
    assert all(map(is_plain, shown))
    assert plain(shown) == shown
    assert shown.isprintable()
    assert not {unicodedata.category(c) for c in shown} & {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
    assert len(shown.splitlines()) <= 1
