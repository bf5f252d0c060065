"""Clocks of others: known from beats that moved between two readings, and taken out of every age."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from fleetd.core.evidence.clocks import CLOCK_SECONDS_MIN, ClockBounds, bounds_of_beat, by_redis_clock
from fleetd.core.model.facts import RunningJob
from tests.support.builders.readings import process

TICK_SECONDS = 5.0


@given(
    ahead=st.floats(-3600.0, 3600.0),
    delays=st.lists(st.floats(0.0, TICK_SECONDS - 0.001), min_size=1, max_size=30),
)
def test_the_true_difference_is_always_within_the_bounds(ahead: float, delays: list[float]) -> None:
    bounds: ClockBounds | None = None
    for n, delay in enumerate(delays):
        earlier = 1_700_000_000.0 + 10.0 * n
        written = earlier + delay
        bounds = bounds_of_beat(bounds, written + ahead, earlier, earlier + TICK_SECONDS)
    assert bounds is not None
    assert bounds.low_seconds - 1e-5 <= ahead <= bounds.high_seconds + 1e-5
    if abs(ahead) > TICK_SECONDS + CLOCK_SECONDS_MIN:
        assert ahead - 1e-5 <= bounds.ahead_seconds <= ahead + TICK_SECONDS + 1e-5
    if abs(ahead) < CLOCK_SECONDS_MIN:
        assert bounds.ahead_seconds == 0.0


def test_a_clock_that_was_set_meanwhile_is_learnt_anew() -> None:
    before = ClockBounds(low_seconds=-605.0, high_seconds=-600.0)
    after = bounds_of_beat(before, 1000.0, 998.0, 1003.0)
    assert after.ahead_seconds == 0.0


@pytest.mark.parametrize("ahead", [600.0, -600.0])
def test_ages_are_by_redis_s_clock(ahead: float) -> None:
    shown = structs.replace(
        process("", beat=3.0 - ahead, started=5000.0 - ahead),
        jobs=(RunningJob(jid="a", run_age_seconds=42.0 - ahead),),
    )
    right = by_redis_clock(shown, ahead)
    assert (right.beat_age_seconds, right.started_age_seconds) == (3.0, 5000.0)
    assert right.oldest_run_age_seconds == 42.0


def test_no_age_is_below_zero() -> None:
    shown = structs.replace(process("", beat=-2.0), jobs=(RunningJob(jid="a", run_age_seconds=-1.0),))
    right = by_redis_clock(shown, 0.0)
    assert (right.beat_age_seconds, right.oldest_run_age_seconds) == (0.0, 0.0)
