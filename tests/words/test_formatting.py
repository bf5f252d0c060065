"""Numbers, times and names in sentences."""

from __future__ import annotations

import pytest

from fleetd.core.model.person import Person
from fleetd.words.formatting import (
    are,
    capitalised,
    count,
    counts,
    duration,
    nearest,
    numbers,
    rate,
    sentence,
    size,
    times,
    who,
)


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


@pytest.mark.parametrize(
    ("per_second", "words"),
    [(None, "?/s"), (0.0, "0/s"), (1e-9, "<0.1/s"), (0.05, "0.1/s"), (3.0, "3/s"), (9.98, "10/s"), (412.3, "412/s")],
)
def test_rates(per_second: float | None, words: str) -> None:
    assert rate(per_second) == words


def test_three_instance_numbers_in_a_row_are_a_range() -> None:
    assert numbers([4, 1, 2, 3, 9, 7, 8, 12, 13]) == "1-4, 7-9, 12, 13"
    assert numbers([]) == ""


def test_nouns_follow_their_number() -> None:
    assert [times(n, "job") for n in (0, 1, 2000)] == ["0 jobs", "1 job", "2,000 jobs"]
    assert times(2, "client waits", "clients wait") == "2 clients wait"


def test_how_many_instances_there_may_be_is_no_range_of_numbers() -> None:
    assert (counts(2, 6), counts(1, 1), counts(3, 3)) == ("2 to 6 instances", "1 instance", "3 instances")
    assert (are(1), are(0), are(1200)) == ("1 is", "0 are", "1,200 are")


def test_who_gave_an_order() -> None:
    assert who(Person(user="root", login="alice")) == "root (sudo alice)"
    assert who(Person(user="deploy")) == "deploy"
    assert who(None) == "fleetctl", "a memory of 0.2.0 has nobody"


def test_a_sentence_ends_once_and_keeps_its_inner_capitals() -> None:
    assert [sentence(text) for text in ("a", "a.", " why? ", "")] == ["a.", "a.", "why?", ""]
    assert capitalised("the VM") == "The VM"


def test_a_mistyped_name_gets_the_nearest_or_all_of_them() -> None:
    assert nearest("Stauts", ["status", "set"]) == "Did you mean status?"
    assert nearest("x", ["status", "set"]) == "There are: status, set."
