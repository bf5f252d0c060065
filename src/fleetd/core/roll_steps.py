"""The steps of a roll (roll.py): start the spare, or wait, or let the old one go.

Law 2: a spare is started only where the plan granted its claim. Law 4: the old one is let go as any other, by drain.py.
"""

from __future__ import annotations

from msgspec import structs

from fleetd.core.decision import ClampCode, Plan, Step
from fleetd.core.drain import let_go
from fleetd.core.facts import Known, Snapshot
from fleetd.core.host_decision import HostDecision
from fleetd.core.lifecycle import InstanceView
from fleetd.core.policy import Policy, Profile
from fleetd.core.roll import SCHEDULER_AGE_SECONDS_MIN, current_profile
from fleetd.core.start import free_numbers, is_rendered
from fleetd.core.terms import HostTerms

_CAUSES = {
    "restart": "restarted by fleetctl",
    "outdated": "its settings changed",
    "memory": "holds too much memory",
}


def go_on_rolling(
    policy: Policy,
    snapshot: Snapshot,
    instances: tuple[InstanceView, ...],
    plan: Plan | None,
    terms: HostTerms,
    decision: HostDecision,
) -> None:
    """The next step of the roll, or what it waits for. `plan`: a valid one, or None."""
    roll = decision.memory.roll
    if roll is None or roll.ended:
        return
    old = next((v for v in instances if str(v.number) == roll.current), None)
    if old is None and not roll.away:
        return
    waits = _away(policy, snapshot, instances, plan, terms, decision) if roll.away else ""
    if old is not None:
        waits = _waits_for(policy, snapshot, instances, old, plan, terms, decision)
        if not waits:
            waits = _step(policy, snapshot, instances, old, plan, decision)
    roll = decision.memory.roll
    if roll is not None and roll.waits != waits:
        decision.memory = structs.replace(decision.memory, roll=structs.replace(roll, waits=waits))


def _away(
    policy: Policy,
    snapshot: Snapshot,
    instances: tuple[InstanceView, ...],
    plan: Plan | None,
    terms: HostTerms,
    decision: HostDecision,
) -> str:
    """What the replacement of one that was let go first waits for; "": it serves, or is not wanted any more."""
    roll = decision.memory.roll
    if roll is None:
        return ""
    own = [v for v in instances if v.profile == roll.away and v.counts]
    planned = plan.profiles.get(policy.host, {}).get(roll.away) if plan is not None else None
    wanted = planned.wanted_instances if planned is not None else None
    enough = roll.count if wanted is None else min(roll.count, wanted)
    back = len(own) >= enough or not (
        roll.current or _may_come(policy, snapshot, instances, roll.away, decision)
    )
    if terms.held is None and back and all(v.serves for v in own):
        decision.memory = structs.replace(decision.memory, roll=structs.replace(roll, away="", count=0))
        return ""
    if terms.held is not None:
        return f"held: {terms.held.sentence}"
    booting = ", ".join(_name(v) for v in own if not v.serves)
    if booting:
        return f"{booting} boots in place of the one before"
    return f"{roll.away} has {len(own)} of {enough}: one is started in place of the one before"


def _waits_for(
    policy: Policy,
    snapshot: Snapshot,
    instances: tuple[InstanceView, ...],
    old: InstanceView,
    plan: Plan | None,
    terms: HostTerms,
    decision: HostDecision,
) -> str:
    """What keeps this replacement from its next step; "": nothing."""
    memory, now = decision.memory, snapshot.now_seconds
    if memory.scheduler_handover and old.number == "scheduler" and not memory.drains.get("scheduler"):
        return "the scheduler has ended, and is started once no other is live"
    if str(old.number) in memory.drains or not old.counts:
        busy = "?" if old.busy_threads is None else str(old.busy_threads)
        return f"{_name(old)} drains, {busy} jobs left"
    if terms.held is not None:
        return f"held: {terms.held.sentence}"
    if not isinstance(snapshot.sidekiq, Known) or plan is None:
        return "Redis can't be read, so a drain could not be watched"
    if memory.undrainable(now):
        return "a quiet was not confirmed, so nothing more is drained"
    rolled = {key for key, drain in memory.drains.items() if drain.rolled}
    before = [v for v in instances if v.there and str(v.number) in rolled]
    if before:  # of a roll that was given up meanwhile
        return f"{', '.join(_name(v) for v in before)} drains first"
    if old.number == "scheduler":
        left = SCHEDULER_AGE_SECONDS_MIN - old.state_age_seconds
        if left > 0:
            pause = SCHEDULER_AGE_SECONDS_MIN / 60
            return f"the scheduler is replaced every {pause:.0f} min at most: {left:.0f} s left"
        return ""
    roll = memory.roll
    if roll is not None and roll.spare:
        spare = next((v for v in instances if str(v.number) == roll.spare), None)
        return (
            ""
            if spare is None or spare.serves or not spare.there
            else f"{_name(spare)} boots to replace {_name(old)}"
        )
    return _unsettled(policy, snapshot, instances, old, plan, decision)


def _unsettled(
    policy: Policy,
    snapshot: Snapshot,
    instances: tuple[InstanceView, ...],
    old: InstanceView,
    plan: Plan,
    decision: HostDecision,
) -> str:
    """Capacity is kept: the replacement before this one serves, and nothing else of the profile is on its way."""
    own = [v for v in instances if v.profile == old.profile]
    planned = plan.profiles.get(policy.host, {}).get(old.profile)
    leaving = [v for v in own if v.there and not v.counts and v.pinned != "quiet"]
    booting = [v for v in own if v.counts and not v.serves]
    if leaving or booting:
        names = ", ".join(_name(v) for v in (*leaving, *booting))
        return f"{names} {'drains' if leaving else 'boots'} first"
    few = planned is None or sum(1 for v in own if v.counts) < planned.instances
    if few and _may_come(policy, snapshot, instances, old.profile, decision):
        return f"{old.profile} has fewer instances than wanted: one is started first"
    roll, profile = decision.memory.roll, policy.profile(old.profile)
    if roll is not None and roll.cause == "memory" and profile is not None:
        late = _late(policy, snapshot, profile)
        if late:
            return f"not while {', '.join(late)} waits longer than its target"
    return ""


def _may_come(
    policy: Policy,
    snapshot: Snapshot,
    instances: tuple[InstanceView, ...],
    name: str,
    decision: HostDecision,
) -> bool:
    """Whether one more of a profile is started soon, or once it is rendered.

    What is given up, or kept stopped, is not waited for.
    """
    profile, memory = policy.profile(name), decision.memory
    if profile is None:
        return False
    own = [v for v in instances if v.profile == name]
    free, blocked = free_numbers(snapshot, profile, own, memory)
    later = [n for n in blocked.get(ClampCode.START_FAILED, []) if str(n) in memory.failures]
    return bool(free) or ClampCode.NOT_RENDERED in blocked or any(not memory.given_up(n) for n in later)


def _late(policy: Policy, snapshot: Snapshot, profile: Profile) -> list[str]:
    queues = snapshot.sidekiq.value.queues if isinstance(snapshot.sidekiq, Known) else {}
    return [
        name
        for name, _ in profile.queues
        if name in queues and queues[name].oldest_age_seconds > policy.target_seconds(name)
    ]


def _step(
    policy: Policy,
    snapshot: Snapshot,
    instances: tuple[InstanceView, ...],
    old: InstanceView,
    plan: Plan | None,
    decision: HostDecision,
) -> str:
    memory, now = decision.memory, snapshot.now_seconds
    roll, profile = memory.roll, current_profile(policy, memory)
    if roll is None:
        return ""
    why = _CAUSES[roll.cause]
    if old.number == "scheduler":
        let_go(old, f"{why}: started again once it is gone", now, decision, rolled=True)
        decision.memory = structs.replace(decision.memory, scheduler_handover=True)
        return "the scheduler is ended, then started"
    planned = plan.profiles.get(policy.host, {}).get(old.profile) if plan is not None else None
    if roll.spare or profile is None or planned is None or not planned.spare:
        if roll.spare and not _serves(instances, roll.spare):  # it went away again, without a failure
            decision.memory = structs.replace(memory, roll=structs.replace(roll, spare=""))
            return f"the replacement of {_name(old)} went away"
        if not roll.spare:
            return _let_go_first(policy, snapshot, instances, old, why, decision)
        let_go(old, why, now, decision, rolled=True)
        return f"{_name(old)} drains"
    own = [v for v in instances if v.profile == profile.name]
    free = [
        n for n in free_numbers(snapshot, profile, own, decision.memory)[0] if str(n) not in memory.failures
    ]
    if not free:
        return _let_go_first(policy, snapshot, instances, old, why, decision)
    sentence = f"in place of {_name(old)}, which is drained once this one serves: {why}"
    decision.steps.append(Step(verb="start", number=free[0], profile=profile.name, sentence=sentence))
    memory = decision.memory.with_start(free[0], now)
    decision.memory = structs.replace(memory, roll=structs.replace(roll, spare=str(free[0])))
    decision.reasons.say(ClampCode.ROLLING, f"{_name(old)} is being replaced: {why}")
    return f"@{free[0]} boots to replace {_name(old)}"


def _let_go_first(
    policy: Policy,
    snapshot: Snapshot,
    instances: tuple[InstanceView, ...],
    old: InstanceView,
    why: str,
    decision: HostDecision,
) -> str:
    """Without a spare: one of its profile is away until what comes after it serves."""
    own = [v for v in instances if v.profile == old.profile and v.counts]
    profile, database = policy.profile(old.profile), snapshot.database
    above_min = profile is not None and len(own) > profile.min_instances
    if database.value.refused if isinstance(database, Known) else above_min:
        return f"no connection is known to be free for what comes after {_name(old)}"
    if profile is not None and not is_rendered(snapshot, profile, int(old.number)):
        return f"{_name(old)} is not rendered as configured, so nothing could come after it"
    let_go(old, why, snapshot.now_seconds, decision, rolled=True)
    roll = decision.memory.roll
    if roll is not None:
        roll = structs.replace(roll, away=old.profile, count=len(own))
        decision.memory = structs.replace(decision.memory, roll=roll)
    return f"{_name(old)} drains"


def _serves(instances: tuple[InstanceView, ...], key: str) -> bool:
    return any(str(v.number) == key and v.serves for v in instances)


def _name(view: InstanceView) -> str:
    return "the scheduler" if view.number == "scheduler" else f"@{view.number}"
