"""What the demo sees independently of fleetd: one sample a second from Redis, systemd and Postgres."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Sample:
    """One look. None: that source gave no answer this time."""

    at_seconds: float
    """Seconds since the story began."""
    waiting_jobs: Mapping[str, int] | None = None
    """Jobs in each queue, in Redis."""
    waits_seconds: Mapping[str, float] | None = None
    """The age of each queue's oldest waiting job, in Redis."""
    busy_threads: int | None = None
    retries_jobs: int | None = None
    """Jobs that wait for a retry, are scheduled, or are dead."""
    serving_instances: int | None = None
    """Units `mastodon-sidekiq@N` that are active in systemd."""
    starting_instances: int | None = None
    stopping_instances: int | None = None
    schedulers: int | None = None
    """Live processes that serve the queue `scheduler`, according to their heartbeats in Redis."""
    connections: int | None = None
    """Client connections in pg_stat_activity, including ours."""
    instances_by_host: Mapping[str, int] | None = None
    """Live instances on each host that is up, as observers see them. Where it is taken, counts by state are not."""
    scheduler_hosts: tuple[str, ...] | None = None
    """The hosts on which a scheduler lives, as observers see them."""

    @property
    def waiting_total(self) -> int | None:
        """The number of jobs that wait in all queues."""
        return None if self.waiting_jobs is None else sum(self.waiting_jobs.values())

    @property
    def running_instances(self) -> int | None:
        """The number of instances that are up, starting or stopping."""
        if self.instances_by_host is not None:
            return sum(self.instances_by_host.values())
        parts = (self.serving_instances, self.starting_instances, self.stopping_instances)
        known = [part for part in parts if part is not None]
        return sum(known) if len(known) == len(parts) else None

    @property
    def idle(self) -> bool:
        """Whether it is known that no job waits, runs or is put off."""
        return (self.waiting_total, self.busy_threads, self.retries_jobs) == (0, 0, 0)


@dataclass
class Samples:
    """All samples of a run, oldest first. Bounded, because a run with --keep or a stuck phase can take very long."""

    taken: list[Sample] = field(default_factory=list)
    taken_max: int = 3600

    def add(self, sample: Sample) -> None:
        """Add the newest sample."""
        self.taken.append(sample)
        del self.taken[: -self.taken_max]

    @property
    def last(self) -> Sample | None:
        """The newest sample, if there is one."""
        return self.taken[-1] if self.taken else None


def known(values: Sequence[int | None]) -> list[int]:
    """The values that are known."""
    return [value for value in values if value is not None]
