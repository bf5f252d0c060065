"""How bad each thing is: a queue, the scheduler, the connections, a clamp."""

from __future__ import annotations

from enum import IntEnum

from fleetd.core.model.decision import Clamp, ClampCode
from fleetd.core.model.facts import Value
from fleetd.core.model.status import ConnectionSourceStatus, QueueStatus, Status

#: What people ordered, or a hold that is told at the top: nothing wrong, but it may keep the fleet from growing.
ORDERED_CLAMPS = frozenset({ClampCode.PAUSED, ClampCode.SET, ClampCode.UPGRADE})

#: Clamps that are fleetd at its ordinary work; all others are worth an admin's look.
CALM_CLAMPS = ORDERED_CLAMPS | {
    ClampCode.MIN,
    ClampCode.TOLERANCE,
    ClampCode.HOLD_WINDOW,
    ClampCode.PACE,
    ClampCode.PINNED,
    ClampCode.SCHEDULER_LIVE,
    ClampCode.ROLLING,
    ClampCode.LONG_JOB,
    ClampCode.YIELD,
}


class Level(IntEnum):
    """How bad; higher is worse. Unknown outranks a warning: nobody can say how bad it is."""

    OK = 0
    MOVING = 1  # something is being done: starting, draining
    WARN = 2
    UNKNOWN = 3
    BAD = 4


class Finding(Value, frozen=True, kw_only=True):
    """One thing an admin should know."""

    level: Level
    sentence: str
    banner: str = ""  # of a hold: its name, loud


def queue_level(queue: QueueStatus) -> Level:
    """Over the target is bad, the last fifth before it a warning."""
    if queue.latency_seconds is None:
        return Level.UNKNOWN
    if queue.latency_seconds > queue.target_seconds:
        return Level.BAD
    return Level.WARN if queue.latency_seconds > 0.8 * queue.target_seconds else Level.OK


def scheduler_level(status: Status) -> Level:
    """Exactly one process is right (law 1)."""
    processes = status.scheduler.processes
    if processes is None:
        return Level.UNKNOWN
    if processes == 1:
        return Level.OK
    if processes > 1:
        return Level.BAD
    coming = status.scheduler.unit_state in ("activating", "starting")
    held = any(clamp.code == ClampCode.SCHEDULER_TAKEOVER for clamp in status.clamps)
    return Level.WARN if coming or held else Level.BAD


def connection_level(status: Status) -> Level:
    """Refused or over the limit is bad; no headroom is a warning, since then nothing can grow."""
    connections = status.connections
    used = used_connections(status)
    if any(source.refused for source in connections.sources):
        return Level.BAD
    if connections.limit_connections is None or used is None:
        return Level.UNKNOWN
    if used > connections.limit_connections:
        return Level.BAD
    short = any(clamp.code == ClampCode.CONNECTIONS for clamp in _all_clamps(status))
    return Level.WARN if short or connections.headroom_connections == 0 else Level.OK


def source_level(source: ConnectionSourceStatus) -> Level:
    """Of one source: as above, and a warning where clients wait in PgBouncer's line."""
    if source.refused or left_connections(source) < 0:
        return Level.BAD
    return Level.WARN if source.headroom_connections == 0 or source.waiting_clients else Level.OK


def left_connections(source: ConnectionSourceStatus) -> int:
    """The arithmetic as it stands; below 0: so many too many."""
    return (
        source.limit_connections
        - source.reserve_connections
        - source.others_connections
        - source.claims_connections
    )


def binding(status: Status) -> ConnectionSourceStatus | None:
    """The source that leaves least; None: unknown, or a fleetd that tells of one only."""
    return next((source for source in status.connections.sources if source.binds), None)


def doubt_costs(status: Status) -> bool:
    """Whether not telling ours from others' keeps anything from growing; if not, it is a note, no warning."""
    headroom, claims = status.connections.headroom_connections, status.connections.claim_per_instance
    short = headroom is not None and bool(claims) and headroom < max(claims.values())
    return short or any(clamp.code == ClampCode.OTHERS_UNATTRIBUTABLE for clamp in _all_clamps(status))


def told_above(status: Status) -> frozenset[str]:
    """Sentences about the connections that stand among what is wrong: a clamp need not repeat them."""
    return frozenset({status.connections.unattributable, status.connections.saturation} - {""})


def used_connections(status: Status) -> int | None:
    """Others', claimed and kept free; None while any of them is unknown."""
    c = status.connections
    if c.others_connections is None or c.claims_connections is None or c.reserve_connections is None:
        return None
    return c.others_connections + c.claims_connections + c.reserve_connections


def _all_clamps(status: Status) -> list[Clamp]:
    return [*status.clamps, *(clamp for profile in status.profiles for clamp in profile.clamps)]
