"""How an instance is let go: quiet, watch, stop.

Law 4 (no job is lost) is kept here. An instance that serves is quieted (SIGTSTP, which can't be undone) and watched. It
is stopped once a heartbeat sent after the order says quiet and idle. Past a deadline it gets an ordinary stop, but only
while Redis takes writes: Sidekiq then pushes unfinished jobs back, and would lose them otherwise. Before READY it is
stopped, not quieted: a SIGTSTP during boot is lost, and no job has been fetched yet. No step sends SIGKILL.

A job that our stop pushed back once is not pushed back again, so a two-hour export finishes although the fleet shrinks
every evening. A quiet that three heartbeats do not confirm is reported, and no further instance is chosen: whatever
loses the signal (such as a wrapper that does not pass it on) would lose the next one too.

An order may get lost (fleetd died between remembering and giving it, or systemd did not answer), so it is given again.
So may its signal: Ruby loses a TERM that comes a few milliseconds after its start. systemd sends one TERM, and SIGKILL
after TimeoutStopSec, by when such a process has long served. So a stop that shows no effect is told again.
"""

from __future__ import annotations

from msgspec import structs

from fleetd.core.instances.host_tick import HostDecision, HostTick
from fleetd.core.instances.lifecycle import FIRST_BEAT_SECONDS, Drain, InstanceView
from fleetd.core.model import reasons
from fleetd.core.model.decision import InstanceState

#: A quiet that no heartbeat confirms is sent again after this long (three beats).
QUIET_AGAIN_SECONDS = 30.0
#: A quiet is unconfirmed after three beats (10 s each) and a tick, if the last beat is at most CONFIRMING_BEAT_SECONDS
#: old and does not say quiet.
UNCONFIRMED_SECONDS = 35.0
CONFIRMING_BEAT_SECONDS = 15.0
#: Sidekiq takes a moment to act on the signal; a starved process takes longer.
HEED_SECONDS = 2.0
#: An instance with a job that has run this long stays if another one can go instead.
OLD_RUN_SECONDS = 60.0
#: A stop that systemd does not show is sent again after this long.
STOP_AGAIN_SECONDS = 30.0
#: A stop that systemd carries out, but its process does not seem to, is told again after this long: two beats.
TERM_AGAIN_SECONDS = 20.0
#: Likewise a boot, which ends at once at a TERM. It must be told before it serves.
TERM_AGAIN_BOOT_SECONDS = 8.0
#: Most orders per tick to drains under way (law 7); the others come in the next tick.
DRAIN_ORDERS_MAX = 8

_WITH_PROCESS = frozenset({"active", "activating", "reloading", "deactivating"})
_REPLACED_FIRST = {
    reasons.ReplaceCause.UNCONFIGURED: -1,
    reasons.ReplaceCause.OUTDATED: 0,
    reasons.ReplaceCause.RESTART: 0,
    reasons.ReplaceCause.MEMORY: 1,
    None: 2,
}


def begin_drains(
    tick: HostTick,
    name: str,
    own: list[InstanceView],
    running: int,
    admitted: int,
    drains_left: int,
    decision: HostDecision,
) -> int:
    """Begin to drain the instances of a profile whose loss costs least. Returns how many drains began."""
    now = tick.now_seconds
    candidates = [v for v in own if v.is_capacity and v.pinned != reasons.PinKind.RUN]
    # A boot that a person began is not ended under their hands, and nothing goes for it before it serves.
    returning = [v for v in candidates if v.is_booting and v.key in decision.memory.people.returning]
    candidates = [v for v in candidates if v not in returning]
    reachable = min(running, max(admitted + len(returning), running - len(candidates)))
    if reachable > admitted:
        kept = reasons.KeptByPeople(instances=reachable - admitted)
        decision.clamps.add(kept, name, before=admitted, after=reachable)
    if decision.memory.undrainable(now):
        candidates = [v for v in candidates if v.is_booting]
        left = max(reachable, running - len(candidates))
        if left > reachable:
            decision.clamps.add(reasons.QuietsUnconfirmed(), name, before=reachable, after=left)
        reachable = left
    count = min(running - reachable, drains_left)
    if count < running - reachable:
        paced = reasons.DrainsPaced(drains_per_tick=tick.policy.pace.drains_per_tick)
        decision.clamps.add(paced, name, before=reachable, after=running - count)
    candidates.sort(key=lambda v: _cost(v, decision, now))
    why = reasons.TooManyRun(profile=name, running_instances=running, admitted_instances=admitted)
    more = reasons.MoreThanAdmitted(profile=name)
    return sum(let_go(victim, more, now, decision, why=why) for victim in candidates[:count])


def _cost(view: InstanceView, decision: HostDecision, now_seconds: float) -> tuple[int, int, bool, bool, int, int]:
    """What the loss of an instance costs, as a sort key.

    First go those that boot, then those to be replaced anyway, without pushed-back jobs, without long jobs, the least
    busy, the highest number. One that has long been READY without a heartbeat comes last: its quiet could not be
    watched, so it would not go.
    """
    starting = view.state == InstanceState.STARTING
    unheard = starting and view.is_ready and view.state_age_seconds >= FIRST_BEAT_SECONDS
    return (
        2 if unheard else int(not starting),
        _REPLACED_FIRST[view.replace],
        decision.memory.holds_pushed_back(view.job_ids, now_seconds),
        (view.oldest_run_age_seconds or 0.0) >= OLD_RUN_SECONDS,
        view.busy_threads if view.busy_threads is not None else view.threads,
        -view.key,
    )


def let_go(
    view: InstanceView,
    cause: reasons.DrainCause,
    now_seconds: float,
    decision: HostDecision,
    *,
    by_rollout: bool = False,
    why: reasons.TooManyRun | None = None,
) -> bool:
    """Begin a drain: quiet an instance that serves, stop one that still boots. Returns whether it began.

    `why`: the cause with numbers, for this step only, because they will be stale when the drain ends.
    """
    drain = Drain(since_seconds=now_seconds, cause=cause, by_rollout=by_rollout)
    if view.is_booting:
        decision.order("stop", view, reasons.StillBoots(cause=why or cause))
        drain = structs.replace(drain, stop_sent_seconds=now_seconds)
    elif view.state == InstanceState.STARTING:
        return False  # READY but no heartbeat yet: one comes within seconds, then a quiet can be watched
    else:
        decision.order("quiet", view, why or cause)
        drain = structs.replace(drain, quiet_sent_seconds=now_seconds)
    decision.memory = decision.memory.with_drain(view.key, drain)
    return True


def go_on_draining(tick: HostTick, decision: HostDecision) -> None:
    """Give the next order of each drain under way, where one is due."""
    for view in tick.active if decision.memory.drains else ():
        drain = decision.memory.drains.get(view.key)
        if drain is None or view.unit is None or view.unit.active_state not in _WITH_PROCESS:
            continue  # it is gone
        if len(decision.steps) >= DRAIN_ORDERS_MAX:
            break
        if view.unit.active_state == "deactivating":
            _stop_again(tick, view, drain, decision)
        elif view.unit.active_state == "activating":
            _stop_booting(tick, view, drain, decision)
        else:
            _next_order(tick, view, drain, decision)


def _stop_booting(tick: HostTick, view: InstanceView, drain: Drain, decision: HostDecision) -> None:
    """Stop an instance that boots in mid-drain: systemd restarted it, or our stop of its boot got lost."""
    # While Redis is unknown nothing stops (law 3): if it got READY meanwhile, it could not push jobs back.
    if tick.sidekiq is not None and not _stop_is_under_way(drain, tick.now_seconds):
        _stop(view, drain, reasons.StillBoots(cause=drain.cause), tick.now_seconds, decision)


def _stop_again(tick: HostTick, view: InstanceView, drain: Drain, decision: HostDecision) -> None:
    """Tell an instance to stop once more if our stop is under way and it shows that it has lost the TERM of it."""
    now, sent, unit = tick.now_seconds, drain.stop_sent_seconds, view.unit
    if sent is None or unit is None or unit.sub_state != "stop-sigterm" or unit.job != "stop" or not unit.main_pid:
        return
    watch = decision.memory.units.watches.get(view.key)
    if view.beat_age_seconds is not None:  # a process that stops says quiet
        unheeded = not view.quiet and now - view.beat_age_seconds > sent + HEED_SECONDS
        lost = unheeded and now - sent > TERM_AGAIN_SECONDS
    else:
        lost = (watch is None or not watch.served) and now - sent > TERM_AGAIN_BOOT_SECONDS
    if lost:
        _stop(view, drain, reasons.StopUnheeded(cause=drain.cause), now, decision)


def _next_order(tick: HostTick, view: InstanceView, drain: Drain, decision: HostDecision) -> None:
    now = tick.now_seconds
    if _stop_is_under_way(drain, now):
        return
    drain = _confirmed_or_not(view, drain, now, decision)
    sent = _quiet_sent(view, drain, now)
    if sent is None and view.quiet:  # quieted by hand before its drain was ordered: there is nothing to send
        sent = drain.since_seconds
    beat_after_order = sent is not None and view.beat_age_seconds is not None and now - view.beat_age_seconds > sent
    if view.quiet and view.busy_threads == 0 and beat_after_order:
        _stop(view, drain, reasons.QuietAndIdle(cause=drain.cause), now, decision)
    elif sent is not None and now - drain.since_seconds > tick.policy.pace.drain_seconds_max:
        _stop_past_deadline(tick, view, drain, decision)
    elif tick.sidekiq is not None and not view.quiet and (sent is None or now - sent > QUIET_AGAIN_SECONDS):
        decision.order("quiet", view, drain.cause if sent is None else reasons.QuietNotConfirmed(cause=drain.cause))
        again = structs.replace(drain, quiet_sent_seconds=now, stop_sent_seconds=None)
        if sent is None:  # the drain began while Redis was away, or with an earlier process: its time begins now
            again = structs.replace(again, since_seconds=now, unconfirmed=False)
        decision.memory = decision.memory.with_drain(view.key, again)


def _quiet_sent(view: InstanceView, drain: Drain, now_seconds: float) -> float | None:
    """When this process was told to quiet; None: never, or only the process before systemd restarted it."""
    sent = drain.quiet_sent_seconds
    return sent if sent is not None and sent >= now_seconds - view.state_age_seconds else None


def _confirmed_or_not(view: InstanceView, drain: Drain, now_seconds: float, decision: HostDecision) -> Drain:
    """Remember whether the quiet has arrived, once enough heartbeats have come to tell."""
    beat = view.beat_age_seconds
    lost, sent = decision.memory.undrainable_seconds, _quiet_sent(view, drain, now_seconds)
    if view.quiet:
        # A quiet sent before the unconfirmed one does not show that signals arrive now.
        if drain.unconfirmed or (lost is not None and sent is not None and sent > lost):
            decision.memory = structs.replace(decision.memory, undrainable_seconds=None)
    elif sent is None or beat is None or beat > CONFIRMING_BEAT_SECONDS:
        return drain
    elif not drain.unconfirmed and now_seconds - beat < sent + HEED_SECONDS:
        return drain  # the first quiet may have been lost when fleetd died, and no beat has come since the latest
    elif now_seconds - drain.since_seconds > UNCONFIRMED_SECONDS:
        decision.clamps.add(reasons.IgnoresQuiet(key=view.key), view.profile)
        if not drain.unconfirmed:
            decision.memory = structs.replace(decision.memory, undrainable_seconds=now_seconds)
    else:
        return drain
    drain = structs.replace(drain, unconfirmed=not view.quiet)
    decision.memory = decision.memory.with_drain(view.key, drain)
    return drain


def _stop_is_under_way(drain: Drain, now_seconds: float) -> bool:
    return drain.stop_sent_seconds is not None and now_seconds - drain.stop_sent_seconds <= STOP_AGAIN_SECONDS


def _stop_past_deadline(tick: HostTick, view: InstanceView, drain: Drain, decision: HostDecision) -> None:
    """Order an ordinary stop, unless Redis takes no writes for unfinished jobs, or one was pushed back before."""
    now = tick.now_seconds
    if decision.memory.holds_pushed_back(view.job_ids, now):
        decision.clamps.add(reasons.FinishesPushedBackJob(key=view.key), view.profile)
    elif tick.sidekiq is not None and tick.sidekiq.writable is True:
        decision.memory = decision.memory.with_pushed_back(view.job_ids, now)
        why = reasons.NotIdleInTime(drain_seconds_max=tick.policy.pace.drain_seconds_max)
        _stop(view, drain, why, now, decision)
    else:
        decision.clamps.add(reasons.WaitsForRedisWrites(key=view.key), view.profile)


def _stop(view: InstanceView, drain: Drain, why: reasons.Reason, now_seconds: float, decision: HostDecision) -> None:
    decision.order("stop", view, why)
    stopped = structs.replace(drain, stop_sent_seconds=now_seconds)
    decision.memory = decision.memory.with_drain(view.key, stopped)
