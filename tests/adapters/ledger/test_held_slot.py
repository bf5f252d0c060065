"""Who holds the scheduler's slot, as the ledger has it, and everything that is no answer."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from fleetd.adapters.ledger.arguments import beat_arguments
from fleetd.adapters.ledger.held_slot import beat_question, held_slot, holder_in, slot_question
from fleetd.adapters.ledger.ledger import LEDGER_KEY
from fleetd.core.fleet.calls import Beat, Server
from fleetd.core.fleet.rival import HeldSlot
from fleetd.core.fleet.state import FORMAT
from tests.support.fleet.ledger_script import Scripted
from tests.support.rig.redis_server import command


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


@pytest.mark.parametrize(("told", "holder"), [("there", "w2"), ("kept", ""), ("gone", "")])
def test_it_reads_the_ledger_that_fleetd_writes(client: redis.Redis, told: Any, holder: str) -> None:
    script = Scripted(client)
    for now_ms in (1_000_000, 1_003_000):
        for unit in ("there", told):
            call = Beat(
                fleet="a/b",
                host="w2",
                boot_id="b",
                nonce="n",
                tick_ms=5000,
                own_scheduler=unit,
                schedulers=(),
                claims={},
            )
            script.run(beat_arguments(call), Server(time_ms=now_ms, run_id="r"))
    reply: Any = command(client, *slot_question(""))
    assert holder_in(reply) == holder
    found = held_slot(reply, command(client, *beat_question("", "w2")), 1_005_000)
    assert found == (HeldSlot(host="w2", silent_seconds=2.0) if holder else None)
    assert slot_question("m:")[1] == f"m:{LEDGER_KEY}"
