"""Histories in which several hosts once broke a law, or came to a standstill; found by the storms over hosts."""

from __future__ import annotations

from fleetd.core.model.identity import SCHEDULER
from tests.support.fleet_world.fleet import HostSettings
from tests.support.fleet_world.fleetd import Hit, HostRig
from tests.support.fleet_world.laws import ComesBack, NoJobLost, OneScheduler, UnknownHolds, WithinBudget
from tests.support.fleet_world.storm import FleetStorm

LAWS = (OneScheduler, WithinBudget, UnknownHolds, NoJobLost, ComesBack)
SET_THREE, SET_NONE = 0, 4


def storm(*hosts: HostSettings, room: int) -> FleetStorm:
    return FleetStorm(hosts, *LAWS, room=room)


def host(*, low: int = 0, place: str = "elsewhere") -> HostSettings:
    return HostSettings(low=low, place=place)


def holder(hosts: FleetStorm) -> HostRig:
    """The host whose scheduler runs."""
    [found] = [rig for rig in hosts.rigs if rig.machine.scheduler is not None]
    return found


def test_a_fleetd_that_restarts_leaves_its_min_set_aside() -> None:
    """Its first beat knows nothing yet; it was taken for one that has nothing to start any more."""
    hosts = storm(host(low=2), host(), room=3)
    hosts.fleet.advance(60)
    hosts.apply(("set", 0, SET_NONE))
    hosts.fleet.advance(100)
    hosts.apply(("kill_fleetd", 0, 0))
    hosts.apply(("set", 1, SET_THREE))
    hosts.fleet.advance(60)
    assert hosts.rigs[1].serving() == 1


def test_what_is_granted_of_more_is_started() -> None:
    """Two were asked for in a tick and one was granted; both were dropped, tick after tick."""
    hosts = storm(host(), host(), room=1)
    hosts.fleet.advance(60)
    hosts.apply(("set", 1, SET_THREE))
    hosts.fleet.advance(30)
    assert hosts.rigs[1].serving() == 1


def test_a_flushed_ledger_waits_for_members_that_only_others_remember() -> None:
    """Its first answer named the asking host alone, which then forgot the one that was cut off."""
    hosts = storm(host(), host(), room=4)
    hosts.fleet.advance(60)
    hosts.apply(("set", 0, SET_THREE))
    hosts.fleet.advance(60)
    hosts.apply(("cut_from_redis", 0, 0))
    hosts.apply(("flush", 0, 0))
    hosts.fleet.advance(2)
    hosts.apply(("set", 1, SET_THREE))
    hosts.fleet.advance(120)
    assert hosts.rigs[1].serving() == 0


def test_an_answer_as_old_as_its_reading_ends_no_scheduler() -> None:
    """A host stood still while it read, twice. Redis was unknown to it then, but not who holds the slot."""
    hosts = storm(host(place="auto"), host(place="auto"), room=6)
    hosts.fleet.advance(120)
    rig = holder(hosts)
    rig.hit = Hit("told", "freeze", 25.0)
    rig.machine.freeze(160.0)
    hosts.fleet.advance(260)
    assert holder(hosts) is not rig


def test_a_scheduler_stopped_by_hand_stays_so_although_the_ledger_is_lost() -> None:
    """Another host took it over, because nobody had told the new ledger."""
    hosts = storm(host(place="auto"), host(place="auto"), room=6)
    hosts.fleet.advance(120)
    holder(hosts).machine.stop(SCHEDULER)
    hosts.fleet.advance(60)
    hosts.apply(("flush", 0, 0))
    hosts.fleet.advance(200)
    assert all(rig.machine.scheduler is None for rig in hosts.rigs)


def test_a_scheduler_that_is_restarted_comes_back_although_the_leader_would_start_it_elsewhere() -> None:
    """Its host kept the slot for it, and left the start to the one that was named."""
    hosts = storm(host(low=1, place="auto"), host(low=2, place="auto"), room=8)
    hosts.fleet.advance(160)
    for rig in hosts.rigs:
        held = holder(hosts)
        hosts.apply(("restart_host", hosts.rigs.index(held), 0))
        hosts.fleet.advance(200)
        assert holder(hosts) is held
        if rig is hosts.rigs[0]:  # then the other one has it
            held.machine.freeze(300.0)
            hosts.fleet.advance(500)
