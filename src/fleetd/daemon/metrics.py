"""Metrics: a Prometheus registry that shows the last tick's Status (law 8: the same as status and log say).

An unknown reading has no sample: it is never shown as zero, and an alert on it is `absent()` or
`fleetd_source_up == 0`. Series of a queue, profile or instance that is gone go with it. Closed sets (reasons, steps,
states, sources) are always there in full, at zero, so that a rate begins at the first event.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from fleetd.core.model.decision import ClampCode
from fleetd.core.model.status import Status
from fleetd.daemon.metric_families import RESULTS, TICK_BUCKETS_SECONDS, VERBS, of_status


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
            self._steps.update((done.step.verb, done.result) for done in status.step_results)
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
