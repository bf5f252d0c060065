"""What a reason is, and the codes under which reasons that change a count are counted."""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar, Literal

from fleetd.core.model.facts import Value


class ClampCode(StrEnum):
    """What can change a count: the labels of metrics, and the rows of the tables in docs/operations.md."""

    MIN = "min"
    MAX = "max"
    TOLERANCE = "tolerance"
    HOLD_WINDOW = "hold_window"
    PACE = "pace"
    CONNECTIONS = "connections"
    MEMORY = "memory"
    LATENCY_UNKNOWN = "latency_unknown"
    HEADROOM_UNKNOWN = "headroom_unknown"
    SYSTEMD_UNKNOWN = "systemd_unknown"
    MEMORY_UNKNOWN = "memory_unknown"
    PINNED = "pinned"
    NOT_RENDERED = "not_rendered"
    NO_NUMBER_FREE = "no_number_free"
    START_FAILED = "start_failed"
    REDIS_NOT_WRITABLE = "redis_not_writable"
    SCHEDULER_LIVE = "scheduler_live"
    SCHEDULER_TAKEOVER = "scheduler_takeover"
    SCHEDULER_SURPLUS = "scheduler_surplus"
    SCHEDULER_UNKNOWN = "scheduler_unknown"
    PLAN_EXPIRED = "plan_expired"
    PAUSED = "paused"
    STOPPED = "stopped"
    SET = "set"
    UPGRADE = "upgrade"
    ROLLING = "rolling"
    UNDRAINABLE = "undrainable"
    UNRESPONSIVE = "unresponsive"
    STALLED = "stalled"
    HOST_PRESSURE = "host_pressure"
    OOM_KILLED = "oom_killed"
    LONG_JOB = "long_job"
    OTHERS_UNATTRIBUTABLE = "others_unattributable"
    YIELD = "yield"
    DATABASE_SATURATED = "database_saturated"
    FOREIGN_UNIT = "foreign_unit"
    MASKED = "masked"
    FLEET = "fleet"
    SHARED = "shared"
    NO_HOST = "no_host"
    MAINTENANCE = "maintenance"


ConnectionSource = Literal["postgres", "pgbouncer", "replica"]


class Reason(Value, frozen=True, kw_only=True, tag=True):
    """Base of all reasons."""

    def alike(self) -> tuple[object, ...]:
        """Equal for two reasons of one kind with the same names in them, whatever their numbers, which always move."""
        return (type(self), *(_alike(name, getattr(self, name)) for name in self.__struct_fields__))


def _alike(name: str, value: object) -> object:
    if isinstance(value, Reason):
        return value.alike()
    moves = isinstance(value, int | float) and not isinstance(value, bool) and not name.endswith("key")
    return None if moves else value


class ClampReason(Reason, frozen=True, kw_only=True):
    """A reason that changes a count, with the code it is counted under."""

    code: ClassVar[ClampCode]
