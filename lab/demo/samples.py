"""What the demo sees by itself, beside what fleetd says: one sample a second from Redis, systemd and Postgres."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Sample:
    """One look; None: that source gave no answer this time."""

    at_seconds: float
    """Since the story began."""
    waiting_jobs: Mapping[str, int] | None = None
    """Per queue, in Redis."""
    waits_seconds: Mapping[str, float] | None = None
    """Age of the oldest waiting job per queue, in Redis."""
    busy_threads: int | None = None
    retries_jobs: int | None = None
    """Jobs that failed and wait for another try, or are scheduled or dead."""
    serving_instances: int | None = None
    """Units `mastodon-sidekiq@N` that are active, says systemd."""
    starting_instances: int | None = None
    stopping_instances: int | None = None
    schedulers: int | None = None
    """Live processes that serve the queue `scheduler`, by their heartbeats in Redis."""
    connections: int | None = None
    """Client connections in pg_stat_activity, ours included."""

    @property
    def waiting_total(self) -> int | None:
        """Jobs waiting in all queues."""
        return None if self.waiting_jobs is None else sum(self.waiting_jobs.values())

    @property
    def running_instances(self) -> int | None:
        """Instances that are up, on their way up or on their way down."""
        parts = (self.serving_instances, self.starting_instances, self.stopping_instances)
        known = [part for part in parts if part is not None]
        return sum(known) if len(known) == len(parts) else None

    @property
    def idle(self) -> bool:
        """Known to have no job waiting, running or put off."""
        return (self.waiting_total, self.busy_threads, self.retries_jobs) == (0, 0, 0)


@dataclass
class Samples:
    """All of a run, oldest first; bounded, since --keep and a stuck phase must not grow for ever."""

    taken: list[Sample] = field(default_factory=list)
    taken_max: int = 3600

    def add(self, sample: Sample) -> None:
        """Add the newest."""
        self.taken.append(sample)
        del self.taken[: -self.taken_max]

    @property
    def last(self) -> Sample | None:
        """The newest, if there is one."""
        return self.taken[-1] if self.taken else None


def known(values: Sequence[int | None]) -> list[int]:
    """Those that are known."""
    return [value for value in values if value is not None]
