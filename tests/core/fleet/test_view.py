"""What a host remembers of its fleet, in examples."""

from __future__ import annotations

from msgspec import structs

from fleetd.core.fleet.calls import Code, Refusal
from fleetd.core.fleet.state import Planned
from fleetd.core.fleet.view import FleetKnown, FleetView
from tests.support.builders.fleets import REPLY, fleet_view

WHOLE = structs.replace(REPLY, members=("w1", "w2"), orders={"pause": "{}"}, planned=Planned(epoch=3, plan="p"))
KNOWN = FleetKnown(generation=1).heard(WHOLE)


def test_what_an_answer_leaves_out_is_as_before() -> None:
    heard = KNOWN.heard(structs.replace(REPLY, clock_ms=2_000_000))
    assert (heard.members, heard.orders, heard.planned) == (WHOLE.members, WHOLE.orders, WHOLE.planned)
    assert heard.clock_ms == 2_000_000


def test_another_generation_s_versions_are_asked_anew_and_its_plan_is_no_plan() -> None:
    heard = KNOWN.heard(structs.replace(REPLY, generation=2))
    assert (heard.members_version, heard.orders_version, heard.planned) == (None, None, None)


def test_who_is_forgotten_by_people_is_forgotten() -> None:
    assert KNOWN.heard(structs.replace(REPLY, members=("w1",))).members == ("w1",)


def test_who_is_missing_in_a_ledger_that_gathers_is_remembered() -> None:
    heard = KNOWN.heard(structs.replace(REPLY, generation=2, members=("w3",), gathering=("w2",)))
    assert heard.members == ("w1", "w2", "w3")
    assert heard.gathers


def test_a_restart_tells_the_members_again_and_asks_for_everything() -> None:
    kept = KNOWN.worth_keeping()
    assert (kept.members, kept.generation, kept.gathers) == (("w1", "w2"), 1, True)
    assert (kept.members_version, kept.planned, kept.clock_ms) == (None, None, 0)


def test_without_an_answer_a_host_knows_whether_it_is_alone() -> None:
    assert FleetView(shared=True, known=FleetKnown(members=("w1",))).alone
    assert not FleetView(shared=True, known=FleetKnown(members=("w1", "w2"))).alone
    assert FleetView().alone


def test_nothing_is_asked_of_a_ledger_that_gathers_refuses_or_does_not_answer() -> None:
    assert fleet_view().hindrance is None
    assert fleet_view(gathering=("w2",)).hindrance == Refusal(code=Code.GATHERING)
    assert FleetView(shared=True).hindrance == Refusal(code=Code.NO_LEDGER)
    taken = Refusal(code=Code.NAME_TAKEN, about="w1")
    assert FleetView(shared=True, refusal=taken).hindrance == taken
    assert FleetView(refusal=Refusal(code=Code.NO_RIGHTS)).hindrance is None
