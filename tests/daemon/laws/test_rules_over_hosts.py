"""Each rule over hosts is needed: there is a history that breaks a law without it, and none with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest

from tests.support.fleet_world import weakened
from tests.support.fleet_world.fleet import HostSettings
from tests.support.fleet_world.laws import NoJobLost, OneScheduler, UnknownHolds, WithinBudget
from tests.support.fleet_world.storm import Event, FleetStorm

NEVER = HostSettings(low=0, place="elsewhere")
AUTO = HostSettings(low=0)
SET_THREE, SET_TWO, SET_NONE = 0, 1, 4


class History(NamedTuple):
    hosts: tuple[HostSettings, ...]
    room: int
    events: tuple[Event | int, ...]  # a number: let so many seconds pass

    def run(self) -> None:
        storm = FleetStorm(self.hosts, OneScheduler, WithinBudget, UnknownHolds, NoJobLost, room=self.room)
        for event in self.events:
            if isinstance(event, int):
                storm.fleet.advance(event)
            else:
                storm.apply(event)


BOTH_WANT_A_SCHEDULER = History((AUTO, AUTO), 6, (120,))
FROZEN_WITH_LEAVE = History((AUTO, AUTO), 6, (("freeze_in_tick", 0, 29), 300))
MIN_AND_MORE_IN_ONE_TICK = History(
    (NEVER._replace(low=1, tick_seconds=10.0), NEVER._replace(tick_seconds=3.0)),
    3,
    (60, ("set", 0, SET_NONE), 100, ("set_all", 0, 0), 60),
)
FLUSHED_WHILE_ONE_IS_CUT_OFF = History(
    (NEVER, NEVER),
    4,
    (60, ("set", 0, SET_THREE), 60, ("cut_from_redis", 0, 0), ("flush", 0, 0), 2, ("set", 1, SET_THREE), 120),
)
THE_CLOCK_OF_REDIS_JUMPS = History(
    (NEVER._replace(tick_seconds=3.0), NEVER._replace(tick_seconds=10.0)),
    4,
    (60, ("set", 1, SET_THREE), 102, ("jump", 0, 8), 4, ("set", 0, SET_THREE), 60),
)
SILENT_BUT_CONNECTED = History(
    (NEVER, NEVER),
    3,
    (60, ("set", 0, SET_TWO), 60, ("surge", 0, 1), 30, ("cut_from_redis", 0, 0), 340, ("set", 1, SET_THREE), 60),
)
CUT_OFF_FOR_A_WHILE = History(
    (NEVER, NEVER), 4, (60, ("set", 0, SET_THREE), 60, ("cut_from_redis", 0, 0), 100, ("set", 1, SET_THREE), 60)
)
RESTARTED_BELOW_MIN = History(
    (NEVER._replace(low=2), NEVER),
    3,
    (60, ("set", 0, SET_NONE), 100, ("kill_fleetd", 0, 0), ("set", 1, SET_THREE), 60),
)

RULES: dict[str, tuple[Callable[[pytest.MonkeyPatch], None], History]] = {
    "the slot": (weakened.without_the_slot, BOTH_WANT_A_SCHEDULER),
    "the deadline": (weakened.without_the_deadline, FROZEN_WITH_LEAVE),
    "own claims in admit": (weakened.without_own_claims_in_admit, MIN_AND_MORE_IN_ONE_TICK),
    "gathering": (weakened.without_gathering, FLUSHED_WHILE_ONE_IS_CUT_OFF),
    "remembered members": (weakened.without_remembered_members, FLUSHED_WHILE_ONE_IS_CUT_OFF),
    "the clock's cap": (weakened.without_the_cap_of_the_clock, THE_CLOCK_OF_REDIS_JUMPS),
    "claims while a name is open": (weakened.without_open_names, SILENT_BUT_CONNECTED),
    "no expiry of claims": (weakened.with_an_expiry_of_claims, CUT_OFF_FOR_A_WHILE),
    "what is set aside at a restart": (weakened.without_what_is_set_aside_at_a_restart, RESTARTED_BELOW_MIN),
}


@pytest.mark.parametrize("rule", list(RULES))
def test_without_this_rule_a_law_breaks(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    weaken, history = RULES[rule]
    history.run()
    weaken(monkeypatch)
    with pytest.raises(AssertionError, match=" starts "):
        history.run()
