"""`mode = "observe"`: everything is decided and shown, nothing is ordered but what people order and what was begun."""

from __future__ import annotations

import msgspec
from hypothesis import given
from msgspec.structs import replace

from fleetd.core.instances.observing import only_ordered
from fleetd.core.instances.orders import (
    DrainInstance,
    Order,
    PinInstance,
    ReleaseInstance,
    Restart,
    SetInstances,
)
from fleetd.core.model import reasons
from fleetd.core.model.decision import Step
from fleetd.core.model.identity import SCHEDULER, InstanceKey
from fleetd.core.model.policy_tables import Mode, PacePolicy, Policy, SchedulerPolicy
from fleetd.core.model.status import WouldStatus
from fleetd.daemon.log import TickLog
from fleetd.daemon.tick import TickResult
from fleetd.words.observing import only_shown
from tests.support.laws.laws import Bounded, NoJobLost, OneScheduler
from tests.support.storm.instance_events import CHANGES, HANGS, HEAVY, ORDERS, PRESSURE, LifeStorm
from tests.support.storm.storm import (
    CONNECTIONS,
    DATABASE,
    MISHAPS,
    PEOPLE,
    REDIS,
    SCHEDULERS,
    SOURCES,
    WORK,
    Before,
    Check,
    Event,
    Storm,
    steady,
    storms,
)
from tests.support.world.fleets import QUICK, busy_fleet, idle_fleet, states, tight
from tests.support.world.ports import Rig, policy, strict, weighted
from tests.support.world.world import World

HERE = SchedulerPolicy(place="here", threads=5, db_pool=7)
ONE, TWO, THREE = InstanceKey(1), InstanceKey(2), InstanceKey(3)


def switch(rig: Rig, mode: Mode) -> None:
    """As a reload does it."""
    rules = replace(rig.world.policy, mode=mode)
    rig.world.policy = rig.ticker.policy = rules


def observing(rules: Policy, running: int = 0) -> Rig:
    rig = idle_fleet(replace(rules, mode="observe"), running)
    rig.tick()
    return rig


def would(result: TickResult, rig: Rig) -> list[tuple[str, tuple[int, ...]]]:
    return [(wish.verb, wish.keys) for wish in rig.status(result).would]


# -- nothing of its own accord


def test_a_surge_starts_nothing_and_is_shown_with_its_reason() -> None:
    rig = observing(policy(strict(numbers="1-4"), scheduler=HERE))
    rig.world.enqueue("default", 20_000)
    last = rig.run(300.0)[-1]
    assert rig.units.orders == []
    status = rig.status(last)
    assert status.mode == "observe"
    assert [(w.verb, w.keys) for w in status.would] == [("start", (SCHEDULER,)), ("start", (ONE, TWO))]
    assert status.would[1].why == "default-first has 0 of 4 wanted"
    assert status.profiles[0].admitted_instances == 4
    assert status.summary.startswith("OBSERVES ONLY: late: default")
    assert status.next_sentence.startswith("only observes, and would start more of default-first")
    assert not last.host.memory.starts
    assert not last.host.memory.units.failures


def test_neither_a_drain_for_lack_of_work_nor_one_for_the_budget_nor_min() -> None:
    rig = observing(policy(strict(numbers="1-4", low=2), pace=QUICK), 4)
    assert would(rig.run(120.0)[-1], rig) == [("drain", (4,))]
    rig.world.max_connections, rig.world.other_clients = tight(14)
    rig.run(120.0)
    rig.world.stop(1)
    rig.world.stop(2)
    rig.world.stop(3)
    last = rig.run(120.0)[-1]
    assert rig.units.orders == []
    assert not last.host.memory.drains


def test_what_it_would_do_for_others_takes_no_room_from_a_persons_order() -> None:
    """The surge of the more important profile would take all connections, but takes none."""
    rig = observing(policy(strict(numbers="1-4", low=0), weighted(numbers="7-9", low=0)))
    rig.world.max_connections, rig.world.other_clients = tight(28)  # four instances
    rig.world.enqueue("default", 20_000)
    rig.run(30.0)
    rig.order(SetInstances(profile="weighted", instances=3))
    rig.run(60.0)
    assert rig.ordered("start") == [7, 8, 9]
    assert [s.profile for _, s in rig.units.orders] == ["weighted"] * 3


def test_a_set_stays_within_the_budget() -> None:
    rig = observing(policy(strict(numbers="1-4", low=0)))
    rig.world.max_connections, rig.world.other_clients = tight(14)  # two instances
    rig.order(SetInstances(profile="default-first", instances=4))
    rig.run(60.0)
    assert rig.ordered("start") == [1, 2]


def test_what_a_set_changed_stays_when_it_ends() -> None:
    rig = observing(policy(strict(numbers="1-4", low=1), pace=QUICK))
    rig.order(SetInstances(profile="default-first", instances=3, for_seconds=60.0))
    rig.run(90.0)
    assert rig.ordered("start") == [1, 2, 3]
    rig.run(300.0)
    assert rig.ordered("quiet") == []
    rig.order(SetInstances(profile="default-first", instances=1))
    rig.run(120.0)
    assert rig.ordered("stop") == [3, 2]


def test_an_ordered_drain_drains_and_nothing_takes_its_place() -> None:
    rig = observing(policy(strict(numbers="1-4", low=2)), 2)
    rig.order(DrainInstance(key=TWO, for_seconds=60.0))
    rig.run(200.0)
    assert [(s.verb, s.key) for _, s in rig.units.orders] == [("quiet", 2), ("stop", 2)]


def test_an_ordered_restart_replaces_everything_the_scheduler_too() -> None:
    rules = policy(strict(numbers="1-3", low=2), scheduler=HERE)
    world = World(replace(rules, mode="observe"))
    for key in (1, 2, SCHEDULER):
        world.start(key)
    world.advance(60.0)
    rig = Rig(world)
    rig.tick()
    before = {key: unit.invocation for key, unit in world.units.items()}
    rig.order(Restart())
    rig.run(400.0)
    assert rig.serving() == 2
    assert world.units[SCHEDULER].state == "active"
    assert world.units[SCHEDULER].invocation != before[SCHEDULER]
    assert all(world.units[s.key].invocation != before[s.key] for _, s in rig.units.orders if s.verb == "start")
    assert rig.ticker.host_memory.rollout is not None
    assert rig.ticker.host_memory.rollout.done_instances == 3


def test_changed_settings_are_rolled_out_only_in_words() -> None:
    rig = observing(policy(strict(numbers="1-3", low=2)), 2)
    rig.world.unit_file = "unit-2"
    last = rig.run(60.0)[-1]
    assert rig.units.orders == []
    assert last.host.memory.rollout is None
    [wish] = rig.status(last).would
    assert (wish.verb, wish.keys, wish.why) == ("replace", (1, 2), "its settings changed; one at a time")
    switch(rig, "act")
    rig.run(200.0)
    assert set(rig.ordered("quiet")) == {1, 2}


def test_an_instance_that_people_quieted_is_left_until_a_person_releases_it() -> None:
    rules = policy(strict(numbers="1-2", low=1), pace=PacePolicy(pin_seconds=60.0))
    world = World(replace(rules, mode="observe"))
    world.start(1)
    world.start(2)
    world.advance(60.0)
    world.quiet(1)  # before fleetd looked for the first time
    world.advance(20.0)
    rig = Rig(world)
    rig.run(10.0)
    world.quiet(2)
    last = rig.run(300.0)[-1]
    assert rig.units.orders == []
    assert (states(last)[1], states(last)[2]) == ("pinned", "pinned")
    assert "it is drained now" in rig.order(ReleaseInstance(key=ONE))
    rig.run(60.0)
    assert [(s.verb, s.key) for _, s in rig.units.orders] == [("stop", 1)]


def test_an_order_is_carried_out_beside_what_hangs_and_a_second_scheduler() -> None:
    rules = policy(strict(numbers="1-4", low=3), scheduler=HERE)
    world = World(replace(rules, mode="observe"))
    for key in (1, 2, 3, SCHEDULER):
        world.start(key)
    world.advance(60.0)
    rig = Rig(world)
    rig.tick()
    world.hang(1)
    world.appear("stock", "scheduler")
    seen = {verb_and_keys for result in rig.run(300.0) for verb_and_keys in would(result, rig)}
    assert ("stop", (1,)) in seen
    assert ("drain", (SCHEDULER,)) in seen
    assert rig.units.orders == []
    rig.order(DrainInstance(key=TWO))
    rig.run(60.0)
    assert [(s.verb, s.key) for _, s in rig.units.orders] == [("quiet", 2), ("stop", 2)]


# -- act, observe, act


def test_a_drain_that_was_begun_is_finished_and_nothing_else_begins() -> None:
    rig = busy_fleet(4)
    while not rig.ordered("quiet"):
        rig.tick()
        rig.world.advance(5.0)
    [begun] = rig.ordered("quiet")
    running = rig.serving()
    switch(rig, "observe")
    assert begun in rig.tick().host.memory.drains
    rig.run(600.0)
    assert (rig.ordered("quiet"), rig.ordered("stop"), rig.serving()) == ([begun], [begun], running)
    switch(rig, "act")
    rig.run(600.0)
    assert rig.serving() == 1


def test_growth_begins_at_once_when_it_acts_again() -> None:
    rig = observing(policy(strict(numbers="1-4")))
    rig.world.enqueue("default", 20_000)
    rig.run(120.0)
    switch(rig, "act")
    rig.tick()
    assert rig.ordered("start") == [1, 2]


def in_the_middle_of_a_roll(*, spare: bool) -> Rig:
    rig = idle_fleet(policy(strict(numbers="1-3" if spare else "1-2", low=2)), 2)
    rig.run(30.0)
    rig.world.unit_file = "unit-2"
    while not rig.units.orders:
        rig.tick()
        rig.world.advance(5.0)
    assert rig.units.orders[0][1].verb == ("start" if spare else "quiet")
    return rig


def test_in_mid_roll_the_one_that_was_let_go_first_gets_its_replacement() -> None:
    rig = in_the_middle_of_a_roll(spare=False)
    first = rig.units.orders[0][1].key
    switch(rig, "observe")
    rig.run(300.0)
    assert [(s.verb, s.key) for _, s in rig.units.orders] == [("quiet", first), ("stop", first), ("start", first)]
    assert rig.ticker.host_memory.rollout is None
    switch(rig, "act")
    rig.run(300.0)
    assert sorted(rig.ordered("start")) == [1, 2]


def test_in_mid_roll_with_a_spare_the_old_one_stays_until_fleetd_acts_again() -> None:
    rig = in_the_middle_of_a_roll(spare=True)
    switch(rig, "observe")
    rig.run(300.0)
    assert [(s.verb, s.key) for _, s in rig.units.orders] == [("start", 3)]
    assert rig.ticker.host_memory.rollout is None
    switch(rig, "act")
    rig.run(600.0)
    assert set(rig.ordered("quiet")) >= {1, 2}


def test_a_scheduler_that_was_stopped_to_be_started_again_is_started() -> None:
    world = World(policy(strict(numbers="1-2", low=1), scheduler=HERE))
    for key in (1, SCHEDULER):
        world.start(key)
    world.advance(60.0)
    rig = Rig(world)
    rig.tick()
    rig.order(Restart())
    while world.units[SCHEDULER].state == "active":
        rig.tick()
        world.advance(5.0)
    switch(rig, "observe")
    rig.ticker.host_memory = replace(rig.ticker.host_memory, rollout=None)
    rig.run(120.0)
    assert world.units[SCHEDULER].state == "active"


# -- said once


def test_what_it_would_do_is_logged_once_and_as_no_step() -> None:
    rig = observing(policy(strict(numbers="1-4")))
    said: list[tuple[str, str, bool]] = []
    log = TickLog(lambda _, **__: None, lambda _, **__: None, lambda *entry: said.append(entry))
    rig.world.enqueue("default", 20_000)
    for result in rig.run(300.0):
        log.report(result, rig.status(result))
    assert [s for k, s, _ in said if k == "would"] == [
        "would start mastodon-sidekiq@1, @2: default-first has 0 of 4 wanted"
    ]
    [mode] = [s for k, s, _ in said if k == "daemon"]
    assert mode.startswith("fleetd only observes:")
    assert "systemctl reload fleetd" in mode
    assert "step" not in {k for k, _, _ in said}
    switch(rig, "act")
    result = rig.tick()
    log.report(result, rig.status(result))
    assert ("daemon", "fleetd acts again on what it decides", False) in said
    assert [k for k, _, _ in said].count("step") == 2


def test_more_that_it_would_start_is_said_and_another_that_it_would_drain_is_not() -> None:
    said: list[str] = []
    log = TickLog(lambda line, **_: said.append(line), lambda _, **__: None)
    rig = observing(policy(strict(numbers="1-4"), pace=QUICK))
    result = rig.tick()
    status = rig.status(result)
    for verb, keys in (("start", (ONE,)), ("start", (ONE, TWO)), ("drain", (ONE,)), ("drain", (TWO,))):
        wish = WouldStatus(verb=verb, keys=keys, why="why", profile="default-first")  # type: ignore[arg-type]
        log.report(result, replace(status, would=(wish,)))
    assert [line for line in said if line.startswith("would")] == [
        "would start mastodon-sidekiq@1: why",
        "would start mastodon-sidekiq@1, @2: why",
        "would drain mastodon-sidekiq@1: why",
    ]


# -- in storms


class OnlyWhatPeopleOrder(Check):
    """Every step belongs to a person's order through fleetd, by the orders themselves and the time they hold."""

    def __init__(self) -> None:
        self.sets: dict[str, float] = {}  # by profile: until when
        self.restarts: set[str] = set()  # profiles of the restart under way
        self.leaving: set[InstanceKey] = set()  # ordered to drain, or begun to while an order held
        self.scheduler = False  # a restart concerns it

    def on_order(self, storm: Storm, order: Order) -> None:
        if isinstance(order, SetInstances):
            self.sets.pop(order.profile, None)
            if order.instances is not None:
                self.sets[order.profile] = storm.world.now + order.for_seconds
        elif isinstance(order, Restart):
            names = [p.name for p in storm.world.policy.profiles]
            self.restarts |= {order.profile} if order.profile else set(names)
            self.scheduler = self.scheduler or not order.profile
        elif isinstance(order, DrainInstance | ReleaseInstance):
            self.leaving.add(order.key)

    def after_tick(self, storm: Storm, before: Before, result: TickResult, orders: list[Step]) -> None:
        held = {name for name, until in self.sets.items() if storm.world.now <= until} | self.restarts
        for step in orders:
            if step.key == SCHEDULER:
                assert self.scheduler, f"nobody ordered {step}"
            elif step.profile in held:
                self.leaving.add(step.key)
            else:
                assert step.verb != "start", f"nobody ordered {step}"
                assert step.key in self.leaving, f"nobody ordered {step}"
        if result.host.memory.rollout_under_way is None:
            self.restarts = set()


class NothingIsRemembered(Check):
    """Without an order nothing is remembered that looks like an act of fleetd's."""

    def after_tick(self, storm: Storm, before: Before, result: TickResult, orders: list[Step]) -> None:
        memory = storm.rig.ticker.host_memory
        assert orders == []
        assert (memory.starts, memory.drains, memory.rollout) == ({}, {}, None)
        assert not memory.scheduler_handover
        assert not memory.pushed_back
        assert memory.people.stands_in == {}
        assert not any(failure.ended or failure.ordered for failure in memory.units.failures.values())


def two_profiles() -> Policy:
    rules = policy(
        strict(numbers="1-4", low=1),
        weighted(numbers="5-8", low=1),
        scheduler=SchedulerPolicy(place="here", threads=5, db_pool=7),
        pace=PacePolicy(hold_down_seconds=30.0, drain_seconds_max=60.0, pin_seconds=900.0),
    )
    return replace(rules, mode="observe")


Schedule = list[tuple[int, Event]]
ANYTHING = (
    WORK,
    WORK,
    DATABASE,
    CONNECTIONS,
    SOURCES,
    REDIS,
    PEOPLE,
    SCHEDULERS,
    MISHAPS,
    HANGS,
    CHANGES,
    HEAVY,
    PRESSURE,
)


@steady(25)
@given(storms(*ANYTHING))
def test_without_an_order_no_step_reaches_systemd(schedule: Schedule) -> None:
    without = [(ticks, event) for ticks, event in schedule if not event[0].startswith("order_")]
    LifeStorm(two_profiles(), NothingIsRemembered).run(without)


@steady(25)
@given(storms(*ANYTHING, ORDERS, ORDERS, ORDERS))
def test_every_step_belongs_to_an_order(schedule: Schedule) -> None:
    LifeStorm(two_profiles(), OnlyWhatPeopleOrder, NoJobLost, Bounded).run(schedule)


class BeginsNothing(Check):
    """While fleetd only observes and nobody orders anything, every step finishes what had begun before."""

    def after_tick(self, storm: Storm, before: Before, result: TickResult, orders: list[Step]) -> None:
        if not result.tick.policy.observes:
            return
        memory, after = before.memory, result.host.memory
        rollout = memory.rollout_under_way
        for step in orders:
            if step.verb != "start":
                assert step.key in memory.drains, f"nothing had begun: {step}"
            elif step.key == SCHEDULER:
                assert memory.scheduler_handover, f"nothing had begun: {step}"
            else:
                assert rollout is not None, f"nothing had begun: {step}"
                assert step.profile == rollout.unavailable_in, f"nothing had begun: {step}"
        assert after.drains.keys() <= memory.drains.keys()
        assert after.rollout_under_way is None or rollout is not None


class SwitchStorm(LifeStorm):
    """The mode changes now and then, as by a reload."""

    def _observe(self, detail: int) -> None:
        switch(self.rig, "observe")

    def _act(self, detail: int) -> None:
        switch(self.rig, "act")


@steady(25)
@given(
    storms(WORK, SOURCES, DATABASE, CONNECTIONS, PEOPLE, MISHAPS, CHANGES[:4], HEAVY, 4 * ("observe",), 4 * ("act",))
)
def test_what_was_begun_is_finished_and_nothing_else_begins(schedule: Schedule) -> None:
    SwitchStorm(two_profiles(), BeginsNothing, NoJobLost, OneScheduler, Bounded).run(schedule, then_ticks=30)


def test_an_older_policy_acts() -> None:
    """The history keeps policies, and those of 0.2.0 say nothing of a mode."""
    written = msgspec.to_builtins(two_profiles())
    del written["mode"]
    assert not msgspec.convert(written, Policy).observes


def test_a_tick_with_a_step_that_nobody_ordered_does_and_remembers_nothing() -> None:
    """Whatever the decisions before it make of the mode."""
    rig = observing(policy(strict(numbers="1-4")))
    rig.world.enqueue("default", 20_000)
    last = rig.run(60.0)[-1]
    assert last.wished is not None
    assert last.wished.steps
    assert last.wished.memory.starts
    kept = only_ordered(last.tick, last.host.memory, last.wished)
    assert (kept.steps, kept.memory) == ([], last.host.memory)


def test_an_order_that_leaves_the_decision_to_fleetd_is_answered_so() -> None:
    assert only_shown(reasons.AutoTaken(profile="a")) == (
        " fleetd only observes, so what it decides then is only shown."
    )
    released = reasons.ReleaseTaken(key=ONE, is_drained=True, forgotten_failures=0)
    assert only_shown(released) == ""
    assert only_shown(reasons.ReleaseTaken(key=ONE, is_drained=False, forgotten_failures=0, profile_set=True)) == ""


def test_a_release_where_people_set_the_count_starts_it_and_is_not_answered_as_only_shown() -> None:
    rig = observing(policy(strict(numbers="1-4", low=1)))
    rig.run(60.0)
    rig.order(PinInstance(key=TWO))
    rig.order(SetInstances(profile="default-first", instances=4))
    rig.run(60.0)
    assert rig.world.units[2].process is None
    reply = rig.ticker.order(ReleaseInstance(key=TWO))
    rig.run(60.0)
    assert rig.world.units[2].process is not None
    assert only_shown(reply) == ""
    assert only_shown(reasons.SetTaken(profile="a", instances=1, for_seconds=1.0, min_instances=1)) == ""
