"""How bad each thing is: a queue, the scheduler, the connections, a clamp."""

from __future__ import annotations

from enum import IntEnum

from fleetd.core.decision import Clamp, ClampCode
from fleetd.core.status import QueueStatus, Status

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
}


class Level(IntEnum):
    """How bad; higher is worse. Unknown outranks a warning: nobody can say how bad it is."""

    OK = 0
    MOVING = 1  # something is being done: starting, draining
    WARN = 2
    UNKNOWN = 3
    BAD = 4


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
    """Over the limit is bad; no headroom is a warning, since then nothing can grow."""
    connections = status.connections
    used = used_connections(status)
    if connections.limit_connections is None or used is None:
        return Level.UNKNOWN
    if used > connections.limit_connections:
        return Level.BAD
    short = any(clamp.code == ClampCode.CONNECTIONS for clamp in _all_clamps(status))
    return Level.WARN if short or connections.headroom_connections == 0 else Level.OK


def used_connections(status: Status) -> int | None:
    """Others', claimed and kept free; None while any of them is unknown."""
    c = status.connections
    if c.others_connections is None or c.claims_connections is None or c.reserve_connections is None:
        return None
    return c.others_connections + c.claims_connections + c.reserve_connections


def _all_clamps(status: Status) -> list[Clamp]:
    return [*status.clamps, *(clamp for profile in status.profiles for clamp in profile.clamps)]
