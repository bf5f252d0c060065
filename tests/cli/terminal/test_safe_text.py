"""Foreign text cannot control a terminal."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fleetd.cli.terminal.safe_text import clean


def test_control_characters_are_shown_as_escapes() -> None:
    assert clean("a\x1b[2Jb\rc\x9b31m") == "a\\x1b[2Jb c\\x9b31m"
    assert clean("gnp.\u202egpj") == "gnp.\\u202egpj"
    assert clean("\ud800") == "\\ud800"


@given(st.text())
def test_cleaned_text_is_printable_and_bounded(text: str) -> None:
    assert clean(text).isprintable()
    assert len(clean(text)) <= 600
    assert clean(text, ascii_only=True).isascii()
