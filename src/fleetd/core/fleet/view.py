"""What a host knows of its fleet: the ledger's last answer, and what it remembers between ticks, restarts and boots."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, structs

from fleetd.core.fleet.calls import BeatReply, Code, OwnScheduler, Refusal
from fleetd.core.fleet.state import HOSTS_MAX, Planned, Slot
from fleetd.core.model import reasons
from fleetd.core.model.bounds import JSON_NUMBER_MAX
from fleetd.core.model.decision import Clamp
from fleetd.core.model.facts import QueueFacts, Value
from fleetd.core.model.reasons.base import ConnectionSource
from fleetd.core.model.reasons.fleet import PlanFault
from fleetd.core.model.reasons.sharing import SettingDiffers


class RestartKnown(Value, frozen=True, kw_only=True):
    """What this host made of a restart that it heard of. waits: not begun yet. stopped: it failed on another host."""

    until_ms: int  # which restart it is (orders.py)
    phase: Literal["waits", "under_way", "done", "given_up", "stopped"] = "waits"
    done_instances: int = 0
    total_instances: int = 0  # 0: nothing here was older than the order


class RestartStopped(Value, frozen=True, kw_only=True):
    """A restart of all hosts that was given up on one of them, so the others end it too."""

    until_ms: int
    host: str


class FleetKnown(Value, frozen=True, kw_only=True):
    """What a host remembers of its fleet. A ledger that was lost is told again from this (rules.py)."""

    generation: int = 0
    clock_ms: int = 0
    members: tuple[str, ...] = ()
    gathers: bool = True  # whether the ledger is to be told of the members: it asks, or has not answered yet
    sources: dict[ConnectionSource, str] = {}  # of which this host's workers take connections: their identities
    # Of the last answers, None: nothing was answered since fleetd's start, or the truth was gathered since.
    members_version: int | None = None
    orders: dict[str, str] = {}
    orders_version: int | None = None
    #: By what each order is about: when it is over by this host's own clock (orders.py); of which boot that clock is.
    orders_until: dict[str, float] = {}
    orders_boot_id: str = ""
    restarts: dict[str, RestartKnown] = {}  # by the order's name: what was made of it; outlives a reboot
    planned: Planned | None = None

    def heard(self, reply: BeatReply) -> FleetKnown:
        """With an answer. One of another generation was perhaps given from an older state, so all is asked anew."""
        known = self
        if reply.generation != self.generation:
            known = FleetKnown(
                members=self.members,
                orders=self.orders,
                orders_until=self.orders_until,
                orders_boot_id=self.orders_boot_id,
                restarts=self.restarts,
                sources=self.sources,
            )
        else:
            known = structs.replace(known, members_version=reply.members_version, orders_version=reply.orders_version)
        if reply.gathering is not None:  # the first answer after it has all members, and none that is forgotten
            known = structs.replace(known, members_version=None)
        return structs.replace(
            known,
            generation=reply.generation,
            clock_ms=reply.clock_ms,
            members=self._members(reply),
            gathers=reply.gathering is not None,
            orders=known.orders if reply.orders is None else reply.orders,
            planned=known.planned if reply.planned is None else reply.planned,
        )

    def _members(self, reply: BeatReply) -> tuple[str, ...]:
        """A ledger that gathers may have forgotten some, so until it has them all, those that we know stay."""
        if reply.members is None:
            return self.members
        if reply.gathering is None:
            return reply.members
        return tuple(sorted({*reply.members, *self.members})[:HOSTS_MAX])

    def worth_keeping(self) -> FleetKnown:
        """For the disk: what a lost ledger is told."""
        return structs.replace(self, clock_ms=0, gathers=True, members_version=None, orders_version=None, planned=None)


class Share(Value, frozen=True, kw_only=True):
    """What the leader wants of one profile on one host."""

    needed_instances: int  # of the whole fleet
    desired_instances: int
    clamps: tuple[Clamp, ...] = ()  # from what is needed to what is desired
    need: reasons.Need | None = None  # where it comes from; None: as many run in the fleet as are to


_Threads = Annotated[int, Meta(ge=0, le=JSON_NUMBER_MAX)]


class QueueTold(Value, frozen=True, kw_only=True, array_like=True):
    """One queue over the whole fleet as the leader read it, for hosts that don't read every running job; to show.

    None: unknown. Threads at work, those of them with a young job (see QueueFacts), and threads that it needs.
    """

    busy_threads: _Threads | None = None
    young_threads: _Threads | None = None
    need_threads: Annotated[float, Meta(ge=0, le=JSON_NUMBER_MAX)] | None = None


class FleetView(Value, frozen=True, kw_only=True):
    """The fleet in one tick.

    `shared`: hosts share a ledger; otherwise this host is the whole fleet. Without a reply nothing is known now.
    """

    shared: bool = False
    reply: BeatReply | None = None
    refusal: Refusal | None = None
    told: OwnScheduler = "unknown"  # what this reply's beat said of our scheduler
    known: FleetKnown = FleetKnown()
    shares: dict[str, Share] | None = None  # by profile, from the leader's plan; None: there is none that is valid
    plan_fault: PlanFault = ""  # why the ledger did not take the plan of this host, which leads
    rolls_host: str | None = None  # which may replace instances; None: the leader names nobody
    queues: dict[str, QueueTold] = {}  # from the leader's plan
    restart_stopped: RestartStopped | None = None  # None: no restart of all hosts was given up
    scheduler_host: str | None = None  # which the leader names for a scheduler that is missing; None: nobody
    differences: tuple[SettingDiffers, ...] = ()  # settings in which hosts differ from the leader, by its plan

    @property
    def alone(self) -> bool:
        """Whether this host decides for itself. One that can't reach the ledger remembers whether there are others."""
        if not self.shared:
            return True
        return len(self.known.members) <= 1 if self.reply is None else self.reply.alone

    @property
    def may_not_write(self) -> bool:
        """Whether this host's Redis user lacks the rights for the ledger, so that the host counts as the only one."""
        return self.refusal is not None and self.refusal.code == Code.NO_RIGHTS

    @property
    def leader(self) -> str:
        return self.reply.leader if self.reply is not None else ""

    def with_threads(self, queue: QueueFacts) -> QueueFacts:
        """The queue with the threads at work as the leader's plan has them, if this host has not read them: to show."""
        told = self.queues.get(queue.name)
        if queue.busy_threads is not None or told is None:
            return queue
        return structs.replace(queue, busy_threads=told.busy_threads, young_threads=told.young_threads)

    def follows(self, host: str) -> bool:
        """Whether another host than this one leads, and plans for it."""
        reply = self.settled
        return reply is not None and not reply.alone and reply.token is None and reply.leader not in ("", host)

    @property
    def settled(self) -> BeatReply | None:
        """The reply, if nothing is gathered; None: nothing may be granted."""
        return self.reply if self.reply is not None and self.reply.gathering is None else None

    @property
    def slot(self) -> Slot | None:
        """Who may run the scheduler; None: unknown now, or decided by this host alone."""
        return self.settled.slot if self.shared and self.settled is not None else None

    @property
    def hindrance(self) -> Refusal | None:
        """Why nothing beyond `min` may be asked for; None: it may."""
        if not self.shared or self.settled is not None:
            return None
        if self.refusal is not None:
            return self.refusal
        return Refusal(code=Code.NO_LEDGER if self.reply is None else Code.GATHERING)
