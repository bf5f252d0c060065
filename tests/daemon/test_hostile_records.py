"""Hostile records in every source: no exception, and nothing is done that would not be done without them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.hostile.fleet import FLEETS, Fleet, Steps
from tests.support.hostile.records import hostile
from tests.support.hostile.wire import Added
from tests.support.storm.storm import steady

WANTED = {
    "surge": {"start"},
    "calm": {"quiet"},
    "drained": {"stop"},
    "steady": set[str](),
    "no_scheduler": {"start"},
    "behind_pgbouncer": {"start"},
}


@pytest.fixture(scope="module")
def fleets(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Fleet, Steps]]:
    """Each with what it does in a healthy world."""
    made = [make(tmp_path_factory.mktemp(make.__name__)) for make in FLEETS]
    return [(fleet, fleet.steps()) for fleet in made]


@pytest.mark.parametrize("make", FLEETS, ids=lambda make: make.__name__)
def test_in_a_healthy_world_everything_is_read_and_something_is_due(
    make: Callable[[Path], Fleet], tmp_path: Path
) -> None:
    fleet = make(tmp_path)
    assert WANTED[make.__name__] <= {verb for verb, _ in fleet.steps()}
    assert fleet.steps() == fleet.steps(), "each tick is the same one"
    status = fleet.status()
    assert [source.why for source in status.sources if not source.ok] == []
    assert fleet.result is not None
    assert fleet.result.tick.sidekiq is not None
    assert fleet.result.tick.sidekiq.faults == ()


def check(fleets: list[tuple[Fleet, Steps]], which: int, added: Added) -> None:
    fleet, healthy = fleets[which]
    steps = fleet.steps(added)
    assert steps <= healthy, f"{steps - healthy} only because of {vars(added)}"
    fleet.status()
    fleet.tick_again()
    fleet.status()


examples = st.tuples(st.integers(0, len(FLEETS) - 1), hostile())


@steady(250)
@given(examples)
def test_hostile_records_raise_nothing_and_add_no_step(
    fleets: list[tuple[Fleet, Steps]], example: tuple[int, Added]
) -> None:
    check(fleets, *example)


@pytest.mark.long
@steady(20_000)
@given(examples)
def test_twenty_thousand_hostile_records_raise_nothing_and_add_no_step(
    fleets: list[tuple[Fleet, Steps]], example: tuple[int, Added]
) -> None:
    check(fleets, *example)
