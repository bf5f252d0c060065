"""Why a profile has this many instances: what its queues need, what holds the count, what is left for more."""

from __future__ import annotations

from typing import Literal

from fleetd.core.model.facts import Consumer, UnfitUnit, Value
from fleetd.core.model.identity import InstanceKey
from fleetd.core.model.person import Person
from fleetd.core.model.reasons.base import ClampCode, ClampReason, ConnectionSource, Reason

# What is desired (demand/desired.py).


class AtMin(ClampReason, frozen=True, kw_only=True):
    """`whole`: the sum of all hosts' `min`."""

    code = ClampCode.MIN
    min_instances: int
    whole: bool = False


class AtMax(ClampReason, frozen=True, kw_only=True):
    code = ClampCode.MAX
    max_instances: int


class WithinTolerance(ClampReason, frozen=True, kw_only=True):
    code = ClampCode.TOLERANCE
    tolerance: float


class ShrinksByTheMean(ClampReason, frozen=True, kw_only=True):
    code = ClampCode.TOLERANCE
    tolerance: float


class LatencyUnknown(ClampReason, frozen=True, kw_only=True):
    code = ClampCode.LATENCY_UNKNOWN


class SetWhileLatencyUnknown(ClampReason, frozen=True, kw_only=True):
    code = ClampCode.LATENCY_UNKNOWN


class QueuesUnreadable(ClampReason, frozen=True, kw_only=True):
    code = ClampCode.LATENCY_UNKNOWN
    queues: tuple[str, ...]


class HeartbeatsMissing(ClampReason, frozen=True, kw_only=True):
    code = ClampCode.LATENCY_UNKNOWN
    keys: tuple[InstanceKey, ...]


class HeartbeatGarbled(ClampReason, frozen=True, kw_only=True):
    code = ClampCode.LATENCY_UNKNOWN


class QueuesLate(ClampReason, frozen=True, kw_only=True):
    code = ClampCode.HOLD_WINDOW
    queues: tuple[str, ...]


class JustGrew(ClampReason, frozen=True, kw_only=True):
    code = ClampCode.HOLD_WINDOW
    left_seconds: float


class WithinHoldWindow(ClampReason, frozen=True, kw_only=True):
    code = ClampCode.HOLD_WINDOW
    window_seconds: float
    left_seconds: float


class SetByPeople(ClampReason, frozen=True, kw_only=True):
    """`whole`: on all hosts of the fleet together."""

    code = ClampCode.SET
    instances: int
    person: Person | None = None  # None, here and below: unknown
    whole: bool = False


class TakenAwayByHand(ClampReason, frozen=True, kw_only=True):
    code = ClampCode.PINNED
    instances: int


class AddedByHand(ClampReason, frozen=True, kw_only=True):
    code = ClampCode.PINNED
    instances: int


# What holds the whole host (instances/constraints.py).


class Paused(ClampReason, frozen=True, kw_only=True):
    """`whole`: with every host of the fleet. `host`: this host, by an order that the fleet keeps; "": by its own."""

    code = ClampCode.PAUSED
    note: str | None  # what the person wrote
    person: Person | None = None
    whole: bool = False
    host: str = ""


class TargetStopped(ClampReason, frozen=True, kw_only=True):
    """mastodon-sidekiq.target was stopped in this boot, and with it every worker."""

    code = ClampCode.STOPPED
    stopped_seconds: float  # how long ago


class CodeChanged(ClampReason, frozen=True, kw_only=True):
    code = ClampCode.UPGRADE
    version: str | None


class UnitsUpgraded(ClampReason, frozen=True, kw_only=True):
    """An installation changed the workers' unit files."""

    code = ClampCode.UPGRADE
    units: tuple[str, ...]


class MostQuietedByHand(ClampReason, frozen=True, kw_only=True):
    code = ClampCode.PINNED
    quieted_instances: int
    present_instances: int


class UnitUnfit(ClampReason, frozen=True, kw_only=True):
    code = ClampCode.FOREIGN_UNIT
    unfit: UnfitUnit


class UnderMaintenance(ClampReason, frozen=True, kw_only=True):
    """Other hosts do this one's work meanwhile: it drains by the plan, and starts nothing."""

    code = ClampCode.MAINTENANCE
    host: str
    note: str | None
    person: Person | None = None


HoldReason = TargetStopped | Paused | UnderMaintenance | CodeChanged | UnitsUpgraded | MostQuietedByHand | UnitUnfit


class OomHold(ClampReason, frozen=True, kw_only=True):
    code = ClampCode.OOM_KILLED
    left_seconds: float


class MemoryStalled(ClampReason, frozen=True, kw_only=True):
    code = ClampCode.HOST_PRESSURE
    share: float
    limit: float


class MemoryBelowReserve(ClampReason, frozen=True, kw_only=True):
    code = ClampCode.HOST_PRESSURE
    available_bytes: int
    reserve_bytes: int


class CoresShort(ClampReason, frozen=True, kw_only=True):
    code = ClampCode.HOST_PRESSURE
    share: float
    limit: float


class LoadHigh(ClampReason, frozen=True, kw_only=True):
    code = ClampCode.HOST_PRESSURE
    load_per_core: float
    limit: float


MemoryShortage = MemoryStalled | MemoryBelowReserve


# What connections, memory and the database leave (capacity/).


class SystemdUnknown(ClampReason, frozen=True, kw_only=True):
    code = ClampCode.SYSTEMD_UNKNOWN


class UnreadSource(Value, frozen=True, kw_only=True):
    """A source of connections that is watched and could not be read; `why`: the adapter's sentence."""

    source: ConnectionSource
    why: str


class HeadroomUnknown(ClampReason, frozen=True, kw_only=True):
    code = ClampCode.HEADROOM_UNKNOWN
    unread: tuple[UnreadSource, ...]


class HostMemoryUnknown(ClampReason, frozen=True, kw_only=True):
    code = ClampCode.MEMORY_UNKNOWN


class NoMemoryLeft(ClampReason, frozen=True, kw_only=True):
    code = ClampCode.MEMORY


class ClientsRefused(ClampReason, frozen=True, kw_only=True):
    code = ClampCode.CONNECTIONS
    source: ConnectionSource


class LimitSet(Value, frozen=True, kw_only=True):
    """The setting that a limit of connections comes from.

    `by`: max_connections of the server, less what it reserves for superusers; a CONNECTION LIMIT of Mastodon's role or
    database; connections.limit; "": PgBouncer's client slots, of which none are reserved.
    """

    by: Literal["", "server", "role", "database", "configuration"] = ""
    to_connections: int = 0
    reserved_connections: int = 0  # "server" only


class NoConnectionsLeft(ClampReason, frozen=True, kw_only=True):
    code = ClampCode.CONNECTIONS
    source: ConnectionSource
    needed_connections: int
    left_connections: int
    limit_connections: int
    limit_set: LimitSet = LimitSet()
    reserve_connections: int
    others_connections: int
    claimed_connections: int


class ClaimsAboveBudget(ClampReason, frozen=True, kw_only=True):
    code = ClampCode.CONNECTIONS
    source: ConnectionSource
    claimed_connections: int
    budget_connections: int


class ConnectionsOverdrawn(ClampReason, frozen=True, kw_only=True):
    """Others, claims and the reserve exceed the limit of a source (capacity/overdrawn.py).

    `others_by`: how others are counted: as seen, by their fading peak, where they rise to, or as taken by declarations
    and by a Sidekiq that fleetd did not render. `holders`: the largest of what is seen; with `told_apart` False ours
    are among them. `gives_back`: whether instances go for it; "unwatched": Redis can't be read; "kept": by people;
    "closing": what still runs fits, and connections of what is gone are still open.
    """

    code = ClampCode.CONNECTIONS
    source: ConnectionSource
    over_connections: int
    limit_connections: int
    limit_set: LimitSet = LimitSet()
    reserve_connections: int
    others_connections: int
    others_by: Literal["seen", "peak", "rise", "taken"]
    seen_connections: int
    claimed_connections: int
    min_connections: int  # of what is claimed: what min and the scheduler claim in any case
    holders: tuple[Consumer, ...]
    told_apart: bool
    gives_back: Literal["drains", "unwatched", "kept", "min", "closing"]
    going_instances: int = 0

    def alike(self) -> tuple[object, ...]:
        """Who holds them, and how they are counted, moves as the numbers do."""
        return (type(self), self.source, self.gives_back)


class OthersUnattributable(ClampReason, frozen=True, kw_only=True):
    """`foreign_hosts`: of Sidekiq processes that fleetd did not render.

    `nameless`: some of our workers that should bear a name there and don't. Both empty: the source shows no names.
    """

    code = ClampCode.OTHERS_UNATTRIBUTABLE
    source: ConnectionSource
    foreign_hosts: tuple[str, ...]
    nameless: tuple[str, ...] = ()
    bound_connections: int
    others_connections: int


class RoomKeptFor(ClampReason, frozen=True, kw_only=True):
    code = ClampCode.YIELD
    profile: str


class GivesWay(ClampReason, frozen=True, kw_only=True):
    code = ClampCode.YIELD
    profile: str
    to_profile: str


class ShedForMemory(ClampReason, frozen=True, kw_only=True):
    code = ClampCode.HOST_PRESSURE
    shortage: MemoryShortage


class ClientsWait(ClampReason, frozen=True, kw_only=True):
    code = ClampCode.DATABASE_SATURATED
    waiting_clients: int
    pool_connections: int
    longest_wait_seconds: float


class QueriesWait(ClampReason, frozen=True, kw_only=True):
    code = ClampCode.DATABASE_SATURATED
    stalled_queries: int
    active_queries: int


class ThroughputStays(ClampReason, frozen=True, kw_only=True):
    code = ClampCode.DATABASE_SATURATED
    jobs_per_second: float | None


class ThreadsDoLess(ClampReason, frozen=True, kw_only=True):
    code = ClampCode.DATABASE_SATURATED
    threads: float
    useful_threads: float


SaturationSign = ClientsWait | QueriesWait | ThroughputStays | ThreadsDoLess


class GrowthTriedAgain(ClampReason, frozen=True, kw_only=True):
    code = ClampCode.DATABASE_SATURATED
    left_seconds: float


class OneAtATime(ClampReason, frozen=True, kw_only=True):
    """`strained` None: the database was the bottleneck a while ago."""

    code = ClampCode.DATABASE_SATURATED
    strained: QueriesWait | None


class ThroughputComesBack(ClampReason, frozen=True, kw_only=True):
    code = ClampCode.DATABASE_SATURATED


class SteppedBack(ClampReason, frozen=True, kw_only=True):
    code = ClampCode.DATABASE_SATURATED
    saturated: SaturationSign | GrowthTriedAgain


class PoolNearlyAtWork(ClampReason, frozen=True, kw_only=True):
    code = ClampCode.DATABASE_SATURATED
    pool_connections: int
    needed_connections: float
    left_connections: float


# Which queues ask for threads (demand/cause.py).


class QueueNeeds(Reason, frozen=True, kw_only=True):
    """`lasts_seconds`: how long the running instances would take to catch up; None: they never would.

    `latency_seconds` None: unknown. `behind_queue`: in a strict order it waits for that one, which has more to do; "":
    for none.
    """

    queue: str
    length_jobs: int
    behind_queue: str = ""
    behind_jobs: int = 0
    latency_seconds: float | None
    target_seconds: float
    lasts_seconds: float | None


class KeepsBusy(Reason, frozen=True, kw_only=True):
    """`threads`: by queue, the busiest ones only; `rest_threads`: of all other queues."""

    threads: tuple[tuple[str, float], ...]
    rest_threads: float


class OverflowsHere(Reason, frozen=True, kw_only=True):
    threads: float
    from_profiles: tuple[str, ...]


Need = QueueNeeds | KeepsBusy | OverflowsHere


class UnservedQueue(Value, frozen=True, kw_only=True):
    queue: str
    length_jobs: int


class QueuesUnserved(Reason, frozen=True, kw_only=True):
    """No live process serves these, and no profile of this host; the longest first (demand/unserved.py)."""

    queues: tuple[UnservedQueue, ...]


class Wanted(Reason, frozen=True, kw_only=True):
    """`clamp`: the last thing that changed the count; `need` None: no queue played a part in it."""

    admitted_instances: int
    running_instances: int
    needed_instances: int
    need: Need | None
    clamp: Reason | None
