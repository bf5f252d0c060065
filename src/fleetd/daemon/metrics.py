"""Metrics: a Prometheus registry that shows the last tick's Status (law 8: the same as status and log say).

A new gauge is a line in a table below: the end of its name, its help, and where its value is in the Status.

Label values from outside are bounded over time (labels.py).

An unknown reading has no sample. It is never shown as zero, and an alert on it is `absent()` or
`fleetd_source_up == 0`. When a queue, profile or instance goes, its series go too. Closed sets (reasons, steps, states,
sources) are always complete and begin at zero, so that a rate sees the first event.
"""

from __future__ import annotations

import math
import threading
from collections import Counter as Tally
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias, TypeVar, get_args, get_type_hints

from msgspec.structs import replace
from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, disable_created_metrics
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from fleetd.core.model.decision import InstanceState, Verb
from fleetd.core.model.reasons.base import ClampCode
from fleetd.core.model.status import (
    ClaimStatus,
    ConnectionSourceStatus,
    HoldKind,
    InstanceStatus,
    OverrideStatus,
    ProfileStatus,
    QueueStatus,
    SourceStatus,
    Status,
    StepStatus,
    WouldVerb,
)
from fleetd.daemon.labels import BoundedLabels
from fleetd.words.plain import plain

#: Bounds of the label sets; the configuration allows fewer.
ROWS_MAX = 256
LABEL_LENGTH_MAX = 128
TICK_BUCKETS_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_STATES = tuple(state.value for state in InstanceState)
_VERBS: tuple[str, ...] = get_args(Verb)
_RESULTS: tuple[str, ...] = get_args(get_type_hints(StepStatus)["result"])
_WOULD: tuple[str, ...] = get_args(WouldVerb)
_HOLDS: tuple[str, ...] = get_args(HoldKind)

Row = TypeVar("Row")
#: The end of the name, the help, and the value of a row; None: unknown, so there is no sample.
Columns: TypeAlias = Sequence[tuple[str, str, Callable[[Row], float | None]]]
#: Labels and a value.
Count: TypeAlias = tuple[tuple[str, ...], float]

_STATUS: Columns[Status] = (
    ("database_saturated", "1: more workers would not help.", lambda s: bool(s.connections.saturation)),
    (
        "others_unattributable",
        "1: others' connections can't be told from the workers', so they should be declared.",
        lambda s: bool(s.connections.unattributable),
    ),
    ("scheduler_processes", "Live processes on the scheduler queue; there must be 1.", lambda s: s.scheduler.processes),
    (
        "ghost_heartbeats",
        "Heartbeats in Redis of processes that no longer live.",
        lambda s: s.ghost_heartbeats,
    ),
    ("retry_jobs", "Jobs that failed and wait for another try.", lambda s: s.jobs.retry_jobs),
    ("dead_jobs", "Jobs that failed too often and were given up.", lambda s: s.jobs.dead_jobs),
    ("scheduled_jobs", "Jobs that wait for their time.", lambda s: s.jobs.scheduled_jobs),
    ("memory_available_bytes", "Memory free without swapping (MemAvailable).", lambda s: s.memory_available_bytes),
    ("memory_total_bytes", "Memory of this host.", lambda s: s.memory_total_bytes),
    (
        "host_memory_stalled_ratio",
        "Share of the last minute in which all work on this host waited for memory.",
        lambda s: None if s.pressure is None else s.pressure.memory_stalled_share,
    ),
    (
        "host_cpu_waiting_ratio",
        "Share of the last minute in which work on this host waited for a core.",
        lambda s: None if s.pressure is None else s.pressure.cpu_waiting_share,
    ),
    ("paused", "1: people paused fleetd.", lambda s: any(hold.kind == "pause" for hold in s.holds)),
    ("observes", "1: it only observes, and starts and stops only what people order.", lambda s: s.mode == "observe"),
    ("problems", "Things that need a person, such as a refused configuration.", lambda s: len(s.problems)),
    ("warnings", "Things that readings show to be wrong, such as a clock.", lambda s: len(s.warnings)),
    ("tick_age_seconds", "Time since the last tick ended.", lambda s: s.tick_age_seconds),
    ("uptime_seconds", "Time since fleetd started.", lambda s: s.uptime_seconds),
)
_CONNECTIONS: Columns[Status] = (  # of the tightest source
    (
        "limit",
        "Connections an ordinary role can reach, or fewer by configuration.",
        lambda s: s.connections.limit_connections,
    ),
    ("reserve", "Connections kept free by configuration.", lambda s: s.connections.reserve_connections),
    ("others", "Connections set aside for everybody else.", lambda s: s.connections.others_connections),
    ("claims", "Connections that running instances may open.", lambda s: s.connections.claims_connections),
    ("headroom", "Connections that may still be claimed.", lambda s: s.connections.headroom_connections),
    ("open", "All clients now.", lambda s: s.connections.open_connections),
)
_QUEUE: Columns[QueueStatus] = (
    ("latency_seconds", "How long the oldest job has waited; 0: empty.", lambda q: q.latency_seconds),
    ("target_seconds", "The longest wait wanted; absent: it may wait for ever.", lambda q: q.target_seconds),
    ("length_jobs", "Jobs waiting.", lambda q: q.length_jobs),
    ("busy_threads", "Threads at work on the queue, over the whole fleet.", lambda q: q.busy_threads),
    ("need_threads", "Threads the queue needs, as estimated.", lambda q: q.need_threads),
)
_PROFILE: Columns[ProfileStatus] = (
    ("admitted", "Instances this host should have, after every clamp.", lambda p: p.admitted_instances),
    ("needed", "Instances the queues need, before any clamp.", lambda p: p.needed_instances),
    ("min", "Fewest instances, as configured.", lambda p: p.min_instances),
    ("max", "Most instances, as configured.", lambda p: p.max_instances),
)
_INSTANCE: Columns[InstanceStatus] = (
    ("resident_bytes", "Memory an instance holds.", lambda i: i.resident_bytes),
    ("busy_threads", "Threads of an instance at work.", lambda i: i.busy_threads),
    ("threads", "All threads of an instance.", lambda i: i.threads),
)
_SOURCE: Columns[SourceStatus] = (
    ("up", "1: the last reading succeeded; 0: it is unknown, and the log says why.", lambda s: s.ok),
    ("age_seconds", "Age of the last good reading.", lambda s: s.age_seconds),
)
_CONNECTION_SOURCE: Columns[ConnectionSourceStatus] = (
    ("limit", "Connections an ordinary role can reach, or client slots.", lambda s: s.limit_connections),
    ("others", "Connections set aside for everybody else.", lambda s: s.others_connections),
    ("others_seen", "Everybody else's connections, as seen now.", lambda s: s.others_seen_connections),
    ("others_peak", "The fading peak of everybody else's connections.", lambda s: s.others_peak_connections),
    (
        "others_declared",
        "Declared connections, plus what Sidekiq processes that fleetd did not render may open.",
        lambda s: s.others_declared_connections,
    ),
    (
        "others_bound",
        "What growth is checked against: more than others where ours can't be told from theirs.",
        lambda s: s.others_bound_connections,
    ),
    ("claims", "Connections that all rendered processes may open there.", lambda s: s.claims_connections),
    ("headroom", "Connections that may still be claimed.", lambda s: s.headroom_connections),
    ("open", "All clients now.", lambda s: s.open_connections),
    ("refused", "1: it takes no more clients.", lambda s: s.refused),
    ("pool", "Size of PgBouncer's pool for Mastodon.", lambda s: s.pool_connections),
    ("pool_active", "Server connections of that pool at work.", lambda s: s.active_servers),
    ("waiting_clients", "Clients that wait for a server connection of that pool.", lambda s: s.waiting_clients),
    ("longest_wait_seconds", "The longest wait for a server connection.", lambda s: s.longest_wait_seconds),
)
_CLAIM: Columns[ClaimStatus] = (("connections", "Connections its instances may open.", lambda c: c.connections),)
_OVERRIDE: Columns[OverrideStatus] = (
    ("left_seconds", "How long a person's order still holds.", lambda o: o.seconds_left),
)


def _one(help_text: str) -> Columns[Count]:
    return (("", help_text, lambda count: count[1]),)


class Table(NamedTuple):
    """Gauges with the same labels: one family for each column, one sample for each row."""

    prefix: str
    labels: tuple[str, ...]
    rows: Callable[[Status], Iterable[Any]]
    labels_of: Callable[[Any], Iterable[str]]
    columns: Columns[Any]


def _whole(status: Status) -> Iterable[Status]:
    return (status,)


def _counted(count: Count) -> Iterable[str]:
    return count[0]


def _instances(status: Status) -> Iterator[Count]:
    """Every state of every profile, so that a sum is never short of a state; none while systemd is unknown."""
    counts = Tally((i.profile, i.state) for i in status.instances)
    known = (p.name for p in status.profiles if p.running_instances is not None)
    profiles = dict.fromkeys([*known, *(i.profile for i in status.instances)])
    return (((profile, state), counts[profile, state]) for profile in profiles for state in _STATES)


def _clamps_active(status: Status) -> Iterator[Count]:
    active = Tally(clamp.code.value for clamp in status.clamps)
    return (((code.value,), active[code.value]) for code in ClampCode)


def _holds(status: Status) -> Iterator[Count]:
    held = {hold.kind for hold in status.holds}
    return (((kind,), kind in held) for kind in _HOLDS)


def _rollout(status: Status) -> Iterator[Count]:
    if status.rollout is not None:
        yield ("total",), status.rollout.total_instances
        yield ("done",), status.rollout.done_instances


def _would(status: Status) -> Iterator[Count]:
    wishes: Tally[str] = Tally()
    for wish in status.would:
        wishes[wish.verb] += len(wish.keys)
    return (((verb,), wishes[verb]) for verb in _WOULD)


def _headroom(status: Status) -> Iterator[Count]:
    return (((profile,), more) for profile, more in status.connections.more_instances.items())


TABLES = (
    Table("fleetd_", (), _whole, lambda s: (), _STATUS),
    Table("fleetd_connections_", (), _whole, lambda s: (), _CONNECTIONS),
    Table("fleetd_queue_", ("queue",), lambda s: s.queues, lambda q: (q.name,), _QUEUE),
    Table("fleetd_instances_", ("profile",), lambda s: s.profiles, lambda p: (p.name,), _PROFILE),
    Table(
        "fleetd_instance_",
        ("profile", "instance"),
        lambda s: s.instances,
        lambda i: (i.profile, str(i.number)),
        _INSTANCE,
    ),
    Table("fleetd_source_", ("source",), lambda s: s.sources, lambda s: (s.name,), _SOURCE),
    Table(
        "fleetd_connection_source_",
        ("source",),
        lambda s: s.connections.sources,
        lambda s: (s.name,),
        _CONNECTION_SOURCE,
    ),
    Table(
        "fleetd_claim_",
        ("host", "profile"),
        lambda s: s.connections.claims,
        lambda c: (c.host, c.profile or "unknown"),
        _CLAIM,
    ),
    Table("fleetd_override_", ("kind", "what"), lambda s: s.overrides, lambda o: (o.kind, o.what), _OVERRIDE),
    Table("fleetd_instances", ("profile", "state"), _instances, _counted, _one("Instances of this host by state.")),
    Table(
        "fleetd_instances_headroom",
        ("profile",),
        _headroom,
        _counted,
        _one("Instances that the headroom allows if this profile gets all of it."),
    ),
    Table("fleetd_clamps_active", ("reason",), _clamps_active, _counted, _one("Clamps in force at the last tick.")),
    Table("fleetd_hold", ("kind",), _holds, _counted, _one("1: in force, so nothing moves of its own accord.")),
    Table(
        "fleetd_would",
        ("verb",),
        _would,
        _counted,
        _one("Units that it would start, drain, stop or replace now if it did not only observe."),
    ),
    Table(
        "fleetd_rollout_instances",
        ("state",),
        _rollout,
        _counted,
        _one("Instances of the rollout, and how many of them are done; absent an hour after its end."),
    ),
)


def families(table: Table, status: Status) -> Iterator[Metric]:
    """The gauges of a table; a row without a value has no sample."""
    distinct: dict[tuple[str, ...], Any] = {}
    rows_max = ROWS_MAX * (len(_STATES) if "state" in table.labels else 1)
    for row in table.rows(status):
        if len(distinct) == rows_max:
            break
        # The same series twice would make Prometheus refuse the whole scrape.
        distinct.setdefault(tuple(map(_label, table.labels_of(row))), row)
    for name, help_text, value_of in table.columns:
        family = GaugeMetricFamily(table.prefix + name, help_text, labels=table.labels)
        for labels, row in distinct.items():
            value = value_of(row)
            if value is not None and math.isfinite(value):
                family.add_metric(labels, value)
        yield family


def _label(text: str) -> str:
    """A label value that can always be written out and shown, whatever bytes a queue was named with."""
    return plain(text[:LABEL_LENGTH_MAX])


def _counters(status: Status) -> Iterator[Metric]:
    errors = CounterMetricFamily("fleetd_source_errors", "Readings that failed.", labels=["source"])
    for name, total in {source.name: source.errors_total for source in status.sources}.items():
        errors.add_metric([name], total)
    yield errors
    deaths = CounterMetricFamily(
        "fleetd_instance_deaths",
        "Processes that ended although nobody ordered it, since the host's boot.",
        labels=["profile", "cause"],
    )
    for count in status.deaths:
        deaths.add_metric([_label(count.profile), count.cause.value], count.deaths)
    yield deaths
    yield CounterMetricFamily("fleetd_ticks", "Ticks done.", value=status.ticks_total)
    yield CounterMetricFamily(
        "fleetd_tick_failures",
        "Ticks that a bug in fleetd ended before they were done.",
        value=status.tick_failures_total,
    )
    yield _of_redis("fleetd_processed_jobs", "Jobs that ended, failed ones included.", status.jobs.processed_jobs_total)
    yield _of_redis("fleetd_failed_jobs", "Jobs that failed, each try counted.", status.jobs.failed_jobs_total)


def _of_redis(name: str, help_text: str, total: int | None) -> CounterMetricFamily:
    """A counter of Sidekiq's, which begins anew when Redis loses it; it has no sample while it is unknown."""
    family = CounterMetricFamily(name, help_text, labels=())
    if total is not None:
        family.add_metric((), total)
    return family


def _aged(status: Status, seconds: float) -> Status:
    """The same Status, `seconds` later."""
    return replace(
        status,
        tick_age_seconds=status.tick_age_seconds + seconds,
        uptime_seconds=status.uptime_seconds + seconds,
        sources=tuple(
            replace(s, age_seconds=None if s.age_seconds is None else s.age_seconds + seconds) for s in status.sources
        ),
        overrides=tuple(replace(o, seconds_left=max(0.0, o.seconds_left - seconds)) for o in status.overrides),
    )


class Metrics(Collector):
    """A Teller: each tick's Status becomes what a scrape of `registry` shows.

    `now_seconds`: the clock of the ticks. Ages go on growing between ticks, even if no more ticks come.
    Scrapes may come from another thread.
    """

    def __init__(self, *, version: str, now_seconds: Callable[[], float]) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = registry = CollectorRegistry(auto_describe=False)
        self._version = version
        self._now_seconds = now_seconds
        self._lock = threading.Lock()
        self._last: tuple[Status, float] | None = None  # and when it came
        self._labels = BoundedLabels()
        self._queues_left_out = 0
        self._clamps = Counter(
            "fleetd_clamps",
            "Clamps by reason, counted again in each tick they last.",
            ["reason"],
            registry=registry,
        )
        self._steps = Counter(
            "fleetd_steps",
            "Steps on units of this host, by how they went.",
            ["verb", "result"],
            registry=registry,
        )
        self._ticks = Histogram(
            "fleetd_tick_duration_seconds",
            "How long a tick took, from the first reading to the last step.",
            buckets=TICK_BUCKETS_SECONDS,
            registry=registry,
        )
        for code in ClampCode:
            self._clamps.labels(code.value)
        for verb in _VERBS:
            for result in _RESULTS:
                self._steps.labels(verb, result)
        registry.register(self)
        ProcessCollector(registry=registry)

    def tell(self, status: Status) -> None:
        """Show this Status from now on."""
        now = self._now_seconds()
        status, left_out = self._labels.of(status, now)
        with self._lock:
            counted = self._last[0].ticks_total if self._last is not None else 0
            self._last, self._queues_left_out = (status, now), left_out
        if counted == status.ticks_total:
            return  # the same tick again, or one that a bug ended: nothing new to count
        for clamp in status.clamps:
            self._clamps.labels(clamp.code.value).inc()
        for done in status.step_results:
            self._steps.labels(done.verb, done.result).inc()
        self._ticks.observe(status.tick_duration_seconds)

    def collect(self) -> Iterator[Metric]:
        """Everything of the last Status, as prometheus_client asks for it."""
        info = GaugeMetricFamily("fleetd_build_info", "Always 1; the version of fleetd.", labels=["version"])
        info.add_metric([self._version], 1)
        yield info
        with self._lock:
            last, left_out, now = self._last, self._queues_left_out, self._now_seconds()
        if last is not None:
            yield GaugeMetricFamily(
                "fleetd_queues_left_out",
                "Queues without series of their own, because too many names came and went.",
                value=left_out,
            )
            status = _aged(last[0], max(0.0, now - last[1]))
            yield from _counters(status)
            for table in TABLES:
                yield from families(table, status)
