"""Metrics: a Prometheus registry that shows the last tick's Status (law 8: the same as status and log say).

A new metric is a line in one of the tables below: its name, help and where its value is in the Status.

An unknown reading has no sample: it is never shown as zero, and an alert on it is `absent()` or
`fleetd_source_up == 0`. Series of a queue, profile or instance that is gone go with it. Closed sets (reasons, steps,
states, sources) are always there in full, at zero, so that a rate begins at the first event.
"""

from __future__ import annotations

import math
import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar, get_args, get_type_hints

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from fleetd.core.model.decision import InstanceState, Verb
from fleetd.core.model.reasons.base import ClampCode
from fleetd.core.model.status import (
    ClaimStatus,
    ConnectionSourceStatus,
    HoldStatus,
    InstanceStatus,
    OverrideStatus,
    ProfileStatus,
    QueueStatus,
    RolloutStatus,
    SourceStatus,
    Status,
    StepStatus,
)

#: Bounds of the label sets; the configuration allows fewer.
ROWS_MAX = 256
LABEL_LENGTH_MAX = 128

ABSENT = "Absent: unknown."

Row = TypeVar("Row")
Column = tuple[str, str, Callable[[Row], float | None]]  # name, help, value; None: unknown


def table(
    prefix: str,
    labels: Sequence[str],
    rows: Iterable[Row],
    labels_of: Callable[[Row], Iterable[str]],
    columns: Sequence[Column[Row]],
    *,
    rows_max: int = ROWS_MAX,
) -> Iterator[Metric]:
    """One gauge per column, one sample per row with a value."""
    distinct: dict[tuple[str, ...], Row] = {}
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


_CONNECTION_SOURCE: Sequence[Column[ConnectionSourceStatus]] = (
    (
        "limit",
        "Connections an ordinary role can reach, or client slots of PgBouncer.",
        lambda s: s.limit_connections,
    ),
    ("others", "Set aside for everybody else.", lambda s: s.others_connections),
    ("others_seen", "Of everybody else, as seen now.", lambda s: s.others_seen_connections),
    ("others_peak", "The highest of that lately; it fades.", lambda s: s.others_peak_connections),
    (
        "others_declared",
        "Declared by configuration, with Sidekiq processes that fleetd did not render.",
        lambda s: s.others_declared_connections,
    ),
    (
        "others_bound",
        "What growth is held against: more than others where ours can't be told from theirs.",
        lambda s: s.others_bound_connections,
    ),
    ("claims", "What all that fleetd rendered may open there.", lambda s: s.claims_connections),
    ("headroom", "What may still be claimed.", lambda s: s.headroom_connections),
    ("open", "Clients now, all of them.", lambda s: s.open_connections),
    ("refused", "1: it takes no more clients.", lambda s: s.refused),
    ("pool", f"Size of PgBouncer's pool for Mastodon. {ABSENT}", lambda s: s.pool_connections),
    ("pool_active", f"Server connections of that pool at work. {ABSENT}", lambda s: s.active_servers),
    ("waiting_clients", f"Clients that wait for one of them. {ABSENT}", lambda s: s.waiting_clients),
    ("longest_wait_seconds", f"The longest such wait. {ABSENT}", lambda s: s.longest_wait_seconds),
)
_CLAIM: Sequence[Column[ClaimStatus]] = (
    ("connections", "What its instances may open.", lambda c: c.connections),
)


def of_connections(status: Status) -> Iterator[Metric]:
    """Every family of `status.connections` beside the tightest source's, which has families of its own."""
    told = status.connections
    yield from table(
        "fleetd_connection_source_", ["source"], told.sources, lambda s: [s.name], _CONNECTION_SOURCE
    )
    yield from table(
        "fleetd_claim_", ["host", "profile"], told.claims, lambda c: [c.host, c.profile or "unknown"], _CLAIM
    )
    more: Column[tuple[str, int]] = (
        "affordable_more",
        f"Instances that the connections left would carry, were they all for this profile. {ABSENT}",
        lambda row: row[1],
    )
    yield from table(
        "fleetd_instances_", ["profile"], told.more_instances.items(), lambda row: [row[0]], [more]
    )
    single: Sequence[Column[Status]] = (
        (
            "database_saturated",
            "1: more workers would not help, the database is what everyone waits for.",
            lambda s: bool(s.connections.saturation),
        ),
        (
            "others_unattributable",
            "1: others' connections can't be told from the workers'; declare them.",
            lambda s: bool(s.connections.unattributable),
        ),
    )
    yield from table("fleetd_", [], [status], lambda _: [], single)


TICK_BUCKETS_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
VERBS: tuple[str, ...] = get_args(Verb)
RESULTS: tuple[str, ...] = get_args(get_type_hints(StepStatus)["result"])
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
    ("wanted", f"Instances wanted on this host, after every clamp. {ABSENT}", lambda p: p.admitted_instances),
    ("raw_wanted", f"Instances wanted before any clamp. {ABSENT}", lambda p: p.needed_instances),
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
    roll = status.rollout
    rows: list[tuple[str, RolloutStatus]] = [] if roll is None else [("total", roll), ("done", roll)]
    far: Column[tuple[str, RolloutStatus]] = (
        "instances",
        "Instances to be replaced one by one, and how many are; gone an hour after the end.",
        lambda row: row[1].total_instances if row[0] == "total" else row[1].done_instances,
    )
    yield from table("fleetd_rollout_", ["state"], rows, lambda row: [row[0]], [far])


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


class Metrics:
    """A Teller: each tick's Status becomes what a scrape of `registry` shows.

    `now_seconds`: the clock of the ticks; ages go on growing between ticks, also when no tick comes any more.
    Scrapes may come from another thread.
    """

    def __init__(self, *, version: str, now_seconds: Callable[[], float]) -> None:
        self.registry = CollectorRegistry(auto_describe=False)
        self._shown = _Shown(version, now_seconds)
        self.registry.register(self._shown)
        ProcessCollector(registry=self.registry)

    def tell(self, status: Status) -> None:
        self._shown.tell(status)


class _Shown(Collector):
    def __init__(self, version: str, now_seconds: Callable[[], float]) -> None:
        self._version = version
        self._now_seconds = now_seconds
        self._lock = threading.Lock()
        self._status: Status | None = None
        self._told_at_seconds = 0.0
        self._clamps: Counter[str] = Counter()
        self._steps: Counter[tuple[str, str]] = Counter()
        self._tick_counts = [0] * (len(TICK_BUCKETS_SECONDS) + 1)
        self._tick_sum_seconds = 0.0

    def tell(self, status: Status) -> None:
        with self._lock:
            told_before = self._status is not None and self._status.ticks_total == status.ticks_total
            self._status = status
            self._told_at_seconds = self._now_seconds()
            if told_before:  # the same tick once more: nothing new to count
                return
            self._clamps.update(clamp.code.value for clamp in status.clamps)
            self._steps.update((done.verb, done.result) for done in status.step_results)
            self._tick_counts[bisect_left(TICK_BUCKETS_SECONDS, status.tick_duration_seconds)] += 1
            self._tick_sum_seconds += status.tick_duration_seconds

    def collect(self) -> Iterator[Metric]:
        yield self._build_info()
        with self._lock:
            status = self._status
            since_seconds = max(0.0, self._now_seconds() - self._told_at_seconds)
            counted = [self._clamps_total(), self._steps_total(), self._tick_duration()]
        yield from counted
        if status is not None:
            yield from of_status(status, since_seconds)

    def _build_info(self) -> Metric:
        info = GaugeMetricFamily("fleetd_build_info", "Always 1; the version of fleetd.", labels=["version"])
        info.add_metric([self._version], 1)
        return info

    def _clamps_total(self) -> Metric:
        family = CounterMetricFamily(
            "fleetd_clamps",
            "Times a reason cut a want down (or up), counted anew each tick it lasts.",
            labels=["reason"],
        )
        for code in ClampCode:
            family.add_metric([code.value], self._clamps[code.value])
        return family

    def _steps_total(self) -> Metric:
        family = CounterMetricFamily(
            "fleetd_steps", "Steps taken on units of this host, by how they went.", labels=["verb", "result"]
        )
        for verb in VERBS:
            for result in RESULTS:
                family.add_metric([verb, result], self._steps[verb, result])
        return family

    def _tick_duration(self) -> Metric:
        buckets: list[tuple[str, float]] = []
        below = 0
        for bound, count in zip([*map(str, TICK_BUCKETS_SECONDS), "+Inf"], self._tick_counts, strict=True):
            below += count
            buckets.append((bound, below))
        return HistogramMetricFamily(
            "fleetd_tick_duration_seconds",
            "How long a tick took, from the first reading to the last step.",
            buckets=buckets,
            sum_value=self._tick_sum_seconds,
        )
