"""Examples of law 1 over hosts: who may run the scheduler, and from when on."""

from __future__ import annotations

import pytest

from fleetd.core.fleet.calls import Admitted, Code, Refusal, Start
from fleetd.core.fleet.slot import GHOST_MS, HERE_MS, RIVAL_MS
from tests.support.fleet.ledger_calls import Kept

SCHEDULER = Start(name="mastodon-sidekiq-scheduler.w2", claims={"pg": 5}, scheduler=True)
TAKEOVER_MS = 300_000


@pytest.fixture
def ledger() -> Kept:
    """w1 has the slot and its scheduler runs."""
    kept = Kept()
    kept.gather("w1", "w2")
    kept.beat("w1", own_scheduler="there")
    kept.beat("w2", schedulers=("w1",))
    return kept


def holder(ledger: Kept) -> tuple[str, str]:
    return ledger.state.slot.holder, ledger.state.slot.unit


def wait_ms(answer: Admitted) -> int:
    assert answer.refusal is not None
    assert answer.refusal.code is Code.SLOT
    return answer.refusal.wait_ms


def test_a_unit_that_runs_takes_a_slot_that_nobody_has() -> None:
    kept = Kept()
    assert kept.beat("w1", own_scheduler="there").slot.holder == "w1"


def test_the_slot_stays_while_its_holder_runs_and_any_other_waits(ledger: Kept) -> None:
    ledger.pass_ms(2 * TAKEOVER_MS, "w1", own_scheduler="there")
    assert wait_ms(ledger.admit("w2", SCHEDULER)) == TAKEOVER_MS
    ledger.beat("w2", own_scheduler="there", schedulers=("w1",))
    assert holder(ledger) == ("w1", "there")


def test_after_the_takeover_time_without_a_sighting_another_host_gets_it(ledger: Kept) -> None:
    ledger.pass_ms(TAKEOVER_MS - 10_000, "w2")
    assert 0 < wait_ms(ledger.admit("w2", SCHEDULER)) <= 10_000
    ledger.pass_ms(10_000, "w2")
    assert ledger.admit("w2", SCHEDULER) == Admitted(granted=1)
    assert holder(ledger) == ("w2", "there")


@pytest.mark.parametrize("seen", [{"schedulers": ("w1",)}, {"schedulers": None}, {"own_scheduler": "unknown"}])
def test_a_sighting_or_not_knowing_begins_the_takeover_time_anew(ledger: Kept, seen: dict[str, object]) -> None:
    ledger.pass_ms(TAKEOVER_MS - 10_000, "w2")
    ledger.beat("w2", **seen)
    assert wait_ms(ledger.admit("w2", SCHEDULER)) == TAKEOVER_MS


def test_the_named_host_waits_twenty_seconds_after_the_holder_said_gone(ledger: Kept) -> None:
    ledger.beat("w1")
    assert wait_ms(ledger.admit("w2", SCHEDULER, here=True)) <= HERE_MS
    ledger.pass_ms(HERE_MS, "w1", "w2")
    assert wait_ms(ledger.admit("w2", SCHEDULER)) > 200_000
    assert ledger.admit("w2", SCHEDULER, here=True) == Admitted(granted=1)


def test_the_named_host_waits_for_a_takeover_of_a_holder_that_is_silent(ledger: Kept) -> None:
    ledger.pass_ms(HERE_MS, "w2")
    assert wait_ms(ledger.admit("w2", SCHEDULER, here=True)) > 200_000


def test_a_unit_that_a_person_stopped_keeps_the_slot(ledger: Kept) -> None:
    ledger.pass_ms(2 * TAKEOVER_MS, "w1", "w2", own_scheduler="kept")
    assert holder(ledger) == ("w1", "kept")
    assert wait_ms(ledger.admit("w2", SCHEDULER)) > 0


def test_the_holder_starts_its_own_again_at_once(ledger: Kept) -> None:
    ledger.pass_ms(RIVAL_MS, "w1", "w2")
    assert ledger.admit("w1", SCHEDULER) == Admitted(granted=1)


def test_the_holder_waits_while_another_ones_was_just_seen(ledger: Kept) -> None:
    ledger.pass_ms(RIVAL_MS, "w1", "w2")
    ledger.beat("w1", schedulers=("w2",))
    assert ledger.admit("w1", SCHEDULER).refusal == Refusal(code=Code.SLOT, wait_ms=RIVAL_MS)


def test_a_unit_found_running_takes_the_slot_of_one_that_nobody_has_seen_for_long(ledger: Kept) -> None:
    ledger.pass_ms(GHOST_MS - 10_000, "w2")
    ledger.beat("w2", own_scheduler="there")
    assert holder(ledger)[0] == "w1"
    ledger.pass_ms(10_000, "w2", own_scheduler="there")
    assert holder(ledger)[0] == "w2"


def test_it_does_not_while_the_holders_is_seen_or_can_not_be_looked_for(ledger: Kept) -> None:
    ledger.pass_ms(2 * GHOST_MS, "w2")
    ledger.beat("w2", own_scheduler="there", schedulers=None)
    assert holder(ledger)[0] == "w1"
    ledger.beat("w2", own_scheduler="there", schedulers=("w1",))
    assert holder(ledger)[0] == "w1"


def test_while_gathering_whoever_runs_one_takes_it_from_a_holder_that_has_not_beaten(ledger: Kept) -> None:
    ledger.run_id = "after a failover that forgot that the slot had moved"
    ledger.beat("w2", own_scheduler="there")
    assert holder(ledger) == ("w2", "there")


def test_the_scheduler_of_a_machine_whose_name_is_taken_is_seen(ledger: Kept) -> None:
    ledger.beat("w1")
    assert ledger.refused("w1", boot_id="a clone", own_scheduler="there").code is Code.NAME_TAKEN
    assert wait_ms(ledger.admit("w1", SCHEDULER)) == RIVAL_MS
