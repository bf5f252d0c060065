"""Why units are started, let go, replaced or left alone; why they failed; and what was noticed about them."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from fleetd.core.model.facts import Ending, Value
from fleetd.core.model.identity import InstanceKey
from fleetd.core.model.person import Person
from fleetd.core.model.reasons.base import ClampCode, ClampReason, Reason
from fleetd.core.model.reasons.counts import HoldReason


class PinKind(StrEnum):
    """What a person wants an instance kept as."""

    RUN = "run"
    STOPPED = "stopped"
    QUIET = "quiet"


class ReplaceCause(StrEnum):
    """Why an instance is to be replaced by a fresh one."""

    OUTDATED = "outdated"
    UNCONFIGURED = "unconfigured"  # its number is not in the configuration any more
    MEMORY = "memory"
    RESTART = "restart"


class Change(StrEnum):
    """What an instance was started with and is another on disk now."""

    CONFIGURATION = "configuration"  # queues, weights or threads of fleetd.toml
    POOL = "pool"  # of fleetd.toml, or pool= in Mastodon's settings
    UNIT_FILE = "unit_file"
    DROP_IN = "drop_in"
    UNIT = "unit"  # its file or a drop-in: an earlier version did not note which


# Why a unit failed, as far as fleetd or systemd can tell.


class SystemdResult(Reason, frozen=True, kw_only=True):
    """`result`: systemd.exec(5), $SERVICE_RESULT."""

    result: str


class StartHadNoEffect(Reason, frozen=True, kw_only=True): ...


class NeverHeardOf(Reason, frozen=True, kw_only=True):
    up_seconds: float


class DiedTooOften(Reason, frozen=True, kw_only=True):
    deaths: int
    seconds: float


class BootTooLong(Reason, frozen=True, kw_only=True):
    seconds: float


FailureCause = SystemdResult | StartHadNoEffect | NeverHeardOf | DiedTooOften | BootTooLong


# Starting (start.py, carry_out.py).


class PlanExpired(ClampReason, frozen=True, kw_only=True):
    code = ClampCode.PLAN_EXPIRED


class StartsPaced(ClampReason, frozen=True, kw_only=True):
    code = ClampCode.PACE
    starts_per_tick: int
    booting_max: int


class StoppedByHand(ClampReason, frozen=True, kw_only=True):
    code = ClampCode.PINNED
    keys: tuple[InstanceKey, ...]


class UnitsMasked(ClampReason, frozen=True, kw_only=True):
    """`units`: what is masked; the template stands for every instance."""

    code = ClampCode.MASKED
    keys: tuple[InstanceKey, ...]
    units: tuple[str, ...]


class NotRendered(ClampReason, frozen=True, kw_only=True):
    code = ClampCode.NOT_RENDERED
    keys: tuple[InstanceKey, ...]


class StartFailed(ClampReason, frozen=True, kw_only=True):
    """`tried_key`: the one that is tried next, or was given up; None: none, because they would fail like the others."""

    code = ClampCode.START_FAILED
    keys: tuple[InstanceKey, ...]
    tried_key: InstanceKey | None = None
    given_up: bool = False
    failures: int = 0
    cause: FailureCause | None = None
    retry_seconds: float = 0.0


class NoNumberFree(ClampReason, frozen=True, kw_only=True):
    code = ClampCode.NO_NUMBER_FREE


class FewerThanAdmitted(Reason, frozen=True, kw_only=True):
    """`instead_of`: instances stopped by hand for which others are started, to keep `min`."""

    profile: str
    running_instances: int
    admitted_instances: int
    instead_of: tuple[InstanceKey, ...] = ()
    min_instances: int = 0


class InPlaceOf(Reason, frozen=True, kw_only=True):
    old_key: InstanceKey
    cause: ReplaceCause
    changes: tuple[Change, ...] = ()  # here and below: of an outdated one; empty: an earlier version did not note them
    person: Person | None = None  # who ordered a restart


# Causes of a drain, which are remembered with it (drain.py, stuck.py).


class MoreThanAdmitted(Reason, frozen=True, kw_only=True):
    profile: str


class DrainedByPeople(Reason, frozen=True, kw_only=True):
    person: Person | None = None


class KeptStoppedByPeople(Reason, frozen=True, kw_only=True):
    person: Person | None = None


class FoundQuiet(Reason, frozen=True, kw_only=True): ...


class Replaced(Reason, frozen=True, kw_only=True):
    cause: ReplaceCause
    scheduler: bool = False
    changes: tuple[Change, ...] = ()
    person: Person | None = None


class Unresponsive(Reason, frozen=True, kw_only=True): ...


class EndedAsFailed(Reason, frozen=True, kw_only=True):
    cause: FailureCause


class ServingProcess(Value, frozen=True, kw_only=True):
    """A Sidekiq process, as its heartbeat has it. `unit` "": unknown."""

    host: str
    pid: int
    unit: str = ""


class SchedulerSurplus(ClampReason, frozen=True, kw_only=True):
    code = ClampCode.SCHEDULER_SURPLUS
    host: str
    process: ServingProcess | None = None  # None: an earlier version did not note it


class SchedulerMoves(ClampReason, frozen=True, kw_only=True):
    """This host is in maintenance, and `host` may start it."""

    code = ClampCode.MAINTENANCE
    host: str


class StalledGoes(Reason, frozen=True, kw_only=True): ...


DrainCause = (
    MoreThanAdmitted
    | DrainedByPeople
    | KeptStoppedByPeople
    | FoundQuiet
    | Replaced
    | Unresponsive
    | EndedAsFailed
    | SchedulerSurplus
    | SchedulerMoves
    | StalledGoes
)


# The steps of a drain, and what keeps it waiting.


class TooManyRun(Reason, frozen=True, kw_only=True):
    profile: str
    running_instances: int
    admitted_instances: int


class StillBoots(Reason, frozen=True, kw_only=True):
    cause: DrainCause | TooManyRun


class QuietNotConfirmed(Reason, frozen=True, kw_only=True):
    cause: DrainCause


class QuietAndIdle(Reason, frozen=True, kw_only=True):
    cause: DrainCause


class StopUnheeded(Reason, frozen=True, kw_only=True):
    cause: DrainCause


class NotIdleInTime(Reason, frozen=True, kw_only=True):
    drain_seconds_max: float


class KeptByPeople(ClampReason, frozen=True, kw_only=True):
    code = ClampCode.PINNED
    instances: int


class DrainsPaced(ClampReason, frozen=True, kw_only=True):
    code = ClampCode.PACE
    drains_per_tick: int


class QuietsUnconfirmed(ClampReason, frozen=True, kw_only=True):
    code = ClampCode.UNDRAINABLE


class IgnoresQuiet(ClampReason, frozen=True, kw_only=True):
    code = ClampCode.UNDRAINABLE
    key: InstanceKey


class FinishesPushedBackJob(ClampReason, frozen=True, kw_only=True):
    code = ClampCode.LONG_JOB
    key: InstanceKey


class WaitsForRedisWrites(ClampReason, frozen=True, kw_only=True):
    code = ClampCode.REDIS_NOT_WRITABLE
    key: InstanceKey


class Silent(ClampReason, frozen=True, kw_only=True):
    code = ClampCode.UNRESPONSIVE
    key: InstanceKey
    silent_seconds: float


class NoHeartbeatYet(ClampReason, frozen=True, kw_only=True):
    code = ClampCode.UNRESPONSIVE
    key: InstanceKey


class HangsInPushedBackJob(ClampReason, frozen=True, kw_only=True):
    """A person may end it all the same: `fleetctl drain` does that past the deadline of a drain."""

    code = ClampCode.LONG_JOB
    key: InstanceKey
    drain_seconds_max: float


# A rollout (rollout.py).


class BeingReplaced(ClampReason, frozen=True, kw_only=True):
    code = ClampCode.ROLLING
    key: InstanceKey
    cause: ReplaceCause
    changes: tuple[Change, ...] = ()
    person: Person | None = None


class NoSpare(ClampReason, frozen=True, kw_only=True):
    code = ClampCode.ROLLING
    refusal: ClampReason


class Held(Reason, frozen=True, kw_only=True):
    hold: HoldReason


class ReplacementMissing(Reason, frozen=True, kw_only=True):
    profile: str
    running_instances: int
    wanted_instances: int


class ReplacementBoots(Reason, frozen=True, kw_only=True):
    keys: tuple[InstanceKey, ...]


class Drains(Reason, frozen=True, kw_only=True):
    key: InstanceKey
    busy_threads: int | None


class DrainUnwatchable(Reason, frozen=True, kw_only=True): ...


class SettlesFirst(Reason, frozen=True, kw_only=True):
    keys: tuple[InstanceKey, ...]
    what: Literal["drains", "boots"]


class SpareBoots(Reason, frozen=True, kw_only=True):
    spare_key: InstanceKey
    old_key: InstanceKey


class SpareWentAway(Reason, frozen=True, kw_only=True):
    old_key: InstanceKey


class StartsFirst(Reason, frozen=True, kw_only=True):
    profile: str


class NoneComesUp(Reason, frozen=True, kw_only=True):
    """What would take the place of one that is left over is masked, or fails."""

    profile: str


class NotWhileLate(Reason, frozen=True, kw_only=True):
    queues: tuple[str, ...]


class NoConnectionForNext(Reason, frozen=True, kw_only=True):
    old_key: InstanceKey


class NextNotRendered(Reason, frozen=True, kw_only=True):
    old_key: InstanceKey


class SchedulerTooYoung(Reason, frozen=True, kw_only=True):
    age_seconds_min: float
    left_seconds: float


class SchedulerBetween(Reason, frozen=True, kw_only=True): ...


class RollsElsewhere(Reason, frozen=True, kw_only=True):
    """Of several hosts one at a time replaces instances. `host`: whose turn it is; "": nobody's yet."""

    host: str


class RolloutGivenUp(Reason, frozen=True, kw_only=True):
    key: InstanceKey
    cause: FailureCause


RolloutWait = (
    Held
    | ReplacementMissing
    | ReplacementBoots
    | Drains
    | DrainUnwatchable
    | QuietsUnconfirmed
    | SettlesFirst
    | SpareBoots
    | SpareWentAway
    | StartsFirst
    | NoneComesUp
    | NotWhileLate
    | NoConnectionForNext
    | NextNotRendered
    | SchedulerTooYoung
    | SchedulerBetween
    | RollsElsewhere
    | RolloutGivenUp
)


# What was noticed (manual_changes.py, health.py, rollout.py).


class Rebooted(Reason, frozen=True, kw_only=True):
    """`orders_forgotten`: people's orders from before no longer hold."""

    orders_forgotten: bool


class ResetByHand(Reason, frozen=True, kw_only=True):
    key: InstanceKey


class RestartedByHand(Reason, frozen=True, kw_only=True):
    key: InstanceKey


class RestartedByOthers(Reason, frozen=True, kw_only=True):
    """In one go, by whatever ordered it: a person, needrestart, or the target."""

    keys: tuple[InstanceKey, ...]


class PinnedByHand(Reason, frozen=True, kw_only=True):
    key: InstanceKey
    wants: PinKind
    kept_seconds: float


class Died(Reason, frozen=True, kw_only=True):
    """Nobody ordered it. `deaths`: of each of them, since fleetd last looked; only of the last it is known how."""

    keys: tuple[InstanceKey, ...]
    deaths: int
    last: Ending


class OomKilled(Reason, frozen=True, kw_only=True):
    key: InstanceKey
    grown_bytes: int


class RolloutEnded(Reason, frozen=True, kw_only=True):
    cause: ReplaceCause
    done_instances: int
    total_instances: int
    given_up: RolloutGivenUp | None
