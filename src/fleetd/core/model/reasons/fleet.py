"""Several hosts: why a start is not granted, what the fleet waits for, who leads, and what was ordered (core/fleet)."""

from __future__ import annotations

from typing import Literal

from fleetd.core.model.identity import InstanceKey
from fleetd.core.model.person import Person
from fleetd.core.model.reasons.base import ClampCode, ClampReason, Reason

#: What keeps a host from asking the ledger for anything. People mend all but `late`, which passes, and `unanswered`.
LedgerFault = Literal["fleet", "format", "name_taken", "replaced", "late", "full", "no_rights", "unanswered"]


class LedgerUnusable(ClampReason, frozen=True, kw_only=True):
    """The ledger does not answer this host, or refuses it, so it starts nothing beyond min."""

    code = ClampCode.FLEET
    fault: LedgerFault
    host: str = ""
    fleet: str = ""  # whose ledger it is
    why: str = ""  # the source's own sentence


class FleetGathers(ClampReason, frozen=True, kw_only=True):
    """The ledger asks every host again what it has. `waits_for`: hosts that have not told yet."""

    code = ClampCode.FLEET
    waits_for: tuple[str, ...]


class NotGranted(ClampReason, frozen=True, kw_only=True):
    """The claims of all hosts leave no connections for it."""

    code = ClampCode.CONNECTIONS
    source: str
    over_connections: int


class SentinelsDisagree(ClampReason, frozen=True, kw_only=True):
    """Most of the Sentinels do not take the Redis that is talked to for the primary, or do not answer."""

    code = ClampCode.FLEET
    agree: str  # "1 of 3"


class AskedTooLate(ClampReason, frozen=True, kw_only=True):
    """The ledger changed between the reading and the start; the next tick asks again."""

    code = ClampCode.FLEET


class OtherHostsSeen(ClampReason, frozen=True, kw_only=True):
    """This host shares no ledger, and another one's workers beat."""

    code = ClampCode.FLEET
    hosts: tuple[str, ...]


#: Why the ledger did not take the plan of the host that leads. overtaken: another one leads, or planned since.
PlanFault = Literal["", "too_large", "overtaken", "unanswered"]


class PlanMissing(ClampReason, frozen=True, kw_only=True):
    """The leader's plan is not there or too old. `fault`: this host leads, and its plan was not taken."""

    code = ClampCode.PLAN_EXPIRED
    leader: str
    fault: PlanFault = ""


class PlannedByLeader(ClampReason, frozen=True, kw_only=True):
    """The leader's plan has another count than this host's min and max allow now."""

    code = ClampCode.SHARED
    leader: str


class SchedulerOfHost(ClampReason, frozen=True, kw_only=True):
    """Another host holds the slot. `kept_stopped`: a person stopped it there. `wait_seconds`: until ours may start."""

    code = ClampCode.SCHEDULER_TAKEOVER
    host: str
    kept_stopped: bool
    wait_seconds: float


class SchedulerPlaced(ClampReason, frozen=True, kw_only=True):
    """The leader names another host for it."""

    code = ClampCode.SCHEDULER_TAKEOVER
    host: str
    leader: str


class SchedulerFree(ClampReason, frozen=True, kw_only=True):
    """No host has the scheduler, or the one that had it ended it. `wait_seconds`: how much longer none must be seen."""

    code = ClampCode.SCHEDULER_TAKEOVER
    wait_seconds: float


# Orders that the ledger brought (core/sharing/orders/heard.py). `whole`: of all hosts; otherwise of this one.


class RestartBegun(Reason, frozen=True, kw_only=True):
    """`profile`: "": of all."""

    person: Person | None
    whole: bool
    profile: str
    instances: int
    tried_again: tuple[InstanceKey, ...] = ()
    pins_ended: int = 0


class RestartNotBegun(Reason, frozen=True, kw_only=True):
    """`why`: the refusal in words."""

    person: Person | None
    whole: bool
    why: str


class RestartStoppedElsewhere(Reason, frozen=True, kw_only=True):
    """It was given up on `host`."""

    host: str
    done_instances: int
    total_instances: int


class CountHeard(Reason, frozen=True, kw_only=True):
    """`instances` None: a person's count has ended."""

    profile: str
    instances: int | None
    whole: bool
    person: Person | None = None
