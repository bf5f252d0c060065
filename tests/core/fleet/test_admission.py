"""Examples of law 2 over hosts: what is granted, beside what."""

from __future__ import annotations

import pytest

from fleetd.core.fleet.admission import admit
from fleetd.core.fleet.calls import Admitted, Code, Refusal, Start
from fleetd.core.fleet.rules import SILENT_MS
from tests.support.fleet.ledger_calls import Kept, admit_of

ONE = "mastodon-sidekiq@1.w1"
TWO = "mastodon-sidekiq@2.w1"
OTHER = "mastodon-sidekiq@1.w2"
OF_SCHEDULER = "mastodon-sidekiq-scheduler.w2"


@pytest.fixture
def ledger() -> Kept:
    kept = Kept()
    kept.gather("w1", "w2")
    return kept


def start(name: str = ONE, pg: int = 10, **others: int) -> Start:
    return Start(name=name, claims={"pg": pg, **others})


def too_many(over: int, source: str = "pg") -> Refusal:
    return Refusal(code=Code.CLAIMS, about=source, over=over)


def test_the_first_of_the_starts_that_fit_are_granted_and_claimed(ledger: Kept) -> None:
    assert ledger.admit("w1", start(ONE), start(TWO), start("third")) == Admitted(granted=2, refusal=too_many(5))
    assert ledger.state.claims["w1"] == {ONE: {"pg": 10}, TWO: {"pg": 10}}


def test_own_claims_are_replaced_even_if_nothing_is_granted(ledger: Kept) -> None:
    ledger.admit("w1", start(ONE))
    assert ledger.admit("w1", start(TWO, 99), claims={}).granted == 0
    assert ledger.state.claims["w1"] == {}


def test_claims_of_all_hosts_count(ledger: Kept) -> None:
    ledger.beat("w2", claims={OTHER: {"pg": 16}})
    assert ledger.admit("w1", start()) == Admitted(granted=0, refusal=too_many(1))


def test_what_any_host_may_open_on_its_way_to_min_is_set_aside(ledger: Kept) -> None:
    ledger.beat("w2", missing={"pg": 20})
    assert ledger.admit("w1", start()).refusal == too_many(5)
    assert ledger.admit("w2", start(), missing={"pg": 10}) == Admitted(granted=1)  # it says what is missing now


def test_who_can_not_tell_its_claims_can_not_tell_what_is_missing_either(ledger: Kept) -> None:
    ledger.beat("w2", missing={"pg": 20}, scheduler={"pg": 5})
    ledger.beat("w2", claims=None)
    entry = ledger.state.hosts["w2"]
    assert (entry.missing, entry.scheduler) == ({"pg": 20}, {"pg": 5})


def test_one_scheduler_of_the_fleet_is_set_aside_until_it_runs(ledger: Kept) -> None:
    for host in ("w1", "w2"):
        ledger.beat(host, scheduler={"pg": 16})
    assert ledger.admit("w1", start()).refusal == too_many(1)
    ledger.beat("w2", scheduler={"pg": 16}, claims={OF_SCHEDULER: {"pg": 9}})
    assert ledger.admit("w1", start()) == Admitted(granted=1)


def test_each_source_has_its_own_limit_and_one_without_has_none(ledger: Kept) -> None:
    several = start(ONE, 5, bouncer=30, replica=99)
    limits = {"pg": 25, "bouncer": 29}
    assert ledger.admit("w1", several, limits=limits) == Admitted(granted=0, refusal=too_many(1, "bouncer"))
    assert ledger.admit("w1", several, limits=limits | {"bouncer": 30}) == Admitted(granted=1)


def test_a_process_that_is_claimed_already_needs_only_what_is_more(ledger: Kept) -> None:
    claims = {ONE: {"pg": 20, "bouncer": 7}}
    assert ledger.admit("w1", start(ONE, 25), claims=claims) == Admitted(granted=1)
    assert ledger.state.claims["w1"] == {ONE: {"pg": 25, "bouncer": 7}}
    assert ledger.admit("w1", start(ONE, 3), claims=claims) == Admitted(granted=1)
    assert ledger.state.claims["w1"] == claims


def test_connections_beyond_the_claims_of_their_process_count(ledger: Kept) -> None:
    ledger.beat("w2", claims={OTHER: {"pg": 10}})
    assert ledger.admit("w1", start(), seen={OTHER: 10}) == Admitted(granted=1)
    assert ledger.admit("w1", start(), seen={OTHER: 17}).refusal == too_many(2)
    assert ledger.admit("w1", start(), seen={"of no fleetd": 6}).refusal == too_many(1)


def test_a_process_on_another_source_only_has_no_connections_here(ledger: Kept) -> None:
    ledger.beat("w2", claims={OTHER: {"bouncer": 10}})
    assert ledger.admit("w1", start(), seen={OTHER: 17}) == Admitted(granted=1)


def test_processes_of_one_name_count_together(ledger: Kept) -> None:
    """Postgres cuts long names off."""
    for host in ("w2", "w3"):
        ledger.gather(host, claims={OTHER: {"pg": 6}})
    assert ledger.admit("w1", start(), seen={OTHER: 12}) == Admitted(granted=1)
    assert ledger.admit("w1", start(), seen={OTHER: 16}).refusal == too_many(1)


def test_only_who_beats_and_knows_the_generation_is_granted_anything(ledger: Kept) -> None:
    assert ledger.admit("w3", start()).refusal == Refusal(code=Code.REPLACED, about="w3")
    ledger.beat("w2", nonce="next")
    assert ledger.admit("w2", start()).refusal == Refusal(code=Code.REPLACED, about="w2")
    assert ledger.admit("w1", start(), generation=2).refusal == Refusal(code=Code.GENERATION)
    ledger.run_id = "after a failover"
    assert ledger.admit("w1", start()).refusal == Refusal(code=Code.GENERATION)


def test_a_question_that_arrives_after_a_later_call_is_refused(ledger: Kept) -> None:
    ledger.beat("w1", sent_ms=2_000)
    assert ledger.admit("w1", start(), sent_ms=1_999).refusal == Refusal(code=Code.LATE)


def test_nothing_is_granted_while_gathering_or_without_a_ledger(ledger: Kept) -> None:
    ledger.run_id = "after a failover"
    ledger.beat("w1")
    before = ledger.state
    assert ledger.admit("w1", start()).refusal == Refusal(code=Code.GATHERING)
    assert ledger.state == before
    refused = Admitted(granted=0, refusal=Refusal(code=Code.NO_LEDGER))
    assert admit(None, admit_of("w1", start()), ledger.server) == (None, refused)


def test_a_host_that_asks_is_not_gone(ledger: Kept) -> None:
    ledger.pass_ms(SILENT_MS, "w1")
    ledger.beat("w1", ended=(("w2", ""),))
    assert ledger.state.hosts["w2"].gone
    ledger.admit("w2", start())
    assert not ledger.state.hosts["w2"].gone
