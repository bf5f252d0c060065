"""People's orders to a fleet, given on any of its hosts: what each changes in the ledger, or why it is refused.

Law 6: a pause holds every host, and a host that is to be left is left, but never the last that serves unless that is
forced. Law 7: each order expires (core/fleet/orders.py). Law 3: a host that beats is not forgotten.
"""

from __future__ import annotations

from msgspec import structs

from fleetd.core.fleet.orders import ORDER_SECONDS_MAX, about_maintenance, about_pause, abouts_of, subject_of
from fleetd.core.fleet.view import FleetView
from fleetd.core.instances.host_memory import HostMemory
from fleetd.core.instances.host_tick import HostTick
from fleetd.core.instances.orders import ORDERS as HOST_ORDERS
from fleetd.core.instances.orders import Order, Pause, Restart, Resume, SetInstances, Situation
from fleetd.core.model import reasons
from fleetd.core.sharing.orders.counts import SetHost, counted
from fleetd.core.sharing.orders.restarts import RestartFleet, RestartHost
from fleetd.core.sharing.orders.situation import FleetSituation, LedgerChanges, OrderToFleet, beats, refuse_others
from fleetd.core.sharing.report import read
from fleetd.errors import OrderRefusedError


class PauseHost(Order, frozen=True, kw_only=True):
    """A pause of one host of several."""

    command = "pause"
    summary = Pause.summary
    host: str
    for_seconds: float = 0.0
    reason: str = ""

    def obey(self, now: Situation) -> tuple[HostMemory, reasons.Reply]:
        refuse_others(self.host, now)
        return Pause(for_seconds=self.for_seconds, reason=self.reason).obey(now)


class ResumeHost(Order, frozen=True, kw_only=True):
    """The end of what holds one host of several."""

    command = "resume"
    summary = Resume.summary
    host: str

    def obey(self, now: Situation) -> tuple[HostMemory, reasons.Reply]:
        refuse_others(self.host, now)
        return Resume().obey(now)


class PauseFleet(OrderToFleet, frozen=True, kw_only=True):
    """A pause of all hosts, or of one."""

    host: str  # "": of all
    for_seconds: float
    reason: str

    def judge(self, now: FleetSituation) -> LedgerChanges:
        host, seconds, note = self.host, now.seconds(self.for_seconds), now.note(self.reason)
        if host:
            now.host(host)
        hosts = sum(1 for entry in now.state.hosts.values() if not entry.gone)
        return LedgerChanges(
            writes=((about_pause(host), now.order(seconds, note)),),
            reply=reasons.FleetPauseTaken(for_seconds=seconds, note=note, host=host, hosts=hosts),
        )


class ResumeFleet(OrderToFleet, frozen=True, kw_only=True):
    """The end of all pauses, or of one host's."""

    host: str  # "": of all

    def judge(self, now: FleetSituation) -> LedgerChanges:
        paused = now.paused_hosts()
        if self.host and self.host not in paused:
            now.host(self.host)
        if self.host and self.host not in paused and "" in paused:
            raise OrderRefusedError("the whole fleet is paused: `fleetctl resume` ends that, on all hosts")
        ended = tuple(name for name in paused if self.host in ("", name))
        return LedgerChanges(
            writes=tuple(now.ended(about_pause(name)) for name in ended),
            reply=reasons.FleetResumeTaken(
                whole="" in ended,
                hosts=tuple(name for name in ended if name),
                still_paused="" in paused and "" not in ended,
            ),
        )


class Maintenance(OrderToFleet, frozen=True, kw_only=True):
    """Let other hosts do the work of HOST: see fleetctl maintenance."""

    command = "maintenance"
    summary = "Empty a host for work on it."
    host: str
    for_seconds: float = 0.0  # 0: a week
    reason: str = ""
    force: bool = False

    def judge(self, now: FleetSituation) -> LedgerChanges:
        entry, note = now.host(self.host), now.note(self.reason)
        seconds = now.seconds(self.for_seconds) if self.for_seconds else ORDER_SECONDS_MAX
        serving = now.serving_besides(self.host)
        if not serving and not self.force:
            raise OrderRefusedError(
                f"no other host would serve: {self.host} is the last one that beats, acts and is not in maintenance. "
                "With --force its instances end all the same, and jobs wait"
            )
        report = read(entry.record, self.host)
        return LedgerChanges(
            writes=((about_maintenance(self.host), now.order(seconds, note, force=self.force)),),
            reply=reasons.MaintenanceTaken(
                host=self.host,
                for_seconds=seconds,
                instances=None if report is None else sum(p.running for p in report.profiles),
                serving=serving,
                scheduler=now.state.slot.holder == self.host and now.state.slot.unit != "gone",
            ),
        )


class EndMaintenance(OrderToFleet, frozen=True, kw_only=True):
    """The end of the maintenance of HOST."""

    command = "maintenance"
    summary = "Let a host work again."
    host: str

    def judge(self, now: FleetSituation) -> LedgerChanges:
        if not any(kept.kind == "maintenance" and kept.host == self.host for kept in now.kept):
            now.host(self.host)
            raise OrderRefusedError(f"{self.host} is not in maintenance")
        return LedgerChanges(
            writes=(now.ended(about_maintenance(self.host)),), reply=reasons.MaintenanceEnded(host=self.host)
        )


class ForgetHost(OrderToFleet, frozen=True, kw_only=True):
    """Free what HOST had, which is gone for good: see fleetctl hosts forget."""

    command = "hosts forget"
    summary = "Free what a host had that is gone for good."
    host: str

    def judge(self, now: FleetSituation) -> LedgerChanges:
        entry, state = now.host(self.host), now.state
        if self.host == now.policy.host:
            raise OrderRefusedError(f"{self.host} is this host, which beats; stop its fleetd, and order it on another")
        silent = now.silent_ms(entry)
        if entry.boot_id and beats(entry, read(entry.record, self.host), state.clock_ms):
            raise OrderRefusedError(
                f"{self.host} has beaten {silent / 1000:.0f} s ago, so it is there: stop its workers and its fleetd "
                "first, and wait for a minute"
            )
        if self.host in now.beating():
            raise OrderRefusedError(
                f"workers of {self.host} beat in Redis, so only its fleetd is down: stop them, and wait for a minute"
            )
        claims: dict[str, int] = {}
        for own in state.claims.get(self.host, {}).values():
            for source, connections in own.items():
                claims[source] = claims.get(source, 0) + connections
        ended = tuple((about, None) for about in abouts_of(self.host, state.orders))
        return LedgerChanges(
            forget=self.host,
            writes=ended,
            reply=reasons.HostForgotten(
                host=self.host,
                silent_seconds=silent / 1000,
                claims=tuple(sorted(claims.items())),
                scheduler=state.scheduler_host == self.host,
                led=state.leader == self.host,
                orders=len(ended),
            ),
        )


#: The orders that --host gives to one host of several.
ToHost = PauseHost | ResumeHost | SetHost | RestartHost


def to_fleet(order: Order, tick: HostTick) -> OrderToFleet | None:
    """The order as one to the fleet; None: it concerns this host alone. Raises OrderRefusedError."""
    view, own = tick.fleet, is_own(order, tick.policy.host)
    if not view.shared or (isinstance(order, RestartHost) and own):
        return None
    if isinstance(order, ToHost) and not order.host:  # below, "" is all hosts
        raise OrderRefusedError("no host of this fleet is called ''; `fleetctl hosts` lists them")
    if view.alone and (own or not isinstance(order, ToHost | OrderToFleet)) and not _is_kept(order, view):
        return None
    match order:
        case OrderToFleet():
            return order
        case Pause():
            return PauseFleet(host="", for_seconds=order.for_seconds, reason=order.reason)
        case PauseHost():
            return PauseFleet(host=order.host, for_seconds=order.for_seconds, reason=order.reason)
        case Resume():
            return ResumeFleet(host="")
        case ResumeHost():
            return ResumeFleet(host=order.host)
        case SetInstances() | SetHost():
            return counted(order)
        case Restart():
            return RestartFleet(host="", profile=order.profile)
        case RestartHost():
            return RestartFleet(host=order.host, profile=order.profile)
    return None


def is_own(order: Order, host: str) -> bool:
    """Whether it is meant for this host alone, which needs no ledger for it."""
    return isinstance(order, ToHost) and order.host == host


def _is_kept(order: Order, view: FleetView) -> bool:
    """Whether the ledger still keeps orders of this kind from when there were several hosts."""
    kinds = {"resume": "pause", "pause": "pause", "set": "set"}
    return kinds.get(order.command) in {subject_of(about)[0] for about in view.known.orders}


def answered(changes: LedgerChanges, here: reasons.Reply | None) -> reasons.Reply:
    """The answer, with what ended on this host alone; raises OrderRefusedError if nothing did anywhere."""
    reply = changes.reply
    if isinstance(reply, reasons.FleetAutoTaken):
        if not changes.writes and not isinstance(here, reasons.AutoTaken):
            where = f": {', '.join(reply.left)} has a number of its own, which is ended there" if reply.left else ""
            raise OrderRefusedError(f"{reply.profile} is not set to a number{where or ': its queues decide already'}")
        return structs.replace(reply, here=isinstance(here, reasons.AutoTaken))
    if not isinstance(reply, reasons.FleetResumeTaken):
        return reply
    if isinstance(here, reasons.ResumeTaken):
        return structs.replace(reply, here=here)
    if not changes.writes:
        raise OrderRefusedError(
            "nothing to resume: no pause is in force there. An upgrade, and a pause that was ordered while Redis was "
            "away, are resumed on their own host"
        )
    return reply


#: Every order that the bus takes.
ORDERS: tuple[type[Order], ...] = (
    *HOST_ORDERS,
    PauseHost,
    ResumeHost,
    SetHost,
    RestartHost,
    Maintenance,
    EndMaintenance,
    ForgetHost,
)
