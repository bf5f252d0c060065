"""How an instance is let go: quiet, watch, stop.

Law 4 (no job is lost) lives here. What serves is quieted (SIGTSTP, which can't be undone), watched until one heartbeat
given after the order says quiet and idle, then stopped. Past a deadline it gets an ordinary stop, but only while Redis
takes writes, because Sidekiq then pushes unfinished jobs back and would lose them otherwise. Before READY it is
stopped, not quieted: a TSTP during boot is lost, and no job has been fetched. Nothing sends SIGKILL: there is no such
step.

An order may get lost (fleetd died between remembering and giving it, systemd did not answer): it is given again.
"""

from __future__ import annotations

from msgspec import structs

from fleetd.core.decision import ClampCode, InstanceState, Step
from fleetd.core.facts import Known, Snapshot
from fleetd.core.host_decision import HostDecision
from fleetd.core.lifecycle import Drain, InstanceView
from fleetd.core.policy import Policy

#: A quiet that no heartbeat confirms is sent again after this long (three beats).
QUIET_AGAIN_SECONDS = 30.0
#: A stop that systemd does not show is sent again after this long.
STOP_AGAIN_SECONDS = 30.0
#: Orders for drains under way in one tick at most (law 7); the others come in the next.
DRAIN_ORDERS_MAX = 8


def let_go(view: InstanceView, why: str, now_seconds: float, decision: HostDecision) -> None:
    """Begin a drain: quiet what serves, stop what still boots."""
    if view.boots:
        decision.steps.append(_step("stop", view, f"{why}; it still boots"))
        drain = Drain(since_seconds=now_seconds, stop_sent_seconds=now_seconds, why=why)
    elif view.state == InstanceState.STARTING:
        return  # READY but no heartbeat yet: it comes within seconds, then a quiet can be watched
    else:
        decision.steps.append(_step("quiet", view, why))
        drain = Drain(since_seconds=now_seconds, quiet_sent_seconds=now_seconds, why=why)
    decision.memory = decision.memory.with_drain(view.number, drain)


def go_on_draining(
    policy: Policy, snapshot: Snapshot, instances: tuple[InstanceView, ...], decision: HostDecision
) -> None:
    """The next order of each drain under way, where one is due."""
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
    sent = drain.quiet_sent_seconds
    beat_after_order = (
        sent is not None and view.beat_age_seconds is not None and now - view.beat_age_seconds > sent
    )
    if view.quiet and view.busy_threads == 0 and beat_after_order:
        _stop(view, drain, f"quiet and idle: {drain.why}", now, decision)
    elif now - drain.since_seconds > policy.pace.drain_seconds_max:
        _stop_past_deadline(policy, snapshot, view, drain, decision)
    elif (
        isinstance(snapshot.sidekiq, Known)
        and not view.quiet
        and (sent is None or now - sent > QUIET_AGAIN_SECONDS)
    ):
        decision.steps.append(_step("quiet", view, f"no heartbeat confirms quiet yet: {drain.why}"))
        again = structs.replace(drain, quiet_sent_seconds=now, stop_sent_seconds=None)
        decision.memory = decision.memory.with_drain(view.number, again)


def _stop_is_under_way(drain: Drain, now_seconds: float) -> bool:
    return drain.stop_sent_seconds is not None and now_seconds - drain.stop_sent_seconds <= STOP_AGAIN_SECONDS


def _stop_past_deadline(
    policy: Policy, snapshot: Snapshot, view: InstanceView, drain: Drain, decision: HostDecision
) -> None:
    """An ordinary stop makes Sidekiq push unfinished jobs back, which needs a Redis that takes writes."""
    sidekiq = snapshot.sidekiq
    if isinstance(sidekiq, Known) and sidekiq.value.writable is True:
        sentence = (
            f"not idle after {policy.pace.drain_seconds_max:.0f} s; Sidekiq pushes back what is unfinished"
        )
        _stop(view, drain, sentence, snapshot.now_seconds, decision)
        return
    name = "the scheduler" if view.number == "scheduler" else f"@{view.number}"
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
