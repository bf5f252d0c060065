"""The two yardsticks: what they know, and when they give orders."""

from __future__ import annotations

from array import array
from functools import partial

import pytest

from fleetd.simulate.policies.yardsticks import (
    DRAIN_SECONDS,
    OVERTIME_SECONDS,
    Oracle,
    Reactive,
    _highest,
    schedule,
)
from fleetd.simulate.run import policy_of, run_rival
from tests.support.builders.traces import PROFILE, queue_toml, small_trace, world_of

BURST = queue_toml(
    "push", mean=0.5, bursts="[[300, 1080]]"
)  # 540 s of work within 27 of 30 s take 20 threads: two instances
TARGET = "[targets]\npush = 30\n"


@pytest.mark.parametrize("tick", [1, 5, 60])
def test_the_oracle_orders_ahead_by_the_longest_boot_whatever_the_tick(tick: int) -> None:
    trace = small_trace(TARGET + BURST, head=f"tick_seconds = {tick}")
    world = world_of(trace)
    ordered, kept = schedule(world, 0.0)["local"]
    lead = 21  # a boot takes up to 20 s, and an order another second
    assert [ordered[300 - lead - 1], ordered[300 - lead]] == [0, 2]
    assert [ordered[326 + OVERTIME_SECONDS], ordered[327 + OVERTIME_SECONDS]] == [2, 0]
    assert [kept[300 - lead - DRAIN_SECONDS - 1], kept[300 - lead - DRAIN_SECONDS]] == [0, 2]
    outcome = run_rival("oracle", trace, world.policy, partial(Oracle, margin=0.0))
    assert outcome.score.late_jobs == 0
    # One instance runs all the time, the other from its order to its end.
    assert 600 + lead + 27 <= outcome.score.instance_seconds <= 600 + lead + 27 + OVERTIME_SECONDS + tick + 15


def test_an_instance_needed_again_within_a_drain_and_a_boot_is_kept() -> None:
    counts = array("l", [2] * 10 + [1] * 30 + [2] * 10)
    assert list(_highest(counts, 40))[:20] == [2] * 20
    assert list(_highest(counts, 5)) == [2] * (10 + OVERTIME_SECONDS) + [1] * 20 + [2] * 15


def test_reactive_starts_all_that_helps_at_the_next_tick() -> None:
    for tick in (1, 7):
        trace = small_trace(TARGET + BURST, head=f"tick_seconds = {tick}", profile=PROFILE)
        sizes = {"local": array("l", [1] * 600)}
        outcome = run_rival("reactive", trace, policy_of(trace, None), partial(Reactive, sizes=sizes))
        assert outcome.score.starts == 5, "a thread for each job, and 6 instances are all there is"
        step, spreads = outcome.curve.step_seconds, outcome.curve.instances["local"]
        seen = next(place for place, spread in enumerate(spreads) if spread.highest == 6) * step
        assert seen + step >= 300
        assert seen <= 300 + tick
