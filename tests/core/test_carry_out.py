"""The steps for this host: starts and drains (laws 4 and 6)."""

from __future__ import annotations

import pytest
from msgspec import structs

from fleetd.core.carry_out import carry_out
from fleetd.core.instances.drain import DRAIN_ORDERS_MAX
from fleetd.core.instances.host_memory import Failure, HostMemory, Rollout, UnitMemory, Watch
from fleetd.core.instances.host_tick import HostConstraints, HostDecision
from fleetd.core.instances.lifecycle import Drain
from fleetd.core.instances.scheduler import SchedulerDecision
from fleetd.core.model.decision import Plan, ProfilePlan, Step
from fleetd.core.model.facts import ProcessFacts, RenderedSettings, SidekiqFacts, UnitFacts
from fleetd.core.model.identity import SCHEDULER, InstanceKey
from fleetd.core.model.policy_tables import PacePolicy, Policy
from fleetd.core.model.reasons.counts import MemoryStalled
from fleetd.core.model.reasons.scheduler import SchedulerNeverHere, SchedulerStarted
from fleetd.core.model.reasons.units import MoreThanAdmitted, PinKind, ReplaceCause, SchedulerSurplus, SystemdResult
from tests.support.builders.decisions import NOW, pinned, planned
from tests.support.builders.readings import machine, process, sidekiq, snapshot, systemd, tag, tick_of, unit
from tests.support.world.ports import policy, strict

LEAVE = SchedulerDecision(state=SchedulerNeverHere())
CAUSE = MoreThanAdmitted(profile="default-first")


def host(
    units: dict[int, UnitFacts],
    *beats: ProcessFacts,
    plan: Plan | None,
    rules: Policy | None = None,
    memory: HostMemory | None = None,
    scheduler: SchedulerDecision = LEAVE,
    own_scheduler: UnitFacts | None = None,
    writable: bool | None = None,
    redis: bool = True,
    without: set[int] | None = None,
    constraints: HostConstraints | None = None,
) -> HostDecision:
    rules, memory = rules or policy(), memory or HostMemory()
    reading: SidekiqFacts | None = sidekiq(processes=beats, writable=writable) if redis else None
    shot = snapshot(
        rules,
        now=NOW,
        redis=reading,
        units=systemd(units, own_scheduler),
        host=machine(rules, without=without),
    )
    return carry_out(tick_of(rules, shot, memory, constraints), plan, scheduler, memory)


def did(decision: HostDecision) -> list[tuple[str, int]]:
    return [(step.verb, step.key) for step in decision.steps]


def serving(*numbers: int, busy: dict[int, int] | None = None) -> tuple[dict[int, UnitFacts], list[ProcessFacts]]:
    units = {n: unit(pid=100 + n) for n in numbers}
    return units, [process(tag(n), pid=100 + n, busy=(busy or {}).get(n, 0)) for n in numbers]


def failed(key: int, seconds_ago: float) -> HostMemory:
    """A unit that failed once, this long ago."""
    cause = SystemdResult(result="exit-code")
    failure = Failure(count=1, last_seconds=NOW - seconds_ago, cause=cause)
    return HostMemory().with_failures({InstanceKey(key): failure})


def test_the_lowest_free_numbers_are_started_and_remembered() -> None:
    units, beats = serving(2)
    decision = host(units, *beats, plan=planned(3))
    assert did(decision) == [("start", 1), ("start", 3)]
    assert decision.memory.starts == {1: NOW, 3: NOW}


def test_starts_are_paced_by_what_boots() -> None:
    units = {n: unit("activating", age=5.0) for n in (1, 2, 3)}
    assert did(host(units, plan=planned(6))) == [("start", 4)]
    units[4] = unit("activating", age=5.0)
    assert did(host(units, plan=planned(6))) == []


def test_a_number_ordered_a_moment_ago_is_not_ordered_again() -> None:
    decision = host({}, plan=planned(1), memory=HostMemory().with_start(InstanceKey(1), NOW - 5.0))
    assert did(decision) == []


def test_numbers_that_may_not_be_started_are_passed_over() -> None:
    decision = host({}, plan=planned(1), memory=pinned({1: PinKind.STOPPED}), without={2})
    assert did(decision) == [("start", 3)]
    waits = host({1: unit("failed")}, plan=planned(1), memory=failed(1, seconds_ago=5.0))
    assert did(waits) == [("start", 2)]


def test_a_failed_unit_is_tried_again_after_its_pause() -> None:
    rules = policy(strict(numbers="1-1"))
    memory = failed(1, seconds_ago=15.0)
    assert did(host({1: unit("failed")}, plan=planned(1), memory=memory, rules=rules)) == [("start", 1)]


def test_without_a_valid_plan_only_min_is_started() -> None:
    rules = policy(strict(low=1))
    assert did(host({}, plan=None, rules=rules)) == [("start", 1)]
    assert did(host({}, plan=planned(5, expires=NOW), rules=rules)) == [("start", 1)]
    units, beats = serving(1, 2, 3)
    assert did(host(units, *beats, plan=planned(1, expires=NOW), rules=rules)) == []


def test_a_plan_without_this_profile_moves_nothing() -> None:
    empty = Plan(epoch=1, expires_at_seconds=NOW + 20.0, profiles={"w1": {}}, claims_connections=0)
    units, beats = serving(1, 2, 3)
    assert did(host(units, *beats, plan=empty)) == []
    assert did(host({}, plan=empty)) == []


def test_the_least_busy_and_then_the_highest_is_quieted_first() -> None:
    units, beats = serving(1, 2, 3, busy={1: 4, 2: 0, 3: 0})
    decision = host(units, *beats, plan=planned(2))
    assert did(decision) == [("quiet", 3)]
    assert decision.memory.drains[InstanceKey(3)].quiet_sent_seconds == NOW


def test_an_instance_that_boots_goes_first_and_is_stopped_at_once() -> None:
    units, beats = serving(1, 2)
    decision = host({**units, 3: unit("activating", age=5.0)}, *beats, plan=planned(2))
    assert did(decision) == [("stop", 3)]
    assert decision.memory.drains[InstanceKey(3)].stop_sent_seconds == NOW


def test_an_instance_never_heard_of_is_not_drained_while_others_can_be() -> None:
    units, beats = serving(1, 2)
    watch = Watch(invocation_id="", silent_seconds=20.0)
    memory = HostMemory(units=UnitMemory(watches={InstanceKey(3): watch}))
    decision = host({**units, 3: unit(age=50.0, pid=103)}, *beats, plan=planned(2), memory=memory)
    assert did(decision) == [("quiet", 2)]


def test_the_first_heartbeat_of_a_ready_instance_is_waited_for() -> None:
    units, beats = serving(1, 2)
    decision = host({**units, 3: unit(age=2.0, pid=103)}, *beats, plan=planned(2))
    assert did(decision) == []


def test_only_a_drain_that_begins_counts_as_shed_for_memory() -> None:
    short = HostConstraints(shed=MemoryStalled(share=0.5, limit=0.1))
    units, beats = serving(1, 2)
    sheds = host(units, *beats, plan=planned(1), constraints=short)
    assert did(sheds) == [("quiet", 2)]
    assert sheds.memory.shortage.shed_seconds == NOW
    waits = host({**units, 3: unit(age=2.0, pid=103)}, *beats, plan=planned(2), constraints=short)
    assert did(waits) == []
    assert waits.memory.shortage.shed_seconds is None


def test_drains_are_paced() -> None:
    units, beats = serving(1, 2, 3, 4, 5)
    assert len(host(units, *beats, plan=planned(1)).steps) == 1
    rules = policy(pace=PacePolicy(drains_per_tick=3))
    assert did(host(units, *beats, plan=planned(1), rules=rules)) == [
        ("quiet", 5),
        ("quiet", 4),
        ("quiet", 3),
    ]


def test_an_instance_that_a_person_started_is_not_drained() -> None:
    units, beats = serving(1, 2, 3)
    one = pinned({3: PinKind.RUN})
    assert did(host(units, *beats, plan=planned(2), memory=one)) == [("quiet", 2)]
    all_three = pinned(dict.fromkeys((1, 2, 3), PinKind.RUN))
    assert did(host(units, *beats, plan=planned(0), memory=all_three)) == []


# -- a drain goes on


def draining(*, since: float = 20.0, sent: float | None = 20.0, stopped: float | None = None) -> HostMemory:
    """@1 drains. The arguments are the ages of the orders, in seconds."""
    drain = Drain(
        since_seconds=NOW - since,
        cause=CAUSE,
        quiet_sent_seconds=None if sent is None else NOW - sent,
        stop_sent_seconds=None if stopped is None else NOW - stopped,
    )
    return HostMemory().with_drain(InstanceKey(1), drain)


def goes_on(
    memory: HostMemory,
    *,
    busy: int = 0,
    quiet: bool = True,
    beat: float = 3.0,
    writable: bool | None = None,
    redis: bool = True,
    state: str = "active",
) -> list[tuple[str, int]]:
    own = process(tag(1), pid=101, busy=busy, quiet=quiet, beat=beat)
    units = {1: unit(state, pid=101)}
    return did(host(units, own, plan=planned(0), memory=memory, writable=writable, redis=redis))


def test_an_instance_quiet_and_idle_after_the_order_is_stopped() -> None:
    assert goes_on(draining(sent=20.0), beat=3.0) == [("stop", 1)]


def test_a_heartbeat_from_before_the_order_proves_nothing() -> None:
    assert goes_on(draining(sent=20.0), beat=20.0) == []
    assert goes_on(draining(sent=20.0), beat=25.0) == []


def test_an_instance_that_is_still_busy_is_only_watched() -> None:
    assert goes_on(draining(), busy=1) == []


def test_a_quiet_that_no_heartbeat_confirms_is_sent_again() -> None:
    assert goes_on(draining(sent=30.0), quiet=False) == []
    assert goes_on(draining(sent=30.1), quiet=False) == [("quiet", 1)]
    assert goes_on(draining(sent=None), quiet=False) == [("quiet", 1)]


@pytest.mark.parametrize(
    ("writable", "redis", "steps"),
    [(True, True, [("stop", 1)]), (False, True, []), (None, True, []), (True, False, [])],
)
def test_past_the_deadline_an_instance_is_stopped_only_if_redis_takes_writes(
    writable: bool | None, redis: bool, steps: list[tuple[str, int]]
) -> None:
    memory = draining(since=601.0, sent=601.0)
    assert goes_on(memory, busy=3, writable=writable, redis=redis) == steps


def test_before_the_deadline_a_busy_instance_is_not_stopped() -> None:
    assert goes_on(draining(since=600.0, sent=600.0), busy=3, writable=True) == []


def test_while_redis_is_unknown_nothing_is_ordered() -> None:
    assert goes_on(draining(), redis=False) == []
    assert goes_on(draining(sent=60.0), quiet=False, redis=False) == []
    assert goes_on(draining(), state="activating", redis=False) == []


def test_a_stop_that_got_lost_is_given_again() -> None:
    assert goes_on(draining(since=60.0, sent=60.0, stopped=30.0)) == []
    assert goes_on(draining(since=60.0, sent=60.0, stopped=31.0)) == [("stop", 1)]
    assert goes_on(draining(since=60.0, sent=60.0, stopped=31.0), busy=2) == []


def test_while_systemd_stops_an_instance_nothing_is_ordered() -> None:
    assert goes_on(draining(since=9000.0, sent=9000.0), busy=2, writable=True, state="deactivating") == []


def test_a_draining_instance_that_systemd_restarts_is_stopped_during_its_boot() -> None:
    assert goes_on(draining(), state="activating") == [("stop", 1)]


def test_the_drain_orders_of_one_tick_are_bounded() -> None:
    rules = policy(strict(numbers="1-20"))
    units, beats = serving(*range(1, 21))
    drain = Drain(since_seconds=NOW - 60.0, quiet_sent_seconds=NOW - 60.0, cause=CAUSE)
    memory = HostMemory(drains={InstanceKey(n): drain for n in units})
    decision = host(units, *beats, plan=planned(0), rules=rules, memory=memory)
    assert len(decision.steps) == DRAIN_ORDERS_MAX


# -- the scheduler

START = SchedulerDecision(state=SchedulerStarted(host="w1"), start=True)
SURPLUS = SchedulerSurplus(host="main")
END = SchedulerDecision(state=SURPLUS, surplus=SURPLUS)


def test_the_scheduler_is_started_and_that_is_remembered() -> None:
    decision = host({}, plan=planned(0), scheduler=START)
    assert did(decision) == [("start", SCHEDULER)]
    assert decision.steps[0].unit == "mastodon-sidekiq-scheduler.service"
    assert SCHEDULER in decision.memory.starts


def test_a_surplus_scheduler_is_quieted_or_stopped_if_it_boots() -> None:
    own = process(tag(SCHEDULER), queues="scheduler", pid=9)
    ended = host({}, own, plan=planned(0), scheduler=END, own_scheduler=unit(pid=9))
    assert did(ended) == [("quiet", SCHEDULER)]
    boots = host({}, plan=planned(0), scheduler=END, own_scheduler=unit("activating", age=3.0))
    assert did(boots) == [("stop", SCHEDULER)]


def test_only_what_is_configured_is_touched() -> None:
    units, beats = serving(1, 2, 77)
    decision = host(units, *beats, plan=planned(0), rules=policy(pace=PacePolicy(drains_per_tick=9)))
    assert {step.key for step in decision.steps} == {1, 2}


def test_a_step_names_its_unit() -> None:
    assert Step(verb="start", key=InstanceKey(3), why=CAUSE).unit == "mastodon-sidekiq@3.service"


def test_what_a_rollout_lets_go_of_a_removed_profile_is_not_let_go_once_more_for_the_budget() -> None:
    units, beats = serving(1, 2, 3, 7)
    rules = policy(strict("new", numbers="7-9", low=1))
    left = {InstanceKey(n): RenderedSettings(profile="old", digest="d", threads=5, db_pool=7) for n in (1, 2, 3)}
    rollout = Rollout(
        cause=ReplaceCause.UNCONFIGURED,
        left=dict.fromkeys(left, ""),
        current=InstanceKey(1),
        total_instances=3,
        since_seconds=NOW - 5.0,
    )
    new, old = (
        ProfilePlan(needed_instances=n, desired_instances=n, admitted_instances=n - gone)
        for n, gone in ((1, 0), (3, 1))
    )
    plan = structs.replace(planned(0), profiles={"w1": {"new": new, "old": old}})
    for memory, drained in (
        (HostMemory(left_over=left, rollout=rollout), [("quiet", 1)]),
        (HostMemory(left_over=left), [("quiet", 3)]),
    ):
        assert did(host(units, *beats, plan=plan, rules=rules, memory=memory)) == drained
