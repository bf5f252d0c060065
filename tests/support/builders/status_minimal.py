"""A Status to change for a test."""

from __future__ import annotations

from fleetd.core.model.decision import InstanceState
from fleetd.core.model.status import (
    ConnectionStatus,
    InstanceStatus,
    ProfileStatus,
    QueueStatus,
    SchedulerStatus,
    SourceStatus,
    Status,
)


def queue(name: str = "default", latency_seconds: float | None = 1.5, length_jobs: int | None = 7) -> QueueStatus:
    return QueueStatus(
        name=name,
        latency_seconds=latency_seconds,
        target_seconds=5.0,
        length_jobs=length_jobs,
        busy_threads=3,
        need_threads=4.5,
    )


def profile(name: str = "default-first", wanted: int | None = 2) -> ProfileStatus:
    return ProfileStatus(
        name=name,
        order="strict",
        queues=("default", "push"),
        running_instances=2,
        serving_instances=1,
        admitted_instances=wanted,
        needed_instances=5,
        min_instances=1,
        max_instances=6,
        clamps=(),
    )


def instance(number: int, state: str = InstanceState.SERVING, profile: str = "default-first") -> InstanceStatus:
    return InstanceStatus(
        number=number,
        profile=profile,
        state=state,
        busy_threads=2,
        threads=60,
        resident_bytes=300_000_000,
        state_age_seconds=1.0,
    )


def status(tick: int = 1, **changes: object) -> Status:
    given: dict[str, object] = {
        "version": "1.2.3",
        "host": "worker1",
        "uptime_seconds": 100.0,
        "tick_age_seconds": 0.0,
        "tick_duration_seconds": 0.03,
        "ticks_total": tick,
        "sources": (
            SourceStatus(name="redis", ok=True, age_seconds=0.1),
            SourceStatus(name="postgres", ok=False, age_seconds=None, why="down", errors_total=4),
        ),
        "queues": (queue(),),
        "profiles": (profile(),),
        "instances": (instance(1), instance(2, InstanceState.STARTING)),
        "connections": ConnectionStatus(
            limit_connections=97,
            reserve_connections=10,
            others_connections=20,
            claims_connections=62,
            headroom_connections=5,
            open_connections=31,
        ),
        "scheduler": SchedulerStatus(processes=1, where=("main",), sentence=""),
        "memory_available_bytes": 1000,
        "memory_total_bytes": 4000,
        "clamps": (),
        "step_results": (),
        "last_events": (),
        "next_sentence": "",
        "summary": "",
    }
    return Status(**{**given, **changes})  # type: ignore[arg-type]
