"""What is wanted: profiles, targets, limits and paces, as the configuration states them.

The configuration floor builds these; every default and range is documented in config.example.toml.
"""

from __future__ import annotations

from typing import Literal

from fleetd.core.model.facts import Value
from fleetd.core.model.identity import InstanceKey

#: Mastodon's queues by importance (config/sidekiq.yml); `scheduler` is served by the scheduler unit only.
QUEUES_BY_IMPORTANCE = ("default", "push", "ingress", "mailers", "pull", "fasp")
SCHEDULER_QUEUE = "scheduler"


class Profile(Value, frozen=True, kw_only=True):
    """A queue order with its size and the instance numbers it owns on this host."""

    name: str
    order: Literal["strict", "weighted"]
    queues: tuple[tuple[str, int], ...]  # (queue, weight); strict: in order, every weight 1
    threads: int
    db_pool: int
    numbers: tuple[InstanceKey, ...]  # ascending
    min_instances: int
    max_instances: int  # ≤ len(numbers)

    @property
    def claim_connections(self) -> int:
        """Database connections one instance may open: one per thread and a margin, at most its pool."""
        return min(self.db_pool, self.threads + CLAIM_MARGIN_CONNECTIONS)

    def serves(self, queue: str) -> bool:
        return any(name == queue for name, _ in self.queues)


#: Connections beside the worker threads': Sidekiq's own threads lease one now and then (measured: at most 2).
CLAIM_MARGIN_CONNECTIONS = 2


class SchedulerPolicy(Value, frozen=True, kw_only=True):
    """Where the one process on the `scheduler` queue runs (law 1).

    here: this host starts it as soon as none is live. auto: this host takes over after `takeover_seconds` without
    one. elsewhere: never started by this host.
    """

    place: Literal["here", "auto", "elsewhere"] = "auto"
    takeover_seconds: float = 300.0
    threads: int = 10
    db_pool: int = 12
    queues: tuple[str, ...] = (SCHEDULER_QUEUE,)

    @property
    def claim_connections(self) -> int:
        return min(self.db_pool, self.threads + CLAIM_MARGIN_CONNECTIONS)


class DeclaredClaim(Value, frozen=True, kw_only=True):
    """What the configuration says somebody else takes at most."""

    name: str
    connections: int
    on: Literal["database", "replica"] = "database"  # database: where the workers connect, PgBouncer included


class ConnectionPolicy(Value, frozen=True, kw_only=True):
    """The database connections fleetd may claim: limit − reserve − others (law 2)."""

    limit: int | None = (
        None  # None: what the source says; a number lowers it, never raises it; not of a replica
    )
    reserve: int = 10  # kept free for people with psql, backups, migrations; on each source
    declared: tuple[DeclaredClaim, ...] = ()  # web, streaming, …; the observed decaying peak counts if more
    others_peak_half_life_seconds: float = 300.0
    named: bool = True  # ours can be told by application_name, where workers reach Postgres directly

    def declared_connections(self, on: Literal["database", "replica"]) -> int:
        return sum(claim.connections for claim in self.declared if claim.on == on)


class MemoryPolicy(Value, frozen=True, kw_only=True):
    """Memory of this host that workers may use."""

    reserve_bytes: int = 512 * 1024 * 1024  # MemAvailable never planned below this
    instance_bytes: int = 1024 * 1024 * 1024  # what one instance grows to within a day
    max_bytes: int | None = None  # one that holds more for long is replaced; None: its share of the host


class PressurePolicy(Value, frozen=True, kw_only=True):
    """Shares of the last minute in which this host was short of something; above them nothing is added here."""

    memory_max: float = 0.1  # every task waited for memory
    cpu_max: float = 0.8  # a task that could run waited for a core


class PacePolicy(Value, frozen=True, kw_only=True):
    """How fast the fleet may change; the defaults hold everywhere."""

    tick_seconds: float = 5.0
    starts_per_tick: int = 16
    booting_max: int = 16  # Rails boots eat a core each; the configuration's default is the host's cores
    drains_per_tick: int = 1
    hold_down_seconds: float = 300.0
    tolerance: float = 0.1  # band in which nothing moves
    utilisation: float = 0.9  # share of threads planned to be busy
    drain_seconds_max: float = 600.0  # then an ordinary stop
    pin_seconds: float = 4 * 3600.0  # how long a person's start, stop or quiet is kept


class Policy(Value, frozen=True, kw_only=True):
    """All that deciding needs from the configuration of one host."""

    host: str
    profiles: tuple[Profile, ...]  # in order of importance
    targets_seconds: dict[str, float]  # queue to the longest wait wanted; a queue without one: 60
    scheduler: SchedulerPolicy = SchedulerPolicy()
    connections: ConnectionPolicy = ConnectionPolicy()
    memory: MemoryPolicy = MemoryPolicy()
    pressure: PressurePolicy = PressurePolicy()
    pace: PacePolicy = PacePolicy()

    def target_seconds(self, queue: str) -> float:
        return self.targets_seconds.get(queue, 60.0)

    def profile(self, name: str) -> Profile | None:
        return next((p for p in self.profiles if p.name == name), None)

    def profile_of(self, key: InstanceKey) -> Profile | None:
        """The profile that owns this instance; its number says it, so there is nothing to remember."""
        return next((p for p in self.profiles if key in p.numbers), None)
