"""Rolling replacement for outdated settings, too much memory, or `fleetctl restart`: one at a time, capacity kept.

If the budget carries one more, a spare starts on a free number first, and the old instance is drained once the spare's
heartbeat is there. Otherwise the old one goes first, and only while all others of its profile serve. A replacement that
does not come up ends the rollout, and the instances left keep running with their old settings. An instance is replaced
at most once per digest, so a setting that never takes effect causes no loop.

The scheduler is last. Its replacement starts only after the old process is stopped and gone (law 1). Law 2: a spare is
started only if the plan granted its claim. Law 4: the old instance is drained like any other, by drain.py.
"""

from __future__ import annotations

from msgspec import structs

from fleetd.core.instances.drain import let_go
from fleetd.core.instances.given_up import SHOWN_SECONDS, is_over, tried_with
from fleetd.core.instances.host_memory import HostMemory, Rollout, RolloutPhase
from fleetd.core.instances.host_tick import HostDecision, HostTick
from fleetd.core.instances.lifecycle import InstanceView
from fleetd.core.instances.outdated import changes_of, others_are_due, outdated_for, rolls_elsewhere
from fleetd.core.instances.start import free_numbers, is_rendered
from fleetd.core.model import reasons
from fleetd.core.model.decision import InstanceState, Plan
from fleetd.core.model.facts import Known
from fleetd.core.model.identity import SCHEDULER, InstanceKey
from fleetd.core.model.policy_tables import Policy, Profile

#: The scheduler's interval jobs begin anew at each boot: one that boots more often never runs its slower ones. What
#: fleetd replaces by itself waits for this, a person's restart does not.
SCHEDULER_AGE_SECONDS_MIN = 600.0


def remember_rollout(tick: HostTick, memory: HostMemory) -> tuple[HostMemory, list[reasons.Reason]]:
    """Update how far the rollout is and what comes next, or begin one if something is to be replaced.

    Returns the memory, and a reason if the rollout ended.
    """
    if tick.instances is None:
        return memory, []
    now, rollout = tick.now_seconds, memory.rollout
    if rollout is not None and rollout.phase != RolloutPhase.UNDER_WAY:
        given_up = rollout.phase == RolloutPhase.GIVEN_UP
        if is_over(tick, memory, rollout) if given_up else now - rollout.ended_seconds > SHOWN_SECONDS:
            return structs.replace(memory, rollout=None), []
        if given_up:
            return memory, []
        rollout = None
    if rollout is None:
        begun = _begin(tick) if tick.starts_held is None and not tick.policy.observes else None
        return (structs.replace(memory, rollout=begun), []) if begun is not None else (memory, [])
    before = rollout
    rollout = _progress(tick, rollout, memory)
    if _has_failed(tick.policy, memory, before):
        return _give_up(tick, memory, rollout)
    if others_are_due(tick, rollout):  # the next one begins with them, and has the scheduler last again
        return _not_begun(rollout, memory), []
    if tick.policy.observes and rollout.cause != reasons.ReplaceCause.RESTART:
        under_way = _only_begun(rollout, memory)
        if under_way is None:
            return _not_begun(rollout, memory), []
        rollout = under_way
    if rollout.current is None and rollout.left and rollout.unavailable_in is None:
        key = next(iter(rollout.left))
        rollout = structs.replace(rollout, current=key, spare=None, waits=None)
        memory = _mark_replaced(tick, memory, key)
    noticed: list[reasons.Reason] = []
    if rollout.current is None and not rollout.left and rollout.unavailable_in is None:
        rollout = structs.replace(rollout, phase=RolloutPhase.DONE, ended_seconds=now, waits=None)
        noticed = [_ended(rollout)]
    return (memory if rollout == before else structs.replace(memory, rollout=rollout)), noticed


def _only_begun(rollout: Rollout, memory: HostMemory) -> Rollout | None:
    """What is left of fleetd's own rollout once it only observes: the instance that drains, and its replacement.

    None: nothing was begun that is not finished.
    """
    left = {key: invocation for key, invocation in rollout.left.items() if key in memory.drains}
    if not left and rollout.unavailable_in is None:
        return None
    current = rollout.current if rollout.current in left else None
    total = rollout.done_instances + len(left)
    return structs.replace(rollout, left=left, current=current, total_instances=total, spare=None)


def _not_begun(rollout: Rollout, memory: HostMemory) -> HostMemory:
    """Without the rollout. The instance whose turn it was has not been replaced, so it is due again."""
    replaced = {key: digest for key, digest in memory.units.replaced.items() if key != rollout.current}
    return structs.replace(memory, rollout=None, units=structs.replace(memory.units, replaced=replaced))


def _ended(rollout: Rollout, given_up: reasons.RolloutGivenUp | None = None) -> reasons.RolloutEnded:
    return reasons.RolloutEnded(
        cause=rollout.cause,
        done_instances=rollout.done_instances,
        total_instances=rollout.total_instances,
        given_up=given_up,
    )


def _begin(tick: HostTick) -> Rollout | None:
    """A rollout begun by fleetd: of all left over, else of all outdated, else of the heaviest over its memory limit.

    What a person pinned to run is left out; only `restart` replaces it. None: nothing is due.
    """
    due = [
        v
        for v in tick.active
        if v.replace and v.pinned != reasons.PinKind.RUN
        if v.is_capacity or (v.left_over and v.state == InstanceState.STALLED)
    ]
    for cause in (reasons.ReplaceCause.UNCONFIGURED, reasons.ReplaceCause.OUTDATED):
        chosen = [v for v in due if v.replace == cause]
        if chosen:
            return begin(tick.policy, chosen, cause, tick.now_seconds)
    heavy = [v for v in due if v.replace == reasons.ReplaceCause.MEMORY]
    if heavy:
        heaviest = max(heavy, key=lambda v: v.resident_bytes or 0)
        return begin(tick.policy, [heaviest], reasons.ReplaceCause.MEMORY, tick.now_seconds)
    return None


def begin(policy: Policy, chosen: list[InstanceView], cause: reasons.ReplaceCause, now_seconds: float) -> Rollout:
    """A rollout of these instances: the least important profile first, as the canary, and the scheduler last."""
    rank = {p.name: index for index, p in enumerate(policy.profiles)}
    order = sorted(chosen, key=lambda v: (v.profile is None, -rank.get(v.profile or "", len(rank)), v.key))
    left = {v.key: v.unit.invocation_id if v.unit is not None else "" for v in order}
    return Rollout(cause=cause, left=left, total_instances=len(left), since_seconds=now_seconds)


def _has_failed(policy: Policy, memory: HostMemory, rollout: Rollout) -> bool:
    """Whether an instance of the profiles it concerns has failed since it began, so replacements don't come up."""
    meant = {*rollout.left, rollout.current}
    names = {p.name for p in policy.profiles if meant & {*p.numbers}} | {rollout.unavailable_in}
    names |= {settings.profile for key, settings in memory.left_over.items() if key in meant}
    gone = names - {None} - {p.name for p in policy.profiles}  # then the other profiles take over
    keys = {n for p in policy.profiles if gone or p.name in names for n in p.numbers} | ({SCHEDULER} & meant)
    failures = memory.units.failures.items()
    return any(f.last_seconds > rollout.since_seconds for key, f in failures if key in keys)


def _progress(tick: HostTick, rollout: Rollout, memory: HostMemory) -> Rollout:
    """Remove instances that are gone or were started again, by us or anyone; our scheduler only once it is back.

    Instances that a person has pinned since, or given a unit that is not ours, are removed too: the later order holds.
    """
    handover = memory.scheduler_handover
    present = {v.key: v for v in tick.active if v.is_present}
    left = dict(rollout.left)
    done, total = rollout.done_instances, rollout.total_instances
    for key, invocation in rollout.left.items():
        view = present.get(key)
        fresh = view is None or view.unit is None or view.unit.invocation_id != invocation
        if fresh and not (key == SCHEDULER and handover):
            del left[key]
            stopped = view is None and _is_kept_stopped(tick, key, memory)
            done, total = (done, total - 1) if stopped else (done + 1, total)
        elif memory.unfit(key) is not None or (view is not None and _is_left_out(tick, view, memory)):
            del left[key]
            total -= 1
    current = rollout.current if rollout.current in left else None
    return structs.replace(
        rollout,
        left=left,
        done_instances=done,
        total_instances=total,
        current=current,
        spare=rollout.spare if current is not None else None,
    )


def _is_kept_stopped(tick: HostTick, key: InstanceKey, memory: HostMemory) -> bool:
    """Whether people stopped it, alone or with the target of all workers, so that nothing comes in its place."""
    stopped = memory.people.pinned(key, reasons.PinKind.STOPPED, tick.now_seconds)
    return stopped or memory.target.stopped_seconds is not None


def _is_left_out(tick: HostTick, view: InstanceView, memory: HostMemory) -> bool:
    """Whether it is left as it is: a person's later order holds, or systemd would not start it again."""
    kept = view.pinned in {reasons.PinKind.RUN, reasons.PinKind.QUIET}
    return kept or (tick.can_not_return(view) and view.key not in memory.drains)


def _mark_replaced(tick: HostTick, memory: HostMemory, key: InstanceKey) -> HostMemory:
    view = tick.view(key)
    if view is None or tick.machine is None:
        return memory
    target = outdated_for(tick.policy, view, tick.machine, memory)
    if target is None:
        return memory
    replaced = {**memory.units.replaced, key: target}
    return structs.replace(memory, units=structs.replace(memory.units, replaced=replaced))


def _give_up(tick: HostTick, memory: HostMemory, rollout: Rollout) -> tuple[HostMemory, list[reasons.Reason]]:
    for key in rollout.left:
        memory = _mark_replaced(tick, memory, key)
    key, failure = max(memory.units.failures.items(), key=lambda item: item[1].last_seconds)
    why = reasons.RolloutGivenUp(key=key, cause=failure.cause)
    if rollout.cause == reasons.ReplaceCause.RESTART:  # new code, or new units, that do not boot: hold again
        code, shipped = rollout.code_before or memory.code, rollout.shipped_before or memory.shipped
        memory = structs.replace(memory, code=code, shipped=shipped)
    ended = structs.replace(
        rollout,
        phase=RolloutPhase.GIVEN_UP,
        ended_seconds=tick.now_seconds,
        current=None,
        waits=why,
        tried_with=tried_with(tick, key),
    )
    return structs.replace(memory, rollout=ended), [_ended(rollout, why)]


def _current_profile(tick: HostTick, memory: HostMemory) -> tuple[Profile, Rollout] | None:
    """The profile of the instance that is being replaced, and the rollout.

    None: none is, or it is the scheduler, or one that is left over of a profile that is not configured any more.
    """
    rollout = memory.rollout_under_way
    view = tick.view(rollout.current) if rollout is not None else None
    if rollout is None or view is None:
        return None
    profile = tick.policy.profile(view.profile or "")
    return None if profile is None else (profile, rollout)


def spare_for(tick: HostTick, memory: HostMemory) -> str | None:
    """The profile that could start a spare now, because it has a number free for it."""
    current = _current_profile(tick, memory)
    if current is None or current[1].spare is not None or current[1].current in memory.drains:
        return None
    free = (v.state == InstanceState.STOPPED and v.key not in memory.units.failures for v in tick.of(current[0].name))
    return current[0].name if any(free) else None


def spare_in(tick: HostTick, memory: HostMemory) -> str | None:
    """The profile in which a spare runs or boots beside the instance that it replaces."""
    current = _current_profile(tick, memory)
    if current is None or current[1].spare is None or current[1].current in memory.drains:
        return None
    spare = tick.view(current[1].spare)
    return current[0].name if spare is not None and spare.is_capacity else None


def go_on_with_rollout(tick: HostTick, plan: Plan | None, decision: HostDecision) -> None:
    """Order the next step of the rollout, or remember what it waits for. `plan`: a valid one, or None."""
    rollout = decision.memory.rollout_under_way
    if rollout is None:
        return
    old = tick.view(rollout.current)
    if old is None and rollout.unavailable_in is None:
        return
    waits = _missing(tick, plan, rollout, decision) if rollout.unavailable_in is not None else None
    if old is not None:
        waits = _waits_for(tick, old, plan, decision) or _step(tick, old, plan, decision)
    rollout = decision.memory.rollout
    if rollout is not None and rollout.waits != waits:
        _set(decision, rollout, waits=waits)


def _set(decision: HostDecision, rollout: Rollout, **changes: object) -> None:
    decision.memory = structs.replace(decision.memory, rollout=structs.replace(rollout, **changes))


def _missing(tick: HostTick, plan: Plan | None, rollout: Rollout, decision: HostDecision) -> reasons.RolloutWait | None:
    """What an instance that was let go first still lacks; None: its replacement serves, or is not wanted any more."""
    name = rollout.unavailable_in or ""
    own = [v for v in tick.of(name) if v.is_capacity]
    planned = plan.of(tick.policy.host, name) if plan is not None else None
    had = rollout.available_instances
    enough = had if planned is None else min(had, planned.desired_instances)
    coming = rollout.current is not None or _may_come(tick, name, decision)
    if tick.held is None and (len(own) >= enough or not coming) and all(v.serves for v in own):
        _set(decision, rollout, unavailable_in=None, available_instances=0)
        return None
    if tick.held is not None:
        return reasons.Held(hold=tick.held.reason)
    booting = tuple(v.key for v in own if not v.serves)
    if booting:
        return reasons.ReplacementBoots(keys=booting)
    return reasons.ReplacementMissing(profile=name, running_instances=len(own), wanted_instances=enough)


def _waits_for(
    tick: HostTick, old: InstanceView, plan: Plan | None, decision: HostDecision
) -> reasons.RolloutWait | None:
    """What keeps the replacement of `old` from its next step; None: nothing does."""
    memory = decision.memory
    if memory.scheduler_handover and old.key == SCHEDULER and SCHEDULER not in memory.drains:
        return reasons.SchedulerBetween()
    if old.key in memory.drains or not (old.is_capacity or old.state == InstanceState.STALLED):
        return reasons.Drains(key=old.key, busy_threads=old.busy_threads)
    if tick.starts_held is not None:
        return reasons.Held(hold=tick.starts_held.reason)
    if tick.sidekiq is None or plan is None:
        return reasons.DrainUnwatchable()
    if memory.undrainable(tick.now_seconds):
        return reasons.QuietsUnconfirmed()
    before = tuple(
        v.key
        for v in tick.active
        if v.is_present and (drain := memory.drains.get(v.key)) is not None and drain.by_rollout
    )
    if before:  # drains of an earlier rollout that was given up
        return reasons.SettlesFirst(keys=before, what="drains")
    rollout = memory.rollout
    if old.key == SCHEDULER:
        return _scheduler_waits_for(old, rollout) or rolls_elsewhere(tick, rollout)
    if rollout is not None and rollout.spare is not None:
        spare = tick.view(rollout.spare)
        boots = spare is not None and not spare.serves and spare.is_present
        return reasons.SpareBoots(spare_key=rollout.spare, old_key=old.key) if boots else None
    return _unsettled(tick, old, plan, decision) or rolls_elsewhere(tick, rollout)


def _scheduler_waits_for(old: InstanceView, rollout: Rollout | None) -> reasons.RolloutWait | None:
    if rollout is None or old.unit is None or old.unit.invocation_id != rollout.left.get(SCHEDULER):
        return reasons.SchedulerBetween()  # it is back already, which the next tick counts
    if rollout.cause == reasons.ReplaceCause.RESTART:
        return None
    left = SCHEDULER_AGE_SECONDS_MIN - old.state_age_seconds
    too_young = reasons.SchedulerTooYoung(age_seconds_min=SCHEDULER_AGE_SECONDS_MIN, left_seconds=left)
    return too_young if left > 0 else None


def _unsettled(tick: HostTick, old: InstanceView, plan: Plan, decision: HostDecision) -> reasons.RolloutWait | None:
    """What must settle before `old` may go, so that capacity is kept; None: nothing."""
    name = old.profile or ""
    gone = tick.policy.profile(name) is None  # then the other profiles take over
    names = [p.name for p in tick.policy.profiles] if gone else [name]
    own = [v for v in tick.instances or () if v.profile in (name, *names)]
    leaving = [
        v
        for v in own
        if v.is_present and not v.is_capacity and v.pinned != reasons.PinKind.QUIET and v.state != InstanceState.STALLED
    ]
    booting = [v for v in own if v.is_capacity and not v.serves]
    if leaving or booting:
        keys = tuple(v.key for v in (*leaving, *booting))
        return reasons.SettlesFirst(keys=keys, what="drains" if leaving else "boots")
    for each in names:
        planned = plan.of(tick.policy.host, each)
        running = sum(1 for v in own if v.profile == each and v.is_capacity)
        few = planned is None or running < planned.admitted_instances
        last = old.left_over and (planned is None or running - (not gone) < planned.admitted_instances)
        if few and _may_come(tick, each, decision):
            return reasons.StartsFirst(profile=each)
        if last and _fails_to_come(tick, each, decision):
            return reasons.NoneComesUp(profile=each)
    rollout, profile = decision.memory.rollout, tick.policy.profile(name)
    if rollout is not None and rollout.cause == reasons.ReplaceCause.MEMORY and profile is not None:
        late = _late_queues(tick, profile)
        return reasons.NotWhileLate(queues=late) if late else None
    return None


def _may_come(tick: HostTick, name: str, decision: HostDecision) -> bool:
    """Whether one more of a profile may start soon: on a free number, once rendered, or when a failed one is retried.

    Numbers that are given up or kept stopped are not waited for.
    """
    profile, units = tick.policy.profile(name), decision.memory.units
    if profile is None:
        return False
    numbers = free_numbers(tick, profile, tick.of(name), decision.memory)
    tried_again = any(n in units.failures and not units.given_up(n) for n in numbers.failed)
    return bool(numbers.free or numbers.not_rendered) or tried_again


def _fails_to_come(tick: HostTick, name: str, decision: HostDecision) -> bool:
    """Whether what would replace one that is left over is masked or fails, so that nothing would come after it."""
    profile = tick.policy.profile(name)
    if profile is None:
        return False
    numbers = free_numbers(tick, profile, tick.of(name), decision.memory)
    fresh = [n for n in numbers.free if n not in decision.memory.units.failures]
    return not fresh and bool(numbers.masked or numbers.failed or numbers.free)


def _late_queues(tick: HostTick, profile: Profile) -> tuple[str, ...]:
    queues = tick.sidekiq.queues if tick.sidekiq is not None else {}
    return tuple(
        name
        for name, _ in profile.queues
        if name in queues and (queues[name].latency_seconds or 0.0) > tick.policy.target_seconds(name)
    )


def _step(tick: HostTick, old: InstanceView, plan: Plan | None, decision: HostDecision) -> reasons.RolloutWait | None:
    """Start the spare, or let the old instance go. Returns what is waited for then."""
    memory, now, rollout = decision.memory, tick.now_seconds, decision.memory.rollout
    if rollout is None:
        return None
    why = _why_replaced(tick, old, rollout, memory)
    if old.key == SCHEDULER:
        let_go(old, structs.replace(why, scheduler=True), now, decision, by_rollout=True)
        decision.memory = structs.replace(decision.memory, scheduler_handover=True)
        return reasons.SchedulerBetween()
    if rollout.spare is not None:
        spare = tick.view(rollout.spare)
        if spare is None or not spare.serves:  # it went away without a failure
            _set(decision, rollout, spare=None)
            return reasons.SpareWentAway(old_key=old.key)
        let_go(old, why, now, decision, by_rollout=True)
        return reasons.Drains(key=old.key, busy_threads=old.busy_threads)
    profile = tick.policy.profile(old.profile or "")
    planned = plan.of(tick.policy.host, old.profile or "") if plan is not None else None
    if profile is not None and planned is not None and planned.spare:
        own = tick.of(profile.name)
        free = free_numbers(tick, profile, own, memory).free
        fresh = next((v for v in own if v.key in free and v.key not in memory.units.failures), None)
        if fresh is not None:
            in_place = reasons.InPlaceOf(old_key=old.key, cause=why.cause, changes=why.changes, person=why.person)
            decision.order("start", fresh, in_place)
            decision.memory = memory.with_start(fresh.key, now)
            _set(decision, rollout, spare=fresh.key)
            decision.clamps.add(
                reasons.BeingReplaced(key=old.key, cause=why.cause, changes=why.changes, person=why.person)
            )
            return reasons.SpareBoots(spare_key=fresh.key, old_key=old.key)
    return _let_go_first(tick, old, rollout, why, decision)


def _why_replaced(tick: HostTick, old: InstanceView, rollout: Rollout, memory: HostMemory) -> reasons.Replaced:
    outdated = rollout.cause == reasons.ReplaceCause.OUTDATED
    changes = changes_of(tick.policy, old, tick.machine, memory) if outdated else ()
    return reasons.Replaced(cause=rollout.cause, changes=changes, person=rollout.person)


def _let_go_first(
    tick: HostTick, old: InstanceView, rollout: Rollout, why: reasons.Replaced, decision: HostDecision
) -> reasons.RolloutWait:
    """Without a spare: let the old instance go, so its profile has one less until the replacement serves."""
    own = [v for v in tick.of(old.profile or "") if v.is_capacity]
    profile, database = tick.policy.profile(old.profile or ""), tick.snapshot.database
    if profile is None:  # nothing comes after it
        let_go(old, reasons.Replaced(cause=rollout.cause), tick.now_seconds, decision, by_rollout=True)
        return reasons.Drains(key=old.key, busy_threads=old.busy_threads)
    above_min = len(own) > profile.min_instances
    if database.value.refused if isinstance(database, Known) else above_min:
        return reasons.NoConnectionForNext(old_key=old.key)
    if not old.left_over and not is_rendered(tick.machine, profile, old.key):
        return reasons.NextNotRendered(old_key=old.key)
    let_go(old, why, tick.now_seconds, decision, by_rollout=True)
    _set(decision, rollout, unavailable_in=old.profile, available_instances=len(own))
    return reasons.Drains(key=old.key, busy_threads=old.busy_threads)
