"""Who holds the scheduler's slot, as the ledger has it, and everything that is no answer."""

from __future__ import annotations

import pytest

from fleetd.adapters.ledger.held_slot import held_slot, holder_in
from fleetd.core.fleet.rival import HeldSlot
from fleetd.core.fleet.state import FORMAT


def ledger(
    holder: str | None = "w2", unit: str = "there", *, form: str = str(FORMAT), clock: str = "90000"
) -> list[bytes | None]:
    """Redis's clock was at 1,000 s when a host last beat."""
    values = (form, clock, "1000000", holder, unit)
    return [None if value is None else value.encode() for value in values]


def beat(at_ms: int) -> bytes:
    return b'{"boot_id":"a","beat_ms":%d,"gone":false}' % at_ms


def test_the_holder_whose_unit_is_there() -> None:
    assert holder_in(ledger()) == "w2"
    assert held_slot(ledger(), beat(85_000), 1_000_000) == HeldSlot(host="w2", silent_seconds=5.0)


def test_while_nobody_beats_the_holder_grows_silent_by_redis_clock() -> None:
    assert held_slot(ledger(), beat(90_000), 1_070_000) == HeldSlot(host="w2", silent_seconds=70.0)


def test_nothing_is_known_after_redis_clock_was_set_back() -> None:
    assert held_slot(ledger(), beat(90_000), 999_000) is None


@pytest.mark.parametrize(
    "reply",
    [
        None,
        [],
        [None] * 5,
        ledger(None),
        ledger(""),
        ledger(unit="gone"),
        ledger(unit="kept"),
        ledger(form=str(FORMAT + 1)),
        ledger(form=""),
        ledger(clock="soon"),
        [b"\xff"] * 5,
        object(),
    ],
)
def test_no_ledger_a_later_one_and_nonsense_name_nobody(reply: object) -> None:
    assert holder_in(reply) == ""
    assert held_slot(reply, beat(85_000), 1_000_000) is None


@pytest.mark.parametrize("told", [None, b"soon", b"", b"{}", b'{"beat_ms":"x"}', b"[" * 100_000, object()])
def test_a_holder_that_never_beat_holds_nothing(told: object) -> None:
    assert held_slot(ledger(), told, 1_000_000) is None
