"""What must hold for the lives of instances, as checks after every tick of a storm."""

from __future__ import annotations

from fleetd.core.instances.host_memory import RETRIES_MAX, RETRY_SECONDS, RolloutPhase
from fleetd.core.instances.lifecycle import TRANSITIONS
from fleetd.core.instances.orders import (
    DrainInstance,
    Order,
    Pause,
    PinInstance,
    ReleaseInstance,
    Restart,
    Resume,
    SetInstances,
)
from fleetd.core.model.decision import InstanceState, Step
from fleetd.core.model.facts import Known
from fleetd.core.model.identity import SCHEDULER, InstanceKey
from fleetd.core.model.reasons.base import ClampCode
from fleetd.core.model.reasons.counts import Paused
from fleetd.core.model.reasons.units import Replaced
from fleetd.daemon.tick import TickResult
from tests.support.storm.storm import Before, Check, Storm


class NamedStates(Check):
    """Each number is in exactly one named state, and got there by a transition that the table allows."""

    def __init__(self) -> None:
        self.states: dict[InstanceKey, InstanceState] = {}
        self.at = -1e9

    def after_tick(self, storm: Storm, before: Before, result: TickResult, orders: list[Step]) -> None:
        now = storm.world.now
        if result.tick.instances is None:
            self.at = -1e9
            return
        numbers = [v.key for v in result.tick.instances]
        assert numbers == [*sorted(storm.numbers), SCHEDULER]
        states = {v.key: v.state for v in result.tick.instances}
        if now - self.at <= 5.0 and not storm.died:
            for number, state in states.items():
                was = self.states[number]
                assert state == was or state in TRANSITIONS[was], f"@{number}: {was} to {state}"
        self.states, self.at = states, now


class StartsNothingWhileHeld(Check):
    """During a pause, or an upgrade that nobody has accepted yet, fleetd starts nothing at all."""

    def __init__(self) -> None:
        self.accepted = ""
        self.seen = ""
        self.paused_until = 0.0
        self.handover = False

    def on_order(self, storm: Storm, order: Order) -> None:
        if isinstance(order, Pause):
            self.paused_until = storm.world.now + order.for_seconds
        elif isinstance(order, Resume):
            self.paused_until = 0.0
        if isinstance(order, Resume | Restart) and self.seen:
            self.accepted = self.seen

    def after_tick(self, storm: Storm, before: Before, result: TickResult, orders: list[Step]) -> None:
        world = storm.world
        if storm.rig.host.readable:
            self.seen = world.code
        own = [u.process for u in world.units.values() if u.process is not None]
        if not self.accepted or (own and all(p.code == self.seen and p.listed for p in own)):
            self.accepted = self.seen
        started = [s.key for s in orders if s.verb == "start"]
        if world.target == "inactive" and world.target_stopped_at is not None:
            assert not started, f"{started} started while people have stopped the target"
        upgrade = self.seen != self.accepted
        roll = result.host.memory.rollout
        if roll is not None and roll.phase == RolloutPhase.GIVEN_UP and roll.code_before:
            return  # fleetd went back to the code before; `HoldsAreKept` checks what is held
        if upgrade:
            assert not started, f"{started} started on code that nobody accepted"
        if world.now < self.paused_until:
            under_way = self.handover and started == [SCHEDULER]
            assert not started or under_way, f"{started} started in a pause"
        self.handover = result.host.memory.scheduler_handover


class HoldsAreKept(Check):
    """A hold in the constraints does hold, also after a restart that was given up."""

    def after_tick(self, storm: Storm, before: Before, result: TickResult, orders: list[Step]) -> None:
        held_by = {type(h.reason) for h in result.tick.constraints.holds}
        started = [s.key for s in orders if s.verb == "start"]
        if held_by:
            assert not started or (held_by == {Paused} and started == [SCHEDULER]), f"{started}: {held_by}"


class OneReplacedAtATime(Check):
    """A rollout drains only one instance at a time."""

    def after_tick(self, storm: Storm, before: Before, result: TickResult, orders: list[Step]) -> None:
        memory = result.host.memory
        rolled = [k for k, d in memory.drains.items() if isinstance(d.cause, Replaced)]
        assert rolled == [k for k, d in memory.drains.items() if d.by_rollout]
        assert len(rolled) <= 1, f"{rolled} replaced at once"


class NoneIsUndrainable(Check):
    """No instance is called undrainable. For storms in which every process heeds signals and none hangs."""

    def after_tick(self, storm: Storm, before: Before, result: TickResult, orders: list[Step]) -> None:
        called = [c.reason for c in result.host.clamps if c.code == ClampCode.UNDRAINABLE]
        assert not called, f"{called}, though all heed signals"


class RollKeepsCapacity(Check):
    """During a rollout at most one fewer serves than when it began, and none fewer where there is a spare.

    What is no longer wanted does not count. For storms in which nothing else takes instances away.
    """

    def __init__(self) -> None:
        self.least: dict[str, int] = {}
        self.since: float | None = None
        self.away: set[str] = set()

    def after_tick(self, storm: Storm, before: Before, result: TickResult, orders: list[Step]) -> None:
        roll = result.host.memory.rollout
        serving = {p.name: _serving(storm, p.name) for p in storm.world.policy.profiles}
        if result.tick.instances is None:
            return
        if roll is None or roll.phase != RolloutPhase.UNDER_WAY:
            self.since = None
            return
        counts = {
            name: planned.desired_instances
            for name, planned in result.fleet.plan.profiles[storm.world.policy.host].items()
        }
        if self.since != roll.since_seconds:
            self.since, self.least, self.away = roll.since_seconds, dict(serving), set()
        if roll.unavailable_in:
            self.away.add(roll.unavailable_in)
        for name, wanted in counts.items():
            assert wanted is not None
            self.least[name] = min(self.least[name], wanted)
            low = self.least[name] - (name in self.away)
            assert serving[name] >= low, f"{name}: {serving[name]} serve in a roll, {low} must"


def _serving(storm: Storm, profile: str) -> int:
    """How many instances truly take jobs in the world."""
    return sum(
        1
        for p in storm.world.policy.profiles
        if p.name == profile
        for n in p.numbers
        if (u := storm.world.units[n]).state == "active" and u.process is not None and not u.process.quiet
    )


class PushedBackOnce(Check):
    """fleetd makes no job start over more than once."""

    def __init__(self) -> None:
        self.pushed_back = 0

    def after_tick(self, storm: Storm, before: Before, result: TickResult, orders: list[Step]) -> None:
        world = storm.world
        if world.pushed_back == self.pushed_back:
            return
        self.pushed_back = world.pushed_back
        for queue in world.queues.values():
            assert all(job.pushed_back <= 1 for job in queue), "a job was pushed back twice"


class RetriesAreBounded(Check):
    """A failed unit is tried again only after its pause, and only a bounded number of times.

    For storms in which a unit fails only by a failing boot, and no person resets it.
    """

    def __init__(self) -> None:
        self.failed: dict[int, tuple[int, float]] = {}
        self.states: dict[int, str] = {}

    def on_order(self, storm: Storm, order: Order) -> None:
        if isinstance(order, ReleaseInstance):
            self.failed.pop(order.key, None)

    def after_tick(self, storm: Storm, before: Before, result: TickResult, orders: list[Step]) -> None:
        if result.tick.instances is None:
            return
        world = storm.world
        for step in orders:
            if step.verb == "start" and step.key in self.failed:
                count, at = self.failed[step.key]
                pause = RETRY_SECONDS[min(count, len(RETRY_SECONDS)) - 1]
                assert count <= RETRIES_MAX, f"@{step.key} tried again after {count} failures"
                assert world.now - at >= pause, f"@{step.key} tried again too soon"
        for number in storm.numbers:
            state = before.states[number]
            if state == "failed" and self.states.get(number) != "failed":
                count, _ = self.failed.get(number, (0, 0.0))
                self.failed[number] = (count + 1, world.now)
            elif state == "active" and world.now - world.units[number].since > 500.0:
                self.failed.pop(number, None)
            self.states[number] = state


class OrdersExpire(Check):
    """Each order holds for exactly as long as was asked, across restarts of fleetd, and is then gone."""

    def __init__(self) -> None:
        self.sets: dict[str, tuple[int, float]] = {}
        self.paused_until = 0.0
        self.pins: dict[InstanceKey, float] = {}

    def on_order(self, storm: Storm, order: Order) -> None:
        now = storm.world.now
        match order:
            case Pause():
                self.paused_until = now + order.for_seconds
            case Resume():
                self.paused_until = 0.0
            case SetInstances(instances=None):
                self.sets.pop(order.profile)
            case SetInstances():
                self.sets[order.profile] = (order.instances or 0, now + order.for_seconds)
            case PinInstance() | DrainInstance():
                self.pins[order.key] = now + order.for_seconds

    def after_tick(self, storm: Storm, before: Before, result: TickResult, orders: list[Step]) -> None:
        now = storm.world.now
        assert result.tick.constraints.set_instances == {
            name: n for name, (n, until) in self.sets.items() if now < until
        }
        assert any(isinstance(h.reason, Paused) for h in result.tick.constraints.holds) == (now < self.paused_until)
        if result.tick.instances is None or not isinstance(result.snapshot.sidekiq, Known):
            return
        for key, pin in result.host.memory.people.pins.items():
            by_order = self.pins.get(key, 0.0) if pin.by == "fleetctl" else now + 1e9
            expired = pin.wants == "quiet" and any(
                v.key == key and v.beat_age_seconds is None for v in result.tick.instances
            )
            assert now < pin.until_seconds or expired, f"the pin on @{key} has expired"
            assert pin.until_seconds <= by_order or pin.wants == "quiet", f"the pin on @{key} outlasts its order"
        for view in result.tick.instances:
            if view.pinned:
                assert view.key in result.host.memory.people.pins
