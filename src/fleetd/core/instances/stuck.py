"""Stop what hangs: a boot that takes far too long or dies again and again, and an instance that has gone silent.

Law 3: it acts only while Redis can be read, and health.py counts silence only while others beat. Law 4: a boot is
stopped before READY, when it has fetched no job. An instance that is unresponsive, or has sent no heartbeat since
READY, gets systemd's ordinary stop with the unit's own timeout, and only while Redis takes writes. It is one at a time,
so that a mistake costs only one.
"""

from __future__ import annotations

from msgspec import structs

from fleetd.core.instances.drain import let_go
from fleetd.core.instances.health import boot_seconds_max
from fleetd.core.instances.host_memory import Failure, Watch
from fleetd.core.instances.host_tick import HostDecision, HostTick
from fleetd.core.instances.lifecycle import FIRST_BEAT_SECONDS, Drain, InstanceView
from fleetd.core.model import reasons
from fleetd.core.model.decision import InstanceState
from fleetd.core.model.heartbeats import own_key
from fleetd.core.model.identity import SCHEDULER

#: This many deaths before the first heartbeat are a failure, but only after this time, so that systemd's own limit
#: (StartLimitIntervalSec of the unit) comes first. That limit stops what dies at once, but never what dies after 7 s or
#: more.
DEATHS_MAX = 3
DIES_SECONDS = 60.0
#: How much longer than FIRST_BEAT_SECONDS to wait for the first heartbeat after READY while others beat. An instance
#: that is stopped for this again and again (its unit may ignore the tag) is given up like any other that fails.
UNHEARD_SECONDS = 90.0
#: How long a heartbeat stays in Redis after its last beat.
HEARTBEAT_LIVES_SECONDS = 60.0


def end_stuck(tick: HostTick, decision: HostDecision) -> None:
    """Stop one instance that hangs, and report all that are silent."""
    if tick.sidekiq is None:
        return
    _say_silent(tick, decision)
    _report_stalled(tick, decision)
    if tick.held is not None or tick.policy.observes or _one_is_ending(tick, decision):
        return
    now, writable = tick.now_seconds, tick.sidekiq.writable is True
    silent = [v for v in tick.active if v.state == InstanceState.UNRESPONSIVE]
    hung = [v for v in silent if not _starts_over_again(v, tick, decision)]
    failing = ((v, c) for v in tick.active if (c := _failure(v, now, decision, writable=writable)))
    view, cause = next(failing, (None, None))
    if view is not None and cause is not None:
        _end(view, reasons.EndedAsFailed(cause=cause), now, decision)
        failures = decision.memory.units.failures
        before = failures.get(view.key)
        count = before.count + 1 if before else 1
        failure = Failure(count=count, last_seconds=now, cause=cause, ended=True)
        decision.memory = decision.memory.with_failures({**failures, view.key: failure})
    elif hung and writable:
        _end(hung[0], reasons.Unresponsive(), now, decision)
    elif tick.policy.stuck.replace:
        _replace_stalled(tick, decision)


def _report_stalled(tick: HostTick, decision: HostDecision) -> None:
    """Say of every process that finishes nothing what it does instead, on every host."""
    if tick.sidekiq is None:
        return
    profiles = {v.key: v.profile for v in tick.active}
    for process in tick.sidekiq.processes:
        seen = tick.evidence.stalled.get(process.identity)
        if seen is None:
            continue
        key = own_key(process, tick.policy.host)
        said = reasons.FinishesNothing(
            key=key,
            host=process.hostname,
            seconds=seen.seconds,
            threads=seen.threads,
            job_class=seen.job_class,
            queue=seen.queue,
        )
        decision.clamps.add(said, profiles.get(key) if key is not None else None)


def _replace_stalled(tick: HostTick, decision: HostDecision) -> None:
    """Drain one stalled instance as any other: quiet, watch, stop past the deadline. The next one waits for its end."""
    drains = decision.memory.drains
    if decision.memory.undrainable(tick.now_seconds) or any(
        isinstance(drain.cause, reasons.StalledGoes) for drain in drains.values()
    ):
        return
    # With all threads in long jobs the scheduler still schedules.
    stalled = (v for v in tick.active if v.state == InstanceState.STALLED and v.key != SCHEDULER)
    stalled = (v for v in stalled if not tick.can_not_return(v))
    view = next(stalled, None)
    if view is not None:
        let_go(view, reasons.StalledGoes(), tick.now_seconds, decision)


def _say_silent(tick: HostTick, decision: HostDecision) -> None:
    for view in tick.active:
        watch = decision.memory.units.watches.get(view.key)
        if watch is None:
            continue
        if view.state == InstanceState.UNRESPONSIVE:
            seconds = watch.silent_seconds + HEARTBEAT_LIVES_SECONDS
            decision.clamps.add(reasons.Silent(key=view.key, silent_seconds=seconds), view.profile)
        elif _is_unheard(view, watch):
            decision.clamps.add(reasons.NoHeartbeatYet(key=view.key), view.profile)


def _is_unheard(view: InstanceView, watch: Watch) -> bool:
    starting = view.state == InstanceState.STARTING and view.is_ready
    return starting and not watch.served and watch.silent_seconds > 0.0


def _failure(
    view: InstanceView, now_seconds: float, decision: HostDecision, *, writable: bool
) -> reasons.FailureCause | None:
    """Why this boot is not waited for any longer; None: it is.

    The age of the unit's state can't decide it, because each restart by systemd resets it.
    """
    unit, watch = view.unit, decision.memory.units.watches.get(view.key)
    if unit is None or watch is None or view.key in decision.memory.drains:
        return None
    if _is_unheard(view, watch):  # it may be at work, so its stop must be able to push jobs back
        over = watch.silent_seconds >= UNHEARD_SECONDS and writable
        return reasons.NeverHeardOf(up_seconds=watch.silent_seconds + FIRST_BEAT_SECONDS) if over else None
    if unit.active_state != "activating":
        return None
    dead = unit.sub_state == "auto-restart"
    begun, first = None if dead else watch.begun_seconds, watch.first_boot_seconds
    deaths = unit.restarts - watch.first_boot_restarts
    if first is not None and now_seconds - first > DIES_SECONDS and deaths >= DEATHS_MAX:
        return reasons.DiedTooOften(deaths=deaths, seconds=now_seconds - first)
    limit = boot_seconds_max(decision.memory, view)
    took = now_seconds - min((at for at in (begun, first) if at is not None), default=now_seconds)
    return reasons.BootTooLong(seconds=took) if limit is not None and took > limit else None


def _starts_over_again(view: InstanceView, tick: HostTick, decision: HostDecision) -> bool:
    """Whether its stop would push a job back a second time. A job that hangs every process must not go to another."""
    job_ids = frozenset(decision.memory.units.watches[view.key].job_ids)
    again = decision.memory.holds_pushed_back(job_ids, tick.now_seconds)
    if again:
        limit = tick.policy.pace.drain_seconds_max
        decision.clamps.add(reasons.HangsInPushedBackJob(key=view.key, drain_seconds_max=limit), view.profile)
    return again


def _one_is_ending(tick: HostTick, decision: HostDecision) -> bool:
    """Whether an instance that was not quieted first is being stopped. It may beat again during the stop."""
    drains = decision.memory.drains
    return any(
        v.state == InstanceState.STOPPING
        and (
            v.beat_age_seconds is None
            or ((drain := drains.get(v.key)) is not None and drain.quiet_sent_seconds is None)
        )
        for v in tick.active
    )


def _end(
    view: InstanceView, cause: reasons.EndedAsFailed | reasons.Unresponsive, now_seconds: float, decision: HostDecision
) -> None:
    decision.order("stop", view, cause)
    drain = Drain(since_seconds=now_seconds, stop_sent_seconds=now_seconds, cause=cause)
    watch = decision.memory.units.watches.get(view.key)
    if watch is not None and not view.is_booting:  # systemd's stop may wake it, and then it pushes its jobs back
        decision.memory = decision.memory.with_pushed_back(frozenset(watch.job_ids), now_seconds)
    decision.memory = decision.memory.with_drain(view.key, drain)
    if view.key == SCHEDULER:
        decision.memory = structs.replace(decision.memory, scheduler_handover=True)
