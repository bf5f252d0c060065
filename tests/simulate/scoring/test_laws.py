"""Each law is broken on purpose: in the values that a check takes, and in the simulated world."""

from __future__ import annotations

import pytest
from msgspec import structs

from fleetd.core.instances.drain import DRAIN_ORDERS_MAX
from fleetd.core.model.decision import Step, Verb
from fleetd.core.model.identity import SCHEDULER, InstanceKey
from fleetd.core.model.policy_tables import SchedulerPolicy
from fleetd.simulate.policies.rivals import Rival, Static
from fleetd.simulate.policies.scaling import ByRival, Scaler
from fleetd.simulate.run import policy_of, run_rival
from fleetd.simulate.scoring.laws import (
    LAWS_FOR_ALL,
    LAWS_FOR_FLEETD,
    Law,
    LawWatch,
    Stop,
    Truth,
    bounded,
    min_is_kept,
    no_growth_on_a_guess,
    no_job_lost,
    one_scheduler,
    unknown_holds,
    within_budget,
)
from fleetd.simulate.trace.trace import Trace
from tests.support.builders.traces import queue_toml, small_trace, world_of

TWO_RUN = "initial_instances = 2"
#: A profile of 1 to 6 instances, "local".
POLICY = policy_of(small_trace(queue_toml("default"), head=TWO_RUN), None)
START, QUIET, STOP = (
    Step(verb=v, key=InstanceKey(3), profile="local", why=ByRival()) for v in ("start", "quiet", "stop")
)
START_SCHEDULER = Step(verb="start", key=SCHEDULER, why=ByRival())

CALM = Truth(
    policy=POLICY,
    orders=(),
    capacity_before={"local": 2},
    capacity={"local": 2},
    booting=0,
    schedulers_elsewhere=0,
    systemd_known=True,
    sidekiq_known=True,
    headroom_known=True,
    claims_connections=24,
    budget_connections=100,
    pushes_back=True,
    stops=(),
    lost_jobs=0,
)


def stop_of(*, draining_seconds: float = 30.0, idle: bool = True, unresponsive: bool = False) -> Stop:
    return Stop(
        key=InstanceKey(3),
        draining_seconds=draining_seconds,
        idle_since_quiet=idle,
        unresponsive=unresponsive,
    )


@pytest.mark.parametrize(
    ("law", "kept", "broken", "says"),
    [
        (one_scheduler, {"orders": (START_SCHEDULER,)}, {"schedulers_elsewhere": 1}, "beside a live one"),
        (within_budget, {"orders": (START,)}, {"claims_connections": 104}, "claims 4 above the budget"),
        (within_budget, {"orders": (START,)}, {"database_refuses": True}, "database refuses"),
        (within_budget, {"claims_connections": 104}, {"orders": (START,)}, "claims 4 above the budget"),
        (
            min_is_kept,
            {"orders": (QUIET,), "capacity": {"local": 1}},
            {"capacity": {"local": 0}},
            "local was brought below min",
        ),
        (unknown_holds, {"systemd_known": False}, {"orders": (START,)}, "systemd can't be read"),
        (
            unknown_holds,
            {"sidekiq_known": False, "orders": (START,)},
            {"orders": (QUIET,)},
            "latency is unknown",
        ),
        (unknown_holds, {"sidekiq_known": False}, {"orders": (STOP,)}, "latency is unknown"),
        (
            no_growth_on_a_guess,
            {"headroom_known": False, "orders": (START,), "capacity_before": {"local": 0}},
            {"capacity_before": {"local": 1}},
            "grew above min",
        ),
        (
            no_growth_on_a_guess,
            {"sidekiq_known": False, "orders": (START,), "ordered_instances": {"local": 3}},
            {"ordered_instances": {"local": 2}},
            "grew above min",
        ),
        (no_job_lost, {}, {"lost_jobs": 7}, "7 jobs lost by a stop"),
        (
            no_job_lost,
            {"stops": (stop_of(),)},
            {"stops": (stop_of(idle=False),)},
            "before it was quiet and idle",
        ),
        (
            no_job_lost,
            {"stops": (stop_of(idle=False, draining_seconds=601.0),)},
            {"pushes_back": False},
            "back",
        ),
        (no_job_lost, {"stops": (stop_of(unresponsive=True),)}, {"pushes_back": False}, "back"),
        (
            bounded,
            {"orders": (QUIET,) * (DRAIN_ORDERS_MAX + 17)},
            {"orders": (QUIET,) * (DRAIN_ORDERS_MAX + 18)},
            "26 orders at one tick",
        ),
        (bounded, {"orders": (START,), "booting": 17}, {"booting": 18}, "18 instances boot at once"),
    ],
)
def test_each_check_passes_lawful_values_and_fails_broken_ones(
    law: Law, kept: dict[str, object], broken: dict[str, object], says: str
) -> None:
    lawful = structs.replace(CALM, **kept)
    assert list(law(lawful)) == []
    [sentence] = law(structs.replace(lawful, **broken))
    assert says in sentence


def test_an_idle_process_may_be_stopped_while_redis_is_read_only() -> None:
    assert list(no_job_lost(structs.replace(CALM, stops=(stop_of(),), pushes_back=False))) == []


def test_a_step_for_the_scheduler_is_allowed_in_addition() -> None:
    policy = structs.replace(POLICY, scheduler=SchedulerPolicy(place="here"))
    truth = structs.replace(CALM, policy=policy, orders=(QUIET,) * (DRAIN_ORDERS_MAX + 18))
    assert list(bounded(truth)) == []


def busy_trace(*, faults: str = "", seconds: int = 600) -> Trace:
    """Imports of ten minutes keep two instances of 10 threads busy. min is 1."""
    imports = queue_toml("pull", "[]", 600.0, sigma=0.0, bursts="[[0, 100]]")
    return small_trace(imports + faults, seconds=seconds, head=TWO_RUN)


def watch_at(trace: Trace, second: int, laws: tuple[tuple[int, Law], ...] = LAWS_FOR_ALL) -> LawWatch:
    world = world_of(trace)
    world.advance_to(second)
    return LawWatch(world, laws)


def give_orders(watch: LawWatch, verb: Verb, *numbers: int) -> None:
    """A tick that gives these orders."""
    watch.begin_tick()
    for number in numbers:
        watch.world.carry_out(Step(verb=verb, key=InstanceKey(number), profile="local", why=ByRival()))
    watch.end_tick()


def outage_toml(source: str) -> str:
    return f'[[faults]]\nat = 5\nfor_seconds = 300\nsource = "{source}"\n'


SCARCE = small_trace(queue_toml("default") + "[database]\nmax_connections = 30\n", seconds=60)


def test_a_start_above_the_budget_is_reported_with_seed_and_second() -> None:
    watch = watch_at(SCARCE, 5)
    give_orders(watch, "start", 2)
    assert watch.breaks == ["law 2, test seed 1 at 5 s: started with claims 4 above the budget"]


def test_a_quiet_below_min_is_a_break() -> None:
    watch = watch_at(busy_trace(), 5)
    give_orders(watch, "quiet", 1)
    assert watch.breaks == []
    give_orders(watch, "quiet", 2)
    assert watch.breaks == ["law 2, test seed 1 at 5 s: local was brought below min"]


def test_jobs_in_flight_are_left_alone_until_the_deadline() -> None:
    for second, broken in ((200, True), (606, False)):
        watch = watch_at(busy_trace(seconds=1200), 5)
        give_orders(watch, "quiet", 1)
        assert len(watch.world.machine.instances[InstanceKey(1)].jobs) == 10
        watch.world.now = second
        give_orders(watch, "stop", 1)
        assert ["before its deadline" in sentence for sentence in watch.breaks] == [True] * broken


def test_a_stop_is_lawful_once_a_heartbeat_says_quiet_and_idle() -> None:
    for waits_for_beat, breaks in ((False, 1), (True, 0)):
        watch = watch_at(small_trace(queue_toml("default", "[[0, 5]]"), head=TWO_RUN), 50)
        give_orders(watch, "quiet", 1)
        while waits_for_beat and not watch.world.machine.instances[InstanceKey(1)].idle_since_quiet:
            watch.world.advance_to(watch.world.now + 1)
        give_orders(watch, "stop", 1)
        assert watch.breaks_total == breaks


def test_a_scheduler_started_in_a_trace_is_a_second_one() -> None:
    watch = watch_at(busy_trace(), 5)
    watch.world.carry_out(START_SCHEDULER)
    watch.end_tick()
    assert watch.breaks == ["law 1, test seed 1 at 5 s: started a scheduler beside a live one"]


def test_an_instance_that_still_boots_may_be_stopped() -> None:
    watch = watch_at(busy_trace(), 5)
    give_orders(watch, "start", 3)
    give_orders(watch, "stop", 3)
    assert watch.breaks == []


def test_jobs_lost_by_a_stop_are_a_break_and_those_lost_by_a_kill_are_not() -> None:
    watch = watch_at(busy_trace(faults=outage_toml("redis")), 4)
    watch.world.stop(InstanceKey(1))  # its 25 s end while nothing takes the jobs that it pushes back
    watch.world.advance_to(40)
    give_orders(watch, "stop")
    assert watch.breaks == ["law 4, test seed 1 at 40 s: 10 jobs lost by a stop"]
    give_orders(watch, "stop")
    assert watch.breaks_total == 1, "told once"

    watch = watch_at(busy_trace(faults="[[faults]]\nat = 5\nkill_instances = 1\n"), 10)
    give_orders(watch, "stop")
    assert watch.world.lost_jobs == 10
    assert watch.breaks == []


@pytest.mark.parametrize(
    ("source", "verb", "numbers", "laws", "says"),
    [
        ("systemd", "start", (3,), LAWS_FOR_ALL, "an order while systemd can't be read"),
        ("redis", "quiet", (1,), LAWS_FOR_ALL, "something was stopped while latency is unknown"),
        ("postgres", "start", (3,), LAWS_FOR_FLEETD, "local grew above min while a reading is unknown"),
        ("redis", "start", (3,), LAWS_FOR_FLEETD, "local grew above min while a reading is unknown"),
        ("postgres", "start", (3,), LAWS_FOR_ALL, None),
    ],
)
def test_steps_on_unknown_readings_are_a_break(
    source: str, verb: Verb, numbers: tuple[int, ...], laws: tuple[tuple[int, Law], ...], says: str | None
) -> None:
    watch = watch_at(busy_trace(faults=outage_toml(source)), 10, laws)
    give_orders(watch, verb, *numbers)
    assert watch.breaks == ([] if says is None else [f"law 3, test seed 1 at 10 s: {says}"])


def test_more_orders_than_the_pace_allows_are_a_break_only_for_fleetd() -> None:
    for laws, breaks in ((LAWS_FOR_FLEETD, 1), (LAWS_FOR_ALL, 0)):
        watch = watch_at(busy_trace(), 5, laws)
        give_orders(watch, "start", *(n % 6 + 1 for n in range(26)))
        assert watch.breaks_total == breaks


def test_of_many_breaks_the_first_are_kept_and_all_are_counted() -> None:
    watch = watch_at(SCARCE, 5)
    for _ in range(30):
        give_orders(watch, "start", 2)
    assert (len(watch.breaks), watch.breaks_total) == (LawWatch.BREAKS_KEPT_MAX, 30)


def test_the_laws_are_checked_for_rivals(monkeypatch: pytest.MonkeyPatch) -> None:
    def law_breaks() -> int:
        return run_rival("static", SCARCE, policy_of(SCARCE, None), Static).score.law_breaks

    assert law_breaks() == 0

    def without_a_budget(self: Scaler, desired: dict[str, int]) -> None:
        for instance in self.world.groups[0].instances[: desired["local"]]:
            if not instance.present:
                self._order("start", instance)

    monkeypatch.setattr(Scaler, "scale", without_a_budget)
    assert law_breaks() > 0


@pytest.mark.parametrize(("tick", "interval"), [(7, 15), (5, 15), (30, 10), (5, 1)])
def test_a_rival_is_evaluated_at_its_own_interval_whatever_the_tick(tick: int, interval: int) -> None:
    evaluated: list[int] = []

    class Probe(Rival):
        interval_seconds = interval

        def evaluate(self) -> dict[str, int]:
            evaluated.append(self.world.now)
            return self.desired

    trace = small_trace(queue_toml("default"), seconds=120, head=f"tick_seconds = {tick}")
    run_rival("probe", trace, policy_of(trace, None), Probe)
    assert evaluated == list(range(0, 120, interval))
