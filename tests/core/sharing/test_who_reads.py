"""Whose running jobs a host leaves to the leader."""

from __future__ import annotations

from msgspec import structs

from fleetd.core.fleet.view import FleetView
from fleetd.core.instances.host_tick import HostTick
from fleetd.core.model.identity import InstanceKey
from fleetd.core.sharing.who_reads import jobs_of_others
from tests.support.builders.fleets import REPLY, fleet_view
from tests.support.builders.hosts import beat, tick
from tests.support.builders.readings import AWAY, process

OTHERS = (beat("w2", 1), beat("w2", 2), process("", hostname="w1", pid=9))
UNTAGGED = structs.replace(process("", hostname="w1", pid=8), own_key=InstanceKey(3))


def seen(view: FleetView) -> HostTick:
    return structs.replace(tick("w1", 2, others=(*OTHERS, UNTAGGED)), fleet=view)


def test_who_follows_leaves_all_but_its_own_units_to_the_leader() -> None:
    assert jobs_of_others(seen(fleet_view())) == {p.identity for p in OTHERS}


def test_who_leads_is_alone_or_knows_of_no_leader_leaves_none() -> None:
    views = {
        "leads": FleetView(shared=True, reply=structs.replace(REPLY, leader="w1", token=3)),
        "led before its restart": FleetView(shared=True, reply=structs.replace(REPLY, leader="w1")),
        "nobody leads": FleetView(shared=True, reply=structs.replace(REPLY, leader="")),
        "alone": fleet_view(alone=True),
        "gathering": fleet_view(gathering=("w2",)),
        "no ledger": FleetView(shared=True),
        "local ledger": FleetView(),
    }
    assert {name: jobs_of_others(seen(view)) for name, view in views.items()} == dict.fromkeys(views, frozenset())


def test_while_redis_is_unknown_nobody_is_left_out_of_the_next_reading() -> None:
    at = seen(fleet_view())
    assert jobs_of_others(structs.replace(at, snapshot=structs.replace(at.snapshot, sidekiq=AWAY))) == frozenset()
