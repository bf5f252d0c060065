"""Histories in which several hosts once broke a law, or came to a standstill; found by the storms over hosts."""

from __future__ import annotations

from tests.support.fleet_world.fleet import HostSettings
from tests.support.fleet_world.laws import ComesBack, NoJobLost, OneScheduler, UnknownHolds, WithinBudget
from tests.support.fleet_world.storm import FleetStorm

LAWS = (OneScheduler, WithinBudget, UnknownHolds, NoJobLost, ComesBack)
SET_THREE, SET_NONE = 0, 4


def storm(*hosts: HostSettings, room: int) -> FleetStorm:
    return FleetStorm(hosts, *LAWS, room=room)


def host(*, low: int = 0, place: str = "elsewhere") -> HostSettings:
    return HostSettings(low=low, place=place)


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
