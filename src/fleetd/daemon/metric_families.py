"""The metric families of one Status: names, units and help in one place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import get_args, get_type_hints

from prometheus_client.core import CounterMetricFamily, Metric

from fleetd.core.model.decision import ClampCode, InstanceState, StepResult, Verb
from fleetd.core.model.status import (
    HoldStatus,
    InstanceStatus,
    OverrideStatus,
    ProfileStatus,
    QueueStatus,
    RollStatus,
    SourceStatus,
    Status,
)
from fleetd.daemon.metric_connections import of_connections
from fleetd.daemon.metric_table import ABSENT, ROWS_MAX, Column, table

TICK_BUCKETS_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
VERBS: tuple[str, ...] = get_args(Verb)
RESULTS: tuple[str, ...] = get_args(get_type_hints(StepResult)["result"])
_STATES = tuple(state.value for state in InstanceState)
_HOLDS: tuple[str, ...] = get_args(get_type_hints(HoldStatus)["kind"])


_QUEUE: Sequence[Column[QueueStatus]] = (
    (
        "latency_seconds",
        f"How long the oldest job has waited; 0: empty. {ABSENT}",
        lambda q: q.latency_seconds,
    ),
    ("target_seconds", "The longest wait wanted.", lambda q: q.target_seconds),
    ("length_jobs", f"Jobs waiting. {ABSENT}", lambda q: q.length_jobs),
    (
        "busy_threads",
        f"Threads at work on the queue, over the whole fleet. {ABSENT}",
        lambda q: q.busy_threads,
    ),
    ("need_threads", f"Threads the queue needs, as estimated. {ABSENT}", lambda q: q.need_threads),
)
_PROFILE: Sequence[Column[ProfileStatus]] = (
    ("wanted", f"Instances wanted on this host, after every clamp. {ABSENT}", lambda p: p.wanted_instances),
    ("raw_wanted", f"Instances wanted before any clamp. {ABSENT}", lambda p: p.raw_instances),
    ("min", "Instances the configuration wants at least.", lambda p: p.min_instances),
    ("max", "Instances the configuration allows at most.", lambda p: p.max_instances),
)
_INSTANCE: Sequence[Column[InstanceStatus]] = (
    ("resident_bytes", f"Memory an instance holds. {ABSENT}", lambda i: i.resident_bytes),
    ("busy_threads", f"Threads of an instance at work. {ABSENT}", lambda i: i.busy_threads),
    ("threads", "Threads of an instance.", lambda i: i.threads),
)
_SOURCE: Sequence[Column[SourceStatus]] = (
    (
        "up",
        "1: the last reading of the source succeeded; 0: it is unknown, and why is in the log.",
        lambda s: s.ok,
    ),
)
_SINGLE: Sequence[Column[Status]] = (
    (
        "connections_limit",
        f"Database connections an ordinary role can reach, or the configured limit if lower. {ABSENT}",
        lambda s: s.connections.limit_connections,
    ),
    (
        "connections_reserve",
        f"Database connections kept free by configuration. {ABSENT}",
        lambda s: s.connections.reserve_connections,
    ),
    (
        "connections_others",
        f"Database connections set aside for everybody else. {ABSENT}",
        lambda s: s.connections.others_connections,
    ),
    (
        "connections_claims",
        f"Database connections that running instances may open. {ABSENT}",
        lambda s: s.connections.claims_connections,
    ),
    (
        "connections_headroom",
        f"Database connections that may still be claimed. {ABSENT}",
        lambda s: s.connections.headroom_connections,
    ),
    (
        "connections_open",
        f"Clients the database has now, all of them. {ABSENT}",
        lambda s: s.connections.open_connections,
    ),
    (
        "scheduler_processes",
        f"Live processes that serve the scheduler queue; anything but 1 needs a look. {ABSENT}",
        lambda s: s.scheduler.processes,
    ),
    (
        "memory_available_bytes",
        f"Memory of this host that can be had without swapping (MemAvailable). {ABSENT}",
        lambda s: s.memory_available_bytes,
    ),
    ("memory_total_bytes", f"Memory of this host. {ABSENT}", lambda s: s.memory_total_bytes),
    (
        "host_memory_stalled_ratio",
        f"Share of the last minute in which all work on this host waited for memory. {ABSENT}",
        lambda s: None if s.pressure is None else s.pressure.memory_stalled_share,
    ),
    (
        "host_cpu_waiting_ratio",
        f"Share of the last minute in which work on this host waited for a core. {ABSENT}",
        lambda s: None if s.pressure is None else s.pressure.cpu_waiting_share,
    ),
    (
        "paused",
        "1: people paused fleetd, and nothing moves of its own accord; 0: not.",
        lambda s: any(hold.kind == "pause" for hold in s.holds),
    ),
    (
        "problems",
        "Things that need a person, such as a configuration refused at reload.",
        lambda s: len(s.problems),
    ),
)


def of_status(status: Status, since_seconds: float) -> Iterator[Metric]:
    """Every family of `status`, which was told `since_seconds` ago."""
    yield from table("fleetd_queue_", ["queue"], status.queues, lambda q: [q.name], _QUEUE)
    yield from table("fleetd_instances_", ["profile"], status.profiles, lambda p: [p.name], _PROFILE)
    yield from table(
        "fleetd_instance_",
        ["profile", "instance"],
        status.instances,
        lambda i: [i.profile, str(i.number)],
        _INSTANCE,
    )
    yield from table("fleetd_", [], [status], lambda _: [], _SINGLE)
    yield from of_connections(status)
    yield _instances(status)
    yield _clamps_active(status)
    yield from _people(status, since_seconds)
    yield from _sources(status, since_seconds)
    yield from _ticks(status, since_seconds)


def _instances(status: Status) -> Metric:
    """Every state of every profile, so that a sum is never short of a state; none while systemd is unknown."""
    counts = Counter((i.profile, i.state) for i in status.instances)
    known = (p.name for p in status.profiles if p.running_instances is not None)
    profiles = list(dict.fromkeys([*known, *(i.profile for i in status.instances)]))
    rows = [(profile, state) for profile in profiles[:ROWS_MAX] for state in _STATES]
    return next(
        table(
            "fleetd_",
            ["profile", "state"],
            rows,
            list,
            [("instances", f"Instances of this host by state. {ABSENT}", lambda row: counts[row])],
            rows_max=ROWS_MAX * len(_STATES),
        )
    )


def _clamps_active(status: Status) -> Metric:
    active = Counter(clamp.code.value for clamp in status.clamps)
    return next(
        table(
            "fleetd_",
            ["reason"],
            list(ClampCode),
            lambda code: [code.value],
            [("clamps_active", "Clamps in force at the last tick.", lambda code: active[code.value])],
        )
    )


def _people(status: Status, since_seconds: float) -> Iterator[Metric]:
    """What holds, what people ordered, and how far a replacement is."""
    held = {hold.kind for hold in status.holds}
    yield from table(
        "fleetd_",
        ["kind"],
        _HOLDS,
        lambda kind: [kind],
        [("hold", "1: for this nothing moves of its own accord; 0: not.", lambda kind: kind in held)],
    )
    left: Column[OverrideStatus] = (
        "left_seconds",
        "Time for which an order of a person is still kept; gone when it is.",
        lambda o: max(0.0, o.seconds_left - since_seconds),
    )
    yield from table(
        "fleetd_override_", ["kind", "what"], status.overrides, lambda o: [o.kind, o.what], [left]
    )
    roll = status.roll
    rows: list[tuple[str, RollStatus]] = [] if roll is None else [("total", roll), ("done", roll)]
    far: Column[tuple[str, RollStatus]] = (
        "instances",
        "Instances to be replaced one by one, and how many are; gone an hour after the end.",
        lambda row: row[1].total_instances if row[0] == "total" else row[1].done_instances,
    )
    yield from table("fleetd_roll_", ["state"], rows, lambda row: [row[0]], [far])


def _sources(status: Status, since_seconds: float) -> Iterator[Metric]:
    ages: Column[SourceStatus] = (
        "age_seconds",
        "Age of the last good reading. Absent: none yet.",
        lambda s: None if s.age_seconds is None else s.age_seconds + since_seconds,
    )
    yield from table("fleetd_source_", ["source"], status.sources, lambda s: [s.name], [*_SOURCE, ages])
    errors = CounterMetricFamily("fleetd_source_errors", "Readings that failed.", labels=["source"])
    for name, total in {source.name: source.errors_total for source in status.sources}.items():
        errors.add_metric([name], total)
    yield errors


def _ticks(status: Status, since_seconds: float) -> Iterator[Metric]:
    ages: Sequence[Column[Status]] = (
        ("tick_age_seconds", "Time since the last tick ended.", lambda s: s.tick_age_seconds + since_seconds),
        ("uptime_seconds", "Time since fleetd started.", lambda s: s.uptime_seconds + since_seconds),
    )
    yield from table("fleetd_", [], [status], lambda _: [], ages)
    yield CounterMetricFamily("fleetd_ticks", "Ticks done.", value=status.ticks_total)
