"""Law 1 over hosts, in examples: the ledger's slot decides whose scheduler stays and whose may start."""

from __future__ import annotations

import pytest
from msgspec import structs

from fleetd.core.fleet.state import Slot
from fleetd.core.fleet.view import FleetView
from fleetd.core.instances.host_memory import AbsenceMemory, HostMemory
from fleetd.core.instances.scheduler import SchedulerDecision, decide_scheduler, schedulers_elsewhere
from fleetd.core.model.facts import ProcessFacts, UnitFacts
from fleetd.core.model.identity import SCHEDULER
from fleetd.core.model.policy_tables import Policy, SchedulerPolicy
from fleetd.core.model.reasons.fleet import SchedulerFree, SchedulerOfHost
from tests.support.builders.fleets import REPLY, fleet_view
from tests.support.builders.readings import machine, process, sidekiq, snapshot, systemd, tag, tick_of, unit
from tests.support.world.ports import policy

NOW = REPLY.clock_ms
LONG_AGO = NOW - 400_000


def rules(place: str = "auto") -> Policy:
    return policy(scheduler=SchedulerPolicy(place=place, takeover_seconds=300.0))  # type: ignore[arg-type]


def of(host: str, **changes: object) -> ProcessFacts:
    """The heartbeat of a host's scheduler; w1 is this host, and its unit has pid 9."""
    own = {"pid": 9} if host == "w1" else {"hostname": host}
    return process(tag(SCHEDULER, host=host), queues="scheduler", **own, **changes)  # type: ignore[arg-type]


def decided(
    view: FleetView,
    *beats: ProcessFacts,
    own: UnitFacts | None = None,
    place: str = "auto",
    handover: bool = False,
) -> SchedulerDecision:
    """The decision after a long absence of any scheduler in this host's own readings."""
    absence = AbsenceMemory(at_seconds=9_995.0, absent_seconds=1000.0, redis_run_id="r1")
    redis = structs.replace(sidekiq(processes=beats), redis_run_id="r1")
    units = systemd(scheduler=own) if own is not None else systemd()
    shot = snapshot(rules(place), now=10_000.0, redis=redis, units=units, host=machine(rules(place)))
    tick = structs.replace(tick_of(rules(place), shot), fleet=view)
    memory = HostMemory(scheduler=absence, scheduler_handover=handover)
    return decide_scheduler(tick, memory, within_budget=True)[0]


def running() -> UnitFacts:
    return structs.replace(unit(), main_pid=9)


def test_the_holder_stays_although_another_host_s_is_older() -> None:
    view = fleet_view(slot=Slot(holder="w1"), told="there")
    decision = decided(view, of("w1", started=10.0), of("w2", started=900.0), own=running())
    assert decision.surplus is None


def test_ours_ends_once_another_host_holds_the_slot_although_ours_is_older() -> None:
    view = fleet_view(slot=Slot(holder="w2"), told="there")
    decision = decided(view, of("w1", started=900.0), of("w2", started=10.0), own=running())
    assert decision.surplus is not None
    assert decision.surplus.host == "w2"


def test_a_unit_of_which_the_ledger_was_not_told_yet_is_no_surplus() -> None:
    """A person may just have started it, and the slot may be free."""
    view = fleet_view(slot=Slot(holder="w2", unit="gone"), told="gone")
    assert decided(view, of("w1"), own=running()).surplus is None


def test_while_hosts_are_asked_what_they_run_the_older_stays() -> None:
    view = fleet_view(slot=Slot(holder="w2"), gathering=("w3",), told="there")
    assert decided(view, of("w1", started=900.0), of("w2", started=10.0), own=running()).surplus is None
    assert decided(view, of("w1", started=10.0), of("w2", started=900.0), own=running()).surplus is not None


def test_the_holder_yields_to_a_stock_unit() -> None:
    stock = process("", queues="default scheduler", hostname="main", started=900.0)
    assert decided(fleet_view(slot=Slot(holder="w1"), told="there"), of("w1"), stock, own=running()).surplus is not None


@pytest.mark.parametrize(
    ("slot", "place", "starts"),
    [
        (Slot(holder="w1", sighted_ms=NOW), "auto", True),  # it is ours
        (Slot(sighted_ms=NOW - 30_000), "auto", False),
        (Slot(sighted_ms=NOW - 30_000), "here", True),
        (Slot(sighted_ms=NOW - 10_000), "here", False),
        (Slot(holder="w2", unit="gone", sighted_ms=NOW - 30_000), "here", True),
        (Slot(holder="w2", unit="gone", sighted_ms=NOW - 30_000), "auto", False),
        (Slot(holder="w2", unit="gone", sighted_ms=LONG_AGO), "auto", True),
        (Slot(holder="w2", sighted_ms=NOW - 30_000), "here", False),  # silent, so it may live
        (Slot(holder="w2", sighted_ms=LONG_AGO), "here", True),
    ],
)
def test_who_may_start(slot: Slot, place: str, starts: bool) -> None:
    decision = decided(fleet_view(slot=slot), place=place)
    assert decision.start is starts
    if not starts:
        assert isinstance(decision.state, SchedulerOfHost if slot.host else SchedulerFree)


def test_a_scheduler_that_a_person_stopped_elsewhere_is_said() -> None:
    decision = decided(fleet_view(slot=Slot(holder="w2", unit="kept", sighted_ms=NOW)))
    assert decision.state == SchedulerOfHost(host="w2", kept_stopped=True, wait_seconds=300.0)


@pytest.mark.parametrize(
    ("beats", "told"),
    [
        ((), ()),
        ((of("w1"),), ()),
        ((of("w2"), of("w3")), ("w2", "w3")),
        ((process("", queues="default scheduler", hostname="main"),), ("?",)),
        ((of("w2", quiet=True),), ()),
    ],
)
def test_what_the_ledger_is_told_of_other_hosts(beats: tuple[ProcessFacts, ...], told: tuple[str, ...]) -> None:
    shot = snapshot(rules(), redis=sidekiq(processes=beats), units=systemd(scheduler=running()), host=machine(rules()))
    assert schedulers_elsewhere(tick_of(rules(), shot)) == told


def test_of_what_can_not_be_read_nothing_is_told() -> None:
    garbled = structs.replace(sidekiq(), processes_complete=False)
    shot = snapshot(rules(), redis=garbled, units=systemd(), host=machine(rules()))
    assert schedulers_elsewhere(tick_of(rules(), shot)) is None


def test_one_that_was_stopped_to_be_started_again_is_so_although_the_leader_names_another_host() -> None:
    """Its host still holds the slot, so the other one waited for this one, and this one for the other."""
    for holder, handover, starts in (("w1", True, True), ("w1", False, False), ("w2", True, False)):
        view = structs.replace(fleet_view(slot=Slot(holder=holder), told="there"), scheduler_host="w3")
        assert decided(view, handover=handover).start == starts
