"""Jobs a second, retries, dead and scheduled jobs, and failing classes: shown, and nothing is decided by them."""

from __future__ import annotations

from collections import deque

from fleetd.core.model.facts import SidekiqFacts
from fleetd.core.model.status import JobsStatus

#: A rate is taken over this long …
WINDOW_SECONDS = 60.0
#: … and at least over this: each process adds to the counters only when it beats, every 10 s.
WINDOW_SECONDS_MIN = 20.0
_READING_EVERY_SECONDS = 4.0


class CounterRate:
    """How fast a counter in Redis grows."""

    def __init__(self) -> None:
        self._readings: deque[tuple[float, int]] = deque()  # at (CLOCK_BOOTTIME) and total, of the window

    def look(self, at_seconds: float, total: int | None) -> None:
        """Take a reading. A counter that is unknown or fell begins anew: Redis has lost it, or somebody reset it."""
        if total is None or (self._readings and total < self._readings[-1][1]):
            self._readings.clear()
        if total is None:
            return
        while self._readings and not 0.0 <= at_seconds - self._readings[0][0] <= WINDOW_SECONDS:
            self._readings.popleft()
        if not self._readings or at_seconds - self._readings[-1][0] >= _READING_EVERY_SECONDS:
            self._readings.append((at_seconds, total))

    def per_second(self) -> float | None:
        """Over the last minute or what is known of it; None: too short a time."""
        if not self._readings:
            return None
        (first_seconds, first), (last_seconds, last) = self._readings[0], self._readings[-1]
        seconds = last_seconds - first_seconds
        return (last - first) / seconds if seconds >= WINDOW_SECONDS_MIN else None


class JobRates:
    """The rates of Sidekiq's counters, from the readings of one Redis."""

    def __init__(self) -> None:
        self._run_id = ""
        self.processed, self.failed = CounterRate(), CounterRate()

    def look(self, sidekiq: SidekiqFacts | None, now_seconds: float) -> None:
        """Take a reading; None: there is none. `now_seconds`: CLOCK_BOOTTIME."""
        if sidekiq is None:
            return
        if sidekiq.redis_run_id != self._run_id:  # another Redis, or a restarted one that may have lost a little
            self._run_id = sidekiq.redis_run_id
            self.processed, self.failed = CounterRate(), CounterRate()
        self.processed.look(now_seconds, sidekiq.processed_jobs_total)
        self.failed.look(now_seconds, sidekiq.failed_jobs_total)


def jobs_status(sidekiq: SidekiqFacts | None, rates: JobRates) -> JobsStatus:
    """What is known of jobs; `sidekiq` None: nothing."""
    if sidekiq is None:
        return JobsStatus()
    return JobsStatus(
        processed_per_second=rates.processed.per_second(),
        failed_per_second=rates.failed.per_second(),
        processed_jobs_total=sidekiq.processed_jobs_total,
        failed_jobs_total=sidekiq.failed_jobs_total,
        retry_jobs=sidekiq.retry_jobs,
        dead_jobs=sidekiq.dead_jobs,
        scheduled_jobs=sidekiq.scheduled_jobs,
        failing_classes=sidekiq.failing_classes,
    )
