"""What a number from outside can be."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetd.core.model.bounds import BOUNDS, ImpossibleNumberError, Unit, essential, impossible_in, real, whole

DIGITS = "9" * 400


@pytest.mark.parametrize("unit", list(BOUNDS))
def test_both_ends_of_the_bounds_are_possible_and_nothing_beyond(unit: Unit) -> None:
    low, high = BOUNDS[unit]
    assert [whole(n, unit) for n in (low - 1, low, high, high + 1)] == [None, low, high, None]
    assert [whole(str(n), unit) for n in (low - 1, low, high, high + 1)] == [None, low, high, None]
    assert [real(n, unit) for n in (low - 1, low, high, high + 1)] == [None, low, high, None]


@pytest.mark.parametrize("value", [None, True, "", " 1", "1 ", "+1", "1_0", "٣", "0x1", DIGITS, int(DIGITS), [1], {}])
def test_what_is_no_number_or_not_a_possible_one_is_unknown(value: Any) -> None:
    assert whole(value, "threads") is None
    assert real(value, "seconds") is None
    if isinstance(value, str):
        assert whole(value.encode(), "threads") is None
        assert real(value.encode(), "seconds") is None


@pytest.mark.parametrize("value", ["inf", "-inf", "nan", "1e999", "1e400", "Infinity", "1.", ".5", "1e", "1e+", "--1"])
def test_text_that_only_a_lenient_reader_takes_for_a_number(value: str) -> None:
    assert real(value, "seconds") is None
    assert real(value.encode(), "seconds") is None


def test_what_the_sources_write() -> None:
    assert real(b"1760000000.1234567", "time") == 1760000000.1234567
    assert real(b"1.760000000e+12", "time") == 1.76e12  # milliseconds
    assert real(b"-3.5", "seconds") == -3.5
    assert real(float("nan"), "seconds") is None
    assert real(float("inf"), "seconds") is None
    assert whole(1.0, "threads") is None  # nobody writes a count like that
    assert whole(b"007", "threads") == 7


def test_an_essential_number_that_cannot_be_is_named_but_not_quoted() -> None:
    assert essential("5", "max_client_conn", "connections") == 5
    with pytest.raises(ImpossibleNumberError) as caught:
        essential("hunter2", "max_client_conn", "connections")
    assert str(caught.value) == "max_client_conn is not a number from 0 to 2147483647"


numbers = st.integers() | st.floats() | st.sampled_from([10**400, -(10**400), 2**63, 2**64])


@given(numbers | st.text(max_size=50) | st.binary(max_size=50) | numbers.map(str) | st.none())
def test_nothing_raises_and_what_comes_out_is_within_bounds(value: object) -> None:
    for unit, (low, high) in BOUNDS.items():
        for found in (whole(value, unit), real(value, unit)):
            assert found is None or low <= found <= high


@pytest.mark.parametrize(
    ("document", "where"),
    [
        ({"a": [1, 2.5, {"b": "9" * 400, "c": None, "d": True}]}, None),
        ({"a": [1, {"b": 2**53 + 1}]}, "a[1].b"),
        ({"a": -1e300}, "a"),
        ([float("nan")], "[0]"),
        (10**400, "the number"),
    ],
)
def test_the_first_number_of_a_document_that_cannot_be(document: Any, where: str | None) -> None:
    assert impossible_in(document) == where


def test_a_document_without_numbers_below_zero() -> None:
    assert impossible_in({"a": [-1]}) is None
    assert impossible_in({"a": [-1]}, 0) == "a[0]"


def test_deep_documents_are_searched_as_far_as_they_can_be_decoded() -> None:
    assert impossible_in(msgspec.json.decode(b"[" * 500 + b"1e300" + b"]" * 500)) is not None
