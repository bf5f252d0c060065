"""What readings show to be wrong with what others wrote into Redis, or with where it was read."""

from __future__ import annotations

from fleetd.core.model.identity import InstanceKey
from fleetd.core.model.reasons.base import ClampCode, ClampReason, Reason


class GhostHeartbeats(Reason, frozen=True, kw_only=True):
    """Heartbeats of processes that no longer live. `identities`: some of them, as they stand in Redis."""

    count: int
    identities: tuple[str, ...]
    still_seconds: float  # of the one that has stood still the longest


class StatementsForgotten(Reason, frozen=True, kw_only=True):
    """Workers prepare statements, and PgBouncer hands each transaction to another connection."""


class ThreadsWithoutConnections(Reason, frozen=True, kw_only=True):
    """An address of Mastodon's gives a worker fewer connections than it has threads."""

    pool_connections: int
    profiles: tuple[str, ...]  # which have more threads; the scheduler too


class ProcessClockWrong(Reason, frozen=True, kw_only=True):
    """`ahead_seconds`: of Redis's clock; below 0: behind."""

    host: str
    ahead_seconds: float


class EnqueuerClockWrong(Reason, frozen=True, kw_only=True):
    """Whoever enqueues jobs into a queue has a wrong clock. `ahead_seconds`: of Redis's; below 0: behind."""

    queue: str
    ahead_seconds: float


class HostNamedTwice(Reason, frozen=True, kw_only=True):
    """Another host runs fleetd's units under this host's name. `hostname`: as its kernel calls it."""

    name: str
    hostname: str
    key: InstanceKey


class FinishesNothing(ClampReason, frozen=True, kw_only=True):
    """`key`: of our own unit; None: a process that is not ours, on `host`. `queue`: it is idle beside this late one."""

    code = ClampCode.STALLED
    key: InstanceKey | None
    host: str
    seconds: float
    threads: int = 0
    job_class: str = ""
    queue: str | None = None


class SchedulerEnqueuesNothing(Reason, frozen=True, kw_only=True):
    seconds: float


class SchedulerQueueLate(Reason, frozen=True, kw_only=True):
    seconds: float


class WorkersBeatElsewhere(Reason, frozen=True, kw_only=True):
    """Our units run, but no heartbeat of theirs is in the Redis that is read."""

    keys: tuple[InstanceKey, ...]
    reads: str  # the address that fleetd reads; "": unknown
    workers: str  # the address in Mastodon's settings; "": the same or unknown


class NamesMissing(Reason, frozen=True, kw_only=True):
    """Workers are busy, but none of Postgres's connections bears their name, so those are not counted by name.

    `names`: some of them, by application_name. `none_seen`: no other worker's name is seen either. `none_open`: nor has
    anybody a connection without a worker's name, so they have none.
    """

    names: tuple[str, ...]
    count: int
    seconds: float
    none_seen: bool
    none_open: bool = False


class PolkitAbsent(Reason, frozen=True, kw_only=True):
    """polkit, which systemd asks whether fleetd may, is not on the bus."""


class PoolerBetween(Reason, frozen=True, kw_only=True):
    """What answers where Postgres was expected is a pooler, so connections there bear no names of workers."""
