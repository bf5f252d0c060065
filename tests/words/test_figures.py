from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetd.cli.terminal.safe_text import clean
from fleetd.words.figures import count, duration, numbers, size


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, "?"),
        (float("nan"), "?"),
        (-3.0, "0 s"),
        (0.0, "0 s"),
        (0.01, "<0.1 s"),
        (0.3, "0.3 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (42.4, "42 s"),
        (119.4, "119 s"),
        (119.6, "2 min"),
        (210.0, "3.5 min"),
        (1260.0, "21 min"),
        (5400.0, "1.5 h"),
        (86400.0 * 12 + 5, "12 d"),
        (float("inf"), ">9999 d"),
    ],
)
def test_durations_are_short_and_never_invent_a_zero(seconds: float | None, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("size_bytes", "words"),
    [(None, "?"), (0, "0 MB"), (712 * 1024**2, "712 MB"), (1288490189, "1.2 GB"), (252 * 1024**3, "252 GB")],
)
def test_sizes(size_bytes: int | None, words: str) -> None:
    assert size(size_bytes) == words


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (None, "?"),
        (0, "0"),
        (16.2, "16.2"),
        (402.5, "402"),
        (91377, "91,377"),
        (2_500_000, "2.5 M"),
        (1e15, "1e+15"),
    ],
)
def test_counts(number: float | None, words: str) -> None:
    assert count(number) == words


def test_instance_numbers_are_drawn_together() -> None:
    assert numbers([4, 1, 2, 3, 9, 7, 8, 12, 13]) == "1-4, 7-9, 12, 13"
    assert numbers([]) == ""


def test_what_could_steer_a_terminal_is_shown_as_its_escape() -> None:
    assert clean("a\x1b[2Jb\rc\x9b31m") == "a\\x1b[2Jb c\\x9b31m"
    assert clean("gnp.\u202egpj") == "gnp.\\u202egpj"
    assert clean("\ud800") == "\\ud800"


@given(st.text())
def test_cleaned_text_is_printable_and_bounded(text: str) -> None:
    assert clean(text).isprintable()
    assert len(clean(text)) <= 600
    assert clean(text, ascii_only=True).isascii()
