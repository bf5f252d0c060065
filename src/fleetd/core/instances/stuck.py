"""What hangs: a boot that takes far too long or dies over and over, and an instance whose heartbeat is long gone.

Law 3: only with Redis readable, and health.py counts silence only while others beat. Law 4: a boot is stopped before
READY, when it has fetched no job; one that is unresponsive, or was never heard of after READY, gets systemd's ordinary
stop, with the unit's own timeout, only while Redis takes writes. One at a time, so that a mistake costs one.
"""

from __future__ import annotations

from msgspec import structs

from fleetd.core.instances.constraints import HostConstraints
from fleetd.core.instances.health import boot_seconds_max
from fleetd.core.instances.host_decision import HostDecision
from fleetd.core.instances.host_memory import Watch, unit_name
from fleetd.core.instances.lifecycle import FIRST_BEAT_SECONDS, Drain, InstanceView
from fleetd.core.model.decision import ClampCode, InstanceState, Step
from fleetd.core.model.facts import Known, Snapshot

#: So many deaths before the first heartbeat are a failure, but not before systemd's own limit (StartLimitIntervalSec
#: of the unit) has had its time: it gives up on what dies at once, never on what takes 7 s and more to die.
DEATHS_MAX = 3
DIES_SECONDS = 60.0
#: Past FIRST_BEAT_SECONDS, while others beat, a boot that never came to a heartbeat is waited for so much longer. Ended
#: again and again (its unit may ignore the tag) it is given up like any other that fails.
UNHEARD_SECONDS = 90.0
#: A heartbeat stays in Redis for so long after its last beat.
GHOST_SECONDS = 60.0


def end_stuck(
    snapshot: Snapshot, instances: tuple[InstanceView, ...], terms: HostConstraints, decision: HostDecision
) -> None:
    """Stop one that hangs; says which others wait for their turn, and why nothing is done."""
    if not isinstance(snapshot.sidekiq, Known):
        return
    _say_silent(instances, decision)
    if terms.held is not None or _one_is_ending(instances, decision):
        return
    now, writable = snapshot.now_seconds, snapshot.sidekiq.value.writable is True
    silent = [v for v in instances if v.state == InstanceState.UNRESPONSIVE]
    hung = [v for v in silent if not _starts_over_again(v, now, decision)]
    failing = [(v, why) for v in instances if (why := _fails(v, now, decision, writable=writable))]
    if failing:
        view, why = failing[0]
        _end(view, f"{why}: counted as a failure", now, decision)
        decision.memory = decision.memory.with_failure(view.number, now, why, ordered=False)
    elif hung and writable:
        why = "unresponsive: no heartbeat while others beat; systemd's stop, with its timeout"
        _end(hung[0], why, now, decision)


def _say_silent(instances: tuple[InstanceView, ...], decision: HostDecision) -> None:
    for view in instances:
        watch = decision.memory.watches.get(str(view.number))
        if watch is None:
            continue
        if view.state == InstanceState.UNRESPONSIVE:
            seconds = watch.silent_seconds + GHOST_SECONDS
            sentence = f"{_name(view)} has sent no heartbeat for {seconds:.0f} s while others do"
        elif _is_unheard(view, watch):
            sentence = (
                f"{_name(view)} is up, but has sent no heartbeat yet while others do: it is no capacity"
            )
        else:
            continue
        decision.reasons.say(ClampCode.UNRESPONSIVE, sentence, view.profile)


def _is_unheard(view: InstanceView, watch: Watch) -> bool:
    starting = view.state == InstanceState.STARTING and view.is_ready
    return starting and not watch.served and watch.silent_seconds > 0.0


def _fails(view: InstanceView, now_seconds: float, decision: HostDecision, *, writable: bool) -> str:
    """Why this boot is not waited for any longer; "": it is.

    Not by the age of its state: that is young again after each restart by systemd.
    """
    unit = view.unit
    if unit is None:
        return ""
    watch = decision.memory.watches.get(str(view.number))
    if watch is None or str(view.number) in decision.memory.drains:
        return ""
    if _is_unheard(view, watch):  # it may be at work, so its stop must be able to push jobs back
        over = watch.silent_seconds >= UNHEARD_SECONDS and writable
        seconds = watch.silent_seconds + FIRST_BEAT_SECONDS
        return f"was up for {seconds:.0f} s without a heartbeat, while others beat" if over else ""
    if unit.active_state != "activating":
        return ""
    dead = unit.sub_state == "auto-restart"
    begun, first = None if dead else watch.begun_seconds, watch.first_boot_seconds
    if first is not None and now_seconds - first > DIES_SECONDS:
        deaths = unit.restarts - watch.first_boot_restarts
        if deaths >= DEATHS_MAX:
            return f"died {deaths} times in {now_seconds - first:.0f} s, never came to a heartbeat"
    limit = boot_seconds_max(decision.memory, view.profile)
    took = now_seconds - min((at for at in (begun, first) if at is not None), default=now_seconds)
    return f"did not get ready within {took:.0f} s" if limit is not None and took > limit else ""


def _starts_over_again(view: InstanceView, now_seconds: float, decision: HostDecision) -> bool:
    """Whether its stop would push a job back a second time. What hangs each process that runs it goes no further."""
    job_ids = frozenset(decision.memory.watches[str(view.number)].job_ids)
    if not decision.memory.holds_pushed_back(job_ids, now_seconds):
        return False
    sentence = (
        f"{_name(view)} hangs in a job that was pushed back before, so it is left: see the job, then "
        f"`systemctl restart {unit_name(str(view.number))}`"
    )
    decision.reasons.say(ClampCode.LONG_JOB, sentence, view.profile)
    return True


def _one_is_ending(instances: tuple[InstanceView, ...], decision: HostDecision) -> bool:
    """Whether one that was not drained first is on its way out; a stop may make it beat again."""
    drains = decision.memory.drains
    return any(
        v.state == InstanceState.STOPPING
        and (
            v.beat_age_seconds is None
            or ((drain := drains.get(str(v.number))) is not None and drain.quiet_sent_seconds is None)
        )
        for v in instances
    )


def _end(view: InstanceView, why: str, now_seconds: float, decision: HostDecision) -> None:
    decision.steps.append(Step(verb="stop", number=view.number, profile=view.profile, sentence=why))
    drain = Drain(since_seconds=now_seconds, stop_sent_seconds=now_seconds, why=why)
    watch = decision.memory.watches.get(str(view.number))
    if (
        watch is not None and not view.is_booting
    ):  # systemd's stop may wake it, and then it pushes its jobs back
        decision.memory = decision.memory.with_pushed_back(frozenset(watch.job_ids), now_seconds)
    decision.memory = decision.memory.with_drain(view.number, drain)
    if view.number == "scheduler":
        decision.memory = structs.replace(decision.memory, scheduler_handover=True)


def _name(view: InstanceView) -> str:
    return "the scheduler" if view.number == "scheduler" else f"@{view.number}"
