"""The host's decision: which instances to start and which to drain.

Law 6 (only our own units, and people first) is kept here and in instances/manual_changes.py: a step names only a
configured instance, one that is left over (instances/left_over.py) or the scheduler, and none whose unit is somebody
else's (model/unit_rules.py). An instance that a person stopped is not started, and one that a person started is not
drained. Law 4 is kept in drain.py.
"""

from __future__ import annotations

from msgspec import structs

from fleetd.core.instances.drain import begin_drains, go_on_draining
from fleetd.core.instances.host_memory import HostMemory
from fleetd.core.instances.host_tick import HostDecision, HostTick
from fleetd.core.instances.left_over import orphans
from fleetd.core.instances.rollout import go_on_with_rollout
from fleetd.core.instances.scheduler import SchedulerDecision, end_or_start_scheduler
from fleetd.core.instances.start import start_up_to
from fleetd.core.instances.stuck import end_stuck
from fleetd.core.model.decision import InstanceState, Plan
from fleetd.core.model.identity import SCHEDULER, SCHEDULER_UNIT, TEMPLATE_UNIT, InstanceKey
from fleetd.core.model.policy_tables import Profile
from fleetd.core.model.reasons.counts import UnitUnfit
from fleetd.core.model.reasons.units import PlanExpired


def carry_out(tick: HostTick, plan: Plan | None, scheduler: SchedulerDecision, memory: HostMemory) -> HostDecision:
    """Decide this host's steps. `memory` must already include this tick (instances/assess.py)."""
    decision = HostDecision(memory)
    if tick.instances is None:
        return decision
    tick = _without_unfit(tick, memory, decision)
    valid = plan if plan is not None and plan.expires_at_seconds > tick.now_seconds else None
    if valid is None:
        decision.clamps.add(PlanExpired())
    go_on_draining(tick, decision)
    end_stuck(tick, decision)
    end_or_start_scheduler(tick, scheduler, decision)
    go_on_with_rollout(tick, valid, decision)
    _start_and_drain(tick, valid, decision)
    return decision


def _without_unfit(tick: HostTick, memory: HostMemory, decision: HostDecision) -> HostTick:
    """The tick without instances whose unit is somebody else's or unfit, so that no step of this tick concerns one."""
    if not memory.unfit_units:
        return tick
    for unit, unfit in memory.unfit_units.items():
        if unit not in (TEMPLATE_UNIT, SCHEDULER_UNIT):  # those are said as a hold, and by the scheduler's state
            decision.clamps.add(UnitUnfit(unfit=unfit))
    return tick.seeing(tuple(v for v in tick.instances or () if memory.unfit(v.key) is None))


def _start_and_drain(tick: HostTick, plan: Plan | None, decision: HostDecision) -> None:
    """Move each profile towards its admitted count, the most important profile first."""
    pace, constraints = tick.policy.pace, tick.constraints
    booting = sum(1 for v in tick.active if v.state == InstanceState.STARTING)
    booting += sum(1 for s in decision.steps if s.verb == "start" and s.key != SCHEDULER)
    starts_left = min(pace.starts_per_tick, max(0, pace.booting_max - booting))
    drains_left = pace.drains_per_tick
    moved = {s.key for s in decision.steps}  # units that an earlier step of this tick already acts on
    if TEMPLATE_UNIT in decision.memory.unfit_units:
        return
    drains_left -= _give_back(tick, plan, moved, drains_left, decision)
    for profile in tick.policy.profiles:
        running = tick.running[profile.name]
        admitted = _admitted(tick, plan, profile, running)
        if admitted == running:
            continue
        own = [v for v in tick.of(profile.name) if v.key not in moved]
        if admitted > running:
            starts_left -= start_up_to(tick, profile, own, running, admitted, starts_left, decision)
            continue
        leaving = sum(1 for v in tick.active if v.profile == profile.name and v.is_capacity and v.key in moved)
        running -= max(0, leaving - (constraints.spare_in == profile.name))
        if admitted < running:
            begun = begin_drains(tick, profile.name, own, running, admitted, drains_left, decision)
            drains_left -= begun
            if begun and constraints.shed is not None:
                shortage = structs.replace(decision.memory.shortage, shed_seconds=tick.now_seconds)
                decision.memory = structs.replace(decision.memory, shortage=shortage)


def _give_back(
    tick: HostTick, plan: Plan | None, moved: set[InstanceKey], drains_left: int, decision: HostDecision
) -> int:
    """Drain what the budget needs of those left over of removed profiles. Returns how many drains began."""
    there = orphans(tick)
    begun = 0
    for name in sorted({v.profile or "" for v in there}):
        planned = plan.of(tick.policy.host, name) if plan is not None else None
        own = [v for v in there if v.profile == name and v.key not in moved]  # what has moved leaves already
        if planned is not None and planned.admitted_instances < len(own):
            left = drains_left - begun
            begun += begin_drains(tick, name, own, len(own), planned.admitted_instances, left, decision)
    return begun


def _admitted(tick: HostTick, plan: Plan | None, profile: Profile, running: int) -> int:
    """The count this host moves towards. Without a plan it only goes up to `min`, and not while something is held."""
    if plan is None:
        restores = tick.starts_held is None and not tick.policy.observes
        return max(running, profile.min_instances) if restores else running
    planned = plan.of(tick.policy.host, profile.name)
    return planned.admitted_instances if planned is not None else running
