"""Foreign text cannot control a terminal."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetd.cli.client import write_json
from fleetd.cli.terminal.safe_text import clean
from fleetd.words.plain import is_plain


def test_control_characters_are_shown_as_escapes() -> None:
    assert clean("a\x1b[2Jb\rc\x9b31m") == "a\\x1b[2Jb c\\x9b31m"
    assert clean("gnp.\u202egpj") == "gnp.\\u202egpj"
    assert clean("\ud800") == "\\ud800"


def test_json_is_safe_to_print_and_exact(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    names = ["\x9b\x7f", "txt.\u202eexe\u2066\u200b\ufeff\u061c", "\U000e0041\u3164", "für … 日本"]
    write_json(json.dumps(names, ensure_ascii=False, indent=1))
    shown = capfdbinary.readouterr().out.decode()
    assert json.loads(shown) == names
    assert all(map(is_plain, shown.replace("\n", "")))
    assert "für … 日本" in shown


@given(st.text())
def test_cleaned_text_is_printable_and_bounded(text: str) -> None:
    assert clean(text).isprintable()
    assert len(clean(text)) <= 600
    assert clean(text, ascii_only=True).isascii()
