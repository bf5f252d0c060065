"""Tell: from a tick to the one Status from which `fleetctl`, the metrics and the log are made."""

from __future__ import annotations

import math
from collections import Counter
from typing import Literal

from msgspec import structs

from fleetd import __version__
from fleetd.core.instances.health import memory_max_bytes
from fleetd.core.instances.host_memory import Failure, RolloutPhase
from fleetd.core.instances.lifecycle import InstanceView, Pin
from fleetd.core.instances.outdated import changes_of
from fleetd.core.instances.start import start_failed
from fleetd.core.model import reasons
from fleetd.core.model.decision import Clamp, InstanceState, StepResult, Verb
from fleetd.core.model.identity import SCHEDULER, InstanceKey
from fleetd.core.model.policy_tables import Profile
from fleetd.core.model.status import (
    ClampStatus,
    Event,
    InstanceStatus,
    OverrideStatus,
    ProfileStatus,
    QueueStatus,
    RolloutStatus,
    SchedulerStatus,
    SourceStatus,
    Status,
    StepStatus,
    WouldStatus,
    WouldVerb,
)
from fleetd.daemon.tell_connections import connection_status
from fleetd.daemon.tell_deaths import death_counts, died_lately
from fleetd.daemon.tell_fleet import fleet_problem, fleet_status
from fleetd.daemon.tell_holds import count_overrides, fleet_overrides, held_until, hold_statuses
from fleetd.daemon.tell_jobs import JobRates, jobs_status
from fleetd.daemon.tick import TickResult
from fleetd.words.deaths import died_words
from fleetd.words.formatting import CONNECTION_SOURCES, names, often, span, times, who
from fleetd.words.reasons import PINNED_BY_HAND, changed, failed, sentence, unmask


def status_of(
    result: TickResult,
    *,
    sources: tuple[SourceStatus, ...],
    events: tuple[Event, ...],
    problems: tuple[str, ...],
    uptime_seconds: float,
    ticks_total: int,
    tick_failures_total: int = 0,
    rates: JobRates | None = None,
) -> Status:
    """Everything that is shown of one tick, as one value. `rates`: None: no reading came before."""
    policy, machine = result.tick.policy, result.tick.machine
    clamps = tuple(map(_clamp, result.clamps))
    profiles = tuple(_profile(p, result, clamps) for p in policy.profiles)
    status = Status(
        version=__version__,
        host=policy.host,
        uptime_seconds=uptime_seconds,
        tick_age_seconds=0.0,
        tick_duration_seconds=result.duration_seconds,
        ticks_total=ticks_total,
        sources=_sources(sources, result),
        queues=_queues(result),
        profiles=profiles,
        instances=tuple(_instance(v, result) for v in result.tick.instances or () if v.key != SCHEDULER),
        connections=connection_status(result),
        scheduler=_scheduler(result),
        memory_available_bytes=machine.memory_available_bytes if machine else None,
        memory_total_bytes=machine.memory_total_bytes if machine else None,
        clamps=clamps,
        step_results=tuple(map(_step, result.results)),
        last_events=events,
        next_sentence=_next(result),
        summary="",
        warnings=tuple(sentence(sign) for sign in result.signs),
        ghost_heartbeats=len(result.tick.evidence.ghosts) if result.tick.sidekiq is not None else None,
        problems=_problems(result, problems),
        holds=hold_statuses(result),
        overrides=_overrides(result),
        rollout=_rollout(result),
        mastodon_version=machine.code.version if machine and machine.code else "",
        pressure=machine.pressure if machine else None,
        jobs=jobs_status(result.tick.sidekiq, rates or JobRates()),
        mode=policy.mode,
        would=_would(result),
        tick_failures_total=tick_failures_total,
        deaths=death_counts(result),
    )
    return structs.replace(status, fleet=fleet_status(result), summary=_summary(status))


def _problems(result: TickResult, others: tuple[str, ...]) -> tuple[str, ...]:
    unsaved, unserved = result.unsaved, result.fleet.unserved
    own = (*(() if unsaved is None else (unsaved,)), *result.unfit)
    fleet = fleet_problem(result)
    return (
        *map(sentence, own),
        *others,
        *([fleet] if fleet else []),
        *(() if unserved is None else (sentence(unserved),)),
    )


def _sources(sources: tuple[SourceStatus, ...], result: TickResult) -> tuple[SourceStatus, ...]:
    """The sources; a Redis in which the workers do not beat counts as unread, because it says nothing of them."""
    elsewhere = result.tick.evidence.elsewhere
    if elsewhere is None:
        return sources
    why = sentence(elsewhere)
    return tuple(structs.replace(s, ok=False, why=why) if s.name == "redis" else s for s in sources)


def _step(done: StepResult) -> StepStatus:
    step = done.step
    return StepStatus(
        verb=step.verb, unit=step.unit, result=done.result, why=sentence(step.why), sentence=done.sentence
    )


_WOULD: dict[Verb, WouldVerb] = {"start": "start", "quiet": "drain", "stop": "stop"}


def _would(result: TickResult) -> tuple[WouldStatus, ...]:
    """What fleetd would do: the units that share a reason together, then what it would begin to replace."""
    units: dict[tuple[Verb, str, str], list[InstanceKey]] = {}
    for step in result.would:
        units.setdefault((step.verb, step.profile or "", sentence(step.why)), []).append(step.key)
    found = [
        WouldStatus(verb=_WOULD[verb], keys=tuple(keys), why=why, profile=profile)
        for (verb, profile, why), keys in units.items()
    ]
    rollout = result.would_replace
    if rollout is not None:
        why = f"{sentence(reasons.Replaced(cause=rollout.cause))}; one at a time"
        found.append(WouldStatus(verb="replace", keys=tuple(rollout.left), why=why))
    return tuple(found)


def _clamp(clamp: Clamp) -> ClampStatus:
    return ClampStatus(
        code=clamp.code,
        sentence=sentence(clamp.reason),
        profile=clamp.profile or "",
        before_instances=clamp.before_instances,
        after_instances=clamp.after_instances,
    )


def _queues(result: TickResult) -> tuple[QueueStatus, ...]:
    policy, needed = result.tick.policy, result.fleet.needed
    facts = result.tick.queues
    need = needed.queue_threads if needed else {}
    if needed is not None:  # of a queue that was never read whole, no load is known
        loads = result.fleet.memory.demand.busy_mean_threads
        need = {name: threads for name, threads in need.items() if name in loads}
    told = result.tick.fleet.queues  # by whoever reads every running job
    need |= {name: queue.need_threads for name, queue in told.items() if queue.need_threads is not None}
    found = []
    for name in dict.fromkeys([q for p in policy.profiles for q, _ in p.queues] + sorted(facts)):
        queue = facts.get(name)
        found.append(
            QueueStatus(
                name=name,
                latency_seconds=queue.latency_seconds if queue else None,
                target_seconds=None if math.isinf(policy.target_seconds(name)) else policy.target_seconds(name),
                length_jobs=queue.length_jobs if queue else None,
                busy_threads=queue.busy_threads if queue else None,
                need_threads=need.get(name),
            )
        )
    return tuple(found)


def _profile(profile: Profile, result: TickResult, clamps: tuple[ClampStatus, ...]) -> ProfileStatus:
    tick, known = result.tick, result.tick.instances is not None
    own = [v for v in tick.active if v.profile == profile.name]
    planned = result.fleet.plan.of(tick.policy.host, profile.name)
    return ProfileStatus(
        name=profile.name,
        order=profile.order,
        queues=tuple(q if profile.order == "strict" else f"{q},{w}" for q, w in profile.queues),
        running_instances=sum(1 for v in own if v.is_capacity) if known else None,
        serving_instances=sum(1 for v in own if v.serves) if known else None,
        admitted_instances=planned.admitted_instances if planned and known else None,
        needed_instances=planned.needed_instances if planned and result.fleet.needed else None,
        min_instances=profile.min_instances,
        max_instances=profile.max_instances,
        clamps=tuple(c for c in clamps if c.profile == profile.name),
        clamps_before_admission=sum(1 for c in result.fleet.clamps if c.profile == profile.name),
    )


def _scheduler(result: TickResult) -> SchedulerStatus:
    own = result.tick.view(SCHEDULER)
    return SchedulerStatus(
        processes=result.scheduler.live_processes,
        where=result.scheduler.hosts,
        sentence=sentence(result.scheduler.state),
        unit_state=own.state.value if own else "",
        died=died_lately(SCHEDULER, result),
    )


def _instance(view: InstanceView, result: TickResult) -> InstanceStatus:
    return InstanceStatus(
        number=view.key,
        profile=view.profile or "",
        state=view.state.value,
        busy_threads=view.busy_threads,
        threads=view.threads,
        resident_bytes=view.resident_bytes,
        state_age_seconds=view.state_age_seconds if view.unit else None,
        note="; ".join(_notes(view, result)),
        died=died_lately(view.key, result),
        configured=not view.left_over,
    )


def _notes(view: InstanceView, result: TickResult) -> list[str]:
    """What a person wants to know about this instance."""
    memory, now, key = result.host.memory, result.tick.now_seconds, view.key
    people, notes = memory.people, list[str]()
    if view.left_over:
        notes.append("fleetd.toml names it no more")
    if key in people.pins:
        pin = people.pins[key]
        kept = "kept " if pin.by == "hand" else ""
        notes.append(f"{_pin_words(pin)}, {kept}{span(max(0.0, pin.until_seconds - now))} more")
    if key in people.stands_in:
        notes.append(f"stands in for {names(people.stands_in[key])}, stopped by people")
    drain = memory.drains.get(key)
    if drain is not None and drain.stop_sent_seconds is None:
        left = result.tick.policy.pace.drain_seconds_max - (now - drain.since_seconds)
        busy = "? jobs" if view.busy_threads is None else times(view.busy_threads, "job")
        notes.append(f"{busy} left, {f'stop at the latest in {left:.0f} s' if left >= 1.0 else 'past its deadline'}")
    elif drain is not None and view.is_present:
        notes.append(sentence(drain.cause))
    masked = result.tick.machine.masks(key) if result.tick.machine is not None else None
    if masked is not None:
        notes.append(f"masked: {unmask([masked])}")
    failure = memory.units.failures.get(key)
    if failure is not None and masked is None:
        notes.append(_failure_words(view, failure, result))
    died = died_lately(key, result)
    if died is not None:
        notes.append(died_words(died))
    hangs = (c.reason for c in result.host.clamps if isinstance(c.reason, reasons.HangsInPushedBackJob))
    notes += [sentence(reason) for reason in hangs if reason.key == key]
    if view.replace is not None and drain is None:
        notes.append(_replace_words(view, result))
    return notes


def _pin_words(pin: Pin) -> str:
    """What a pin keeps, and who ordered it."""
    if pin.by == "hand":
        return PINNED_BY_HAND[pin.wants]
    kept = {reasons.PinKind.RUN: "running", reasons.PinKind.STOPPED: "stopped", reasons.PinKind.QUIET: "quiet"}
    return f"kept {kept[pin.wants]} by {who(pin.person)}"


def _failure_words(view: InstanceView, failure: Failure, result: TickResult) -> str:
    if view.is_present:
        return f"failed {often(failure.count)} before: {sentence(failure.cause)}"
    return failed(start_failed((view.key,), result.host.memory, result.tick.now_seconds))


def _replace_words(view: InstanceView, result: TickResult) -> str:
    cause = view.replace
    if cause == reasons.ReplaceCause.MEMORY and result.tick.machine is not None:
        limit = memory_max_bytes(result.tick.policy, result.tick.machine)
        return f"holds more than {limit // 2**20} MiB: to be replaced"
    if cause == reasons.ReplaceCause.RESTART:
        return "to be restarted"
    if cause == reasons.ReplaceCause.UNCONFIGURED:
        return "to be drained"
    changes = changes_of(result.tick.policy, view, result.tick.machine, result.host.memory)
    return f"{changed(changes)}: to be replaced"


def _overrides(result: TickResult) -> tuple[OverrideStatus, ...]:
    people, now = result.host.memory.people, result.tick.now_seconds
    found: list[OverrideStatus] = []
    pause = people.paused(now)
    if pause is not None:
        left, why = pause.until_seconds - now, pause.note or "no reason given"
        found.append(OverrideStatus(kind="pause", what="fleet", sentence=why, seconds_left=left))
    found += fleet_overrides(result, local=pause is not None)
    found += count_overrides(result)
    for key, pin in sorted(people.pins.items(), key=lambda item: item[0] or 10_000):
        left = max(0.0, pin.until_seconds - now)
        said = _pin_words(pin)
        found.append(OverrideStatus(kind="pin", what=_what(key), sentence=said, seconds_left=left))
    return tuple(found)


def _what(key: InstanceKey) -> str:
    return "scheduler" if key == SCHEDULER else f"@{key}"


_ENDED: dict[RolloutPhase, Literal["", "done", "given_up"]] = {
    RolloutPhase.UNDER_WAY: "",
    RolloutPhase.DONE: "done",
    RolloutPhase.GIVEN_UP: "given_up",
}


def _rollout(result: TickResult) -> RolloutStatus | None:
    rollout = result.host.memory.rollout
    if rollout is None:
        return None
    return RolloutStatus(
        cause=rollout.cause,
        total_instances=rollout.total_instances,
        done_instances=rollout.done_instances,
        current=_what(rollout.current) if rollout.current is not None else "",
        sentence=sentence(rollout.waits) if rollout.waits is not None else "",
        ended=_ENDED[rollout.phase],
    )


#: What keeps a fleet from growing, the most urgent first; the first in force says what comes next.
_GROWTH = (
    reasons.ClampCode.CONNECTIONS,
    reasons.ClampCode.OTHERS_UNATTRIBUTABLE,
    reasons.ClampCode.DATABASE_SATURATED,
    reasons.ClampCode.MEMORY,
    reasons.ClampCode.HEADROOM_UNKNOWN,
    reasons.ClampCode.LATENCY_UNKNOWN,
    reasons.ClampCode.OOM_KILLED,
    reasons.ClampCode.HOST_PRESSURE,
    reasons.ClampCode.START_FAILED,
    reasons.ClampCode.UNDRAINABLE,
    reasons.ClampCode.NOT_RENDERED,
    reasons.ClampCode.MASKED,
    reasons.ClampCode.MAX,
    reasons.ClampCode.YIELD,
    reasons.ClampCode.HOLD_WINDOW,
)
_LEAVING = frozenset({InstanceState.QUIETING, InstanceState.DRAINING, InstanceState.UNDRAINABLE})


def _next(result: TickResult) -> str:
    tick, rollout = result.tick, result.host.memory.rollout_under_way
    if tick.instances is None:
        return "waits for systemd"
    if tick.starts_held is not None:
        return f"nothing {held_until(tick.starts_held.reason)}"
    if rollout is not None and rollout.waits is not None:
        far = f"{rollout.done_instances} of {rollout.total_instances}"
        return f"{rollout.cause} {far}: {sentence(rollout.waits)}"
    started = Counter(r.step.profile for r in result.results if r.step.verb == "start")
    for name, planned in result.fleet.plan.profiles.get(tick.policy.host, {}).items():
        running = sum(1 for v in tick.active if v.profile == name and v.is_capacity)
        if planned.admitted_instances > running + started[name]:
            only = "only observes, and would " if tick.policy.observes else ""
            return f"{only}start more of {name}: {running} of {planned.admitted_instances} run"
    draining = tuple(v.key for v in tick.active if v.state in _LEAVING)
    if draining:
        return f"stop {names(draining)} once idle"
    for code in _GROWTH:
        for clamp in result.clamps:
            if clamp.code == code and (clamp.profile is not None or clamp.reason not in result.fleet.full):
                return f"{clamp.profile or 'fleet'}: {sentence(clamp.reason)}"
    if result.fleet.full:
        named = " and ".join(CONNECTION_SOURCES[full.source] for full in result.fleet.full)
        return f"start nothing more until {named} has connections to spare"
    late = sorted(result.fleet.needed.late_queues) if result.fleet.needed else []
    if late:
        return f"watch {', '.join(late)}: late, but enough instances run to catch up"
    return "nothing: the fleet fits its work"


#: Queues named in the summary.
_NAMED_MAX = 6


def _summary(status: Status) -> str:
    """One sentence for `systemctl status` and the log."""
    said = _working(status)
    return said if status.mode == "act" else f"OBSERVES ONLY: {said}"


def _working(status: Status) -> str:
    fleet = ", ".join(
        f"{p.name} {_or_unknown(p.running_instances)}/{_or_unknown(p.admitted_instances)}" for p in status.profiles
    )
    down = [s.name for s in status.sources if not s.ok]
    if down:
        return f"{' and '.join(down)} unreadable: holding. {fleet}"
    if status.holds:
        return f"HELD ({status.holds[0].kind}): {status.holds[0].sentence}. {fleet}"
    timed = [q for q in status.queues if q.target_seconds is not None]
    late = [
        f"{q.name} {q.latency_seconds:.0f} s"
        for q in timed
        if q.latency_seconds is not None and q.target_seconds is not None and q.latency_seconds > q.target_seconds
    ]
    unknown = [q.name for q in timed if q.latency_seconds is None]
    waits = "; ".join(
        [
            *([f"late: {_named(late)}"] if late else []),
            *([f"unknown how long {_named(unknown)} {'waits' if len(unknown) == 1 else 'wait'}"] if unknown else []),
        ]
    )
    waits = waits or "queues within target"
    codes = Counter(c.code.value for c in status.clamps)
    why = f" ({', '.join(codes)})" if codes else ""
    return f"{waits}; {fleet}{why}"


def _named(things: list[str]) -> str:
    more = f" and {len(things) - _NAMED_MAX} more" if len(things) > _NAMED_MAX else ""
    return ", ".join(things[:_NAMED_MAX]) + more


def _or_unknown(count: int | None) -> str:
    return "?" if count is None else str(count)
