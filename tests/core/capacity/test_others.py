"""Everyone else's connections: the fading peak and the expected rise."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetd.core.capacity.others import OthersMemory, remember_others
from tests.support.storm.storm import steady


def after(*seen: tuple[float, int], half_life: float = 300.0) -> OthersMemory:
    memory = None
    for at, connections in seen:
        memory = remember_others(memory, connections, at, half_life)
    assert memory is not None
    return memory


def test_the_peak_rises_at_once_and_halves_in_its_half_life() -> None:
    assert after((100.0, 20), (105.0, 80)).peak_connections == 80.0
    # 300 s later 20 are seen. Half of the 40 above that is kept.
    assert after((100.0, 60), (400.0, 20)).peak_connections == pytest.approx(40.0)


def test_a_nightly_dump_is_forgotten_within_the_hour() -> None:
    night = [(float(t), 60 if t < 600 else 40) for t in range(0, 4200, 5)]
    assert after(*night).expected_connections == 41


def test_a_rise_is_expected_to_go_on_at_the_slower_of_its_last_two_paces() -> None:
    # 2 a second, then 1 a second: 15 more are expected within 15 s.
    assert after((0.0, 10), (5.0, 20), (10.0, 25)).expected_connections == 25 + 15


def test_a_single_jump_is_not_a_rise() -> None:
    assert after((0.0, 10), (5.0, 10), (10.0, 24)).expected_connections == 24
    assert after((0.0, 10), (5.0, 24), (10.0, 24)).expected_connections == 24


def test_a_rise_below_the_fading_peak_adds_nothing_to_that_peak() -> None:
    memory = after((0.0, 40), (5.0, 10), (10.0, 15), (15.0, 20))
    assert memory.rise_connections == 15
    assert memory.expected_connections == 40  # the peak is still more than 20 + 15


def test_readings_in_quick_succession_show_no_pace() -> None:
    memory = after((0.0, 10), (5.0, 10), (6.0, 12), (7.0, 14))
    assert memory.rise_connections == 0
    assert memory.expected_connections == 14


def test_readings_far_apart_show_no_pace() -> None:
    assert after((0.0, 10), (600.0, 40), (605.0, 45)).expected_connections == 45


@steady(200)
@given(st.lists(st.tuples(st.floats(0.0, 120.0), st.integers(0, 700)), min_size=1, max_size=30))
def test_at_least_what_is_seen_is_expected_and_the_memory_stays_bounded(steps: list[tuple[float, int]]) -> None:
    memory, now = None, 1000.0
    for seconds, seen in steps:
        now += seconds
        memory = remember_others(memory, seen, now, 300.0)
        assert memory.expected_connections >= seen
        assert memory.fading_peak_connections >= seen
        assert len(memory.recent) <= 3
