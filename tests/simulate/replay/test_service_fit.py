"""Service times from heartbeats and a counter, in made-up windows with known true times."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetd.simulate.replay.service_fit import Fit, Window, YoungShare, fitted, share_and_slope


def window(done: float, busy: dict[str, float], again: dict[str, float] | None = None) -> Window:
    return Window(done_jobs=done, first=busy, second=busy if again is None else again)


@settings(max_examples=60, deadline=None)
@given(
    rates=st.lists(st.floats(1.0, 20.0), min_size=1, max_size=4),
    busy=st.lists(st.lists(st.floats(0.0, 3000.0), min_size=4, max_size=4), max_size=40),
    young=st.floats(0.0, 1.0),
)
def test_fitted_times_are_finite_and_in_range(rates: list[float], busy: list[list[float]], young: float) -> None:
    windows = [
        window(sum(b * r for b, r in zip(row, rates, strict=False)), {f"q{i}": b for i, b in enumerate(row)})
        for row in busy
    ]
    ages = {"q0": YoungShare(busy_thread_seconds=500.0, young_thread_seconds=500.0 * young)}
    fit = fitted(windows, ages, {})
    assert all(0.002 <= seconds <= 120.0 for seconds in fit.seconds.values())
    assert all(math.isfinite(sigma) and sigma > 0.0 for sigma in fit.jobs_sigma.values())


def test_exact_readings_give_exact_times() -> None:
    true = {"default": 0.05, "push": 1.0}
    rows = ({"default": 1e5 * (i % 7), "push": 1e5 * (i % 3)} for i in range(200))
    fit = fitted([window(sum(b / true[q] for q, b in busy.items()), busy) for busy in rows], {}, {})
    for name, seconds in true.items():
        assert fit.seconds[name] == pytest.approx(seconds, rel=0.03)
        assert fit.jobs_sigma[name] < 0.1


def fit_of_noisy_readings(true: dict[str, float], alike: bool, seed: int) -> Fit:
    """A fit of two queues over 800 minutes, from two sets of readings with independent errors of 20 %."""
    chance = random.Random(seed)
    windows = []
    for i in range(800):
        busy = {"default": 1200.0 + 600.0 * math.sin(i / 60.0), "push": 0.0}
        busy["push"] = busy["default"] / 2.0 if alike else 600.0 + 300.0 * math.sin(i / 25.0)
        looks = [{q: b * (1.0 + chance.gauss(0.0, 0.2)) for q, b in busy.items()} for _ in range(2)]
        done = sum(b / true[q] for q, b in busy.items())
        windows.append(Window(done_jobs=chance.gauss(done, math.sqrt(done)), first=looks[0], second=looks[1]))
    return fitted(windows, {}, {})


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_errors_of_readings_do_not_pull_two_queues_towards_the_same_time(seed: int) -> None:
    true = {"default": 0.1, "push": 1.0}
    fit = fit_of_noisy_readings(true, alike=False, seed=seed)
    for name, seconds in true.items():
        assert fit.seconds[name] == pytest.approx(seconds, rel=0.3), name
    assert fit.jobs_sigma["default"] < 0.15


def test_queues_that_are_always_equally_busy_are_reported_as_unknown() -> None:
    fit = fit_of_noisy_readings({"default": 0.3, "push": 0.2}, alike=True, seed=1)
    assert fit.jobs_sigma["push"] > 0.25
    both = 2.0 / fit.seconds["default"] + 1.0 / fit.seconds["push"]
    assert both == pytest.approx(2.0 / 0.3 + 1.0 / 0.2, rel=0.05), "their sum is known"


@pytest.mark.parametrize("seconds", [30.0, 60.0, 110.0])
def test_ages_reveal_long_jobs_that_the_counter_cannot(seconds: float) -> None:
    """Few jobs of a minute hardly show in the counter. With the usual time there would be twenty times as many."""
    share, _ = share_and_slope(seconds)
    ages = {"pull": YoungShare(busy_thread_seconds=1e5, young_thread_seconds=1e5 * share)}
    busy = [{"default": 600.0 + 10.0 * (i % 20), "pull": 900.0} for i in range(100)]
    windows = [window(b["default"] / 0.15 + b["pull"] / seconds, b) for b in busy]
    fit = fitted(windows, ages, {})
    assert fit.seconds["pull"] == pytest.approx(seconds, rel=0.2)
    assert fit.jobs_sigma["pull"] < 0.15


@given(st.floats(0.01, 110.0), st.floats(1.05, 3.0))
def test_longer_jobs_have_a_lower_share_of_young_threads(seconds: float, factor: float) -> None:
    share, slope = share_and_slope(seconds)
    longer, _ = share_and_slope(seconds * factor)
    assert slope <= 0.0
    assert longer < share or share == pytest.approx(1.0)


def test_for_long_jobs_the_share_is_ten_seconds_over_their_mean() -> None:
    assert share_and_slope(110.0)[0] == pytest.approx(10.0 / 110.0, rel=0.02)
    assert share_and_slope(0.3)[0] > 0.999
