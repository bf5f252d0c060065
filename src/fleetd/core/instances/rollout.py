"""Rolling replacement: outdated settings, too much memory, or `fleetctl restart`; one at a time, capacity kept.

Where the budget carries one more, a fresh instance starts on a free number first, and the old one is drained once the
new one's heartbeat is there; else the old one goes first, and only while all others of its profile serve. A
replacement that does not come up ends the rollout: what still runs is left alone, whatever it was started with. An
instance is replaced at most once per digest, so a setting that never takes effect makes no loop.

The scheduler is last, and replaced only by stop, gone, start (law 1). Law 2: a spare is started only where the plan
granted its claim. Law 4: the old one is let go as any other, by drain.py.
"""

from __future__ import annotations

from msgspec import structs

from fleetd.core.instances.constraints import HostConstraints
from fleetd.core.instances.drain import let_go
from fleetd.core.instances.host_decision import HostDecision
from fleetd.core.instances.host_memory import HostMemory, Rollout, unit_name
from fleetd.core.instances.lifecycle import InstanceView, Replace
from fleetd.core.instances.start import free_numbers, is_rendered
from fleetd.core.model.decision import SCHEDULER_UNIT, TEMPLATE_UNIT, ClampCode, InstanceState, Plan, Step
from fleetd.core.model.facts import HostFacts, Known, Snapshot
from fleetd.core.model.policy import Policy, Profile
from fleetd.core.model.worker_settings import instance_digest, scheduler_digest

#: Over its memory limit for this long before it is replaced.
HEAVY_SECONDS = 300.0
#: Interval jobs begin anew at each boot of the scheduler: one that boots oftener never runs its slower ones.
SCHEDULER_AGE_SECONDS_MIN = 600.0
#: How long the end of a rollout is shown, and keeps a failed one from being tried again by itself.
TOLD_SECONDS = 3600.0


def replace_reasons(
    policy: Policy, snapshot: Snapshot, instances: tuple[InstanceView, ...], memory: HostMemory
) -> dict[str, Replace]:
    """Which instances are to be replaced, and why. What a person pinned to run is left alone, except by `restart`."""
    machine = snapshot.machine.value if isinstance(snapshot.machine, Known) else None
    found: dict[str, Replace] = {}
    rollout, never_here = memory.rollout, policy.scheduler.place == "elsewhere"
    for view in instances:
        if not view.is_ready or (view.number == "scheduler" and never_here):
            continue  # a scheduler that a person started where it belongs elsewhere would not be started again
        key = str(view.number)
        watch = memory.watches.get(key)
        if watch is None:
            continue
        heavy = watch.heavy_since_seconds
        if (
            rollout is not None
            and rollout.cause == "restart"
            and not rollout.ended
            and key in (*rollout.left, rollout.current)
        ):
            found[key] = "restart"
        elif machine is not None and outdated_for(policy, view, machine, memory):
            found[key] = "outdated"
        elif machine is None or heavy is None:
            continue  # what it weighs now is unknown (law 3)
        elif snapshot.now_seconds - heavy >= HEAVY_SECONDS:
            found[key] = "memory"
    return found


def outdated_for(policy: Policy, view: InstanceView, machine: HostFacts, memory: HostMemory) -> str:
    """The digest that this instance should run with and does not; "": it does, or that can't be said.

    Configuration that is not what is rendered is a hold: nothing is replaced by what would be outdated again.
    """
    key, watch = str(view.number), memory.watches.get(str(view.number))
    if view.number == "scheduler":
        rendered, configured, file = (
            machine.scheduler_digest,
            scheduler_digest(policy.scheduler),
            SCHEDULER_UNIT,
        )
    else:
        settings, profile = machine.rendered.get(view.number), policy.profile_of(view.number)
        if settings is None or profile is None or settings.profile != profile.name:
            return ""
        rendered, configured, file = settings.digest, instance_digest(profile), TEMPLATE_UNIT
    unit_digest = machine.unit_digests.get(file, "")
    if rendered != configured or watch is None or view.unit is None:
        return ""
    started_by = watch.unit_digest or unit_digest
    unit_changed = bool(unit_digest) and unit_digest != started_by and not view.unit.need_daemon_reload
    if not unit_changed and view.digest in {"", rendered}:
        return ""
    target = f"{rendered} {unit_digest}"
    return "" if memory.replaced.get(key) == target else target


def remember_rollout(
    policy: Policy,
    snapshot: Snapshot,
    instances: tuple[InstanceView, ...] | None,
    memory: HostMemory,
    *,
    held: bool,
) -> tuple[HostMemory, list[str]]:
    """How far the rollout is, and what comes next; begins one where something is to be replaced."""
    if instances is None:
        return memory, []
    now, rollout = snapshot.now_seconds, memory.rollout
    if rollout is not None and rollout.ended:
        if now - rollout.ended_seconds > TOLD_SECONDS:
            return structs.replace(memory, rollout=None), []
        if rollout.ended == "given_up":
            return memory, []
        rollout = None
    if rollout is None:
        begun = None if held else _begin(policy, snapshot, instances)
        return (structs.replace(memory, rollout=begun), []) if begun is not None else (memory, [])
    before = rollout
    rollout = _progress(instances, rollout, handover=memory.scheduler_handover)
    if _has_failed(policy, memory, before):
        return _give_up(policy, snapshot, instances, memory, rollout)
    if not rollout.current and rollout.left and not rollout.away:
        key = next(iter(rollout.left))
        rollout = structs.replace(rollout, current=key, spare="", waits="")
        memory = _mark_replaced(policy, snapshot, instances, memory, key)
    said = []
    if not rollout.current and not rollout.left and not rollout.away:
        rollout = structs.replace(rollout, ended="done", ended_seconds=now, waits="")
        said = [f"{rollout.cause}: {rollout.done} of {rollout.total} replaced"]
    return (memory if rollout == before else structs.replace(memory, rollout=rollout)), said


def _begin(policy: Policy, snapshot: Snapshot, instances: tuple[InstanceView, ...]) -> Rollout | None:
    """A rollout of our own: all that is outdated, the least important first, or the heaviest one."""
    due = [v for v in instances if v.replace and v.is_capacity and v.pinned != "run"]
    old = [v for v in due if v.replace == "outdated"]
    heavy = [v for v in due if v.replace == "memory"]
    if old:
        return begin(policy, old, "outdated", snapshot.now_seconds)
    if heavy:
        heaviest = max(heavy, key=lambda v: v.resident_bytes or 0)
        return begin(policy, [heaviest], "memory", snapshot.now_seconds)
    return None


def begin(policy: Policy, chosen: list[InstanceView], cause: Replace, now_seconds: float) -> Rollout | None:
    """A rollout of these: the least important profile is the canary, the scheduler comes last."""
    if cause == "" or not chosen:
        return None
    rank = {p.name: index for index, p in enumerate(policy.profiles)}
    order = sorted(chosen, key=lambda v: (v.profile == "", -rank.get(v.profile, 0), str(v.number).zfill(5)))
    left = {str(v.number): v.unit.invocation_id if v.unit is not None else "" for v in order}
    return Rollout(cause=cause, left=left, total=len(left), since_seconds=now_seconds)


def _has_failed(policy: Policy, memory: HostMemory, rollout: Rollout) -> bool:
    """Whether something of the profiles it concerns has failed since it began: replacements don't come up."""
    names = {p.name for p in policy.profiles for n in p.numbers if str(n) in (*rollout.left, rollout.current)}
    names.add(rollout.away)
    numbers = {str(n) for p in policy.profiles if p.name in names for n in p.numbers}
    numbers |= {"scheduler"} & set(rollout.left)
    return any(f.last_seconds > rollout.since_seconds for key, f in memory.failures.items() if key in numbers)


def _progress(instances: tuple[InstanceView, ...], rollout: Rollout, *, handover: bool) -> Rollout:
    """Take off what has gone or was started afresh, by us or by whomever; our scheduler once it is back.

    And what a person has pinned since: the later order holds.
    """
    there = {str(v.number): v for v in instances if v.present}
    left = dict(rollout.left)
    done, total = rollout.done, rollout.total
    for key, invocation in rollout.left.items():
        view = there.get(key)
        fresh = view is None or view.unit is None or view.unit.invocation_id != invocation
        if fresh and not (key == "scheduler" and handover):
            del left[key]
            done += 1
        elif view is not None and view.pinned in {"run", "quiet"}:
            del left[key]
            total -= 1
    current = rollout.current if rollout.current in left else ""
    spare = rollout.spare if current else ""
    return structs.replace(rollout, left=left, done=done, total=total, current=current, spare=spare)


def _mark_replaced(
    policy: Policy,
    snapshot: Snapshot,
    instances: tuple[InstanceView, ...],
    memory: HostMemory,
    key: str,
) -> HostMemory:
    view = next((v for v in instances if str(v.number) == key), None)
    if view is None or not isinstance(snapshot.machine, Known):
        return memory
    target = outdated_for(policy, view, snapshot.machine.value, memory)
    return structs.replace(memory, replaced={**memory.replaced, key: target}) if target else memory


def _give_up(
    policy: Policy,
    snapshot: Snapshot,
    instances: tuple[InstanceView, ...],
    memory: HostMemory,
    rollout: Rollout,
) -> tuple[HostMemory, list[str]]:
    for key in rollout.left:
        memory = _mark_replaced(policy, snapshot, instances, memory, key)
    worst = max(memory.failures.items(), key=lambda item: item[1].last_seconds)
    sentence = (
        f"{unit_name(worst[0])} {worst[1].why or 'failed'}: the others run on as they are; "
        "cure it, then `fleetctl restart`"
    )
    if rollout.cause == "restart" and rollout.code_before:  # new code that does not boot: hold again
        memory = structs.replace(memory, code=rollout.code_before)
    ended = structs.replace(
        rollout, ended="given_up", ended_seconds=snapshot.now_seconds, current="", waits=sentence
    )
    return structs.replace(memory, rollout=ended), [
        f"{rollout.cause} given up after {rollout.done} of {rollout.total}: {sentence}"
    ]


def current_profile(policy: Policy, memory: HostMemory) -> Profile | None:
    """The profile of the one that is being replaced; None: nothing is, or it is the scheduler."""
    rollout = memory.rollout
    if rollout is None or rollout.ended or not rollout.current.isdecimal():
        return None
    return policy.profile_of(int(rollout.current))


def spare_for(policy: Policy, instances: tuple[InstanceView, ...] | None, memory: HostMemory) -> str:
    """The profile that could use one more instance now, and has a number free for it."""
    profile, rollout = current_profile(policy, memory), memory.rollout
    if profile is None or rollout is None or rollout.spare or rollout.current in memory.drains:
        return ""
    own = [v for v in instances or () if v.profile == profile.name]
    free = [v for v in own if v.state == InstanceState.STOPPED and str(v.number) not in memory.failures]
    return profile.name if free else ""


def doubled(policy: Policy, instances: tuple[InstanceView, ...] | None, memory: HostMemory) -> str:
    """The profile in which a spare runs, or boots, beside the one that it replaces."""
    profile, rollout = current_profile(policy, memory), memory.rollout
    if profile is None or rollout is None or not rollout.spare or rollout.current in memory.drains:
        return ""
    return (
        profile.name if any(str(v.number) == rollout.spare and v.is_capacity for v in instances or ()) else ""
    )


def away(memory: HostMemory) -> str:
    """The profile of which one was let go before its replacement, which does not serve yet."""
    rollout = memory.rollout
    return rollout.away if rollout is not None and not rollout.ended else ""


def due(memory: HostMemory) -> str:
    """The same, once the one that was let go has ended: starting its replacement is no growth."""
    rollout = memory.rollout
    return away(memory) if rollout is not None and not rollout.current else ""


_CAUSES = {
    "restart": "restarted by fleetctl",
    "outdated": "its settings changed",
    "memory": "holds too much memory",
}


def go_on_with_rollout(
    policy: Policy,
    snapshot: Snapshot,
    instances: tuple[InstanceView, ...],
    plan: Plan | None,
    terms: HostConstraints,
    decision: HostDecision,
) -> None:
    """The next step of the rollout, or what it waits for. `plan`: a valid one, or None."""
    rollout = decision.memory.rollout
    if rollout is None or rollout.ended:
        return
    old = next((v for v in instances if str(v.number) == rollout.current), None)
    if old is None and not rollout.away:
        return
    waits = _away(policy, snapshot, instances, plan, terms, decision) if rollout.away else ""
    if old is not None:
        waits = _waits_for(policy, snapshot, instances, old, plan, terms, decision)
        if not waits:
            waits = _step(policy, snapshot, instances, old, plan, decision)
    rollout = decision.memory.rollout
    if rollout is not None and rollout.waits != waits:
        decision.memory = structs.replace(decision.memory, rollout=structs.replace(rollout, waits=waits))


def _away(
    policy: Policy,
    snapshot: Snapshot,
    instances: tuple[InstanceView, ...],
    plan: Plan | None,
    terms: HostConstraints,
    decision: HostDecision,
) -> str:
    """What the replacement of one that was let go first waits for; "": it serves, or is not wanted any more."""
    rollout = decision.memory.rollout
    if rollout is None:
        return ""
    own = [v for v in instances if v.profile == rollout.away and v.is_capacity]
    planned = plan.profiles.get(policy.host, {}).get(rollout.away) if plan is not None else None
    wanted = planned.desired_instances if planned is not None else None
    enough = rollout.count if wanted is None else min(rollout.count, wanted)
    back = len(own) >= enough or not (
        rollout.current or _may_come(policy, snapshot, instances, rollout.away, decision)
    )
    if terms.held is None and back and all(v.serves for v in own):
        decision.memory = structs.replace(decision.memory, rollout=structs.replace(rollout, away="", count=0))
        return ""
    if terms.held is not None:
        return f"held: {terms.held.sentence}"
    booting = ", ".join(_name(v) for v in own if not v.serves)
    if booting:
        return f"{booting} boots in place of the one before"
    return f"{rollout.away} has {len(own)} of {enough}: one is started in place of the one before"


def _waits_for(
    policy: Policy,
    snapshot: Snapshot,
    instances: tuple[InstanceView, ...],
    old: InstanceView,
    plan: Plan | None,
    terms: HostConstraints,
    decision: HostDecision,
) -> str:
    """What keeps this replacement from its next step; "": nothing."""
    memory, now = decision.memory, snapshot.now_seconds
    if memory.scheduler_handover and old.number == "scheduler" and not memory.drains.get("scheduler"):
        return "the scheduler has ended, and is started once no other is live"
    if str(old.number) in memory.drains or not old.is_capacity:
        busy = "?" if old.busy_threads is None else str(old.busy_threads)
        return f"{_name(old)} drains, {busy} jobs left"
    if terms.held is not None:
        return f"held: {terms.held.sentence}"
    if not isinstance(snapshot.sidekiq, Known) or plan is None:
        return "Redis can't be read, so a drain could not be watched"
    if memory.undrainable(now):
        return "a quiet was not confirmed, so nothing more is drained"
    rolled = {key for key, drain in memory.drains.items() if drain.rolled}
    before = [v for v in instances if v.present and str(v.number) in rolled]
    if before:  # of a rollout that was given up meanwhile
        return f"{', '.join(_name(v) for v in before)} drains first"
    if old.number == "scheduler":
        left = SCHEDULER_AGE_SECONDS_MIN - old.state_age_seconds
        if left > 0:
            pause = SCHEDULER_AGE_SECONDS_MIN / 60
            return f"the scheduler is replaced every {pause:.0f} min at most: {left:.0f} s left"
        return ""
    rollout = memory.rollout
    if rollout is not None and rollout.spare:
        spare = next((v for v in instances if str(v.number) == rollout.spare), None)
        return (
            ""
            if spare is None or spare.serves or not spare.present
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
    leaving = [v for v in own if v.present and not v.is_capacity and v.pinned != "quiet"]
    booting = [v for v in own if v.is_capacity and not v.serves]
    if leaving or booting:
        names = ", ".join(_name(v) for v in (*leaving, *booting))
        return f"{names} {'drains' if leaving else 'boots'} first"
    few = planned is None or sum(1 for v in own if v.is_capacity) < planned.instances
    if few and _may_come(policy, snapshot, instances, old.profile, decision):
        return f"{old.profile} has fewer instances than wanted: one is started first"
    rollout, profile = decision.memory.rollout, policy.profile(old.profile)
    if rollout is not None and rollout.cause == "memory" and profile is not None:
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
        if name in queues and queues[name].latency_seconds > policy.target_seconds(name)
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
    rollout, profile = memory.rollout, current_profile(policy, memory)
    if rollout is None:
        return ""
    why = _CAUSES[rollout.cause]
    if old.number == "scheduler":
        let_go(old, f"{why}: started again once it is gone", now, decision, rolled=True)
        decision.memory = structs.replace(decision.memory, scheduler_handover=True)
        return "the scheduler is ended, then started"
    planned = plan.profiles.get(policy.host, {}).get(old.profile) if plan is not None else None
    if rollout.spare or profile is None or planned is None or not planned.spare:
        if rollout.spare and not _serves(instances, rollout.spare):  # it went away again, without a failure
            decision.memory = structs.replace(memory, rollout=structs.replace(rollout, spare=""))
            return f"the replacement of {_name(old)} went away"
        if not rollout.spare:
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
    decision.memory = structs.replace(memory, rollout=structs.replace(rollout, spare=str(free[0])))
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
    own = [v for v in instances if v.profile == old.profile and v.is_capacity]
    profile, database = policy.profile(old.profile), snapshot.database
    above_min = profile is not None and len(own) > profile.min_instances
    if database.value.refused if isinstance(database, Known) else above_min:
        return f"no connection is known to be free for what comes after {_name(old)}"
    if profile is not None and not is_rendered(snapshot, profile, int(old.number)):
        return f"{_name(old)} is not rendered as configured, so nothing could come after it"
    let_go(old, why, snapshot.now_seconds, decision, rolled=True)
    rollout = decision.memory.rollout
    if rollout is not None:
        rollout = structs.replace(rollout, away=old.profile, count=len(own))
        decision.memory = structs.replace(decision.memory, rollout=rollout)
    return f"{_name(old)} drains"


def _serves(instances: tuple[InstanceView, ...], key: str) -> bool:
    return any(str(v.number) == key and v.serves for v in instances)


def _name(view: InstanceView) -> str:
    return "the scheduler" if view.number == "scheduler" else f"@{view.number}"
