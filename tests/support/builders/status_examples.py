"""Realistic statuses of one worker VM when things go wrong. `ALL` has every example of this and its sister modules.

status_healthy: when all is well. status_instances: what happens to instances. status_connections: what limits them.
"""

from __future__ import annotations

from msgspec.structs import replace

from fleetd.core.model.facts import FailingClass
from fleetd.core.model.reasons.base import ClampCode
from fleetd.core.model.status import ClampStatus, Event, JobsStatus, SchedulerStatus, SourceStatus, Status
from tests.support.builders import status_connections
from tests.support.builders.status_healthy import GIGA, connections_of, healthy, instance, postgres, queue
from tests.support.builders.status_instances import (
    left_over,
    maintenance,
    observing,
    paused,
    rolled,
    rolling,
    sick,
    upgrade,
)


def surge() -> Status:
    """Three in the morning: a relay floods us, and the fleet grew until it ran out of connections."""
    base = healthy()
    clamps = (
        ClampStatus(
            code=ClampCode.CONNECTIONS,
            profile="default-first",
            before_instances=9,
            after_instances=6,
            sentence="an instance claims 62 connections and 37 are left of 700 (others 224, reserve 13)",
        ),
        ClampStatus(
            code=ClampCode.MAX,
            profile="pull-first",
            before_instances=4,
            after_instances=2,
            sentence="max is 2 for this profile",
        ),
    )
    return replace(
        base,
        queues=(
            queue("default", 94.0, 15, 18_240, 212, 402.5),
            queue("push", 44.0, 30, 7_104, 91, 140.0),
            queue("ingress", 26.2, 30, 2_957, 66, 71.0),
            queue("mailers", 0.4, 60, 3, 2, 2.1),
            queue("pull", 1260.0, 300, 91_377, 38, 88.0),
            queue("fasp", 0.0, 300, 0, 0, 0.0),
        ),
        profiles=(
            replace(
                base.profiles[0],
                running_instances=6,
                serving_instances=5,
                admitted_instances=6,
                needed_instances=9,
                clamps=clamps[:1],
            ),
            replace(base.profiles[1], needed_instances=4, clamps=clamps[1:]),
        ),
        instances=(
            instance(1, "default-first", 60, megabytes=912),
            instance(2, "default-first", 60, megabytes=890),
            instance(3, "default-first", 59, megabytes=1224),
            instance(4, "default-first", 60, megabytes=640, age=190.0),
            instance(5, "default-first", 60, megabytes=512, age=130.0),
            instance(6, "default-first", None, state="starting", megabytes=204, age=18.0),
            instance(7, "pull-first", 25, threads=25, megabytes=655),
            instance(8, "pull-first", 25, threads=25, megabytes=610),
        ),
        connections=connections_of(postgres(others=224, claims=426, headroom=37, open_now=612)),
        jobs=replace(
            base.jobs,
            processed_per_second=412.3,
            failed_per_second=0.61,
            failing_classes=(
                FailingClass(name="ActivityPub::DeliveryWorker", failed_jobs=31, processed_jobs=410),
                FailingClass(name="LinkCrawlWorker", failed_jobs=5, processed_jobs=12),
            ),
        ),
        memory_available_bytes=17 * GIGA,
        clamps=clamps,
        last_events=(
            Event(age_seconds=190.0, sentence="Started mastodon-sidekiq@4: default waited 31 s."),
            Event(age_seconds=130.0, sentence="Started mastodon-sidekiq@5: default waited 58 s."),
            Event(age_seconds=18.0, sentence="Started mastodon-sidekiq@6: default waited 80 s."),
        ),
        next_sentence="waits for mastodon-sidekiq@6 to serve; nothing more fits into the connections",
        summary="3 queues wait too long; 8 instances; held by connections",
    )


def redis_down() -> Status:
    """Redis doesn't answer. Nothing is known about queues, so nothing is stopped."""
    base = healthy()
    clamps = tuple(
        ClampStatus(
            code=ClampCode.LATENCY_UNKNOWN,
            profile=profile.name,
            sentence="how long jobs wait is unknown; what runs stays",
        )
        for profile in base.profiles
    )
    return replace(
        base,
        sources=(
            SourceStatus(
                name="redis",
                ok=False,
                age_seconds=94.0,
                why="redis at 10.0.0.5:6379 refused the connection",
                errors_total=19,
            ),
            *base.sources[1:],
        ),
        queues=tuple(queue(q.name, None, q.target_seconds, None, None, None) for q in base.queues),
        jobs=JobsStatus(),
        profiles=tuple(
            replace(p, admitted_instances=None, needed_instances=None, clamps=(c,))
            for p, c in zip(base.profiles, clamps, strict=True)
        ),
        instances=tuple(replace(i, busy_threads=None) for i in base.instances),
        scheduler=SchedulerStatus(
            processes=None,
            where=(),
            sentence="heartbeats can't be read, so nobody knows",
            unit_state="inactive",
        ),
        clamps=clamps,
        last_events=(Event(age_seconds=94.0, sentence="Redis stopped answering."),),
        next_sentence="holds everything until Redis answers again",
        summary="redis can't be read; everything holds",
    )


def scheduler_held() -> Status:
    """The scheduler's host vanished. We take over only after it has been gone for the takeover time."""
    base = healthy()
    return replace(
        base,
        scheduler=SchedulerStatus(
            processes=0,
            where=(),
            sentence="no process serves it since 42 s; this host takes over after 300 s without one",
            unit_state="inactive",
        ),
        clamps=(
            *base.profiles[1].clamps,
            ClampStatus(code=ClampCode.SCHEDULER_TAKEOVER, sentence="main's was seen 42 s ago, it may only restart"),
        ),
        next_sentence="starts mastodon-sidekiq-scheduler here in 258 s if none appears",
    )


def draining() -> Status:
    """The surge is over. One instance drains, one is pinned by a person."""
    base = healthy()
    first = replace(base.profiles[0], running_instances=3, serving_instances=3, admitted_instances=3)
    return replace(
        base,
        profiles=(first, base.profiles[1]),
        instances=(
            *base.instances[:2],
            instance(
                3,
                "default-first",
                2,
                state="draining",
                age=38.0,
                note="draining: 2 jobs left, stops in 9 min at the latest",
            ),
            instance(4, "default-first", 30, note="pinned by hand until 07:12 (fleetctl release 4)"),
            *base.instances[4:],
        ),
        connections=connections_of(postgres(others=224, claims=302, headroom=161, open_now=431)),
        last_events=(Event(age_seconds=38.0, sentence="Quieted mastodon-sidekiq@3: 3 instances do."),),
        next_sentence="stops mastodon-sidekiq@3 once its 2 jobs are done",
    )


def everything_down() -> Status:
    """No reading has ever arrived."""
    base = redis_down()
    return replace(
        base,
        sources=tuple(
            SourceStatus(name=s.name, ok=False, age_seconds=None, why=f"{s.name} gave no answer in 2 s")
            for s in base.sources
        ),
        profiles=tuple(replace(p, running_instances=None, serving_instances=None) for p in base.profiles),
        instances=tuple(
            replace(i, state="unknown", busy_threads=None, resident_bytes=None, state_age_seconds=None)
            for i in base.instances
        ),
        connections=connections_of(),
        memory_available_bytes=None,
        memory_total_bytes=None,
        last_events=(),
    )


def crowd() -> Status:
    """A big host: 40 instances of three profiles, 7 queues."""
    base = surge()
    names = ("default-first", "push-first", "weighted")
    return replace(
        base,
        profiles=tuple(replace(base.profiles[0], name=name, clamps=()) for name in names),
        instances=tuple(instance(n, names[n % 3], n % 61, megabytes=500 + 20 * n) for n in range(1, 41)),
    )


ALL = {
    "healthy": healthy,
    "surge": surge,
    "redis_down": redis_down,
    "scheduler_held": scheduler_held,
    "draining": draining,
    "everything_down": everything_down,
    "crowd": crowd,
    "observing": observing,
    "paused": paused,
    "upgrade": upgrade,
    "maintenance": maintenance,
    "left_over": left_over,
    "rolling": rolling,
    "rolled": rolled,
    "sick": sick,
    **status_connections.ALL,
}
