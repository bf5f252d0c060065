"""What is shown when a tick ended in a bug: the last status with what is wrong, or one in which all is unknown."""

from __future__ import annotations

from msgspec import structs

from fleetd import __version__
from fleetd.core.model.policy_tables import Policy, Profile
from fleetd.core.model.status import (
    ConnectionStatus,
    Event,
    ProfileStatus,
    QueueStatus,
    SchedulerStatus,
    SourceStatus,
    Status,
)

NEXT_SENTENCE = "nothing: a bug in fleetd ended its last tick, and the next one is tried"


def status_of_failure(
    last: Status | None,
    policy: Policy,
    *,
    sources: tuple[SourceStatus, ...],
    events: tuple[Event, ...],
    problems: tuple[str, ...],
    uptime_seconds: float,
    tick_age_seconds: float,
    tick_failures_total: int,
) -> Status:
    """`last`: the status of the last complete tick, or of the failure before; None: no tick was ever completed.

    `problems`: with the sentence about the bug. `tick_age_seconds`: of the last complete tick.
    """
    return structs.replace(
        _nothing_known(policy) if last is None else last,
        uptime_seconds=uptime_seconds,
        tick_age_seconds=tick_age_seconds,
        sources=sources,
        step_results=(),
        last_events=events,
        problems=problems,
        next_sentence=NEXT_SENTENCE,
        mode=policy.mode,
        would=(),
        summary="a bug in fleetd ends its ticks: nothing is started or stopped, the workers run on",
        tick_failures_total=tick_failures_total,
    )


def _nothing_known(policy: Policy) -> Status:
    queues = dict.fromkeys(queue for profile in policy.profiles for queue, _ in profile.queues)
    return Status(
        version=__version__,
        host=policy.host,
        uptime_seconds=0.0,
        tick_age_seconds=0.0,
        tick_duration_seconds=0.0,
        ticks_total=0,
        sources=(),
        queues=tuple(_queue(name, policy.target_seconds(name)) for name in queues),
        profiles=tuple(map(_profile, policy.profiles)),
        instances=(),
        connections=ConnectionStatus(
            limit_connections=None,
            reserve_connections=None,
            others_connections=None,
            claims_connections=None,
            headroom_connections=None,
            open_connections=None,
        ),
        scheduler=SchedulerStatus(processes=None, where=(), sentence="unknown: no tick was completed yet"),
        memory_available_bytes=None,
        memory_total_bytes=None,
        clamps=(),
        step_results=(),
        last_events=(),
        next_sentence="",
        summary="",
    )


def _queue(name: str, target_seconds: float) -> QueueStatus:
    return QueueStatus(
        name=name,
        latency_seconds=None,
        target_seconds=target_seconds,
        length_jobs=None,
        busy_threads=None,
        need_threads=None,
    )


def _profile(profile: Profile) -> ProfileStatus:
    return ProfileStatus(
        name=profile.name,
        order=profile.order,
        queues=tuple(queue for queue, _ in profile.queues),
        running_instances=None,
        serving_instances=None,
        admitted_instances=None,
        needed_instances=None,
        min_instances=profile.min_instances,
        max_instances=profile.max_instances,
        clamps=(),
    )
