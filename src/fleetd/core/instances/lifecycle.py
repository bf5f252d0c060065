"""The state of each instance, derived from systemd, heartbeats and our own memory of orders.

Law 4 depends on it: before READY an instance is stopped, not quieted, because a SIGTSTP during boot is lost; and only a
heartbeat that says quiet *and* idle, sent after our order, proves that a stop loses nothing.

The table at the end says which state may follow which. No code enforces it: `state_of` derives each state from facts
alone. The tests' storms check every transition against the table, and docs/instances.md draws it.
"""

from __future__ import annotations

from enum import StrEnum
from functools import lru_cache
from typing import Literal

from msgspec import structs

from fleetd.core.model import reasons
from fleetd.core.model.decision import InstanceState
from fleetd.core.model.facts import HostFacts, ProcessFacts, RenderedSettings, UnitFacts, Value
from fleetd.core.model.heartbeats import claim_of
from fleetd.core.model.identity import InstanceKey, parse_tag
from fleetd.core.model.person import Person
from fleetd.core.model.policy_tables import CLAIM_MARGIN_CONNECTIONS, Policy, Profile
from fleetd.core.model.worker_settings import SCHEDULER_PROFILE

#: The first heartbeat comes within one beat (10 s) after READY. Without it an instance is no capacity, not even after
#: this time, unless no instance on this host beats: then Redis has lost the heartbeats.
FIRST_BEAT_SECONDS = 30.0

#: Sets that are needed for every instance many times a tick, so they are made once.
_GONE = frozenset({InstanceState.STOPPED, InstanceState.FAILED})
_CAPACITY = frozenset({InstanceState.STARTING, InstanceState.SERVING, InstanceState.OUTDATED})
_READY = frozenset({"active", "reloading"})


class DrainPhase(StrEnum):
    """How far a drain has come."""

    QUIETING = "quieting"  # SIGTSTP is ordered, no heartbeat has said quiet yet
    UNCONFIRMED = "unconfirmed"  # three beats have come since, and none says quiet
    STOPPING = "stopping"  # systemd's stop is ordered


class Drain(Value, frozen=True, kw_only=True):
    """A drain under way: quiet, watch, stop. Times are CLOCK_BOOTTIME."""

    since_seconds: float
    cause: reasons.DrainCause
    quiet_sent_seconds: float | None = None
    stop_sent_seconds: float | None = None
    unconfirmed: bool = False
    by_rollout: bool = False  # the next rollout waits for it, even if this one is given up

    @property
    def phase(self) -> DrainPhase:
        if self.stop_sent_seconds is not None:
            return DrainPhase.STOPPING
        return DrainPhase.UNCONFIRMED if self.unconfirmed else DrainPhase.QUIETING


class Pin(Value, frozen=True, kw_only=True):
    """A person's order, kept for a while (law 6)."""

    wants: reasons.PinKind
    since_seconds: float
    until_seconds: float
    by: Literal["hand", "fleetctl"] = "hand"
    person: Person | None = None  # who ordered it with fleetctl; None: unknown

    @property
    def released(self) -> bool:
        """Whether a person ended it with fleetctl, so what it kept quiet is drained."""
        return self.by == "fleetctl" and self.until_seconds <= self.since_seconds


class InstanceMemory(Value, frozen=True, kw_only=True):
    """What the host's memory says of one instance now."""

    drain: Drain | None = None
    start_ordered: bool = False
    pinned: reasons.PinKind | None = None
    replace: reasons.ReplaceCause | None = None
    unresponsive: bool = False
    unheard: bool = False  # long READY, but has sent no heartbeat yet while others on this host beat
    failed: bool = False  # we stopped it because it did not come up
    released: bool = False  # a person has had its failures forgotten, though systemd still calls it failed


class InstanceView(Value, frozen=True, kw_only=True):
    """One instance, as the decisions see it."""

    key: InstanceKey
    profile: str | None  # None: the scheduler
    state: InstanceState
    threads: int
    claim_connections: int = 0  # 0 without a process, now or soon
    busy_threads: int | None = None  # None: unknown
    quiet: bool = False
    resident_bytes: int | None = None
    state_age_seconds: float = 0.0
    beat_age_seconds: float | None = None
    unit: UnitFacts | None = None
    pinned: reasons.PinKind | None = None
    replace: reasons.ReplaceCause | None = None
    oldest_run_age_seconds: float | None = None
    job_ids: frozenset[str] = frozenset()  # of its running jobs, as far as they could be read
    digest: str | None = None  # of the settings it was started with; None: unknown
    db_pool: int | None = None  # likewise
    redis_known: bool = True
    left_over: bool = False  # the configuration names it no more; then `profile` may have gone as well

    @property
    def is_present(self) -> bool:
        """Whether it has a process, or is about to."""
        if self.state in _GONE:
            return False
        return self.pinned != reasons.PinKind.STOPPED or self.state != InstanceState.PINNED

    @property
    def is_ready(self) -> bool:
        """Whether systemd has heard READY."""
        return self.unit is not None and self.unit.active_state in _READY

    @property
    def is_booting(self) -> bool:
        """Whether it is before READY: systemd says activating, or does not show our start yet."""
        return self.state == InstanceState.STARTING and not self.is_ready

    @property
    def is_capacity(self) -> bool:
        """Whether it is capacity, now or soon."""
        kept_running = self.pinned == reasons.PinKind.RUN and self.state == InstanceState.PINNED
        return self.state in _CAPACITY or kept_running

    @property
    def serves(self) -> bool:
        """Whether it is capacity now: its heartbeat is there, or Redis can't be read."""
        heard = self.beat_age_seconds is not None or not self.redis_known
        return self.is_capacity and self.state != InstanceState.STARTING and heard

    @property
    def lacks_heartbeat(self) -> bool:
        """Whether it runs without a heartbeat, so its work is unknown: none came yet, or Redis has lost them all."""
        running = self.is_capacity or self.state == InstanceState.UNRESPONSIVE
        return running and not self.is_booting and self.beat_age_seconds is None

    @property
    def learnt_under(self) -> str:
        """The name under which its boot time and size are learnt: its profile's, or SCHEDULER_PROFILE."""
        return self.profile or SCHEDULER_PROFILE


def state_of(
    unit: UnitFacts | None,
    process: ProcessFacts | None,
    memory: InstanceMemory,
    *,
    sidekiq_known: bool,
    stalled: bool = False,
) -> InstanceState:
    """The named state. A start of ours that systemd does not show yet counts as starting, so that it has its claim."""
    if unit is not None and memory.drain is None and _is_restarted(unit):
        return InstanceState.STARTING
    if unit is None or unit.active_state == "inactive":
        if memory.start_ordered:
            return InstanceState.STARTING if memory.drain is None else InstanceState.STOPPING
        if memory.pinned == reasons.PinKind.STOPPED:
            return InstanceState.PINNED
        return InstanceState.FAILED if memory.failed else InstanceState.STOPPED
    if unit.active_state == "failed":
        return InstanceState.STOPPED if memory.released else InstanceState.FAILED
    if unit.active_state == "deactivating":
        return InstanceState.STOPPING
    if unit.active_state == "activating":
        # Restarted by systemd in mid-drain: it still leaves, so it is no capacity.
        return InstanceState.STARTING if memory.drain is None else InstanceState.STOPPING
    if memory.drain is not None:
        return _leaving(memory.drain, process)
    if process is not None and process.quiet:
        return InstanceState.PINNED if memory.pinned == reasons.PinKind.QUIET else InstanceState.DRAINING
    young = unit.state_age_seconds < FIRST_BEAT_SECONDS
    if process is None and sidekiq_known and (young or memory.unheard):
        return InstanceState.STARTING
    return _running(memory, stalled=stalled)


def _is_restarted(unit: UnitFacts) -> bool:
    """Whether it is down, or stops, and systemd is about to start it again: then no other takes its place."""
    if unit.active_state == "deactivating":
        return unit.job in {"", "restart", "try-restart"}  # none: systemd itself ends it, and Restart=always
    return unit.active_state == "inactive" and unit.job in {"start", "restart", "try-restart"}


def _running(memory: InstanceMemory, *, stalled: bool) -> InstanceState:
    if memory.unresponsive:
        return InstanceState.UNRESPONSIVE
    if memory.pinned == reasons.PinKind.RUN:
        return InstanceState.PINNED
    if stalled:
        return InstanceState.STALLED
    outdated = {reasons.ReplaceCause.OUTDATED, reasons.ReplaceCause.UNCONFIGURED}
    return InstanceState.OUTDATED if memory.replace in outdated else InstanceState.SERVING


def _leaving(drain: Drain, process: ProcessFacts | None) -> InstanceState:
    if drain.phase == DrainPhase.STOPPING:
        return InstanceState.STOPPING
    if process is not None and process.quiet:
        return InstanceState.DRAINING
    unconfirmed = drain.phase == DrainPhase.UNCONFIRMED
    return InstanceState.UNDRAINABLE if unconfirmed else InstanceState.QUIETING


class SeenUnit(Value, frozen=True, kw_only=True):
    """What is known of one unit: systemd's facts, its present process's heartbeat, the host's memory of it."""

    key: InstanceKey
    unit: UnitFacts | None
    process: ProcessFacts | None
    memory: InstanceMemory
    stalled: bool = False  # it lives but finishes nothing (core/evidence)
    left_over: RenderedSettings | None = None  # its settings, where the configuration names it no more


def view_of(policy: Policy, seen: SeenUnit, host: HostFacts | None, redis_age_seconds: float | None) -> InstanceView:
    """One instance in its state. `redis_age_seconds`: age of the reading of Redis; None: Redis is unknown."""
    profile, left = policy.profile_of(seen.key), seen.left_over
    unit, process, sizes = seen.unit, seen.process, profile or policy.scheduler
    threads, claim = sizes.threads, sizes.claim_connections
    if left is not None and left.threads:
        threads, claim = left.threads, min(left.db_pool, left.threads + CLAIM_MARGIN_CONNECTIONS)
    redis_known = redis_age_seconds is not None
    view = InstanceView(
        key=seen.key,
        profile=left.profile if left is not None else profile.name if profile else None,
        state=state_of(unit, process, seen.memory, sidekiq_known=redis_known, stalled=seen.stalled),
        threads=threads,
        state_age_seconds=unit.state_age_seconds if unit else 0.0,
        unit=unit,
        pinned=seen.memory.pinned,
        replace=seen.memory.replace,
        redis_known=redis_known,
        left_over=left is not None,
    )
    if not view.is_present:  # systemd outranks a heartbeat, which outlives its process by 60 s
        return view
    # Memory of its cgroup, ffmpeg and the like included; else the heartbeat's, of the process alone.
    resident = host.resident_bytes.get(seen.key) if host is not None else None
    if process is None:
        return structs.replace(view, claim_connections=claim, resident_bytes=resident)
    age = redis_age_seconds or 0.0
    run_age, tag = process.oldest_run_age_seconds, parse_tag(process.tag)
    return structs.replace(
        view,
        threads=process.threads,
        claim_connections=claim_of(process),
        busy_threads=process.busy_threads,
        quiet=process.quiet,
        resident_bytes=resident if resident is not None else process.resident_bytes,
        beat_age_seconds=process.beat_age_seconds + age,
        oldest_run_age_seconds=run_age + age if run_age is not None else None,
        job_ids=frozenset(job.jid for job in process.jobs if job.jid),
        digest=tag.digest if tag else None,
        db_pool=tag.db_pool if tag else None,
    )


@lru_cache(maxsize=8)
def all_stopped(profiles: tuple[Profile, ...], redis_known: bool) -> dict[InstanceKey, InstanceView]:
    """Every configured instance in the order of numbers, as if all were stopped: most of them are, most of the time."""
    found = {
        key: InstanceView(
            key=key, profile=profile.name, state=InstanceState.STOPPED, threads=profile.threads, redis_known=redis_known
        )
        for profile in profiles
        for key in profile.numbers
    }
    return dict(sorted(found.items()))


S = InstanceState  # for the table
#: What may happen to any process: it is stopped (by a person: pinned), dies and is restarted, or has died too often.
_ENDS = frozenset({S.STOPPING, S.STOPPED, S.PINNED, S.STARTING, S.FAILED})
#: How an instance that serves leaves.
_LEAVES = frozenset({S.QUIETING, S.DRAINING})

#: Which state may follow which from one punctual tick to the next. A state that lasts less than a tick may be skipped
#: (serving to draining: quieted, and confirmed within the tick). What people and systemd may do at any time is in every
#: row.
TRANSITIONS: dict[InstanceState, frozenset[InstanceState]] = {
    S.STOPPED: frozenset({S.STARTING, S.PINNED, S.FAILED}),
    S.FAILED: frozenset({S.STARTING, S.STOPPED, S.PINNED}),
    S.STARTING: frozenset({S.SERVING, S.OUTDATED, S.STALLED}) | _LEAVES | _ENDS,
    S.SERVING: frozenset({S.OUTDATED, S.UNRESPONSIVE, S.STALLED}) | _LEAVES | _ENDS,
    S.OUTDATED: frozenset({S.SERVING, S.UNRESPONSIVE, S.STALLED}) | _LEAVES | _ENDS,
    S.PINNED: frozenset({S.SERVING, S.OUTDATED, S.UNRESPONSIVE, S.STALLED}) | _LEAVES | _ENDS,
    S.UNRESPONSIVE: frozenset({S.SERVING, S.OUTDATED, S.STALLED}) | _LEAVES | _ENDS,
    S.STALLED: frozenset({S.SERVING, S.OUTDATED, S.UNRESPONSIVE}) | _LEAVES | _ENDS,
    # Quiet can't be undone: only a new process leads back to serving.
    S.QUIETING: frozenset({S.DRAINING, S.UNDRAINABLE}) | _ENDS,
    S.UNDRAINABLE: frozenset({S.DRAINING}) | _ENDS,
    S.DRAINING: _ENDS,
    # Back to quieting: our stop of a boot got lost, and the instance serves.
    S.STOPPING: _LEAVES | _ENDS - {S.STOPPING},
}
