"""What fleetd tells: one value per tick from which `fleetctl status`, the metrics and the log are made.

Saying the same everywhere is the point (law 8), so nothing else is told.
"""

from __future__ import annotations

from typing import Literal

from fleetd.core.decision import Clamp, StepResult
from fleetd.core.facts import Value


class SourceStatus(Value, frozen=True, kw_only=True):
    """One source of readings."""

    name: Literal["redis", "postgres", "systemd", "host"]
    ok: bool
    age_seconds: float | None  # of the last good reading; None: none yet
    why: str = ""  # when not ok
    errors_total: int = 0


class QueueStatus(Value, frozen=True, kw_only=True):
    name: str
    latency_seconds: float | None  # None: unknown
    target_seconds: float
    length_jobs: int | None
    busy_threads: int | None
    need_threads: float | None  # demand


class InstanceStatus(Value, frozen=True, kw_only=True):
    number: int
    profile: str
    state: str  # an InstanceState
    busy_threads: int | None
    threads: int
    resident_bytes: int | None
    state_age_seconds: float | None
    note: str = ""  # "pinned by hand until …", "draining: 2 jobs left"


class ProfileStatus(Value, frozen=True, kw_only=True):
    name: str
    order: str
    queues: tuple[str, ...]
    running_instances: int | None  # serving or starting; None: systemd can't be read
    serving_instances: int | None
    wanted_instances: int | None  # after clamps; None: no decision yet
    raw_instances: int | None
    min_instances: int
    max_instances: int
    clamps: tuple[Clamp, ...]


class ConnectionStatus(Value, frozen=True, kw_only=True):
    limit_connections: int | None
    reserve_connections: int | None  # None, as all of these: unknown now
    others_connections: int | None
    claims_connections: int | None
    headroom_connections: int | None  # limit − reserve − others − claims, not below 0
    open_connections: int | None  # all clients, as Postgres counts them now


class SchedulerStatus(Value, frozen=True, kw_only=True):
    processes: int | None  # live processes on the queue; None: unknown
    where: tuple[str, ...]  # host names as their heartbeats say
    sentence: str
    unit_state: str = ""  # of the unit on this host


class Event(Value, frozen=True, kw_only=True):
    """Something fleetd did or noticed, newest last in a bounded list."""

    age_seconds: float
    sentence: str


class Status(Value, frozen=True, kw_only=True):
    """Everything of one tick; JSON of this is `fleetctl status --json`."""

    version: str
    host: str
    uptime_seconds: float
    tick_age_seconds: float
    tick_duration_seconds: float
    ticks_total: int
    sources: tuple[SourceStatus, ...]
    queues: tuple[QueueStatus, ...]
    profiles: tuple[ProfileStatus, ...]
    instances: tuple[InstanceStatus, ...]
    connections: ConnectionStatus
    scheduler: SchedulerStatus
    memory_available_bytes: int | None
    memory_total_bytes: int | None
    clamps: tuple[Clamp, ...]  # all, those without a profile too
    step_results: tuple[StepResult, ...]  # of this tick
    last_events: tuple[Event, ...]
    next_sentence: str  # what it will do next, or what it waits for
    summary: str  # the STATUS line: one sentence
    problems: tuple[str, ...] = ()  # loud things: configuration refused at reload, …
