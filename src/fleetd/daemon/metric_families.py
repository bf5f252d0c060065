"""The metric families of one Status: names, units and help in one place."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar, get_args, get_type_hints

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from fleetd.core.decision import ClampCode, InstanceState, StepResult, Verb
from fleetd.core.status import (
    HoldStatus,
    InstanceStatus,
    OverrideStatus,
    ProfileStatus,
    QueueStatus,
    RollStatus,
    SourceStatus,
    Status,
)

#: Bounds of the label sets; the configuration allows fewer.
ROWS_MAX = 256
LABEL_LENGTH_MAX = 128

TICK_BUCKETS_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
VERBS: tuple[str, ...] = get_args(Verb)
RESULTS: tuple[str, ...] = get_args(get_type_hints(StepResult)["result"])
_STATES = tuple(state.value for state in InstanceState)
_HOLDS: tuple[str, ...] = get_args(get_type_hints(HoldStatus)["kind"])

_Row = TypeVar("_Row")
_Column = tuple[str, str, Callable[[_Row], float | None]]  # name, help, value; None: unknown

_ABSENT = "Absent: unknown."
_QUEUE: Sequence[_Column[QueueStatus]] = (
    (
        "latency_seconds",
        f"How long the oldest job has waited; 0: empty. {_ABSENT}",
        lambda q: q.latency_seconds,
    ),
    ("target_seconds", "The longest wait wanted.", lambda q: q.target_seconds),
    ("length_jobs", f"Jobs waiting. {_ABSENT}", lambda q: q.length_jobs),
    (
        "busy_threads",
        f"Threads at work on the queue, over the whole fleet. {_ABSENT}",
        lambda q: q.busy_threads,
    ),
    ("need_threads", f"Threads the queue needs, as estimated. {_ABSENT}", lambda q: q.need_threads),
)
_PROFILE: Sequence[_Column[ProfileStatus]] = (
    ("wanted", f"Instances wanted on this host, after every clamp. {_ABSENT}", lambda p: p.wanted_instances),
    ("raw_wanted", f"Instances wanted before any clamp. {_ABSENT}", lambda p: p.raw_instances),
    ("min", "Instances the configuration wants at least.", lambda p: p.min_instances),
    ("max", "Instances the configuration allows at most.", lambda p: p.max_instances),
)
_INSTANCE: Sequence[_Column[InstanceStatus]] = (
    ("resident_bytes", f"Memory an instance holds. {_ABSENT}", lambda i: i.resident_bytes),
    ("busy_threads", f"Threads of an instance at work. {_ABSENT}", lambda i: i.busy_threads),
    ("threads", "Threads of an instance.", lambda i: i.threads),
)
_SOURCE: Sequence[_Column[SourceStatus]] = (
    (
        "up",
        "1: the last reading of the source succeeded; 0: it is unknown, and why is in the log.",
        lambda s: s.ok,
    ),
)
_SINGLE: Sequence[_Column[Status]] = (
    (
        "connections_limit",
        f"Database connections an ordinary role can reach, or the configured limit if lower. {_ABSENT}",
        lambda s: s.connections.limit_connections,
    ),
    (
        "connections_reserve",
        f"Database connections kept free by configuration. {_ABSENT}",
        lambda s: s.connections.reserve_connections,
    ),
    (
        "connections_others",
        f"Database connections set aside for everybody else. {_ABSENT}",
        lambda s: s.connections.others_connections,
    ),
    (
        "connections_claims",
        f"Database connections that running instances may open. {_ABSENT}",
        lambda s: s.connections.claims_connections,
    ),
    (
        "connections_headroom",
        f"Database connections that may still be claimed. {_ABSENT}",
        lambda s: s.connections.headroom_connections,
    ),
    (
        "connections_open",
        f"Clients the database has now, all of them. {_ABSENT}",
        lambda s: s.connections.open_connections,
    ),
    (
        "scheduler_processes",
        f"Live processes that serve the scheduler queue; anything but 1 needs a look. {_ABSENT}",
        lambda s: s.scheduler.processes,
    ),
    (
        "memory_available_bytes",
        f"Memory of this host that can be had without swapping (MemAvailable). {_ABSENT}",
        lambda s: s.memory_available_bytes,
    ),
    ("memory_total_bytes", f"Memory of this host. {_ABSENT}", lambda s: s.memory_total_bytes),
    (
        "host_memory_stalled_ratio",
        f"Share of the last minute in which all work on this host waited for memory. {_ABSENT}",
        lambda s: None if s.pressure is None else s.pressure.memory_stalled_share,
    ),
    (
        "host_cpu_waiting_ratio",
        f"Share of the last minute in which work on this host waited for a core. {_ABSENT}",
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
    yield from _table("fleetd_queue_", ["queue"], status.queues, lambda q: [q.name], _QUEUE)
    yield from _table("fleetd_instances_", ["profile"], status.profiles, lambda p: [p.name], _PROFILE)
    yield from _table(
        "fleetd_instance_",
        ["profile", "instance"],
        status.instances,
        lambda i: [i.profile, str(i.number)],
        _INSTANCE,
    )
    yield from _table("fleetd_", [], [status], lambda _: [], _SINGLE)
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
        _table(
            "fleetd_",
            ["profile", "state"],
            rows,
            list,
            [("instances", f"Instances of this host by state. {_ABSENT}", lambda row: counts[row])],
            rows_max=ROWS_MAX * len(_STATES),
        )
    )


def _clamps_active(status: Status) -> Metric:
    active = Counter(clamp.code.value for clamp in status.clamps)
    return next(
        _table(
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
    yield from _table(
        "fleetd_",
        ["kind"],
        _HOLDS,
        lambda kind: [kind],
        [("hold", "1: for this nothing moves of its own accord; 0: not.", lambda kind: kind in held)],
    )
    left: _Column[OverrideStatus] = (
        "left_seconds",
        "Time for which an order of a person is still kept; gone when it is.",
        lambda o: max(0.0, o.seconds_left - since_seconds),
    )
    yield from _table(
        "fleetd_override_", ["kind", "what"], status.overrides, lambda o: [o.kind, o.what], [left]
    )
    roll = status.roll
    rows: list[tuple[str, RollStatus]] = [] if roll is None else [("total", roll), ("done", roll)]
    far: _Column[tuple[str, RollStatus]] = (
        "instances",
        "Instances to be replaced one by one, and how many are; gone an hour after the end.",
        lambda row: row[1].total_instances if row[0] == "total" else row[1].done_instances,
    )
    yield from _table("fleetd_roll_", ["state"], rows, lambda row: [row[0]], [far])


def _sources(status: Status, since_seconds: float) -> Iterator[Metric]:
    ages: _Column[SourceStatus] = (
        "age_seconds",
        "Age of the last good reading. Absent: none yet.",
        lambda s: None if s.age_seconds is None else s.age_seconds + since_seconds,
    )
    yield from _table("fleetd_source_", ["source"], status.sources, lambda s: [s.name], [*_SOURCE, ages])
    errors = CounterMetricFamily("fleetd_source_errors", "Readings that failed.", labels=["source"])
    for name, total in {source.name: source.errors_total for source in status.sources}.items():
        errors.add_metric([name], total)
    yield errors


def _ticks(status: Status, since_seconds: float) -> Iterator[Metric]:
    ages: Sequence[_Column[Status]] = (
        ("tick_age_seconds", "Time since the last tick ended.", lambda s: s.tick_age_seconds + since_seconds),
        ("uptime_seconds", "Time since fleetd started.", lambda s: s.uptime_seconds + since_seconds),
    )
    yield from _table("fleetd_", [], [status], lambda _: [], ages)
    yield CounterMetricFamily("fleetd_ticks", "Ticks done.", value=status.ticks_total)


def _table(
    prefix: str,
    labels: Sequence[str],
    rows: Iterable[_Row],
    labels_of: Callable[[_Row], Iterable[str]],
    columns: Sequence[_Column[_Row]],
    *,
    rows_max: int = ROWS_MAX,
) -> Iterator[Metric]:
    """One gauge per column, one sample per row with a value."""
    distinct: dict[tuple[str, ...], _Row] = {}
    for row in rows:
        if len(distinct) == rows_max:
            break
        # The same series twice would make Prometheus refuse the whole scrape.
        distinct.setdefault(tuple(map(_label, labels_of(row))), row)
    for name, help_text, value_of in columns:
        family = GaugeMetricFamily(prefix + name, help_text, labels=labels)
        for key, row in distinct.items():
            value = value_of(row)
            if value is not None and math.isfinite(value):
                family.add_metric(key, value)
        yield family


def _label(text: str) -> str:
    """A label value that can always be written out, whatever bytes a queue was named with."""
    return text[:LABEL_LENGTH_MAX].encode(errors="replace").decode()
