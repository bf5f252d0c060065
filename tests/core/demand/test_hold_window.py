"""The hold window: going down waits until nothing in this time needed more."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fleetd.core.demand.desired import SETTLES_HOLDS, WINDOW_ENTRIES_MAX, HoldWindow, keep_highest
from fleetd.core.model.policy_tables import PacePolicy
from tests.support.project import PROJECT
from tests.support.storm.storm import steady


def fold(*counts: tuple[float, int], window_seconds: float = 300.0, gap: float = 30.0) -> HoldWindow:
    window: HoldWindow | None = None
    for at, count in counts:
        window = keep_highest(window, count, at, window_seconds, gap)
    assert window is not None
    return window


def test_the_pages_say_how_long_it_is_and_how_long_after_growth_nothing_stops() -> None:
    hold_minutes = PacePolicy().hold_down_seconds / 60
    readme = " ".join((PROJECT / "README.md").read_text().split())
    assert f"nothing in the last {hold_minutes:.0f} minutes needed more" in readme
    assert f"not within {SETTLES_HOLDS * hold_minutes:.0f} minutes of having grown" in readme
    operations = (PROJECT / "docs/operations.md").read_text()
    assert f"`pace.hold_down_seconds` ({hold_minutes:.0f} minutes), or the profile has grown within twice" in operations
    assert SETTLES_HOLDS == 2.0


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
