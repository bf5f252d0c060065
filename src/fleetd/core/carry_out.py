"""The host's decision: which numbers to start, whom to drain.

Law 6 (only ours, and people first) lives here and in changes.py: a step names a number of the configuration or the
scheduler, what a person stopped is not started, what a person started is not drained. Law 4 lives in drain.py.

The memory handed back already holds the orders of this tick and is saved before they are carried out, so that a
crash in between leaves an order that was never given, never a move of ours that looks like a person's.
"""

from __future__ import annotations

from msgspec import structs

from fleetd.core.instances.constraints import HostConstraints
from fleetd.core.instances.drain import begin_drains, go_on_draining, let_go
from fleetd.core.instances.host_decision import HostDecision
from fleetd.core.instances.host_memory import HostMemory
from fleetd.core.instances.lifecycle import InstanceView, present_or_pinned
from fleetd.core.instances.rollout import go_on_with_rollout
from fleetd.core.instances.scheduler import SchedulerDecision
from fleetd.core.instances.start import start_up_to
from fleetd.core.instances.stuck import end_stuck
from fleetd.core.model.decision import ClampCode, InstanceState, Plan, Step
from fleetd.core.model.facts import Known, Snapshot
from fleetd.core.model.policy import Policy


def carry_out(
    policy: Policy,
    snapshot: Snapshot,
    instances: tuple[InstanceView, ...] | None,
    plan: Plan | None,
    scheduler: SchedulerDecision,
    memory: HostMemory,
    terms: HostConstraints = HostConstraints(),  # noqa: B008 (frozen)
) -> HostDecision:
    """Steps for this host. `memory` has already seen this tick (changes.py, health.py, constraints.py, rollout.py)."""
    decision = HostDecision(memory)
    if instances is None:
        return decision
    valid = plan if plan is not None and plan.expires_at_seconds > snapshot.now_seconds else None
    if valid is None:
        decision.reasons.say(ClampCode.PLAN_EXPIRED, "no valid plan: nothing moves but up to min")
    here = present_or_pinned(instances)
    go_on_draining(policy, snapshot, here, decision)
    end_stuck(snapshot, here, terms, decision)
    _end_or_start_scheduler(snapshot, instances, scheduler, terms, decision)
    go_on_with_rollout(policy, snapshot, instances, valid, terms, decision)
    _start_and_drain(policy, snapshot, instances, here, valid, terms, decision)
    return decision


def _start_and_drain(
    policy: Policy,
    snapshot: Snapshot,
    instances: tuple[InstanceView, ...],
    here: tuple[InstanceView, ...],
    plan: Plan | None,
    terms: HostConstraints,
    decision: HostDecision,
) -> None:
    """Towards the planned count of each profile, the most important first. `here`: those that are not merely free."""
    booting = sum(1 for v in here if v.state == InstanceState.STARTING)
    booting += sum(1 for s in decision.steps if s.verb == "start" and s.number != "scheduler")
    starts_left = min(policy.pace.starts_per_tick, max(0, policy.pace.booting_max - booting))
    drains_left = policy.pace.drains_per_tick
    moved = {s.number for s in decision.steps}  # what stuck.py and a roll have just let go, or started
    for profile in policy.profiles:
        counting = [v for v in here if v.profile == profile.name and v.is_capacity]
        surplus = int(terms.doubled == profile.name)  # a spare beside the one it replaces
        current = len(counting) - surplus
        leaving = max(0, sum(1 for v in counting if v.number in moved) - surplus)
        goal = max(current, profile.min_instances) if terms.held is None else current
        if plan is not None:
            planned = plan.profiles.get(policy.host, {}).get(profile.name)
            goal = planned.instances if planned is not None else current
        if goal == current:
            continue
        own = [v for v in instances if v.profile == profile.name and v.number not in moved]
        if goal > current:
            starts_left -= start_up_to(policy, snapshot, profile, own, current, goal, starts_left, decision)
        elif goal < current - leaving:
            current -= leaving
            begun = begin_drains(policy, snapshot, profile, own, current, goal, drains_left, decision)
            drains_left -= begun
            if begun and terms.shed:
                decision.memory = structs.replace(decision.memory, shed_seconds=snapshot.now_seconds)


def _end_or_start_scheduler(
    snapshot: Snapshot,
    instances: tuple[InstanceView, ...],
    scheduler: SchedulerDecision,
    terms: HostConstraints,
    decision: HostDecision,
) -> None:
    own = next((v for v in instances if v.number == "scheduler"), None)
    now = snapshot.now_seconds
    if own is None:
        return
    if scheduler.end and "scheduler" not in decision.memory.drains and own.state != InstanceState.STOPPING:
        let_go(own, scheduler.sentence, now, decision)
    if not scheduler.start:
        return
    # What we ended to start it afresh is started in a pause too, as a drain under way goes on.
    under_way = decision.memory.scheduler_handover and all(h.kind == "pause" for h in terms.holds)
    if terms.held is not None and not under_way:
        decision.reasons.say(
            terms.held.code, f"NO SCHEDULER RUNS, and none is started: {terms.held.sentence}"
        )
        return
    if decision.memory.pinned("scheduler", "stopped", now):
        decision.reasons.say(ClampCode.PINNED, "the scheduler was stopped by hand and is kept so: NONE RUNS")
    elif isinstance(snapshot.machine, Known) and not snapshot.machine.value.scheduler_rendered:
        decision.reasons.say(
            ClampCode.NOT_RENDERED,
            "the scheduler's settings are not rendered: run `systemctl start fleetd-render`",
        )
    elif not decision.memory.may_retry("scheduler", now):
        decision.reasons.say(
            ClampCode.START_FAILED,
            "the scheduler failed to start: see `systemctl status mastodon-sidekiq-scheduler`: NONE RUNS",
        )
    else:
        decision.steps.append(Step(verb="start", number="scheduler", sentence=scheduler.sentence))
        decision.memory = decision.memory.with_start("scheduler", now)
