"""What hangs: a boot that takes far longer than learnt, and an instance whose heartbeat is long gone.

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


def end_stuck(
    snapshot: Snapshot, instances: tuple[InstanceView, ...], terms: HostTerms, decision: HostDecision
) -> None:
    """Stop one that hangs; says which others wait for their turn, and why nothing is done."""
    if not isinstance(snapshot.sidekiq, Known):
        return
    hung = [v for v in instances if v.state == InstanceState.UNRESPONSIVE]
    slow = [v for v in instances if v.state == InstanceState.STARTING and _overdue(v, decision)]
    for view in hung:
        silent = decision.memory.watches[str(view.number)].silent_seconds + 60.0
        sentence = f"@{view.number} has sent no heartbeat for {silent:.0f} s while others do"
        decision.reasons.say(
            ClampCode.UNRESPONSIVE, sentence.replace("@scheduler", "the scheduler"), view.profile
        )
    if terms.held is not None or _one_is_ending(instances):
        return
    if slow:
        took = slow[0].state_age_seconds
        _end(slow[0], f"boots since {took:.0f} s, far longer than learnt", snapshot.now_seconds, decision)
        failed = f"did not get ready within {took:.0f} s"
        decision.memory = decision.memory.with_failure(
            slow[0].number, snapshot.now_seconds, failed, ordered=False
        )
    elif hung and snapshot.sidekiq.value.writable is True:
        why = "unresponsive: no heartbeat while others beat; systemd's stop, with its timeout"
        _end(hung[0], why, snapshot.now_seconds, decision)


def _overdue(view: InstanceView, decision: HostDecision) -> bool:
    unit, limit = view.unit, boot_seconds_max(decision.memory, view.profile)
    if unit is None or unit.active_state != "activating" or unit.sub_state == "auto-restart" or limit is None:
        return False
    return view.state_age_seconds > limit and str(view.number) not in decision.memory.drains


def _one_is_ending(instances: tuple[InstanceView, ...]) -> bool:
    return any(v.state == InstanceState.STOPPING and v.beat_age_seconds is None for v in instances)


def _end(view: InstanceView, why: str, now_seconds: float, decision: HostDecision) -> None:
    decision.steps.append(Step(verb="stop", number=view.number, profile=view.profile, sentence=why))
    drain = Drain(since_seconds=now_seconds, stop_sent_seconds=now_seconds, why=why)
    decision.memory = decision.memory.with_drain(view.number, drain)
    if view.number == "scheduler":
        decision.memory = structs.replace(decision.memory, scheduler_handover=True)
