"""The laws as checks after every tick of a storm. Each reads the true state of the world, not what fleetd believes."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from fleetd.core.instances.host_memory import PUSHED_BACK_MAX
from fleetd.core.instances.orders import DrainInstance, Order, PinInstance, ReleaseInstance, Restart
from fleetd.core.model.decision import Step
from fleetd.core.model.facts import Known
from fleetd.core.model.identity import SCHEDULER, InstanceKey, unit_name
from fleetd.core.plan import plan
from fleetd.daemon.tick import TickResult
from fleetd.simulate.scoring.laws import (
    bounded,
    no_growth_on_a_guess,
    no_job_lost,
    one_scheduler,
    unknown_holds,
    within_budget,
)
from fleetd.words.reasons import sentence
from tests.support.laws.truth import hold, truth_of
from tests.support.storm.storm import Before, Check, Storm
from tests.support.world.readings import database_facts, sidekiq_facts
from tests.support.world.world import World


class OneScheduler(Check):
    """Law 1, checked on the heartbeats in Redis and on the processes that push cron jobs."""

    def __init__(self) -> None:
        self.absent_since: float | None = None  # over consecutive healthy readings
        self.last_tick = -1e9
        self.surplus_ticks = 0
        self.replaced = False  # we stopped ours to start it again, and nobody else has run it since

    def on_event(self, storm: Storm, name: str, detail: int) -> None:
        if name in {"kill_fleetd", "redis_loses_data"}:
            self.absent_since = None

    def after_tick(self, storm: Storm, before: Before, result: TickResult, orders: list[Step]) -> None:
        world = storm.world
        started = [s for s in orders if s.verb == "start" and s.key == SCHEDULER]
        ended = [s for s in orders if s.verb == "stop" and s.key == SCHEDULER]
        others = [p for p in world.schedulers() if p in world.elsewhere]
        hold(one_scheduler, truth_of(storm, before, result, orders))
        listed = world.redis_up and any("scheduler" in p.queues for p in sidekiq_facts(world).processes)
        frozen = world.now - self.last_tick > 20.0
        up = before.states[SCHEDULER] not in {"inactive", "failed"}
        if listed or up or not world.redis_up or not world.systemd_up:
            self.absent_since = None
        elif self.absent_since is None or frozen:
            self.absent_since = world.now
        if started:
            assert not listed, "started while a heartbeat lists the queue"
            policy = world.policy.scheduler
            at_once = policy.place == "here" or self.replaced
            needed = 20.0 if at_once else policy.takeover_seconds
            assert policy.place != "elsewhere"
            assert self.absent_since is not None
            assert world.now - self.absent_since >= needed, "started within the takeover window"
        if ended and not others:
            self.replaced = True
        elif others or before.states[SCHEDULER] == "active":  # it is back, or somebody else runs it
            self.replaced = False
        own = world.units[SCHEDULER].process
        both = own is not None and own.schedules(world.now) and bool(others)
        readable = world.redis_up and world.systemd_up
        self.surplus_ticks = self.surplus_ticks + 1 if both and readable and not frozen else 0
        assert self.surplus_ticks < 2, "a surplus of ours outlived two ticks"
        self.last_tick = world.now


class WithinBudget(Check):
    """Law 2: after a start, all known claims together fit into what the database has room for at that moment."""

    def __init__(self) -> None:
        self.strays = 0

    def after_tick(self, storm: Storm, before: Before, result: TickResult, orders: list[Step]) -> None:
        world = storm.world
        if world.redis_up:
            by_name: dict[str, int] = {}
            for process in world.elsewhere:
                if process.tag:
                    by_name[process.name] = max(by_name.get(process.name, 0), process.claim)
            self.strays = sum(by_name.values())
        if world.postgres_up:
            truth = truth_of(storm, before, result, orders)
            claims = self.strays + truth.claims_connections
            budget = self.budget(world)
            hold(
                within_budget,
                msgspec.structs.replace(truth, claims_connections=claims, budget_connections=budget),
            )

    def budget(self, world: World) -> int:
        facts = database_facts(world)
        foreign = sum(p.claim for p in world.elsewhere if not p.tag) if world.redis_up else 0
        others = max(facts.others_connections, world.policy.connections.declared_connections("database") + foreign)
        limit = facts.max_connections - facts.reserved_connections
        return limit - world.policy.connections.reserve - others


class GivesWay(Check):
    """Law 2: when the budget shrinks, draining begins at the next tick, until claims fit or only min is left.

    Uses the budget that fleetd knows at that moment; `WithinBudget` checks against the true one.
    """

    def after_tick(self, storm: Storm, before: Before, result: TickResult, orders: list[Step]) -> None:
        if result.tick.instances is None or not isinstance(result.snapshot.sidekiq, Known):
            return  # a drain could not be watched
        policy, budget = storm.world.policy, result.fleet.budget
        total = result.fleet.claims.total_connections
        staying = result.fleet.claims.staying_connections(result.tick)
        if budget.excess_connections(total, staying) == 0:
            return
        leaving = {s.key for s in orders if s.verb in {"quiet", "stop"}}
        above_min = [
            p.name
            for p in policy.profiles
            if sum(1 for v in result.tick.instances if v.profile == p.name and v.is_capacity and not v.pinned)
            > p.min_instances
        ]
        failed = any(r.result not in {"done", "skipped"} for r in result.results)
        assert leaving or not above_min or failed, f"claims are above the budget and none of {above_min} leaves"


class WithinClientSlots(Check):
    """Law 2 through PgBouncer, where ours have no names: a start above min fits beside all open connections."""

    def after_tick(self, storm: Storm, before: Before, result: TickResult, orders: list[Step]) -> None:
        world = storm.world
        truth = truth_of(storm, before, result, orders)
        started = truth.starts()
        grown = any(started[p.name] and truth.capacity[p.name] > p.min_instances for p in world.policy.profiles)
        usable = world.max_connections - world.policy.connections.reserve - world.other_clients
        budget = usable if grown and world.postgres_up else None
        hold(within_budget, msgspec.structs.replace(truth, budget_connections=budget))


class UnknownHolds(Check):
    """Law 3: what is unknown holds."""

    def after_tick(self, storm: Storm, before: Before, result: TickResult, orders: list[Step]) -> None:
        truth = truth_of(storm, before, result, orders)
        hold(unknown_holds, truth)
        hold(no_growth_on_a_guess, truth)


class NoJobLost(Check):
    """Law 4: no step to a unit loses a job, and every job is accounted for."""

    def after_tick(self, storm: Storm, before: Before, result: TickResult, orders: list[Step]) -> None:
        world = storm.world
        assert world.accounted()
        hold(no_job_lost, truth_of(storm, before, result, orders))
        for step in orders:
            state = before.states[step.key]
            assert step.verb != "quiet" or state == "active", f"quiet sent to a unit that is {state}"


class PeopleFirst(Check):
    """Law 6: what a person started, stopped or quieted by hand stays that way."""

    def __init__(self) -> None:
        self.wants: dict[InstanceKey, tuple[str, float]] = {}

    def on_event(self, storm: Storm, name: str, detail: int) -> None:
        world, number = storm.world, storm._number(detail)
        unit = world.units[number]
        memory = storm.rig.ticker.host_memory
        ours = number in memory.drains or number in memory.starts or number in memory.units.failures
        watched = world.systemd_up and world.redis_up and not ours
        self_seen = memory.units.seen.get(number)
        if name in {"hand_restart", "kill_worker", "oom_kill", "hang", "break"}:
            self.wants.pop(number, None)
        elif name == "hand_start" and unit.state == "inactive" and self_seen == "inactive" and watched:
            pin = memory.people.pins.get(number)
            self.wants.pop(number, None)
            if pin is None:  # otherwise it may be a restart
                self.wants[number] = ("run", world.now)
        elif name == "hand_start":
            self.wants.pop(number, None)
        elif name == "hand_stop":
            self.wants.pop(number, None)
            if unit.state == "active" and self_seen == "active" and watched:
                self.wants[number] = ("stopped", world.now)
        elif name == "hand_quiet" and unit.process is not None and not unit.process.quiet:
            self.wants.pop(number, None)
            deaf = number in world.deaf or unit.process.hung
            if unit.state == "active" and self_seen == "active" and watched and not deaf:
                self.wants[number] = ("quiet", world.now)

    def on_order(self, storm: Storm, order: Order) -> None:
        """An order overrides what was done by hand. Orders themselves are checked by `OrdersExpire`."""
        if isinstance(order, PinInstance | ReleaseInstance | DrainInstance):
            self.wants.pop(order.key, None)
        elif isinstance(order, Restart):
            self.wants = {n: want for n, want in self.wants.items() if want[0] == "stopped"}

    def after_tick(self, storm: Storm, before: Before, result: TickResult, orders: list[Step]) -> None:
        world = storm.world
        allowed = {*storm.numbers, SCHEDULER}
        pin_seconds = world.policy.pace.pin_seconds
        for step in orders:
            assert step.key in allowed, f"touched {step.unit}, which is not ours"
            if step.key == SCHEDULER:
                continue
            want, at = self.wants.get(step.key, ("", 0.0))
            beat, boots = before.beats.get(step.key), before.states[step.key] == "activating"
            unheard = want == "quiet" and (beat is None or not beat.quiet)
            overdue = want == "run" and step.verb == "stop" and boots and world.now - at > 60.0
            overdue = overdue or (step.verb == "stop" and step.key in before.unheard)
            if unheard or overdue:  # fleetd can't know yet; or it hangs, whoever started it
                self.wants.pop(step.key, None)
            elif want and world.now - at < pin_seconds - 10.0:
                if want == "stopped":
                    assert step.verb != "start", f"{unit_name(step.key)} was started though a person stopped it"
                else:
                    assert step.verb == "start", f"{unit_name(step.key)}: {step.verb} though a person wants {want}"


class OwnStepsAreNobodyElses(Check):
    """Law 6 the other way round, in a storm without people: nothing that fleetd itself did is kept as a person's."""

    def after_tick(self, storm: Storm, before: Before, result: TickResult, orders: list[Step]) -> None:
        assert storm.rig.ticker.host_memory.people.pins == {}


class Bounded(Check):
    """Law 7: what one tick does, remembers and says is bounded."""

    def after_tick(self, storm: Storm, before: Before, result: TickResult, orders: list[Step]) -> None:
        # When fleetd dies in a tick there are two ticks. The bound is on what each decides.
        hold(bounded, truth_of(storm, before, result, list(result.host.steps)))
        size = len(msgspec.json.encode(result.fleet.memory)) + len(msgspec.json.encode(result.host.memory))
        job_ids = 60 * len(result.host.memory.pushed_back)
        assert len(result.host.memory.pushed_back) <= PUSHED_BACK_MAX
        assert size < 1500 * (1 + len(storm.numbers)) + job_ids, "memory grows without bound"
        assert len(result.clamps) < 60


class EveryClampSpeaks(Check):
    """Law 8: from needed to admitted, every change of the count has a reason."""

    def after_tick(self, storm: Storm, before: Before, result: TickResult, orders: list[Step]) -> None:
        for clamp in result.clamps:
            assert len(sentence(clamp.reason)) > 5
        if result.tick.instances is None:
            return
        for profile in storm.world.policy.profiles:
            decided = result.fleet.plan.profiles[storm.world.policy.host][profile.name]
            number = decided.needed_instances
            for clamp in result.fleet.clamps:
                if clamp.profile != profile.name or clamp.after_instances is None:
                    continue
                assert clamp.before_instances == number, f"{clamp} does not follow from {number}"
                number = clamp.after_instances
            assert number == decided.admitted_instances, (
                f"{profile.name}: {number} said, {decided.admitted_instances} admitted"
            )
            self._what_is_not_done_is_said(storm, before, result, profile.name, decided.admitted_instances)

    def _what_is_not_done_is_said(
        self, storm: Storm, before: Before, result: TickResult, profile: str, granted: int
    ) -> None:
        counted = sum(1 for v in result.tick.instances or () if v.profile == profile and v.is_capacity)
        steps = [s for s in result.host.steps if s.profile == profile]
        starts = sum(1 for s in steps if s.verb == "start")
        if counted + starts < granted:
            assert any(c.profile == profile for c in result.host.clamps), f"{profile}: no word why not started"


class SameInputSameDecision(Check):
    """Law 9: planning again from the same values gives the same plan, and leaves the values unchanged."""

    def after_tick(self, storm: Storm, before: Before, result: TickResult, orders: list[Step]) -> None:
        memory = before.planned
        as_handed = msgspec.json.encode((result.tick, memory))
        again = plan(result.tick, memory)
        assert again == result.fleet
        assert plan(result.tick, memory) == again
        assert msgspec.json.encode((result.tick, memory)) == as_handed


@dataclass
class Seen:
    """Counts over a whole storm, for tests that must know that something happened in it."""

    starts: int = 0
    stops: int = 0
    unknown: int = 0
    clamps: set[str] = field(default_factory=set)


class Notes(Check):
    def __init__(self) -> None:
        self.seen = Seen()

    def after_tick(self, storm: Storm, before: Before, result: TickResult, orders: list[Step]) -> None:
        self.seen.starts += sum(1 for s in orders if s.verb == "start")
        self.seen.stops += sum(1 for s in orders if s.verb == "stop")
        self.seen.unknown += not isinstance(result.snapshot.sidekiq, Known)
        self.seen.clamps |= {c.code.value for c in result.clamps}
