"""The hold window: going down waits until nothing in this time needed more."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fleetd.core.demand.desired import WINDOW_ENTRIES_MAX, HoldWindow, keep_highest
from tests.support.storm.storm import steady


def fold(*counts: tuple[float, int], window_seconds: float = 300.0, gap: float = 30.0) -> HoldWindow:
    window: HoldWindow | None = None
    for at, count in counts:
        window = keep_highest(window, count, at, window_seconds, gap)
    assert window is not None
    return window


def test_the_highest_count_of_the_window_holds() -> None:
    assert fold((0, 5), (10, 3), (20, 4)).highest == 5
    assert fold((0, 5), (10, 3), (20, 4)).entries == ((0, 5), (20, 4))


def test_a_count_is_forgotten_once_the_window_has_passed() -> None:
    counts = [(float(t), 5 if t == 0 else 2) for t in range(0, 305, 5)]
    assert fold(*counts[:-1]).highest == 5  # at 295 s
    assert fold(*counts).highest == 2  # at 300 s


def test_it_covers_the_time_only_after_a_whole_window() -> None:
    window = fold(*((float(t), 1) for t in range(0, 300, 5)))
    assert not window.covers(299.9, 300.0)
    assert window.covers(300.0, 300.0)


def test_a_gap_restarts_the_window() -> None:
    window = fold(*((float(t), 1) for t in range(0, 400, 5)), (500.0, 1))
    assert window.since_seconds == 500.0


def test_a_clock_that_steps_back_restarts_the_window() -> None:
    assert fold((100.0, 5), (90.0, 1)) == HoldWindow(since_seconds=90.0, entries=((90.0, 1),))


def test_seconds_left_count_from_when_the_count_was_last_desired() -> None:
    window = fold((0, 5), (10, 3), (20, 1))
    assert window.seconds_left(20.0, 300.0, 5) == 280.0
    assert window.seconds_left(20.0, 300.0, 2) == 290.0
    assert window.seconds_left(400.0, 300.0, 5) == 0.0


@steady(100)
@given(st.lists(st.integers(0, 200), min_size=1, max_size=150))
def test_the_highest_is_the_maximum_of_the_window_and_bounded(counts: list[int]) -> None:
    window = fold(*((5.0 * i, count) for i, count in enumerate(counts)), window_seconds=300.0)
    assert len(window.entries) <= WINDOW_ENTRIES_MAX
    assert window.highest == max(counts[-60:])
