"""The host's decision: which numbers to start, whom to drain.

Law 6 (only ours, and people first) lives here and in host_memory.py: a step names a number of the configuration or
the scheduler, what a person stopped is not started, what a person started is not drained. Law 4 lives in drain.py.

The memory handed back already holds the orders of this tick and is saved before they are carried out, so that a
crash in between leaves an order that was never given, never a move of ours that looks like a person's.
"""

from __future__ import annotations

from fleetd.core.decision import ClampCode, InstanceState, Plan, Step
from fleetd.core.drain import go_on_draining, let_go
from fleetd.core.facts import Known, RenderedInstance, Snapshot
from fleetd.core.host_decision import HostDecision
from fleetd.core.host_memory import RETRIES_MAX, HostMemory
from fleetd.core.lifecycle import InstanceView
from fleetd.core.policy import Policy, Profile
from fleetd.core.scheduler import SchedulerDecision


def carry_out(
    policy: Policy,
    snapshot: Snapshot,
    instances: tuple[InstanceView, ...] | None,
    plan: Plan | None,
    scheduler: SchedulerDecision,
    memory: HostMemory,
) -> HostDecision:
    """Steps for this host. `memory` has already seen this tick's units (host_memory.remember_units)."""
    decision = HostDecision(memory)
    if instances is None:
        return decision
    valid = plan is not None and plan.expires_at_seconds > snapshot.now_seconds
    if not valid:
        decision.reasons.say(ClampCode.PLAN_EXPIRED, "no valid plan: nothing moves but up to min")
    go_on_draining(policy, snapshot, instances, decision)
    _end_or_start_scheduler(snapshot, instances, scheduler, decision)
    booting = sum(1 for v in instances if v.state == InstanceState.STARTING)
    starts_left = min(policy.pace.starts_per_tick, max(0, policy.pace.booting_max - booting))
    drains_left = policy.pace.drains_per_tick
    for profile in policy.profiles:
        own = [v for v in instances if v.profile == profile.name]
        current = sum(1 for v in own if v.counts)
        goal = max(current, profile.min_instances)
        if valid and plan is not None:
            planned = plan.profiles.get(policy.host, {}).get(profile.name)
            goal = planned.instances if planned is not None else current
        if goal > current:
            starts_left -= _start(policy, snapshot, profile, own, goal, starts_left, decision)
        elif goal < current:
            drains_left -= _drain(policy, snapshot, profile, own, goal, drains_left, decision)
    return decision


def _start(
    policy: Policy,
    snapshot: Snapshot,
    profile: Profile,
    own: list[InstanceView],
    goal: int,
    starts_left: int,
    decision: HostDecision,
) -> int:
    """Start the lowest free numbers; returns how many."""
    current = sum(1 for v in own if v.counts)
    free = _free_numbers(snapshot, profile, own, goal, decision)
    count = min(goal - current, starts_left, len(free))
    if count < min(goal - current, len(free)):
        pace = policy.pace
        sentence = f"at most {pace.starts_per_tick} starts a tick and {pace.booting_max} booting at once"
        decision.reasons.say(
            ClampCode.PACE,
            sentence,
            profile.name,
            wanted=min(goal, current + len(free)),
            granted=current + count,
        )
    for number in free[:count]:
        sentence = f"{profile.name} has {current} of {goal} wanted"
        decision.steps.append(Step(verb="start", number=number, profile=profile.name, sentence=sentence))
        decision.memory = decision.memory.with_start(number, snapshot.now_seconds)
    return count


def _free_numbers(
    snapshot: Snapshot, profile: Profile, own: list[InstanceView], goal: int, decision: HostDecision
) -> list[int]:
    """Numbers that may be started now; says what keeps the others from it where that matters."""
    rendered: dict[int, RenderedInstance] | None = None
    if isinstance(snapshot.machine, Known):
        rendered = snapshot.machine.value.rendered
    memory, now = decision.memory, snapshot.now_seconds
    free: list[int] = []
    blocked: dict[ClampCode, list[int]] = {}
    for view in own:
        number = int(view.number)
        if view.state not in {InstanceState.STOPPED, InstanceState.FAILED}:
            continue  # a start ordered a moment ago counts as starting, so it isn't given twice
        if memory.pinned(number, "stopped", now):
            blocked.setdefault(ClampCode.PINNED, []).append(number)
        elif rendered is not None and (number not in rendered or rendered[number].profile != profile.name):
            blocked.setdefault(ClampCode.NOT_RENDERED, []).append(number)
        elif not memory.may_retry(number, now):
            blocked.setdefault(ClampCode.START_FAILED, []).append(number)
        else:
            free.append(number)
    current = sum(1 for v in own if v.counts)
    if current + len(free) < goal:
        _say_blocked(profile, blocked, goal, current + len(free), decision)
    return free


def _say_blocked(
    profile: Profile, blocked: dict[ClampCode, list[int]], goal: int, reachable: int, decision: HostDecision
) -> None:
    left = goal
    for code, numbers in blocked.items():
        names = ", ".join(f"@{n}" for n in numbers)
        sentences = {
            ClampCode.PINNED: "stopped by hand and kept so",
            ClampCode.NOT_RENDERED: "configured but not rendered: run `systemctl restart fleetd-render`",
            ClampCode.START_FAILED: _failed_sentence(numbers, decision.memory),
        }
        granted = max(reachable, left - len(numbers))
        decision.reasons.say(code, f"{names} {sentences[code]}", profile.name, wanted=left, granted=granted)
        left = granted
    if left > reachable:
        sentence = "every other number is in use or draining"
        decision.reasons.say(ClampCode.NO_NUMBER_FREE, sentence, profile.name, wanted=left, granted=reachable)


def _failed_sentence(numbers: list[int], memory: HostMemory) -> str:
    given_up = [n for n in numbers if memory.given_up(n)]
    if given_up:
        cure = f"`systemctl reset-failed mastodon-sidekiq@{given_up[0]}`"
        return f"failed {RETRIES_MAX} times and more, so it is given up: cure it, then {cure}"
    return f"failed to start: see `systemctl status mastodon-sidekiq@{numbers[0]}`; tried again later"


def _drain(
    policy: Policy,
    snapshot: Snapshot,
    profile: Profile,
    own: list[InstanceView],
    goal: int,
    drains_left: int,
    decision: HostDecision,
) -> int:
    """Begin to let go of those whose loss costs least; returns how many drains were begun."""
    now = snapshot.now_seconds
    current = sum(1 for v in own if v.counts)
    candidates = [v for v in own if v.counts and not decision.memory.pinned(v.number, "run", now)]
    reachable = max(goal, current - len(candidates))
    if reachable > goal:
        sentence = f"{reachable - goal} started by hand and kept"
        decision.reasons.say(ClampCode.PINNED, sentence, profile.name, wanted=goal, granted=reachable)
    count = min(current - reachable, drains_left)
    if count < current - reachable:
        sentence = f"at most {policy.pace.drains_per_tick} drain(s) begin in one tick"
        decision.reasons.say(
            ClampCode.PACE, sentence, profile.name, wanted=reachable, granted=current - count
        )
    # What still boots serves nobody yet; then the least busy; then the highest number.
    candidates.sort(
        key=lambda v: (
            v.state != InstanceState.STARTING,
            v.busy_threads if v.busy_threads is not None else v.threads,
            -int(v.number),
        )
    )
    for victim in candidates[:count]:
        let_go(victim, f"{profile.name} has {current} of {goal} wanted", now, decision)
    return count


def _end_or_start_scheduler(
    snapshot: Snapshot,
    instances: tuple[InstanceView, ...],
    scheduler: SchedulerDecision,
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
    if decision.memory.pinned("scheduler", "stopped", now):
        decision.reasons.say(ClampCode.PINNED, "the scheduler was stopped by hand and is kept so: NONE RUNS")
    elif isinstance(snapshot.machine, Known) and not snapshot.machine.value.scheduler_rendered:
        decision.reasons.say(
            ClampCode.NOT_RENDERED,
            "the scheduler's settings are not rendered: run `systemctl restart fleetd-render`",
        )
    elif not decision.memory.may_retry("scheduler", now):
        decision.reasons.say(
            ClampCode.START_FAILED,
            "the scheduler failed to start: see `systemctl status mastodon-sidekiq-scheduler`: NONE RUNS",
        )
    else:
        decision.steps.append(Step(verb="start", number="scheduler", sentence=scheduler.sentence))
        decision.memory = decision.memory.with_start("scheduler", now)
