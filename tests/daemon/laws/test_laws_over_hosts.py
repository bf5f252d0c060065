"""The laws over hosts, in random storms around two to four fleetds that share one ledger."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.fleet_world.fleet import HostSettings
from tests.support.fleet_world.laws import (
    ComesBack,
    GrowsAgain,
    NoJobLost,
    OneScheduler,
    OrdersHold,
    PeopleFirst,
    UnknownHolds,
    WithinBudget,
)
from tests.support.fleet_world.storm import CONNECTIONS, EVERYTHING, SCHEDULERS, FleetStorm, Schedule, fleets, schedules
from tests.support.storm.storm import steady

LAWS = (OneScheduler, WithinBudget, UnknownHolds, NoJobLost, PeopleFirst, OrdersHold, ComesBack)
ROOM = st.integers(4, 16)


@given(fleet=fleets(), schedule=schedules(SCHEDULERS), room=ROOM)
@steady(120)
def test_in_storms_around_schedulers(fleet: list[HostSettings], schedule: Schedule, room: int) -> None:
    FleetStorm(fleet, *LAWS, room=room).run(schedule)


@given(fleet=fleets(), schedule=schedules(CONNECTIONS), room=ROOM)
@steady(60)
def test_in_storms_around_connections(fleet: list[HostSettings], schedule: Schedule, room: int) -> None:
    FleetStorm(fleet, *LAWS, GrowsAgain, room=room).run(schedule)


@given(fleet=fleets(), schedule=schedules(EVERYTHING), room=ROOM)
@steady(120)
def test_in_storms_of_everything(fleet: list[HostSettings], schedule: Schedule, room: int) -> None:
    FleetStorm(fleet, *LAWS, room=room).run(schedule)


@pytest.mark.long
@pytest.mark.parametrize("kind", ["SCHEDULERS", "CONNECTIONS", "EVERYTHING", "EVERYTHING, for longer"])
def test_in_20_000_storms(kind: str) -> None:
    names = {"SCHEDULERS": SCHEDULERS, "CONNECTIONS": CONNECTIONS}.get(kind, EVERYTHING)

    @given(fleet=fleets(hosts_max=5), schedule=schedules(names, events=24 if "longer" in kind else 12), room=ROOM)
    @steady(5_000)
    def storm(fleet: list[HostSettings], schedule: Schedule, room: int) -> None:
        FleetStorm(fleet, *LAWS, GrowsAgain, room=room).run(schedule)

    storm()
