"""The keys of a trace file: type, range and default of each. docs/traces.md explains them."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from fleetd.config.schema import Section
from fleetd.core.model.policy import INSTANCES_MAX, Pool, QueueName, Threads

#: Of Sidekiq from 7 on; up to 6.5 it is 5 s.
BEAT_SECONDS = 10
DURATION_SECONDS_MAX = 31 * 86_400.0
#: The simulator keeps each second of each queue: about 150 bytes where jobs wait.
QUEUE_DAYS_MAX = 200
POINTS_MAX = 200_000
#: Of a whole trace, all queues together.
JOBS_MAX = 1_000_000_000
RATE_MAX_PER_SECOND = 1_000_000
CONNECTIONS_MAX = 100_000
BYTES_MAX = 1e15


def _shape(description: str, example: str) -> Meta:
    return Meta(extra_json_schema={"description": description}, examples=[example])


def _curve(example: str) -> Meta:
    return Meta(max_length=POINTS_MAX, examples=[example])


Points = tuple[tuple[float, float], ...]
At = Annotated[float, Meta(ge=0, le=DURATION_SECONDS_MAX)]
ArrivalPoint = Annotated[
    tuple[At, Annotated[float, Meta(ge=0, le=RATE_MAX_PER_SECOND)]],
    _shape(f"[at, rate]: from 0 s on, 0 to {RATE_MAX_PER_SECOND:,} jobs a second", "[3600, 90.0]"),
]
Burst = Annotated[
    tuple[At, Annotated[float, Meta(ge=0, le=JOBS_MAX)]],
    _shape(f"[at, jobs]: from 0 s on, 0 to {JOBS_MAX:,} jobs at once", "[1800, 20000]"),
]
OthersPoint = Annotated[
    tuple[At, Annotated[float, Meta(ge=0, le=CONNECTIONS_MAX)]],
    _shape(f"[at, connections]: from 0 s on, 0 to {CONNECTIONS_MAX:,} connections", "[5000, 230]"),
]
BootSeconds = Annotated[float, Meta(ge=0.1, le=86_400)]
BootRange = Annotated[
    tuple[BootSeconds, BootSeconds], _shape("[fastest, slowest], each 0.1 to 86400 seconds", "[12, 30]")
]
InstanceBytes = Annotated[float, Meta(ge=1, le=BYTES_MAX)]
InstanceMemory = Annotated[
    tuple[InstanceBytes, InstanceBytes],
    _shape("[after boot, after a day], each 1 to 1e15 bytes", "[300e6, 1000e6]"),
]


class ServiceSection(Section, frozen=True, kw_only=True):
    mean: Annotated[float, Meta(ge=0.0001, le=86_400, examples=["0.2"])] | None = None
    sigma: Annotated[float, Meta(ge=0, le=4)] = 1.0


class QueueSection(Section, frozen=True, kw_only=True):
    arrivals_per_second: Annotated[tuple[ArrivalPoint, ...], _curve("[[0, 12.0], [3600, 90.0]]")] = ()
    bursts: Annotated[tuple[Burst, ...], _curve("[[1800, 20000]]")] = ()
    service_seconds: ServiceSection = ServiceSection()


class TraceProfileSection(Section, frozen=True, kw_only=True):
    order: str | None = None
    queues: Annotated[tuple[QueueName, ...], Meta(min_length=1)] | None = None
    weights: dict[QueueName, Annotated[int, Meta(ge=1, le=100)]] | None = None
    threads: Threads = 25
    db_pool: Pool | None = None
    instances: Annotated[int, Meta(ge=1, le=INSTANCES_MAX)] | None = None
    min: Annotated[int, Meta(ge=0, le=INSTANCES_MAX)] | None = None


class DatabaseSection(Section, frozen=True, kw_only=True):
    max_connections: Annotated[int, Meta(ge=1, le=CONNECTIONS_MAX)] = 700
    others: Annotated[tuple[OthersPoint, ...], _curve("[[0, 150], [5000, 230]]")] = ()
    knee_busy_threads: Annotated[float, Meta(ge=1, le=CONNECTIONS_MAX)] | None = None


class HostSection(Section, frozen=True, kw_only=True):
    memory_bytes: Annotated[float, Meta(ge=1e6, le=BYTES_MAX)] = 32 * 1024.0**3
    instance_memory_bytes: InstanceMemory = (300e6, 1000e6)


class FaultSection(Section, frozen=True, kw_only=True):
    at: Annotated[float, Meta(ge=0, le=DURATION_SECONDS_MAX, examples=["4000"])] | None = None
    for_seconds: Annotated[float, Meta(ge=1, le=DURATION_SECONDS_MAX, examples=["120"])] | None = None
    source: Annotated[Literal["redis", "postgres", "systemd"], Meta(examples=['"redis"'])] | None = None
    kill_instances: Annotated[int, Meta(ge=1, le=INSTANCES_MAX, examples=["3"])] | None = None


class TraceFile(Section, frozen=True, kw_only=True):
    name: Annotated[str, Meta(min_length=1, max_length=100)] = "unnamed"
    seed: Annotated[int, Meta(ge=0, le=2**63 - 1)] = 1
    duration_seconds: Annotated[float, Meta(ge=60, le=DURATION_SECONDS_MAX, examples=["21600"])] | None = None
    tick_seconds: Annotated[float, Meta(ge=1, le=60)] = 5.0
    boot_seconds: BootRange = (12.0, 30.0)
    beat_seconds: Annotated[int, Meta(ge=1, le=30)] = BEAT_SECONDS
    initial_instances: Annotated[int, Meta(ge=0, le=INSTANCES_MAX)] = 1
    targets: dict[str, Annotated[float, Meta(ge=0.1, le=86_400)]] = {}
    queues: dict[str, QueueSection] = {}
    profiles: dict[str, TraceProfileSection] = {}
    database: DatabaseSection = DatabaseSection()
    host: HostSection = HostSection()
    faults: tuple[FaultSection, ...] = ()
