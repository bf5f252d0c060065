"""How bad each thing is: a queue, a profile, the scheduler, the connections, a clamp."""

from __future__ import annotations

from enum import IntEnum

from fleetd.core.model.facts import Value
from fleetd.core.model.policy_tables import PUNCTUAL_TICKS
from fleetd.core.model.reasons.base import ClampCode
from fleetd.core.model.status import (
    ClampStatus,
    ConnectionSourceStatus,
    FleetHostStatus,
    ProfileStatus,
    QueueStatus,
    Status,
)

#: People's orders and holds: nothing is wrong, but they may keep the fleet from growing.
ORDERED_CLAMPS = frozenset(
    {ClampCode.PAUSED, ClampCode.MAINTENANCE, ClampCode.STOPPED, ClampCode.SET, ClampCode.UPGRADE}
)

#: fleetd's ordinary work. Any other clamp deserves an admin's attention.
ROUTINE_CLAMPS = ORDERED_CLAMPS | {
    ClampCode.MIN,
    ClampCode.TOLERANCE,
    ClampCode.HOLD_WINDOW,
    ClampCode.PACE,
    ClampCode.PINNED,
    ClampCode.SCHEDULER_LIVE,
    ClampCode.ROLLING,
    ClampCode.LONG_JOB,
    ClampCode.YIELD,
    ClampCode.SHARED,
}
#: Clamps because something could not be read.
UNKNOWN_CLAMPS = frozenset(code for code in ClampCode if code.value.endswith("_unknown"))

#: The code with which a hold of this kind clamps every profile. A hold of kind "quieted" clamps with PINNED, which is
#: used for other reasons too.
HOLD_CODES = {
    "pause": ClampCode.PAUSED,
    "maintenance": ClampCode.MAINTENANCE,
    "stopped": ClampCode.STOPPED,
    "upgrade": ClampCode.UPGRADE,
    "units": ClampCode.FOREIGN_UNIT,
}


#: A host is late once it has been silent for a few ticks, and lost after a minute, or a few ticks where that is longer.
LATE_SECONDS, LOST_SECONDS = 20.0, 60.0


def is_silent(host: FleetHostStatus, seconds: float) -> bool:
    """Whether it has not been heard of for so long, nor for a few of its ticks."""
    return (host.silent_seconds or 0.0) >= max(seconds, PUNCTUAL_TICKS * (host.tick_seconds or 0.0))


def change_words(clamp: ClampStatus) -> str:
    """What a clamp makes of a number: `3 instead of 4`, `stays at 1`; "": it has no numbers."""
    before, after = clamp.before_instances, clamp.after_instances
    if before is None or after is None:
        return ""
    return f"stays at {after}" if before == after else f"{after} instead of {before}"


class Level(IntEnum):
    """How bad something is; higher is worse. Unknown is worse than a warning, since it may be anything."""

    OK = 0
    MOVING = 1  # something is under way: starting, draining
    WARN = 2
    UNKNOWN = 3
    BAD = 4


class Finding(Value, frozen=True):
    """One thing that an admin should know. `banner`: the name of a hold, and the time it has left."""

    level: Level
    sentence: str
    banner: str | None = None


def queue_level(queue: QueueStatus) -> Level:
    """Bad beyond the target, a warning in the last fifth before it. A queue that may wait for ever is never late."""
    if queue.latency_seconds is None:
        return Level.UNKNOWN
    if queue.target_seconds is None:
        return Level.OK
    if queue.latency_seconds > queue.target_seconds:
        return Level.BAD
    return Level.WARN if queue.latency_seconds > 0.8 * queue.target_seconds else Level.OK


def late_queues(status: Status) -> list[QueueStatus]:
    """Queues that wait longer than their target, the worst first: the one that waits the most times its target."""

    def times_its_target(queue: QueueStatus) -> float:
        if queue.latency_seconds is None or queue.target_seconds is None:
            return 0.0
        return queue.latency_seconds / max(queue.target_seconds, 0.001)

    late = [queue for queue in status.queues if queue_level(queue) == Level.BAD]
    return sorted(late, key=times_its_target, reverse=True)


def clamp_level(clamp: ClampStatus) -> Level:
    """OK if the clamp is fleetd's ordinary work."""
    if clamp.code in ROUTINE_CLAMPS:
        return Level.OK
    return Level.UNKNOWN if clamp.code in UNKNOWN_CLAMPS else Level.WARN


def profile_level(profile: ProfileStatus, *, observed: bool = False) -> Level:
    """A warning if fewer than `min` run, or if something out of the ordinary changed the number.

    `observed`: fleetd does nothing about the number, so it is as it should be.
    """
    running, admitted = profile.running_instances, profile.admitted_instances
    if running is None or admitted is None or profile.needed_instances is None:
        return Level.UNKNOWN
    if observed:
        return Level.OK
    if running < profile.min_instances or any(clamp_level(clamp) > Level.OK for clamp in profile.clamps):
        return Level.WARN
    return Level.OK if running == admitted else Level.MOVING


def scheduler_level(status: Status) -> Level:
    """OK only if exactly one process serves it (law 1)."""
    processes = status.scheduler.processes
    if processes is None:
        return Level.UNKNOWN
    if processes == 1:
        return Level.OK
    if processes > 1:
        return Level.BAD
    coming = status.scheduler.unit_state in ("activating", "starting")
    waiting = any(clamp.code == ClampCode.SCHEDULER_TAKEOVER for clamp in status.clamps)
    return Level.WARN if coming or waiting else Level.BAD


def source_level(source: ConnectionSourceStatus) -> Level:
    """Bad if it refuses clients or is over its limit; a warning if nothing can grow or clients wait for PgBouncer."""
    if source.refused or left_connections(source) < 0:
        return Level.BAD
    return Level.WARN if source.headroom_connections == 0 or source.waiting_clients else Level.OK


def connection_level(status: Status) -> Level:
    """The level of the source that binds, or at least a warning if a profile can't get the connections it needs."""
    source = binding(status)
    if any(source.refused for source in status.connections.sources):
        return Level.BAD
    if source is None or status.connections.claims_connections is None:
        return Level.UNKNOWN
    short = _said_of_a_profile(status, ClampCode.CONNECTIONS)
    return max(source_level(source), Level.WARN if short else Level.OK)


def binding(status: Status) -> ConnectionSourceStatus | None:
    """The source with the least headroom; None: unknown."""
    return next((source for source in status.connections.sources if source.binds), None)


def left_connections(source: ConnectionSourceStatus) -> int:
    """limit − reserve − others − claims; negative if there are too many."""
    return source.limit_connections - source.reserve_connections - source.others_connections - source.claims_connections


def told_as_full(clamp: ClampStatus) -> bool:
    """Whether a clamp says that a source of connections is full, which is among what is wrong."""
    return clamp.code == ClampCode.CONNECTIONS and not clamp.profile


def doubt_costs(status: Status) -> bool:
    """Whether something can't grow because our connections can't be told from others'."""
    headroom, claims = status.connections.headroom_connections, status.connections.claim_per_instance
    short = headroom is not None and bool(claims) and headroom < max(claims.values())
    return short or _said_of_a_profile(status, ClampCode.OTHERS_UNATTRIBUTABLE)


def told_for_all(status: Status, clamp: ClampStatus) -> bool:
    """Whether a profile's clamp has a reason that is told once for the whole host, so that the profile need not.

    One that makes an instance go is told all the same.
    """
    told = {HOLD_CODES[hold.kind] for hold in status.holds if hold.kind in HOLD_CODES}
    if status.connections.unattributable:
        told.add(ClampCode.OTHERS_UNATTRIBUTABLE)
    if status.connections.saturation:
        told.add(ClampCode.DATABASE_SATURATED)
    return clamp.code in told and not _lets_one_go(status, clamp)


def _lets_one_go(status: Status, clamp: ClampStatus) -> bool:
    running = next((p.running_instances for p in status.profiles if p.name == clamp.profile), None)
    return None not in (running, clamp.after_instances) and (clamp.after_instances or 0) < (running or 0)


def _said_of_a_profile(status: Status, code: ClampCode) -> bool:
    return any(clamp.code == code for profile in status.profiles for clamp in profile.clamps)
