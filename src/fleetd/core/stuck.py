"""What hangs: a boot that takes far too long or dies over and over, and an instance whose heartbeat is long gone.

Law 3: only with Redis readable, and health.py counts silence only while others beat. Law 4: a boot is stopped before
READY, when it has fetched no job; an unresponsive one gets systemd's ordinary stop, with the unit's own timeout, only
while Redis takes writes. One at a time, so that a mistake costs one.
"""

from __future__ import annotations

from msgspec import structs

from fleetd.core.decision import ClampCode, InstanceState, Step
from fleetd.core.facts import Known, Snapshot
from fleetd.core.health import boot_seconds_max
from fleetd.core.host_decision import HostDecision
from fleetd.core.lifecycle import Drain, InstanceView
from fleetd.core.terms import HostTerms

#: So many deaths before the first heartbeat are a failure, but not before systemd's own limit (StartLimitIntervalSec
#: of the unit) has had its time: it gives up on what dies at once, never on what takes 7 s and more to die.
DEATHS_MAX = 3
DIES_SECONDS = 60.0


def end_stuck(
    snapshot: Snapshot, instances: tuple[InstanceView, ...], terms: HostTerms, decision: HostDecision
) -> None:
    """Stop one that hangs; says which others wait for their turn, and why nothing is done."""
    if not isinstance(snapshot.sidekiq, Known):
        return
    hung = [v for v in instances if v.state == InstanceState.UNRESPONSIVE]
    slow = [(v, why) for v in instances if (why := _fails(v, snapshot.now_seconds, decision))]
    for view in hung:
        silent = decision.memory.watches[str(view.number)].silent_seconds + 60.0
        sentence = f"@{view.number} has sent no heartbeat for {silent:.0f} s while others do"
        decision.reasons.say(
            ClampCode.UNRESPONSIVE, sentence.replace("@scheduler", "the scheduler"), view.profile
        )
    if terms.held is not None or _one_is_ending(instances):
        return
    if slow:
        view, why = slow[0]
        _end(view, f"{why}: counted as a failure", snapshot.now_seconds, decision)
        decision.memory = decision.memory.with_failure(view.number, snapshot.now_seconds, why, ordered=False)
    elif hung and snapshot.sidekiq.value.writable is True:
        why = "unresponsive: no heartbeat while others beat; systemd's stop, with its timeout"
        _end(hung[0], why, snapshot.now_seconds, decision)


def _fails(view: InstanceView, now_seconds: float, decision: HostDecision) -> str:
    """Why this boot is not waited for any longer; "": it is.

    Not by the age of its state: that is young again after each restart by systemd.
    """
    unit, watch = view.unit, decision.memory.watches.get(str(view.number))
    if unit is None or watch is None or unit.active_state != "activating":
        return ""
    if str(view.number) in decision.memory.drains:
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


def _one_is_ending(instances: tuple[InstanceView, ...]) -> bool:
    return any(v.state == InstanceState.STOPPING and v.beat_age_seconds is None for v in instances)


def _end(view: InstanceView, why: str, now_seconds: float, decision: HostDecision) -> None:
    decision.steps.append(Step(verb="stop", number=view.number, profile=view.profile, sentence=why))
    drain = Drain(since_seconds=now_seconds, stop_sent_seconds=now_seconds, why=why)
    decision.memory = decision.memory.with_drain(view.number, drain)
    if view.number == "scheduler":
        decision.memory = structs.replace(decision.memory, scheduler_handover=True)
