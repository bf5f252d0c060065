"""Who holds the scheduler's slot, as the ledger has it, and everything that is no answer."""

from __future__ import annotations

import pytest

from fleetd.adapters.ledger.held_slot import held_slot, holder_in
from fleetd.core.fleet.rival import HeldSlot

THERE = b'{"holder":"w2","unit":"there","sighted_ms":5}'


def ledger(slot: bytes | None = THERE, *, format_: bytes = b"1", clock: bytes = b"90000") -> list[bytes | None]:
    """Redis's clock was at 1,000 s when a host last beat."""
    return [format_, clock, b"1000000", slot]


def test_the_holder_whose_unit_is_there() -> None:
    assert holder_in(ledger()) == "w2"
    assert held_slot(ledger(), b"85000", 1_000_000) == HeldSlot(host="w2", silent_seconds=5.0)


def test_while_nobody_beats_the_holder_grows_silent_by_redis_clock() -> None:
    assert held_slot(ledger(), b"90000", 1_070_000) == HeldSlot(host="w2", silent_seconds=70.0)


def test_nothing_is_known_after_redis_clock_was_set_back() -> None:
    assert held_slot(ledger(), b"90000", 999_000) is None


@pytest.mark.parametrize(
    "reply",
    [
        None,
        [],
        [None] * 4,
        ledger(None),
        ledger(b"not json"),
        ledger(b"[]"),
        ledger(format_=b"2"),
        ledger(b'{"holder":"w2","unit":"gone"}'),
        ledger(b'{"holder":"w2","unit":"kept"}'),
        ledger(b'{"holder":""}'),
        ledger(b"[" * 100_000),
        object(),
    ],
)
def test_no_ledger_a_later_one_and_nonsense_name_nobody(reply: object) -> None:
    assert holder_in(reply) == ""
    assert held_slot(reply, b"85000", 1_000_000) is None


@pytest.mark.parametrize("beat", [None, b"soon", b"", object()])
def test_a_holder_that_never_beat_holds_nothing(beat: object) -> None:
    assert held_slot(ledger(), beat, 1_000_000) is None
