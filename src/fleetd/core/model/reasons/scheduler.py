"""The scheduler's situation: where one runs, and why ours is started, stopped or left (instances/scheduler.py)."""

from __future__ import annotations

from typing import Literal

from fleetd.core.model.person import Person
from fleetd.core.model.reasons.base import ClampCode, ClampReason, Reason
from fleetd.core.model.reasons.counts import HoldReason
from fleetd.core.model.reasons.units import ServingProcess


class SchedulerUnreadable(ClampReason, frozen=True, kw_only=True):
    code = ClampCode.SCHEDULER_UNKNOWN
    what: Literal["systemd", "redis", "heartbeat"]


class SchedulerRuns(Reason, frozen=True, kw_only=True):
    hosts: tuple[str, ...]


class SchedulerStillHere(Reason, frozen=True, kw_only=True):
    """place = "elsewhere", and ours runs. Nobody knows whether another host would take over, so fleetd leaves it."""

    hosts: tuple[str, ...]


class SchedulerElsewhere(ClampReason, frozen=True, kw_only=True):
    code = ClampCode.SCHEDULER_LIVE
    processes: tuple[ServingProcess, ...]


class SchedulerQuiet(ClampReason, frozen=True, kw_only=True):
    code = ClampCode.SCHEDULER_LIVE
    host: str


class SchedulerBeingReplaced(ClampReason, frozen=True, kw_only=True):
    """It is quiet because we let it go, in order to start it again."""

    code = ClampCode.SCHEDULER_TAKEOVER
    host: str


class SchedulerNeverHere(Reason, frozen=True, kw_only=True): ...


class SchedulerAbsent(ClampReason, frozen=True, kw_only=True):
    code = ClampCode.SCHEDULER_TAKEOVER
    absent_seconds: float
    needed_seconds: float


class SchedulerRefused(ClampReason, frozen=True, kw_only=True):
    """Our unit saw another one before it started, and we don't see it."""

    code = ClampCode.SCHEDULER_LIVE
    ago_seconds: float
    left_seconds: float


class SchedulerSkipped(Reason, frozen=True, kw_only=True):
    """Noticed once, when it happened."""


class SchedulerOverBudget(ClampReason, frozen=True, kw_only=True):
    code = ClampCode.CONNECTIONS


class SchedulerStarted(Reason, frozen=True, kw_only=True):
    host: str


class SchedulerUnitUnfit(ClampReason, frozen=True, kw_only=True):
    """What is wrong with it is said by UnitUnfit."""

    code = ClampCode.FOREIGN_UNIT
    file: str


class SchedulerKeptStopped(ClampReason, frozen=True, kw_only=True):
    code = ClampCode.PINNED
    by_hand: bool
    left_seconds: float
    person: Person | None = None


class SchedulerHeld(Reason, frozen=True, kw_only=True):
    """It is counted under the code of its hold."""

    hold: HoldReason
