"""What the admin wants: profiles, targets, limits and paces, as the configuration states them.

The type, default and range of a key are stated only here: the configuration reads `[scheduler]`, `[connections]`,
`[memory]`, `[pressure]` and `[pace]` straight into these structs. A new key is a line here and a paragraph in
config.example.toml; a new table is a struct here and a field of PolicyTables. Ranges catch typing errors (a target of
0, 600 threads); they are not advice.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Literal

from msgspec import Meta

from fleetd.core.model.facts import Value
from fleetd.core.model.identity import InstanceKey

#: Mastodon's queues by importance (config/sidekiq.yml); `scheduler` is served by the scheduler unit only.
QUEUES_BY_IMPORTANCE = ("default", "push", "ingress", "mailers", "pull", "fasp")
SCHEDULER_QUEUE = "scheduler"

INSTANCES_MAX = 64  # of one host; every table of instances is bounded by it
QUEUES_MAX = 64


def size(low_bytes: int, high_bytes: int, words: str) -> Meta:
    """A field in bytes named X_bytes; in the file it is the key X, written as "512 MiB"."""
    return Meta(ge=low_bytes, le=high_bytes, extra={"size": True}, extra_json_schema={"description": f"a size {words}"})


#: Marks a field that is not a key of the file.
NOT_IN_FILE = Meta(extra={"in_file": False})

#: A queue's name goes onto Sidekiq's command line, so spaces, commas, quotes and dollar signs are refused.
QueueName = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.:-]{0,63}\Z",
        extra_json_schema={"description": "a queue name (letters, digits, _ . : -)"},
    ),
]
Seconds = Annotated[float, Meta(ge=0.1, le=86_400)]
#: The longest a job should wait, as a file states it; "none": it may wait for ever.
Target = Seconds | Literal["none"]
Threads = Annotated[int, Meta(ge=1, le=200)]
Pool = Annotated[int, Meta(ge=1, le=1000)]
Connections = Annotated[int, Meta(ge=0, le=100_000)]
Share = Annotated[float, Meta(ge=0.01, le=1.0)]
#: No machine has more than 64 TiB, so a typing error can't switch the limit off.
Size = Annotated[int, size(0, 64 * 1024**4, "from 0 to 64 TiB")]


#: act: fleetd starts and stops instances. observe: it reads, decides and shows all of it, and orders only what people
#: order through it, and what it had begun before (core/instances/observing.py).
Mode = Literal["act", "observe"]


class Profile(Value, frozen=True, kw_only=True):
    """A queue order with its threads, its min and max, and the instance numbers it owns on this host."""

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


#: Connections besides the worker threads': Sidekiq's own threads use one now and then (measured: at most 2).
CLAIM_MARGIN_CONNECTIONS = 2


class SchedulerPolicy(Value, frozen=True, kw_only=True):
    """Where the one process on the `scheduler` queue runs (law 1).

    here: this host starts it as soon as none is live. auto: this host takes over after `takeover_seconds` without
    one. elsewhere: never started by this host.
    """

    place: Literal["auto", "here", "elsewhere"] = "auto"
    # Less than a minute would take over from a unit that only restarts: a heartbeat lives 60 s (law 1).
    takeover_seconds: Annotated[float, Meta(ge=60, le=86_400)] = 300.0
    threads: Threads = 10
    db_pool: Pool = 12  # the configuration's default is threads + 2
    queues: Annotated[tuple[QueueName, ...], Meta(min_length=1, max_length=QUEUES_MAX)] = (SCHEDULER_QUEUE,)

    @property
    def claim_connections(self) -> int:
        return min(self.db_pool, self.threads + CLAIM_MARGIN_CONNECTIONS)


class DeclaredClaim(Value, frozen=True, kw_only=True):
    """The most that somebody else takes, as declared in the configuration."""

    name: Annotated[str, Meta(min_length=1, max_length=64)]
    connections: Annotated[int, Meta(ge=1, le=100_000)]
    on: Literal["database", "replica"] = "database"  # database: where the workers connect, PgBouncer included


class ConnectionPolicy(Value, frozen=True, kw_only=True):
    """The database connections fleetd may claim: limit − reserve − others (law 2)."""

    #: None: the source's own limit. A number can only lower it, and does not apply to a replica.
    limit: Annotated[int, Meta(ge=1, le=100_000)] | None = None
    reserve: Connections = 10  # kept free for people with psql, backups, migrations; on each source
    others_peak_half_life_seconds: Seconds = 300.0
    #: `others` and `claims` of the file: web, streaming, …. If more connections are observed, those count.
    declared: Annotated[tuple[DeclaredClaim, ...], NOT_IN_FILE] = ()
    #: Whether our workers can be told by application_name. They can where they reach Postgres directly.
    named: Annotated[bool, NOT_IN_FILE] = True
    #: Whether Mastodon's settings let its workers prepare statements.
    prepares_statements: Annotated[bool, NOT_IN_FILE] = False

    def declared_connections(self, on: Literal["database", "replica"]) -> int:
        return sum(claim.connections for claim in self.declared if claim.on == on)


class MemoryPolicy(Value, frozen=True, kw_only=True):
    """Memory of this host that workers may use."""

    reserve_bytes: Size = 512 * 1024 * 1024  # MemAvailable is never planned to fall below this
    instance_bytes: Size = 1024 * 1024 * 1024  # what one instance grows to within a day
    max_bytes: Size | None = None  # an instance that holds more for 5 min is replaced; None: its share of the host


class PressurePolicy(Value, frozen=True, kw_only=True):
    """Limits for the share of the last minute in which this host was short of something; above, nothing is added."""

    memory_max: Share = 0.1  # every task waited for memory
    cpu_max: Share = 0.8  # a task that could run waited for a core


class StuckPolicy(Value, frozen=True, kw_only=True):
    """What to do about instances that live but finish nothing."""

    replace: bool = False  # drain them; unfinished jobs are pushed back, each once at most


#: A gap between ticks that is longer than both of these was a freeze, and nobody watched what happened meanwhile.
PUNCTUAL_SECONDS_MAX = 20.0
PUNCTUAL_TICKS = 2.5


class PacePolicy(Value, frozen=True, kw_only=True):
    """How fast the fleet may change; the defaults suit any fleet."""

    tick_seconds: Annotated[float, Meta(ge=1, le=60)] = 5.0
    starts_per_tick: Annotated[int, Meta(ge=1, le=16)] = 16
    #: Each boot of Rails keeps a core busy; the configuration's default is the number of the host's cores, at least 4.
    booting_max: Annotated[int, Meta(ge=1, le=INSTANCES_MAX)] = 16
    drains_per_tick: Annotated[int, Meta(ge=1, le=16)] = 1
    hold_down_seconds: Annotated[float, Meta(ge=0, le=86_400)] = 300.0
    tolerance: Annotated[float, Meta(ge=0, le=0.5)] = 0.1  # band in which nothing moves
    utilisation: Annotated[float, Meta(ge=0.1, le=1.0)] = 0.9  # share of threads planned to be busy
    drain_seconds_max: Annotated[float, Meta(ge=1, le=86_400)] = 600.0  # then an ordinary stop
    #: How long a person's start, stop or quiet is kept.
    pin_seconds: Annotated[float, Meta(ge=0, le=7 * 86_400)] = 4 * 3600.0

    def punctual(self, since_seconds: float | None, now_seconds: float) -> float | None:
        """Seconds since the last tick; None: there was none, or it was so long ago that nobody watched meanwhile."""
        if since_seconds is None:
            return None
        gap = now_seconds - since_seconds
        return gap if 0.0 <= gap <= max(PUNCTUAL_SECONDS_MAX, PUNCTUAL_TICKS * self.tick_seconds) else None


class PolicyTables(Value, frozen=True, kw_only=True):
    """The tables of the configuration file that are policy as they stand."""

    scheduler: SchedulerPolicy = SchedulerPolicy()
    connections: ConnectionPolicy = ConnectionPolicy()
    memory: MemoryPolicy = MemoryPolicy()
    pressure: PressurePolicy = PressurePolicy()
    pace: PacePolicy = PacePolicy()
    stuck: StuckPolicy = StuckPolicy()


class Policy(PolicyTables, frozen=True, kw_only=True):
    """Everything that decisions need from the configuration of one host."""

    host: str
    profiles: tuple[Profile, ...]  # in order of importance
    #: Queue to the longest wait wanted; None: it may wait for ever; a queue that is not in it: 60.
    targets_seconds: dict[str, float | None]
    mode: Mode = "act"

    @property
    def observes(self) -> bool:
        """Whether nothing is started or stopped but what people order."""
        return self.mode == "observe"

    def target_seconds(self, queue: str) -> float:
        """The longest wait wanted; infinite for a queue that may wait for ever."""
        target = self.targets_seconds.get(queue, 60.0)
        return math.inf if target is None else target

    @property
    def min_connections(self) -> int:
        """What every profile's min may open, and the scheduler if this host may run it."""
        scheduler = 0 if self.scheduler.place == "elsewhere" else self.scheduler.claim_connections
        return scheduler + self.instances_min_connections

    @property
    def instances_min_connections(self) -> int:
        """The same without a scheduler."""
        return sum(p.min_instances * p.claim_connections for p in self.profiles)

    def profile(self, name: str) -> Profile | None:
        return next((p for p in self.profiles if p.name == name), None)

    def profile_of(self, key: InstanceKey) -> Profile | None:
        """The profile that owns this instance's number; None: no profile does, as for the scheduler."""
        return next((p for p in self.profiles if key in p.numbers), None)


def targets_seconds(targets: Mapping[str, Target]) -> dict[str, float | None]:
    """Targets as the Policy has them, from those of a file."""
    return {queue: None if target == "none" else target for queue, target in targets.items()}


def target_written(target_seconds: float) -> Target:
    """A target as a file states it."""
    return "none" if math.isinf(target_seconds) else target_seconds
