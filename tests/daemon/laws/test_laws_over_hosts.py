"""The laws over hosts, in random storms around two to four fleetds that share one ledger."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.fleet_world.fleet import HostSettings
from tests.support.fleet_world.laws import ComesBack, NoJobLost, OneScheduler, PeopleFirst, UnknownHolds, WithinBudget
from tests.support.fleet_world.storm import FleetStorm, Schedule, fleets, schedules
from tests.support.storm.storm import steady

LAWS = (OneScheduler, WithinBudget, UnknownHolds, NoJobLost, PeopleFirst, ComesBack)
ROOM = st.integers(4, 14)


@given(fleet=fleets(), schedule=schedules(), room=ROOM)
@steady(300)
def test_the_laws_hold_over_hosts(fleet: list[HostSettings], schedule: Schedule, room: int) -> None:
    FleetStorm(fleet, *LAWS, room=room).run(schedule)


@pytest.mark.long
@given(fleet=fleets(), schedule=schedules(events=24), room=ROOM)
@steady(20_000)
def test_the_laws_hold_over_hosts_for_long(fleet: list[HostSettings], schedule: Schedule, room: int) -> None:
    FleetStorm(fleet, *LAWS, room=room).run(schedule)
