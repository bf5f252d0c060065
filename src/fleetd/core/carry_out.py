"""The host's decision: which numbers to start, whom to drain.

Law 6 (only ours, and people first) lives here and in instances/changes.py: a step names a number of the configuration
or the scheduler, what a person stopped is not started, what a person started is not drained. Law 4 lives in drain.py.

The memory handed back already holds the orders of this tick and is saved before they are carried out, so that a
crash in between leaves an order that was never given, never a move of ours that looks like a person's.
"""

from __future__ import annotations

from msgspec import structs

from fleetd.core.instances.drain import begin_drains, go_on_draining
from fleetd.core.instances.host_memory import HostMemory
from fleetd.core.instances.host_tick import HostDecision, HostTick
from fleetd.core.instances.rollout import go_on_with_rollout
from fleetd.core.instances.scheduler import SchedulerDecision, end_or_start_scheduler
from fleetd.core.instances.start import start_up_to
from fleetd.core.instances.stuck import end_stuck
from fleetd.core.model.decision import InstanceState, Plan
from fleetd.core.model.identity import SCHEDULER
from fleetd.core.model.policy_tables import Profile
from fleetd.core.model.reasons.units import PlanExpired


def carry_out(tick: HostTick, plan: Plan | None, scheduler: SchedulerDecision, memory: HostMemory) -> HostDecision:
    """Steps for this host. `memory` has already seen this tick (instances/assess.py)."""
    decision = HostDecision(memory)
    if tick.instances is None:
        return decision
    valid = plan if plan is not None and plan.expires_at_seconds > tick.now_seconds else None
    if valid is None:
        decision.clamps.add(PlanExpired())
    go_on_draining(tick, decision)
    end_stuck(tick, decision)
    end_or_start_scheduler(tick, scheduler, decision)
    go_on_with_rollout(tick, valid, decision)
    _start_and_drain(tick, valid, decision)
    return decision


def _start_and_drain(tick: HostTick, plan: Plan | None, decision: HostDecision) -> None:
    """Towards the admitted count of each profile, the most important first."""
    pace, constraints = tick.policy.pace, tick.constraints
    booting = sum(1 for v in tick.active if v.state == InstanceState.STARTING)
    booting += sum(1 for s in decision.steps if s.verb == "start" and s.key != SCHEDULER)
    starts_left = min(pace.starts_per_tick, max(0, pace.booting_max - booting))
    drains_left = pace.drains_per_tick
    moved = {s.key for s in decision.steps}  # what stuck.py and a rollout have just let go, or started
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
            begun = begin_drains(tick, profile, own, running, admitted, drains_left, decision)
            drains_left -= begun
            if begun and constraints.shed is not None:
                shortage = structs.replace(decision.memory.shortage, shed_seconds=tick.now_seconds)
                decision.memory = structs.replace(decision.memory, shortage=shortage)


def _admitted(tick: HostTick, plan: Plan | None, profile: Profile, running: int) -> int:
    """What this host goes for; without a plan nothing moves but up to min."""
    if plan is None:
        return max(running, profile.min_instances) if tick.held is None else running
    planned = plan.of(tick.policy.host, profile.name)
    return planned.admitted_instances if planned is not None else running
