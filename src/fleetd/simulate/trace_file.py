"""The keys of a trace file: type, range and default of each. docs/traces.md explains them."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from fleetd.config.schema import INSTANCES_MAX, Pool, QueueName, Section, Threads

#: Of Sidekiq from 7 on; up to 6.5 it is 5 s.
BEAT_SECONDS = 10
DURATION_SECONDS_MAX = 31 * 86_400.0
POINTS_MAX = 200_000

Points = tuple[tuple[float, float], ...]
Amount = Annotated[float, Meta(ge=0)]


class ServiceSection(Section, frozen=True, kw_only=True):
    mean: Annotated[float, Meta(ge=0.0001, le=86_400)] | None = None
    sigma: Annotated[float, Meta(ge=0, le=4)] = 1.0


class QueueSection(Section, frozen=True, kw_only=True):
    arrivals_per_second: Annotated[Points, Meta(max_length=POINTS_MAX)] = ()
    bursts: Annotated[tuple[tuple[float, float], ...], Meta(max_length=POINTS_MAX)] = ()
    service_seconds: ServiceSection = ServiceSection()


class TraceProfileSection(Section, frozen=True, kw_only=True):
    order: str | None = None
    queues: Annotated[tuple[QueueName, ...], Meta(min_length=1)] | None = None
    weights: dict[str, Annotated[int, Meta(ge=1, le=100)]] | None = None
    threads: Threads = 25
    db_pool: Pool | None = None
    instances: Annotated[int, Meta(ge=1, le=INSTANCES_MAX)] | None = None
    min: Annotated[int, Meta(ge=0, le=INSTANCES_MAX)] | None = None


class DatabaseSection(Section, frozen=True, kw_only=True):
    max_connections: Annotated[int, Meta(ge=1, le=100_000)] = 700
    others: Annotated[Points, Meta(max_length=POINTS_MAX)] = ()
    knee_busy_threads: Annotated[float, Meta(ge=1)] | None = None


class HostSection(Section, frozen=True, kw_only=True):
    memory_bytes: Annotated[float, Meta(ge=1e6)] = 32 * 1024.0**3
    instance_memory_bytes: tuple[float, float] = (300e6, 1000e6)


class FaultSection(Section, frozen=True, kw_only=True):
    at: Amount | None = None
    for_seconds: Amount | None = None
    source: Literal["redis", "postgres", "systemd"] | None = None
    kill_instances: Annotated[int, Meta(ge=1)] | None = None


class TraceFile(Section, frozen=True, kw_only=True):
    name: Annotated[str, Meta(min_length=1, max_length=100)] = "unnamed"
    seed: Annotated[int, Meta(ge=0)] = 1
    duration_seconds: Annotated[float, Meta(ge=60, le=DURATION_SECONDS_MAX)] | None = None
    tick_seconds: Annotated[float, Meta(ge=1, le=60)] = 5.0
    boot_seconds: tuple[float, float] = (12.0, 30.0)
    beat_seconds: Annotated[int, Meta(ge=1, le=30)] = BEAT_SECONDS
    initial_instances: Annotated[int, Meta(ge=0, le=INSTANCES_MAX)] = 1
    targets: dict[str, Annotated[float, Meta(ge=0.1, le=86_400)]] = {}
    queues: dict[str, QueueSection] = {}
    profiles: dict[str, TraceProfileSection] = {}
    database: DatabaseSection = DatabaseSection()
    host: HostSection = HostSection()
    faults: tuple[FaultSection, ...] = ()
