"""Examples of the ledger's rules: gathering, names, the clock, the lease, plans, orders, and hosts that leave."""

from __future__ import annotations

import pytest
from msgspec import structs

from fleetd.core.fleet import rules
from fleetd.core.fleet.calls import Code, Commit, Refusal
from fleetd.core.fleet.rules import FORGOTTEN_MS, GATHERING_MS_MAX, NAME_MS, SILENT_MS
from fleetd.core.fleet.sizes import CLAIMS_BYTES_MAX, NAME_BYTES_MAX, PLAN_BYTES_MAX, RECORD_BYTES_MAX
from fleetd.core.fleet.state import FORMAT, HOSTS_MAX, ORDERS_MAX
from tests.support.fleet.ledger_calls import TICK_MS, Kept

CLAIMS = {"mastodon-sidekiq@1.w1": {"pg": 10}}


@pytest.fixture
def ledger() -> Kept:
    return Kept()


# Gathering.


def test_a_new_ledger_gathers_for_twenty_seconds_and_until_all_have_told(ledger: Kept) -> None:
    assert ledger.beat("w1").gathering == ("w1",)  # it did not know of the generation, so it has told nothing yet
    assert ledger.beat("w1").gathering == ("",)
    assert ledger.beat("w2").gathering == ("w2",)
    assert ledger.beat("w1").gathering == ("w2",)
    assert ledger.beat("w2").gathering is None


def test_members_that_a_host_remembers_are_waited_for(ledger: Kept) -> None:
    ledger.beat("w1")
    assert ledger.beat("w1", members=("w1", "w2")).gathering == ("w2",)
    ledger.pass_ms(GATHERING_MS_MAX, "w1")
    assert ledger.beat("w1").gathering is None


def test_who_tells_no_claims_is_waited_for(ledger: Kept) -> None:
    ledger.beat("w1")
    ledger.pass_ms(60_000, "w1", claims=None)
    assert ledger.beat("w1", claims=None).gathering == ("w1",)
    assert ledger.beat("w1").gathering is None


def test_another_run_of_redis_gathers_again_and_keeps_what_is_there(ledger: Kept) -> None:
    ledger.gather("w1", "w2", claims=CLAIMS)
    clock_ms = ledger.state.clock_ms
    ledger.run_id = "after a failover"
    assert ledger.beat("w1").gathering == ("w1", "w2")
    assert (ledger.state.generation, ledger.state.claims["w2"]) == (2, CLAIMS)
    assert ledger.state.clock_ms == clock_ms  # the other server's clock says nothing yet


def test_a_host_that_knows_more_makes_the_ledger_gather_after_it(ledger: Kept) -> None:
    ledger.gather("w1")
    assert ledger.beat("w2", generation=7, clock_ms=10**9).gathering == ("w1", "w2")
    assert (ledger.state.generation, ledger.state.clock_ms) == (8, 10**9)


def test_a_ledger_that_is_an_older_one_gathers(ledger: Kept) -> None:
    """The same run of Redis: its VM was put back to a snapshot, or somebody restored the key."""
    ledger.gather("w1", "w2")
    before = ledger.state
    ledger.pass_ms(100_000, "w2")
    now_ms = ledger.state.clock_ms
    ledger.kept = before
    assert ledger.beat("w1").gathering is None, "it has been away, and can't know"
    reply = ledger.beat("w2")
    assert (reply.generation, reply.gathering) == (2, ("w1", "w2"))
    assert reply.clock_ms >= now_ms


def test_who_is_gone_is_not_waited_for(ledger: Kept) -> None:
    ledger.gather("w1", "w2")
    ledger.pass_ms(SILENT_MS, "w1")
    ledger.beat("w1", ended=(("w2", ""),))
    ledger.run_id = "after a failover"
    assert ledger.beat("w1").gathering == ("w1",)


# The clock.


@pytest.mark.parametrize(("jump_ms", "step_ms"), [(3_000, 3_000), (0, 0), (-60_000, 0), (10**9, 10_000)])
def test_a_beat_advances_the_clock_by_what_passed_but_not_by_a_jump(ledger: Kept, jump_ms: int, step_ms: int) -> None:
    ledger.beat("w1")
    clock_ms = ledger.state.clock_ms
    ledger.beat("w1", after_ms=jump_ms)
    assert ledger.state.clock_ms == clock_ms + step_ms


# Names.


def test_another_machine_takes_a_name_over_after_a_silence_of_fifteen_seconds(ledger: Kept) -> None:
    ledger.gather("w1", "w2")
    ledger.beat("w1")
    refusal = Refusal(code=Code.NAME_TAKEN, about="w1")
    assert ledger.refused("w1", boot_id="a clone") == refusal
    ledger.pass_ms(NAME_MS, "w2")
    assert ledger.beat("w1", boot_id="a clone").generation == 1
    assert ledger.refused("w1") == refusal


def test_a_machine_that_rebooted_alone_gets_its_name_back(ledger: Kept) -> None:
    ledger.gather("w1")
    assert [ledger.refused("w1", boot_id="next").code for _ in range(2)] == [Code.NAME_TAKEN] * 2
    assert ledger.beat("w1", boot_id="next").leader == "w1"


def test_a_fleetd_that_was_replaced_is_refused(ledger: Kept) -> None:
    ledger.beat("w1", nonce="old")
    ledger.beat("w1", nonce="new")
    assert ledger.refused("w1", nonce="old") == Refusal(code=Code.REPLACED, about="w1")
    assert ledger.beat("w1", nonce="new").leader == "w1"


def test_a_beat_that_arrives_late_is_refused(ledger: Kept) -> None:
    ledger.beat("w1", sent_ms=2_000)
    assert ledger.refused("w1", sent_ms=1_999) == Refusal(code=Code.LATE)


def test_a_machine_whose_clock_went_back_is_heard_again_after_a_while(ledger: Kept) -> None:
    """As a VM's does that is put back to a snapshot of its memory. Alone, it has to advance the fleet clock itself."""
    ledger.gather("w1", sent_ms=90_000_000)
    for n in range(SILENT_MS // TICK_MS - 1):
        assert ledger.refused("w1", sent_ms=1_000 + n).code == Code.LATE
    ledger.beat("w1", sent_ms=2_000)
    assert ledger.refused("w1", sent_ms=900) == Refusal(code=Code.LATE)
    assert ledger.admit("w1", sent_ms=2_001).refusal is None


def test_a_machine_that_ticks_slowly_keeps_its_name(ledger: Kept) -> None:
    ledger.gather("w1", tick_ms=60_000, after_ms=60_000)
    assert ledger.refused("w1", boot_id="a clone", tick_ms=60_000, after_ms=40_000).code == Code.NAME_TAKEN
    ledger.beat("w1", tick_ms=60_000, after_ms=20_000)


def test_another_mastodons_host_is_refused(ledger: Kept) -> None:
    ledger.beat("w1")
    assert ledger.refused("w2", fleet="c/d") == Refusal(code=Code.FLEET, about="a/b")


def test_a_ledger_of_a_later_fleetd_is_left_alone(ledger: Kept) -> None:
    ledger.gather("w1", "w2")
    ledger.kept = later = structs.replace(ledger.state, format=FORMAT + 1)
    refusal = Refusal(code=Code.FORMAT, about=str(FORMAT + 1))
    assert ledger.refused("w1") == refusal
    assert ledger.admit("w1").refusal == refusal
    assert ledger.commit("w1") == refusal
    assert ledger.order("a", "b") == refusal
    assert rules.forget(later, "w1") == (later, refusal)
    assert ledger.state == later


def test_no_more_hosts_than_fit(ledger: Kept) -> None:
    for n in range(HOSTS_MAX):
        ledger.beat(f"w{n}")
    assert ledger.refused("another") == Refusal(code=Code.FULL)
    assert ledger.beat("w0").generation == 1


# The lease.


def test_the_first_fit_host_leads_and_another_once_it_is_silent(ledger: Kept) -> None:
    assert ledger.beat("w1", fit=False).token is None
    assert ledger.beat("w2").token == 1
    assert ledger.beat("w1").leader == "w2"
    ledger.pass_ms(4 * 5_000, "w3", fit=False)
    assert ledger.beat("w1").token == 2
    assert ledger.beat("w2").token is None


def test_a_leader_that_is_not_fit_any_more_gives_the_lease_up(ledger: Kept) -> None:
    ledger.beat("w1")
    assert ledger.beat("w1", fit=False).token is None
    assert ledger.beat("w2").token == 2


def test_the_next_fleetd_of_the_leaders_host_leads_with_a_token_of_its_own(ledger: Kept) -> None:
    ledger.beat("w1")
    assert ledger.beat("w1", nonce="next", fit=False).token is None
    assert ledger.beat("w1", nonce="next").token == 2


# Plans and orders.


def test_a_plan_is_taken_from_the_leader_once(ledger: Kept) -> None:
    ledger.gather("w1", "w2")
    assert ledger.commit("w2", token=1) == Refusal(code=Code.LEASE, about="w1")
    assert ledger.commit("w1", token=2) == Refusal(code=Code.LEASE, about="w1")
    assert ledger.commit("w1", generation=2) == Refusal(code=Code.GENERATION)
    assert ledger.commit("w1", epoch=2) == Refusal(code=Code.EPOCH)
    assert ledger.commit("w1") is None
    assert ledger.commit("w1") == Refusal(code=Code.EPOCH)
    assert ledger.state.planned.plan == "plan"


def test_the_memory_is_the_leaders_only(ledger: Kept) -> None:
    ledger.gather("w1", "w2")
    ledger.commit("w1")
    told = [ledger.beat(host).planned for host in ("w1", "w2")]
    assert [(one.plan, one.memory) for one in told if one is not None] == [("plan", "memory"), ("plan", "")]
    assert ledger.beat("w2").planned is None  # it has this one


def test_a_host_that_is_alone_writes_no_plan(ledger: Kept) -> None:
    ledger.gather("w1")
    assert ledger.commit("w1") == Refusal(code=Code.ALONE)


def test_orders_are_told_until_they_end(ledger: Kept) -> None:
    ledger.gather("w1")
    assert ledger.order("default", "pin") is None
    assert ledger.beat("w1").orders == {"default": "pin"}
    assert ledger.beat("w1").orders is None
    assert ledger.order("default", None) is None
    assert ledger.beat("w1").orders == {}


def test_no_more_orders_than_fit(ledger: Kept) -> None:
    ledger.beat("w1")
    assert {ledger.order(f"about {n}", "") for n in range(ORDERS_MAX)} == {None}
    assert ledger.order("another", "") == Refusal(code=Code.FULL)
    assert ledger.order("about 0", "changed") is None


# Hosts that leave.


def test_claims_of_the_silent_are_kept_until_the_leader_finds_nothing_of_them(ledger: Kept) -> None:
    ledger.gather("w1", "w2", claims=CLAIMS)
    (name,) = CLAIMS
    ended = (("w2", name),)
    ledger.beat("w1", ended=ended)  # it is not silent yet
    assert ledger.state.claims["w2"] == CLAIMS
    ledger.pass_ms(SILENT_MS, "w1")
    ledger.beat("w1", ended=ended)
    assert (ledger.state.claims["w2"], ledger.state.hosts["w2"].gone) == ({}, False)
    ledger.beat("w1", ended=(("w2", ""),))
    assert ledger.state.hosts["w2"].gone


def test_nothing_has_ended_while_the_truth_is_gathered(ledger: Kept) -> None:
    """A host that was back may have beaten and started something, in writes that a failover lost."""
    ledger.gather("w1", "w2", claims=CLAIMS)
    (name,) = CLAIMS
    ledger.pass_ms(SILENT_MS, "w1")
    ledger.run_id = "after a failover"
    told = ledger.beat("w1", ended=(("w2", name), ("w2", "")))
    assert told.gathering is not None
    assert (ledger.state.claims["w2"], ledger.state.hosts["w2"].gone) == (CLAIMS, False)


def test_only_the_leader_says_what_has_ended(ledger: Kept) -> None:
    ledger.gather("w1", "w2", "w3", claims=CLAIMS)
    ledger.pass_ms(SILENT_MS, "w1", "w2")
    ledger.beat("w2", ended=(("w3", *CLAIMS), ("w3", "")))
    assert ledger.state.claims["w3"] == CLAIMS


def test_who_left_nothing_is_forgotten_after_a_week(ledger: Kept) -> None:
    ledger.gather("w1", "w2")
    ledger.pass_ms(SILENT_MS, "w1")
    ledger.beat("w1", ended=(("w2", ""),))
    ledger.kept = structs.replace(ledger.state, clock_ms=ledger.state.hosts["w2"].beat_ms + FORGOTTEN_MS)
    assert ledger.beat("w1").members == ("w1",)


def test_a_host_that_comes_back_is_not_gone(ledger: Kept) -> None:
    ledger.gather("w1", "w2")
    ledger.pass_ms(SILENT_MS, "w1")
    assert ledger.beat("w1", ended=(("w2", ""),)).alone
    ledger.beat("w2")
    assert not ledger.beat("w1").alone


def test_who_is_forgotten_leaves_its_claims_the_slot_and_the_lease(ledger: Kept) -> None:
    ledger.gather("w1", "w2", claims=CLAIMS)
    ledger.beat("w1", own_scheduler="there")
    ledger.forget("w1")
    state = ledger.state
    assert (list(state.hosts), list(state.claims)) == (["w2"], ["w2"])
    assert (state.slot.holder, state.slot.unit, state.lease.until_ms) == ("w1", "gone", 0)


# Sizes.


@pytest.mark.parametrize(
    "fields",
    [
        {"record": "ö" * (RECORD_BYTES_MAX // 2 + 1)},
        {"claims": {"n": {"s" * CLAIMS_BYTES_MAX: 1}}},
        {"missing": {"s" * CLAIMS_BYTES_MAX: 1}},
    ],
)
def test_a_beat_that_is_too_large_changes_nothing(ledger: Kept, fields: dict[str, object]) -> None:
    assert ledger.refused("w1", **fields) == Refusal(code=Code.TOO_LARGE)
    assert ledger.refused("w" * (NAME_BYTES_MAX + 1)) == Refusal(code=Code.TOO_LARGE)
    assert ledger.kept is None


def test_other_calls_that_are_too_large_change_nothing(ledger: Kept) -> None:
    ledger.gather("w1", "w2")
    before, refusal = ledger.state, Refusal(code=Code.TOO_LARGE)
    large = {"n": {"s" * CLAIMS_BYTES_MAX: 1}}
    assert ledger.admit("w1", claims=large).refusal == refusal
    assert ledger.order("a", "x" * (RECORD_BYTES_MAX + 1)) == refusal
    assert ledger.order("x" * (NAME_BYTES_MAX + 1), None) == refusal
    call = Commit(host="w1", token=1, generation=1, epoch=1, plan="x" * PLAN_BYTES_MAX, memory="x")
    assert rules.commit(ledger.kept, call, ledger.server) == (before, refusal)
    assert ledger.state == before


def test_every_call_but_a_beat_needs_a_ledger(ledger: Kept) -> None:
    refusal = Refusal(code=Code.NO_LEDGER)
    assert ledger.order("a", "b") == refusal
    assert rules.forget(None, "w1") == (None, refusal)
