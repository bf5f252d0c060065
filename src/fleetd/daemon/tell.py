"""Tell: from a tick to one Status, the only thing that `fleetctl`, the metrics and the log are made of."""

from __future__ import annotations

from collections import Counter

import msgspec

from fleetd import __version__
from fleetd.core.instances.health import memory_max_bytes
from fleetd.core.instances.lifecycle import InstanceView, Pin
from fleetd.core.instances.orders import span
from fleetd.core.instances.start import failed_sentence, times
from fleetd.core.model.decision import Clamp, ClampCode, InstanceState
from fleetd.core.model.facts import Known
from fleetd.core.model.policy import Policy, Profile
from fleetd.core.model.status import (
    Event,
    HoldStatus,
    InstanceStatus,
    OverrideStatus,
    ProfileStatus,
    QueueStatus,
    RolloutStatus,
    SchedulerStatus,
    SourceStatus,
    Status,
)
from fleetd.daemon.tell_connections import connection_status
from fleetd.daemon.tick import TickResult


def instance_status(policy: Policy, view: InstanceView, told: TickResult) -> InstanceStatus:
    """One row of the status."""
    return InstanceStatus(
        number=int(view.number),
        profile=view.profile,
        state=view.state.value,
        busy_threads=view.busy_threads,
        threads=view.threads,
        resident_bytes=view.resident_bytes,
        state_age_seconds=view.state_age_seconds if view.unit else None,
        note="; ".join(_notes(policy, view, told)),
    )


def pin_sentence(pin: Pin) -> str:
    """What a pin keeps, and who said so."""
    if pin.by == "hand":
        return {"run": "started by hand", "stopped": "stopped by hand", "quiet": "quieted by hand"}[pin.wants]
    return {
        "run": "kept running by fleetctl",
        "stopped": "kept stopped by fleetctl",
        "quiet": "kept quiet by fleetctl",
    }[pin.wants]


def _notes(policy: Policy, view: InstanceView, told: TickResult) -> list[str]:
    memory, now = told.host.memory, told.snapshot.now_seconds
    key, notes = str(view.number), []
    pin = memory.pins.get(key)
    if pin is not None:
        kept = "kept " if pin.by == "hand" else ""
        notes.append(f"{pin_sentence(pin)}, {kept}{span(max(0.0, pin.until_seconds - now))} more")
    if key in memory.stands_in:
        notes.append(f"stands in for {', '.join(f'@{n}' for n in memory.stands_in[key])}, stopped by hand")
    drain = memory.drains.get(key)
    if drain is not None and drain.stop_sent_seconds is None:
        left = policy.pace.drain_seconds_max - (now - drain.since_seconds)
        busy = "?" if view.busy_threads is None else str(view.busy_threads)
        notes.append(f"{busy} jobs left, stop at the latest in {max(0.0, left):.0f} s")
    elif drain is not None and view.present:
        notes.append(drain.why)
    failure = memory.failures.get(key)
    if failure is not None and view.present:
        notes.append(f"failed {times(failure.count)} before: {failure.why}")
    elif failure is not None:
        notes.append(failed_sentence([int(key)], memory, now))
    if view.unit is not None and view.unit.sub_state == "auto-restart" and view.unit.restarts > 1:
        notes.append(f"died {view.unit.restarts} times, restarted by systemd")
    if view.replace:
        notes.append(_replace_note(policy, view, told))
    return notes


def _replace_note(policy: Policy, view: InstanceView, told: TickResult) -> str:
    machine = told.snapshot.machine
    if view.replace == "memory" and isinstance(machine, Known):
        limit = memory_max_bytes(policy, machine.value)
        return f"holds more than {limit // 2**20} MiB: to be replaced"
    return {"outdated": "its settings changed: to be replaced", "restart": "to be restarted"}.get(
        view.replace, "to be replaced"
    )


def status_of(
    policy: Policy,
    told: TickResult,
    *,
    sources: tuple[SourceStatus, ...],
    events: tuple[Event, ...],
    problems: tuple[str, ...],
    uptime_seconds: float,
    ticks_total: int,
) -> Status:
    """Everything of one tick as one value."""
    clamps = (*told.fleet.clamps, *_without_none(told.scheduler.clamp), *told.host.clamps)
    profiles = tuple(_profile(p, policy, told, clamps) for p in policy.profiles)
    machine = told.snapshot.machine
    status = Status(
        version=__version__,
        host=policy.host,
        uptime_seconds=uptime_seconds,
        tick_age_seconds=0.0,
        tick_duration_seconds=told.duration_seconds,
        ticks_total=ticks_total,
        sources=sources,
        queues=_queues(policy, told),
        profiles=profiles,
        instances=tuple(
            instance_status(policy, v, told) for v in told.instances or () if v.number != "scheduler"
        ),
        connections=connection_status(policy, told),
        scheduler=_scheduler(told),
        memory_available_bytes=machine.value.memory_available_bytes if isinstance(machine, Known) else None,
        memory_total_bytes=machine.value.memory_total_bytes if isinstance(machine, Known) else None,
        clamps=clamps,
        step_results=told.results,
        last_events=events,
        next_sentence=_next(told, profiles, clamps),
        summary="",
        problems=problems,
        holds=_holds(told),
        overrides=_overrides(policy, told),
        rollout=_roll(told),
        mastodon_version=_version(told),
        pressure=machine.value.pressure if isinstance(machine, Known) else None,
    )
    return msgspec.structs.replace(status, summary=_summary(status))


def _without_none(clamp: Clamp | None) -> tuple[Clamp, ...]:
    return () if clamp is None else (clamp,)


def _queues(policy: Policy, told: TickResult) -> tuple[QueueStatus, ...]:
    facts = told.snapshot.sidekiq.value.queues if isinstance(told.snapshot.sidekiq, Known) else {}
    names = list(dict.fromkeys([q for p in policy.profiles for q, _ in p.queues] + sorted(facts)))
    need = told.fleet.demand.need_threads if told.fleet.demand else {}
    found = []
    for name in names:
        queue = facts.get(name)
        found.append(
            QueueStatus(
                name=name,
                latency_seconds=queue.latency_seconds if queue else None,
                target_seconds=policy.target_seconds(name),
                length_jobs=queue.length_jobs if queue else None,
                busy_threads=queue.busy_threads if queue else None,
                need_threads=need.get(name),
            )
        )
    return tuple(found)


def _profile(profile: Profile, policy: Policy, told: TickResult, clamps: tuple[Clamp, ...]) -> ProfileStatus:
    own, known = [v for v in told.instances or () if v.profile == profile.name], told.instances is not None
    planned = told.fleet.plan.profiles.get(policy.host, {}).get(profile.name)
    return ProfileStatus(
        name=profile.name,
        order=profile.order,
        queues=tuple(q if profile.order == "strict" else f"{q},{w}" for q, w in profile.queues),
        running_instances=sum(1 for v in own if v.is_capacity) if known else None,
        serving_instances=sum(1 for v in own if v.serves) if known else None,
        admitted_instances=planned.instances if planned and known else None,
        needed_instances=planned.needed_instances if planned and told.fleet.demand else None,
        min_instances=profile.min_instances,
        max_instances=profile.max_instances,
        clamps=tuple(c for c in clamps if c.profile == profile.name),
        clamps_before_admission=sum(1 for c in told.fleet.clamps if c.profile == profile.name),
    )


def _scheduler(told: TickResult) -> SchedulerStatus:
    own = next((v for v in told.instances or () if v.number == "scheduler"), None)
    return SchedulerStatus(
        processes=told.scheduler.live_processes,
        where=told.scheduler.where,
        sentence=told.scheduler.sentence,
        unit_state=own.state.value if own else "",
    )


def _holds(told: TickResult) -> tuple[HoldStatus, ...]:
    now = told.snapshot.now_seconds
    return tuple(
        HoldStatus(
            kind=hold.kind,
            sentence=hold.sentence,
            seconds_left=None if hold.until_seconds is None else max(0.0, hold.until_seconds - now),
        )
        for hold in told.terms.holds
    )


def _overrides(policy: Policy, told: TickResult) -> tuple[OverrideStatus, ...]:
    memory, now = told.host.memory, told.snapshot.now_seconds
    found: list[OverrideStatus] = []
    pause = memory.paused(now)
    if pause is not None:
        left, why = pause.until_seconds - now, pause.reason or "no reason given"
        found.append(OverrideStatus(kind="pause", what="fleet", sentence=why, seconds_left=left))
    for profile in policy.profiles:
        wanted = memory.sets.get(profile.name)
        if wanted is not None and now < wanted.until_seconds:
            sentence = f"{wanted.instances} instances"
            left = wanted.until_seconds - now
            found.append(OverrideStatus(kind="set", what=profile.name, sentence=sentence, seconds_left=left))
    for key, pin in sorted(memory.pins.items(), key=lambda item: item[0].zfill(5)):
        what = key if key == "scheduler" else f"@{key}"
        left = max(0.0, pin.until_seconds - now)
        found.append(OverrideStatus(kind="pin", what=what, sentence=pin_sentence(pin), seconds_left=left))
    return tuple(found)


def _roll(told: TickResult) -> RolloutStatus | None:
    rollout = told.host.memory.rollout
    if rollout is None:
        return None
    current = (
        ""
        if not rollout.current
        else rollout.current
        if rollout.current == "scheduler"
        else f"@{rollout.current}"
    )
    return RolloutStatus(
        cause=rollout.cause,
        total_instances=rollout.total,
        done_instances=rollout.done,
        current=current,
        sentence=rollout.waits,
        ended=rollout.ended,
    )


def _version(told: TickResult) -> str:
    machine = told.snapshot.machine
    code = machine.value.code if isinstance(machine, Known) else None
    return code.version if code is not None else ""


#: What keeps a fleet from growing, most urgent first, for the sentence on what comes next.
_GROWTH = (
    ClampCode.CONNECTIONS,
    ClampCode.OTHERS_UNATTRIBUTABLE,
    ClampCode.DATABASE_SATURATED,
    ClampCode.MEMORY,
    ClampCode.HEADROOM_UNKNOWN,
    ClampCode.LATENCY_UNKNOWN,
    ClampCode.OOM_KILLED,
    ClampCode.HOST_PRESSURE,
    ClampCode.START_FAILED,
    ClampCode.UNDRAINABLE,
    ClampCode.NOT_RENDERED,
    ClampCode.MAX,
    ClampCode.YIELD,
    ClampCode.HOLD_WINDOW,
)


def _next(told: TickResult, profiles: tuple[ProfileStatus, ...], clamps: tuple[Clamp, ...]) -> str:
    if told.instances is None:
        return "waits for systemd"
    if told.terms.held is not None:
        return f"nothing: {told.terms.held.sentence}"
    rollout = told.host.memory.rollout
    if rollout is not None and not rollout.ended and rollout.waits:
        return f"{rollout.cause} {rollout.done} of {rollout.total}: {rollout.waits}"
    for profile in profiles:
        wanted, running = profile.admitted_instances, profile.running_instances
        if wanted is None or running is None:
            continue
        if wanted > running + _started(told, profile.name):
            return f"start more of {profile.name}: {running} of {wanted} run"
    leaving = {InstanceState.QUIETING, InstanceState.DRAINING, InstanceState.UNDRAINABLE}
    draining = [v for v in told.instances if v.state in leaving]
    if draining:
        names = ", ".join(f"@{v.number}" for v in draining)
        return f"stop {names} once idle"
    for code in _GROWTH:
        for clamp in clamps:
            if clamp.code == code:
                return f"{clamp.profile or 'fleet'}: {clamp.sentence}"
    late = sorted(told.fleet.demand.late_queues) if told.fleet.demand else []
    if late:
        return f"watch {', '.join(late)}: late, but by its need what runs is enough to catch up"
    return "nothing: the fleet fits its work"


def _started(told: TickResult, profile: str) -> int:
    return sum(1 for r in told.results if r.step.verb == "start" and r.step.profile == profile)


def _summary(status: Status) -> str:
    """One sentence for `systemctl status` and the log."""
    fleet = ", ".join(
        f"{p.name} {_or_unknown(p.running_instances)}/{_or_unknown(p.admitted_instances)}"
        for p in status.profiles
    )
    down = [s.name for s in status.sources if not s.ok]
    if down:
        return f"{' and '.join(down)} unreadable: holding. {fleet}"
    if status.holds:
        return f"HELD ({status.holds[0].kind}): {status.holds[0].sentence}. {fleet}"
    late = [
        f"{q.name} {q.latency_seconds:.0f} s"
        for q in status.queues
        if q.latency_seconds is not None and q.latency_seconds > q.target_seconds
    ]
    waits = f"late: {', '.join(late)}" if late else "queues within target"
    codes = Counter(c.code.value for c in status.clamps)
    why = f" ({', '.join(codes)})" if codes else ""
    return f"{waits}; {fleet}{why}"


def _or_unknown(count: int | None) -> str:
    return "?" if count is None else str(count)
