"""A realistic status of one worker VM when all is well, and builders for other statuses."""

from __future__ import annotations

from typing import Literal

from fleetd.core.model.reasons.base import ClampCode
from fleetd.core.model.reasons.counts import LimitSet
from fleetd.core.model.status import (
    ClampStatus,
    ConnectionSourceStatus,
    ConnectionStatus,
    Event,
    InstanceStatus,
    JobsStatus,
    ProfileStatus,
    QueueStatus,
    SchedulerStatus,
    SourceStatus,
    Status,
)

#: Of fleetd, on all recorded screens.
VERSION = "0.1.0"
GIGA = 1024**3
MEGA = 1024**2
SOURCES: tuple[Literal["redis", "postgres", "systemd", "host"], ...] = (
    "redis",
    "postgres",
    "systemd",
    "host",
)
ORDER = ("default", "push", "ingress", "mailers", "pull", "fasp")


def queue(
    name: str, latency: float | None, target: float | None, length: int | None, busy: int | None, need: float | None
) -> QueueStatus:
    return QueueStatus(
        name=name,
        latency_seconds=latency,
        target_seconds=target,
        length_jobs=length,
        busy_threads=busy,
        need_threads=need,
    )


def instance(
    number: int,
    profile: str,
    busy: int | None,
    *,
    state: str = "serving",
    threads: int = 60,
    megabytes: int | None = 780,
    age: float | None = 86400.0,
    note: str = "",
) -> InstanceStatus:
    return InstanceStatus(
        number=number,
        profile=profile,
        state=state,
        busy_threads=busy,
        threads=threads,
        resident_bytes=None if megabytes is None else megabytes * MEGA,
        state_age_seconds=age,
        note=note,
    )


def postgres(others: int, claims: int, headroom: int, open_now: int) -> ConnectionSourceStatus:
    """Postgres with a limit of 700, of which 13 are reserved. It is the source that binds."""
    return ConnectionSourceStatus(
        name="postgres",
        limit_connections=700,
        limit_set=LimitSet(by="server", to_connections=703, reserved_connections=3),
        reserve_connections=13,
        others_connections=others,
        others_seen_connections=others,
        others_peak_connections=others,
        others_declared_connections=0,
        others_bound_connections=others,
        claims_connections=claims,
        headroom_connections=headroom,
        open_connections=open_now,
        binds=True,
    )


def connections_of(*sources: ConnectionSourceStatus, claims: int | None = None) -> ConnectionStatus:
    """These sources. The first fields have the numbers of the one that binds; `claims` is for when none does."""
    tightest = next((source for source in sources if source.binds), None)
    return ConnectionStatus(
        limit_connections=tightest.limit_connections if tightest else None,
        reserve_connections=tightest.reserve_connections if tightest else None,
        others_connections=tightest.others_connections if tightest else None,
        claims_connections=tightest.claims_connections if tightest else claims,
        headroom_connections=tightest.headroom_connections if tightest else None,
        open_connections=tightest.open_connections if tightest else None,
        sources=sources,
    )


def healthy() -> Status:
    """A calm afternoon: 6 queues, 2 profiles, 8 instances of which 5 run."""
    return Status(
        version=VERSION,
        host="worker1",
        uptime_seconds=12 * 86400.0 + 4000,
        tick_age_seconds=1.8,
        tick_duration_seconds=0.043,
        ticks_total=207_361,
        sources=tuple(SourceStatus(name=n, ok=True, age_seconds=1.8) for n in SOURCES),
        queues=(
            queue("default", 0.3, 15, 12, 31, 33.4),
            queue("push", 0.2, 30, 4, 22, 24.0),
            queue("ingress", 1.4, 30, 57, 41, 44.8),
            queue("mailers", 0.0, 60, 0, 0, 0.2),
            queue("pull", 212.0, 300, 8412, 25, 26.1),
            queue("fasp", 0.0, 300, 0, 0, 0.0),
        ),
        profiles=(
            ProfileStatus(
                name="default-first",
                order="strict",
                queues=ORDER,
                running_instances=3,
                serving_instances=3,
                admitted_instances=3,
                needed_instances=3,
                min_instances=2,
                max_instances=6,
                clamps=(),
            ),
            ProfileStatus(
                name="pull-first",
                order="strict",
                queues=("pull", "default", "push", "ingress", "mailers", "fasp"),
                running_instances=2,
                serving_instances=2,
                admitted_instances=2,
                needed_instances=1,
                min_instances=1,
                max_instances=2,
                clamps=(
                    ClampStatus(
                        code=ClampCode.HOLD_WINDOW,
                        profile="pull-first",
                        before_instances=1,
                        after_instances=2,
                        sentence="one less would do since 2 min; it is stopped once that has held for 5 min",
                    ),
                ),
            ),
        ),
        instances=(
            instance(1, "default-first", 34, megabytes=812),
            instance(2, "default-first", 31, megabytes=790),
            instance(3, "default-first", 29, megabytes=1124),
            instance(4, "default-first", None, state="stopped", megabytes=None, age=3 * 3600.0),
            instance(5, "default-first", None, state="stopped", megabytes=None, age=3 * 3600.0),
            instance(6, "default-first", None, state="stopped", megabytes=None, age=12 * 86400.0),
            instance(7, "pull-first", 13, threads=25, megabytes=655),
            instance(8, "pull-first", 12, threads=25, megabytes=610),
        ),
        connections=connections_of(postgres(others=224, claims=240, headroom=223, open_now=431)),
        scheduler=SchedulerStatus(processes=1, where=("main",), sentence="one process serves it, on main"),
        jobs=JobsStatus(
            processed_per_second=211.4,
            failed_per_second=0.02,
            processed_jobs_total=1_890_432_118,
            failed_jobs_total=21_904_711,
            retry_jobs=1203,
            dead_jobs=88,
            scheduled_jobs=12,
            failing_classes=(),
        ),
        memory_available_bytes=21 * GIGA,
        memory_total_bytes=32 * GIGA,
        clamps=(),
        step_results=(),
        last_events=(
            Event(age_seconds=3 * 3600.0 + 700, sentence="Started mastodon-sidekiq@5: default waited 22 s."),
            Event(age_seconds=3 * 3600.0, sentence="Stopped mastodon-sidekiq@5 after a drain of 41 s."),
            Event(age_seconds=340.0, sentence="Started mastodon-sidekiq@8: pull waited 5 min."),
        ),
        next_sentence="stops mastodon-sidekiq@8 in 3 min if pull stays below its target",
        summary="6 queues within target; 5 instances",
    )
