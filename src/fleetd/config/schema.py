"""Every key of the configuration file: its type, range and default. config.example.toml explains each.

Ranges keep slips of the finger out (a target of 0, 600 threads); they are not advice. Where a default is None it
follows from other keys, which the example states.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from fleetd.core.model.policy import (
    ConnectionPolicy,
    MemoryPolicy,
    PacePolicy,
    PressurePolicy,
    SchedulerPolicy,
)

_SCHEDULER, _CONNECTIONS = SchedulerPolicy(), ConnectionPolicy()
_MEMORY, _PRESSURE, _PACE = MemoryPolicy(), PressurePolicy(), PacePolicy()

INSTANCES_MAX = 64  # per host; every table of instances is bounded by it
PROFILES_MAX = 16
QUEUES_MAX = 64


def _text(pattern: str, description: str) -> Meta:
    return Meta(pattern=pattern, extra_json_schema={"description": description})


#: A queue's name goes onto Sidekiq's command line: no space, comma, quote or dollar can pass.
QueueName = Annotated[
    str, _text(r"^[A-Za-z0-9_][A-Za-z0-9_.:-]{0,63}\Z", "a queue name (letters, digits, _ . : -)")
]
Seconds = Annotated[float, Meta(ge=0.1, le=86_400)]
Threads = Annotated[int, Meta(ge=1, le=200)]
Pool = Annotated[int, Meta(ge=1, le=1000)]
Port = Annotated[int, Meta(ge=1, le=65_535)]
Connections = Annotated[int, Meta(ge=0, le=100_000)]
Share = Annotated[float, Meta(ge=0.01, le=1.0)]
AbsolutePath = Annotated[str, _text(r"^(/[^\x00-\x1f\x7f]{1,250})\Z", "an absolute path")]


class Section(msgspec.Struct, frozen=True, kw_only=True):
    """A table of the file."""


class FleetSection(Section, frozen=True, kw_only=True):
    host: (
        Annotated[
            str, _text(r"^[A-Za-z0-9._-]{1,64}\Z", "1 to 64 letters, digits, dots, dashes or underscores")
        ]
        | None
    ) = None


class MastodonSection(Section, frozen=True, kw_only=True):
    env_file: Annotated[
        str, _text(r"^(/[^\x00-\x1f\x7f:]{1,250})?\Z", 'an absolute path, or "" for none')
    ] = "/home/mastodon/live/.env.production"
    directory: AbsolutePath | None = None
    name_connections: bool | None = None
    role: Annotated[str, Meta(max_length=63)] | None = None
    database: Annotated[str, Meta(max_length=63)] | None = None


class ProfileSection(Section, frozen=True, kw_only=True):
    order: str | None = None
    queues: Annotated[tuple[QueueName, ...], Meta(min_length=1, max_length=QUEUES_MAX)] | None = None
    weights: dict[str, Annotated[int, Meta(ge=1, le=100)]] | None = None
    threads: Threads = 25
    db_pool: Pool | None = None
    instances: Annotated[int | str | tuple[int, ...], Meta(examples=['"1-4"'])] | None = None
    min: Annotated[int, Meta(ge=0, le=INSTANCES_MAX)] | None = None
    max: Annotated[int, Meta(ge=0, le=INSTANCES_MAX)] | None = None


class SchedulerSection(Section, frozen=True, kw_only=True):
    place: Literal["auto", "here", "elsewhere"] = _SCHEDULER.place
    # Less than a minute would take over from a unit that only restarts: a heartbeat lives 60 s (law 1).
    takeover_seconds: Annotated[float, Meta(ge=60, le=86_400)] = _SCHEDULER.takeover_seconds
    threads: Threads = _SCHEDULER.threads
    db_pool: Pool | None = None
    queues: Annotated[tuple[QueueName, ...], Meta(min_length=1, max_length=QUEUES_MAX)] = _SCHEDULER.queues


class ClaimSection(Section, frozen=True, kw_only=True):
    name: Annotated[str, Meta(min_length=1, max_length=64)] = ""
    connections: Connections = 0
    on: Literal["database", "replica"] = "database"


class ConnectionsSection(Section, frozen=True, kw_only=True):
    limit: Annotated[int, Meta(ge=1, le=100_000)] | None = _CONNECTIONS.limit
    reserve: Connections = _CONNECTIONS.reserve
    others: Connections = 0
    claims: tuple[ClaimSection, ...] = ()
    others_peak_half_life_seconds: Seconds = _CONNECTIONS.others_peak_half_life_seconds
    through: Literal["auto", "postgres", "pgbouncer"] = "auto"
    replica: Literal["auto", "none"] = "auto"


class MemorySection(Section, frozen=True, kw_only=True):
    reserve: int | str = _MEMORY.reserve_bytes
    instance: int | str = _MEMORY.instance_bytes
    max: int | str | None = None


class PressureSection(Section, frozen=True, kw_only=True):
    memory_max: Share = _PRESSURE.memory_max
    cpu_max: Share = _PRESSURE.cpu_max


class PaceSection(Section, frozen=True, kw_only=True):
    tick_seconds: Annotated[float, Meta(ge=1, le=60)] = _PACE.tick_seconds
    starts_per_tick: Annotated[int, Meta(ge=1, le=16)] = _PACE.starts_per_tick
    booting_max: Annotated[int, Meta(ge=1, le=INSTANCES_MAX)] | None = None
    drains_per_tick: Annotated[int, Meta(ge=1, le=16)] = _PACE.drains_per_tick
    hold_down_seconds: Annotated[float, Meta(ge=0, le=86_400)] = _PACE.hold_down_seconds
    tolerance: Annotated[float, Meta(ge=0, le=0.5)] = _PACE.tolerance
    utilisation: Annotated[float, Meta(ge=0.1, le=1.0)] = _PACE.utilisation
    drain_seconds_max: Annotated[float, Meta(ge=1, le=86_400)] = _PACE.drain_seconds_max
    pin_seconds: Annotated[float, Meta(ge=0, le=7 * 86_400)] = _PACE.pin_seconds


class HttpSection(Section, frozen=True, kw_only=True):
    listen: Annotated[str, Meta(max_length=255)] = "127.0.0.1:9849"


class LogSection(Section, frozen=True, kw_only=True):
    level: Literal["debug", "info", "warning", "error"] = "info"


class StateSection(Section, frozen=True, kw_only=True):
    directory: AbsolutePath = "/var/lib/fleetd"


class HistorySection(Section, frozen=True, kw_only=True):
    days: Annotated[float, Meta(ge=0, le=366)] = 14.0
    size: int | str = 64 * 1024 * 1024
