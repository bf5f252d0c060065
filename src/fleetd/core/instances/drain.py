"""How an instance is let go: quiet, watch, stop.

Law 4 (no job is lost) lives here. What serves is quieted (SIGTSTP, which can't be undone), watched until one heartbeat
given after the order says quiet and idle, then stopped. Past a deadline it gets an ordinary stop, but only while Redis
takes writes, because Sidekiq then pushes unfinished jobs back and would lose them otherwise. Before READY it is
stopped, not quieted: a TSTP during boot is lost, and no job has been fetched. Nothing sends SIGKILL: there is no such
step.

A job that our stop pushed back once is not pushed back again: a two-hour export finishes although the fleet shrinks
every evening. A quiet that three beats do not confirm is said, and no further victim is chosen: what loses the signal
(a wrapper that does not pass it on) would lose the next one too.

An order may get lost (fleetd died between remembering and giving it, systemd did not answer): it is given again.
"""

from __future__ import annotations

from msgspec import structs

from fleetd.core.instances.host_decision import HostDecision
from fleetd.core.instances.lifecycle import FIRST_BEAT_SECONDS, Drain, InstanceView
from fleetd.core.model.decision import ClampCode, InstanceState, Step
from fleetd.core.model.facts import Known, Snapshot
from fleetd.core.model.policy import Policy, Profile

#: A quiet that no heartbeat confirms is sent again after this long (three beats).
QUIET_AGAIN_SECONDS = 30.0
#: Three beats (10 s each) and a tick without a word of quiet; the last beat must be this young to say so.
UNCONFIRMED_SECONDS = 35.0
CONFIRMING_BEAT_SECONDS = 15.0
#: Sidekiq takes a moment to heed the signal, a starved one longer.
HEED_SECONDS = 2.0
#: A job that has run this long is spared, where another instance can go instead.
OLD_RUN_SECONDS = 60.0
#: A stop that systemd does not show is sent again after this long.
STOP_AGAIN_SECONDS = 30.0
#: Orders for drains under way in one tick at most (law 7); the others come in the next.
DRAIN_ORDERS_MAX = 8


def begin_drains(
    policy: Policy,
    snapshot: Snapshot,
    profile: Profile,
    own: list[InstanceView],
    current: int,
    goal: int,
    drains_left: int,
    decision: HostDecision,
) -> int:
    """Begin to let go of those whose loss costs least; returns how many drains were begun."""
    now, memory = snapshot.now_seconds, decision.memory
    candidates = [v for v in own if v.is_capacity and v.pinned != "run"]
    reachable = max(goal, current - len(candidates))
    if reachable > goal:
        sentence = f"{reachable - goal} started or pinned by hand and kept"
        decision.reasons.say(ClampCode.PINNED, sentence, profile.name, wanted=goal, granted=reachable)
    if memory.undrainable(now):
        booting = [v for v in candidates if v.is_booting]
        kept = max(reachable, current - len(booting))
        if kept > reachable:
            sentence = (
                "a quiet was never confirmed: nothing more is drained until one is, or an hour has passed"
            )
            decision.reasons.say(
                ClampCode.UNDRAINABLE, sentence, profile.name, wanted=reachable, granted=kept
            )
        candidates, reachable = booting, kept
    count = min(current - reachable, drains_left)
    if count < current - reachable:
        sentence = f"at most {policy.pace.drains_per_tick} drain(s) begin in one tick"
        decision.reasons.say(
            ClampCode.PACE, sentence, profile.name, wanted=reachable, granted=current - count
        )
    candidates.sort(key=lambda v: _cost(v, decision, now))
    for victim in candidates[:count]:
        now_has = f"{profile.name} has {current} of {goal} wanted"
        let_go(victim, f"more of {profile.name} than is wanted", now, decision, now_has=now_has)
    return count


def _cost(
    view: InstanceView, decision: HostDecision, now_seconds: float
) -> tuple[int, int, bool, bool, int, int]:
    """What its loss costs: one that boots serves nobody, outdated ones go anyway; then long jobs, busy threads.

    One that is READY without a heartbeat for long comes last: a quiet could not be watched, so it would not go.
    """
    starting = view.state == InstanceState.STARTING
    unheard = starting and view.is_ready and view.state_age_seconds >= FIRST_BEAT_SECONDS
    return (
        2 if unheard else int(not starting),
        {"outdated": 0, "restart": 0, "memory": 1, "": 2}[view.replace],
        decision.memory.holds_pushed_back(view.job_ids, now_seconds),
        (view.oldest_run_age_seconds or 0.0) >= OLD_RUN_SECONDS,
        view.busy_threads if view.busy_threads is not None else view.threads,
        -int(view.number),
    )


def let_go(
    view: InstanceView,
    why: str,
    now_seconds: float,
    decision: HostDecision,
    *,
    rolled: bool = False,
    now_has: str = "",
) -> None:
    """Begin a drain: quiet what serves, stop what still boots. `now_has`: numbers that are stale when it ends."""
    if view.is_booting:
        decision.steps.append(_step("stop", view, f"{now_has or why}; it still boots"))
        drain = Drain(since_seconds=now_seconds, stop_sent_seconds=now_seconds, why=why, rolled=rolled)
    elif view.state == InstanceState.STARTING:
        return  # READY but no heartbeat yet: it comes within seconds, then a quiet can be watched
    else:
        decision.steps.append(_step("quiet", view, now_has or why))
        drain = Drain(since_seconds=now_seconds, quiet_sent_seconds=now_seconds, why=why, rolled=rolled)
    decision.memory = decision.memory.with_drain(view.number, drain)


def go_on_draining(
    policy: Policy, snapshot: Snapshot, instances: tuple[InstanceView, ...], decision: HostDecision
) -> None:
    """The next order of each drain under way, where one is due."""
    if not decision.memory.drains:
        return
    for view in instances:
        drain = decision.memory.drains.get(str(view.number))
        active = view.unit is not None and view.unit.active_state in {"active", "activating", "reloading"}
        if drain is None or not active:
            continue  # not there any more, or systemd is stopping it
        if len(decision.steps) >= DRAIN_ORDERS_MAX:
            break
        if view.unit is not None and view.unit.active_state == "activating":
            _stop_booting(snapshot, view, drain, decision)
        else:
            _next_order(policy, snapshot, view, drain, decision)


def _stop_booting(snapshot: Snapshot, view: InstanceView, drain: Drain, decision: HostDecision) -> None:
    """systemd restarted it in mid-drain, or our stop of a booting one got lost."""
    now = snapshot.now_seconds
    # While Redis is unknown nothing stops (law 3): should it get READY meanwhile, it could not push jobs back.
    if isinstance(snapshot.sidekiq, Known) and not _stop_is_under_way(drain, now):
        _stop(view, drain, f"{drain.why}; it still boots", now, decision)


def _next_order(
    policy: Policy, snapshot: Snapshot, view: InstanceView, drain: Drain, decision: HostDecision
) -> None:
    now = snapshot.now_seconds
    if _stop_is_under_way(drain, now):
        return
    drain = _confirmed_or_not(view, drain, now, decision)
    sent = _quiet_sent(view, drain, now)
    if sent is None and view.quiet:  # by hand, before its drain was ordered: there is nothing left to send
        sent = drain.since_seconds
    beat_after_order = (
        sent is not None and view.beat_age_seconds is not None and now - view.beat_age_seconds > sent
    )
    if view.quiet and view.busy_threads == 0 and beat_after_order:
        _stop(view, drain, f"quiet and idle: {drain.why}", now, decision)
    elif sent is not None and now - drain.since_seconds > policy.pace.drain_seconds_max:
        _stop_past_deadline(policy, snapshot, view, drain, decision)
    elif (
        isinstance(snapshot.sidekiq, Known)
        and not view.quiet
        and (sent is None or now - sent > QUIET_AGAIN_SECONDS)
    ):
        why = drain.why if sent is None else f"no heartbeat confirms quiet yet: {drain.why}"
        decision.steps.append(_step("quiet", view, why))
        again = structs.replace(drain, quiet_sent_seconds=now, stop_sent_seconds=None)
        if sent is None:  # ordered while Redis was away, or for the process before: its time begins now
            again = structs.replace(again, since_seconds=now, unconfirmed=False)
        decision.memory = decision.memory.with_drain(view.number, again)


def _quiet_sent(view: InstanceView, drain: Drain, now_seconds: float) -> float | None:
    """When this process was told to quiet; None: never, only the one before it, which systemd has restarted."""
    sent = drain.quiet_sent_seconds
    return sent if sent is not None and sent >= now_seconds - view.state_age_seconds else None


def _confirmed_or_not(view: InstanceView, drain: Drain, now_seconds: float, decision: HostDecision) -> Drain:
    """Note whether the quiet has arrived, once enough beats have come to tell."""
    beat = view.beat_age_seconds
    lost, sent = decision.memory.undrainable_seconds, _quiet_sent(view, drain, now_seconds)
    if view.quiet:
        # One that was quiet before that says nothing of the next signal.
        if drain.unconfirmed or (lost is not None and sent is not None and sent > lost):
            decision.memory = structs.replace(decision.memory, undrainable_seconds=None)
    elif sent is None or beat is None or beat > CONFIRMING_BEAT_SECONDS:
        return drain
    elif not drain.unconfirmed and now_seconds - beat < sent + HEED_SECONDS:
        return drain  # the quiet before may have been lost with a fleetd that died: no beat tells of the latest yet
    elif now_seconds - drain.since_seconds > UNCONFIRMED_SECONDS:
        name = "the scheduler" if view.number == "scheduler" else f"@{view.number}"
        sentence = (
            f"{name} was told to quiet, but beats on as before: see that its ExecStart passes on signals"
        )
        decision.reasons.say(ClampCode.UNDRAINABLE, sentence, view.profile)
        if not drain.unconfirmed:
            decision.memory = structs.replace(decision.memory, undrainable_seconds=now_seconds)
    else:
        return drain
    drain = structs.replace(drain, unconfirmed=not view.quiet)
    decision.memory = decision.memory.with_drain(view.number, drain)
    return drain


def _stop_is_under_way(drain: Drain, now_seconds: float) -> bool:
    return drain.stop_sent_seconds is not None and now_seconds - drain.stop_sent_seconds <= STOP_AGAIN_SECONDS


def _stop_past_deadline(
    policy: Policy, snapshot: Snapshot, view: InstanceView, drain: Drain, decision: HostDecision
) -> None:
    """An ordinary stop makes Sidekiq push unfinished jobs back, which needs a Redis that takes writes."""
    sidekiq = snapshot.sidekiq
    now = snapshot.now_seconds
    name = "the scheduler" if view.number == "scheduler" else f"@{view.number}"
    if decision.memory.holds_pushed_back(view.job_ids, now):
        sentence = (
            f"{name} is past its drain deadline, but runs a job that was pushed back before: it may finish"
        )
        decision.reasons.say(ClampCode.LONG_JOB, sentence, view.profile)
        return
    if isinstance(sidekiq, Known) and sidekiq.value.writable is True:
        sentence = (
            f"not idle after {policy.pace.drain_seconds_max:.0f} s; Sidekiq pushes back what is unfinished"
        )
        decision.memory = decision.memory.with_pushed_back(view.job_ids, now)
        _stop(view, drain, sentence, now, decision)
        return
    sentence = (
        f"{name} is past its drain deadline, but Redis takes no writes: jobs would be lost, so it waits"
    )
    decision.reasons.say(ClampCode.REDIS_NOT_WRITABLE, sentence, view.profile)


def _stop(
    view: InstanceView, drain: Drain, sentence: str, now_seconds: float, decision: HostDecision
) -> None:
    decision.steps.append(_step("stop", view, sentence))
    stopped = structs.replace(drain, stop_sent_seconds=now_seconds)
    decision.memory = decision.memory.with_drain(view.number, stopped)


def _step(verb: str, view: InstanceView, sentence: str) -> Step:
    if verb == "quiet":
        return Step(verb="quiet", number=view.number, profile=view.profile, sentence=sentence)
    return Step(verb="stop", number=view.number, profile=view.profile, sentence=sentence)
