"""Workers whose connections bear no name, as with an application_name in DATABASE_URL: nobody is counted twice."""

from __future__ import annotations

import pytest
from msgspec import structs

from fleetd.core.capacity.naming import SAID_SECONDS, NamingMemory, names_missing
from fleetd.core.model.reasons.evidence import NamesMissing
from fleetd.daemon.tick import TickResult
from fleetd.words.reasons import sentence
from tests.support.world.fleets import QUICK, surge
from tests.support.world.ports import Rig, policy, strict


def unnamed_fleet(which: set[int], budget: int = 28) -> Rig:
    """Room for four instances; `which` of them, by number, bear no name (0: none does)."""
    rig = surge(policy(strict(numbers="1-6"), pace=QUICK), budget)
    rig.world.nameless = which
    return rig


def told(ticks: list[TickResult]) -> list[NamesMissing]:
    return [sign for sign in ticks[-1].signs if isinstance(sign, NamesMissing)]


@pytest.mark.parametrize("which", [{0}, {1}, {2, 3}, {1, 2, 3, 4}])
def test_a_fleet_without_names_is_not_shed_and_says_why(which: set[int]) -> None:
    rig = unnamed_fleet(which)
    for number in (1, 2, 3, 4):
        rig.world.start(number)
    rig.world.advance(60.0)
    ticks = rig.run(300.0)
    assert rig.serving() == 4
    assert [verb for verb in ("quiet", "stop") if rig.ordered(verb)] == []
    [sign] = told(ticks)
    assert sign.count == len(which - {0}) or which == {0}
    assert sign.seconds >= SAID_SECONDS
    assert "Look for application_name or options in DATABASE_URL" in sentence(sign)


def test_it_never_grows_beyond_the_budget_meanwhile() -> None:
    rig = unnamed_fleet({0})
    rig.run(900.0)
    assert 1 <= rig.serving() <= 4


def test_where_there_is_room_it_grows_all_the_same() -> None:
    rig = unnamed_fleet({0}, budget=200)
    rig.run(600.0)
    assert rig.serving() == 6


def test_it_goes_back_to_names_when_they_are_seen_again() -> None:
    rig = unnamed_fleet({0})
    rig.run(300.0)
    rig.world.nameless = set()
    ticks = rig.run(300.0)
    assert told(ticks) == []
    assert rig.serving() == 4


def test_a_fleetd_that_was_restarted_sheds_nothing_either() -> None:
    rig = unnamed_fleet({0})
    for number in (1, 2, 3, 4):
        rig.world.start(number)
    rig.world.advance(120.0)
    rig.start_fleetd()
    rig.run(300.0)
    assert rig.serving() == 4
    assert rig.ordered("quiet") == []


def test_others_still_come_first() -> None:
    rig = unnamed_fleet({0})
    for number in (1, 2, 3, 4):
        rig.world.start(number)
    rig.world.advance(60.0)
    rig.run(60.0)
    rig.world.other_clients += 14
    rig.run(300.0)
    assert rig.serving() == 2


@pytest.mark.parametrize("open_connections", [True, False])
def test_workers_without_any_connection_are_told_apart_from_nameless_ones(open_connections: bool) -> None:
    missing = NamesMissing(names=("mastodon-sidekiq@1.w1",), count=1, seconds=30.0, none_seen=True)
    name = "mastodon-sidekiq@1.w1"
    memory = NamingMemory(
        missing_seconds={name: 0.0}, beaten=frozenset({name}), others_connections=int(open_connections)
    )
    sign = names_missing(memory, 30.0)
    assert sign == structs.replace(missing, none_open=not open_connections)
    assert ("without any connection to Postgres" in sentence(sign)) != open_connections
