"""Each law of a simulation, broken on purpose; and that a rival's run is watched at all."""

from __future__ import annotations

from functools import partial

import pytest

from fleetd.core.model.decision import Step
from fleetd.core.model.policy import Policy
from fleetd.simulate.policies.rival import Rival
from fleetd.simulate.policies.rivals import Static
from fleetd.simulate.policies.steering import Steering
from fleetd.simulate.run import policy_of, run_rival
from fleetd.simulate.scoring.laws import LawChecks
from fleetd.simulate.trace.trace import Trace
from fleetd.simulate.world.world import World
from tests.support.builders.traces import queue, trace, world


def step(verb: str, number: int) -> Step:
    return Step(verb=verb, number=number, profile="local")  # type: ignore[arg-type]


def busy(*, faults: str = "", seconds: int = 600) -> Trace:
    """Imports of ten minutes keep two instances of 10 threads busy; min is 1."""
    return trace(
        "[targets]\n" + queue("pull", "[]", 600.0, sigma=0.0, bursts="[[0, 100]]") + faults,
        seconds=seconds,
        head="initial_instances = 2",
    )


def watched(made: Trace, second: int, *, own: bool = False) -> tuple[World, LawChecks]:
    there, rules = world(made)
    there.advance_to(second)
    return there, LawChecks(there, rules, own=own)


def outage(source: str) -> str:
    return f'[[faults]]\nat = 5\nfor_seconds = 300\nsource = "{source}"\n'


def test_a_start_above_the_budget_is_a_break_for_everyone() -> None:
    made = trace("[targets]\n" + queue("default") + "[database]\nmax_connections = 30\n")
    there, checks = watched(made, 5)
    there.start(2)
    checks.after_tick([step("start", 2)], {"local": 1})
    assert checks.breaks == ["law 2, test seed 1 at 5 s: started with claims 4 above the budget"]


def test_what_is_quieted_below_min_is_a_break() -> None:
    there, checks = watched(busy(), 5)
    there.quiet(1)
    checks.after_tick([step("quiet", 1)], {"local": 2})
    assert checks.breaks == []
    there.quiet(2)
    checks.after_tick([step("quiet", 2)], {"local": 1})
    assert checks.breaks == ["law 2, test seed 1 at 5 s: local was brought below min"]


def test_jobs_in_flight_are_left_alone_until_the_deadline() -> None:
    there, checks = watched(busy(seconds=1200), 5)
    there.quiet(1)
    checks.after_tick([step("quiet", 1)], {"local": 2})
    there.advance_to(200)
    there.stop(1)
    checks.after_tick([step("stop", 1)], {"local": 1})
    assert checks.breaks == [
        "law 4, test seed 1 at 200 s: @1 was stopped with 10 jobs in flight before its deadline"
    ]

    there, checks = watched(busy(seconds=1200), 5)
    there.instances[1].held = 3
    checks.after_tick([step("quiet", 1)], {"local": 2})
    there.now = 606
    checks.after_tick([step("stop", 1)], {"local": 1})
    assert checks.breaks == []


def test_jobs_that_a_stop_loses_are_a_break_and_those_of_the_killed_are_not() -> None:
    there, checks = watched(busy(faults=outage("redis")), 4)
    there.stop(1)  # its 25 s end while nobody takes what is pushed back
    there.advance_to(40)
    checks.losses()
    assert checks.breaks == ["law 4, test seed 1 at 40 s: 10 jobs lost by a stop"]
    checks.losses()
    assert checks.breaks_total == 1, "told once"

    there, checks = watched(busy(faults="[[faults]]\nat = 5\nkill_instances = 1\n"), 10)
    checks.losses()
    assert there.lost_jobs == 10
    assert checks.breaks == []


@pytest.mark.parametrize(
    ("source", "verb", "own", "law"),
    [
        ("systemd", "start", False, "an order while systemd can't be read"),
        ("redis", "quiet", False, "something was stopped while latency is unknown"),
        ("postgres", "start", True, "local grew above min while a reading is unknown"),
        ("redis", "start", True, "local grew above min while a reading is unknown"),
    ],
)
def test_unknown_readings(source: str, verb: str, own: bool, law: str) -> None:
    _, checks = watched(busy(faults=outage(source)), 10, own=own)
    checks.after_tick([step(verb, 3)], {"local": 2})
    assert checks.breaks == [f"law 3, test seed 1 at 10 s: {law}"]


def test_growth_on_an_unknown_reading_is_forbidden_to_fleetd_alone() -> None:
    _, checks = watched(busy(faults=outage("postgres")), 10, own=False)
    checks.after_tick([step("start", 3)], {"local": 2})
    assert checks.breaks == []


def test_more_orders_than_the_pace_allows() -> None:
    orders = [step("start", n % 6 + 1) for n in range(26)]
    for own, broken in ((True, ["law 7, test seed 1 at 5 s: 26 orders at one tick"]), (False, [])):
        _, checks = watched(busy(), 5, own=own)
        checks.after_tick(orders, {"local": 2})
        assert checks.breaks == broken


def test_a_rival_is_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    made = trace("[targets]\n" + queue("default") + "[database]\nmax_connections = 30\n", seconds=60)
    rules = policy_of(made, None)

    def run() -> int:
        return run_rival("static", made, rules, partial(Static, policy=rules)).score.law_breaks

    assert run() == 0

    def without_a_budget(self: Steering, wanted: dict[str, int]) -> None:
        for instance in self.world.groups[0].instances[: wanted["local"]]:
            if not instance.present:
                self._do("start", instance)

    monkeypatch.setattr(Steering, "towards", without_a_budget)
    assert run() > 0


@pytest.mark.parametrize(("tick", "every"), [(7, 15), (5, 15), (30, 10), (5, 1)])
def test_a_rival_looks_at_its_own_cadence_whatever_the_tick(tick: int, every: int) -> None:
    looks: list[int] = []

    class Watch(Rival):
        every_seconds = every

        def look(self) -> dict[str, int]:
            looks.append(self.world.now)
            return self.wanted

    made = trace("[targets]\n" + queue("default"), seconds=120, head=f"tick_seconds = {tick}")
    rules: Policy = policy_of(made, None)
    run_rival("watch", made, rules, partial(Watch, policy=rules))
    assert looks == list(range(0, 120, every))
