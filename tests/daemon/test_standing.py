"""What keeps the log short: warnings that last or flap, states that change too often, and the budget of a minute."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from fleetd.daemon.standing import (
    AGAIN_SECONDS,
    LINES_A_MINUTE,
    LINES_A_MINUTE_OF_READINGS,
    SETTLE_SECONDS,
    WARNINGS_MAX,
    Budget,
    Line,
    Seldom,
    Standing,
)

HOUR = 3600.0


def standing() -> Standing:
    return Standing(over=lambda key: f"{key} is over", more=lambda keys: f"{len(keys)} more")


def told(warnings: Standing, at: float, *keys: str) -> list[str]:
    return [line.sentence for line in warnings.look(at, {key: f"{key} is wrong" for key in keys})]


def test_a_warning_that_lasts_is_said_once_and_again_every_few_hours() -> None:
    warnings = standing()
    lines = {at: told(warnings, float(at), "a") for at in range(0, 24 * 3600, 5)}
    said = [at for at, these in lines.items() if these]
    assert said == list(range(0, 24 * 3600, int(AGAIN_SECONDS)))
    assert told(warnings, 24 * HOUR) == ["a is over"]
    assert told(warnings, 24 * HOUR + 5.0) == []


def test_the_begin_is_a_warning_and_the_end_is_none() -> None:
    warnings = standing()
    assert warnings.look(0.0, {"a": "a is wrong"}) == [Line("a", "a is wrong", warning=True)]
    assert warnings.look(5.0, {}) == [Line("a", "a is over", warning=False)]


def test_a_warning_that_flaps_is_said_less_and_less() -> None:
    warnings = standing()
    day = [line for n in range(17_280) for line in told(warnings, 5.0 * n, *(["a"] if n % 2 else []))]
    begun = day.count("a is wrong")
    assert begun <= 3 + 24 * HOUR / AGAIN_SECONDS
    assert begun + day.count("a is over") == len(day) <= 16
    assert told(warnings, 24 * HOUR + SETTLE_SECONDS[-1] + AGAIN_SECONDS) == ["a is over"], "the last word is true"


def test_a_warning_that_has_been_steady_for_hours_is_over_at_once() -> None:
    warnings = standing()
    for n in range(400):
        told(warnings, 5.0 * n, *(["a"] if n % 2 else []))
    for n in range(400, 5000):
        told(warnings, 5.0 * n, "a")
    assert told(warnings, 25_000.0) == ["a is over"]


def test_sixty_keys_whose_order_and_set_change_each_tick_are_said_within_bounds() -> None:
    warnings, chance = standing(), random.Random(1)
    keys = [f"queue:q{n}" for n in range(60)]
    day = []
    for n in range(17_280):
        day += told(warnings, 5.0 * n, *chance.sample(keys, chance.randint(0, 50)))
    assert len([line for line in day if "wrong" in line]) <= WARNINGS_MAX * (4 + 24 * HOUR / AGAIN_SECONDS)
    assert 1 <= len([line for line in day if line.endswith(" more")]) <= 24 * HOUR / AGAIN_SECONDS
    calm = [line for n in range(3000) for line in told(warnings, 24 * HOUR + 5.0 * n)]
    assert len(calm) <= WARNINGS_MAX


def test_ten_thousand_names_over_a_day_use_no_more_memory_and_say_little() -> None:
    warnings = standing()
    lines = [line for n in range(10_000) for line in told(warnings, 8.64 * n, f"q{n}", f"q{n + 1}")]
    assert len(warnings._known) <= WARNINGS_MAX
    # The slots become free only after hours.
    assert len(lines) <= (2 * WARNINGS_MAX + 1) * (1 + 24 * HOUR / AGAIN_SECONDS)


def test_once_a_slot_is_free_a_new_warning_is_told_again() -> None:
    warnings = standing()
    assert len(told(warnings, 0.0, *(f"q{n}" for n in range(WARNINGS_MAX + 5)))) == WARNINGS_MAX + 1
    told(warnings, 5.0)
    told(warnings, 5.0 + AGAIN_SECONDS)
    assert told(warnings, 10.0 + AGAIN_SECONDS, "new") == ["new is wrong"]


def test_what_finds_no_room_is_said_later() -> None:
    warnings = standing()
    there = {key: f"{key} is wrong" for key in "abc"}
    assert [line.key for line in warnings.look(0.0, there, 2)] == ["a", "b"]
    assert warnings.look(5.0, there, 0) == []
    assert [line.key for line in warnings.look(60.0, there, 2)] == ["c"]
    assert [line.key for line in warnings.look(65.0, {}, 1)] == ["a"]
    assert [line.key for line in warnings.look(125.0, {}, 5)] == ["b", "c"]


@given(ticks=st.lists(st.sets(st.integers(0, 40)), max_size=60), step=st.floats(1.0, 400.0))
def test_whatever_comes_and_goes_each_end_has_its_begin(ticks: list[set[int]], step: float) -> None:
    warnings, open_keys = standing(), set()
    for n, keys in enumerate(ticks):
        for line in warnings.look(step * n, {str(key): "wrong" for key in sorted(keys)}):
            if line.warning and line.key:
                open_keys.add(line.key)
            elif line.key:
                assert line.key in open_keys
                open_keys.remove(line.key)
    assert len(open_keys) <= WARNINGS_MAX


def test_a_state_that_keeps_changing_is_told_at_once_a_few_times_then_seldom() -> None:
    seldom = Seldom(20, 600.0)
    told_at = [at for at in range(0, 24 * 3600, 5) if seldom.may(float(at))]
    assert told_at[:20] == list(range(0, 100, 5))
    assert len(told_at) <= 20 + 24 * HOUR / 600.0
    assert Seldom(1, 60.0).may(0.0)


def test_a_minute_has_its_lines_and_says_how_many_more_there_were() -> None:
    budget = Budget()
    assert budget.ended(0.0) == 0
    readings = sum(budget.take(of_readings=True) for _ in range(100))
    others = sum(budget.take(of_readings=False) for _ in range(100))
    assert (readings, others) == (LINES_A_MINUTE_OF_READINGS, LINES_A_MINUTE - LINES_A_MINUTE_OF_READINGS)
    assert budget.ended(59.0) == 0
    assert budget.ended(61.0) == 200 - LINES_A_MINUTE
    assert budget.take(of_readings=True)
    assert budget.ended(122.0) == 0
