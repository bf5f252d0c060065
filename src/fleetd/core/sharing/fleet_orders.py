"""People's orders to a fleet, given on any of its hosts: what each changes in the ledger, or why it is refused.

Law 6: a pause holds every host, and a host that is to be left is left, but never the last that serves unless that is
forced. Law 7: each order expires (core/fleet/orders.py). Law 3: a host that beats is not forgotten.
"""

from __future__ import annotations

from itertools import islice

from msgspec import structs

from fleetd.core.fleet.orders import (
    ORDER_SECONDS_MAX,
    FleetOrder,
    about_maintenance,
    about_pause,
    abouts_of,
    kept_orders,
    over,
    written,
)
from fleetd.core.fleet.state import Entry, LedgerState
from fleetd.core.instances.host_memory import HostMemory
from fleetd.core.instances.host_tick import HostTick
from fleetd.core.instances.orders import ORDERS as HOST_ORDERS
from fleetd.core.instances.orders import Order, Pause, Resume, Situation
from fleetd.core.model import reasons
from fleetd.core.model.facts import Value
from fleetd.core.model.person import Person
from fleetd.core.sharing.report import OBSERVES, read
from fleetd.errors import OrderRefusedError

#: A host that is silent for less is there, or may be.
BEATS_MS = 60_000
#: Orders that are over, of which one new order rids the ledger: each is a round trip.
OVER_MAX = 8


class LedgerChanges(Value, frozen=True, kw_only=True):
    """What to write, in this order: orders by what they are about (None: it ends), then a host to forget."""

    reply: reasons.Reply
    writes: tuple[tuple[str, str | None], ...] = ()
    forget: str = ""


class FleetSituation(Situation):
    """What an order to the fleet is judged by: this host's situation, and the ledger as just read."""

    def __init__(
        self, tick: HostTick, memory: HostMemory, now_seconds: float, person: Person | None, state: LedgerState
    ) -> None:
        super().__init__(tick, memory, now_seconds, person)
        self.state = state
        self.kept = kept_orders(state.orders, state.clock_ms)

    def host(self, name: str) -> Entry:
        entry = self.state.hosts.get(name)
        if entry is None:
            known = ", ".join(sorted(self.state.hosts)[:20])
            raise OrderRefusedError(f"no host of this fleet is called {name[:64]!r}; there are: {known}")
        return entry

    def silent_ms(self, entry: Entry) -> int:
        return max(0, self.state.clock_ms - entry.beat_ms)

    def order(self, for_seconds: float, note: str | None, *, force: bool = False) -> str:
        until = self.state.clock_ms + round(1000 * for_seconds)
        return written(FleetOrder(until_ms=until, note=note, person=self.person, force=force))

    def writes(self, about: str, order: str) -> tuple[tuple[str, str | None], ...]:
        """An order, and before it the end of some that are over: nobody else makes room for it in the ledger."""
        ended = (name for name in over(self.state.orders, self.state.clock_ms) if name != about)
        return (*((name, None) for name in islice(ended, OVER_MAX)), (about, order))

    def paused_hosts(self) -> tuple[str, ...]:
        """Whose pauses the ledger keeps; "": that of all."""
        return tuple(kept.host for kept in self.kept if kept.kind == "pause")

    def serving_besides(self, host: str) -> tuple[str, ...]:
        """The other hosts that run workers, or may, and are not to be left."""
        leaving = {kept.host for kept in self.kept if kept.kind == "maintenance"} | {host}
        found = []
        for name, entry in sorted(self.state.hosts.items()):
            report = read(entry.record, name)
            if name in leaving or entry.gone or self.silent_ms(entry) >= BEATS_MS or report is None:
                continue
            if report.held != OBSERVES and any(p.max_instances for p in report.profiles):
                found.append(name)
        return tuple(found)


class PauseHost(Order, frozen=True, kw_only=True):
    """A pause of one host of several."""

    command = "pause"
    summary = Pause.summary
    host: str
    for_seconds: float = 0.0
    reason: str = ""

    def obey(self, now: Situation) -> tuple[HostMemory, reasons.Reply]:
        _refuse_others(self.host, now)
        return Pause(for_seconds=self.for_seconds, reason=self.reason).obey(now)


class ResumeHost(Order, frozen=True, kw_only=True):
    """The end of what holds one host of several."""

    command = "resume"
    summary = Resume.summary
    host: str

    def obey(self, now: Situation) -> tuple[HostMemory, reasons.Reply]:
        _refuse_others(self.host, now)
        return Resume().obey(now)


def _refuse_others(host: str, now: Situation) -> None:
    if host != now.policy.host:
        raise OrderRefusedError(f"this host ({now.policy.host}) shares no fleet with a host {host[:64]!r}")


class OrderToFleet(Order, frozen=True, kw_only=True):
    """Base of the orders that only several hosts have."""

    def obey(self, now: Situation) -> tuple[HostMemory, reasons.Reply]:
        raise OrderRefusedError(
            f'this host ({now.policy.host}) shares no ledger with others: fleet.ledger is "local", or its Redis user '
            "may not write there"
        )

    def judge(self, now: FleetSituation) -> LedgerChanges:
        """What it changes. Raises OrderRefusedError."""
        raise NotImplementedError


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
            writes=now.writes(about_pause(host), now.order(seconds, note)),
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
            writes=tuple((about_pause(name), None) for name in ended),
            reply=reasons.FleetResumeTaken(whole="" in ended, hosts=tuple(name for name in ended if name)),
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
            writes=now.writes(about_maintenance(self.host), now.order(seconds, note, force=self.force)),
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
            writes=((about_maintenance(self.host), None),), reply=reasons.MaintenanceEnded(host=self.host)
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
        if entry.boot_id and silent < BEATS_MS:
            raise OrderRefusedError(
                f"{self.host} has beaten {silent / 1000:.0f} s ago, so it is there: stop its workers and its fleetd "
                "first, and wait for a minute"
            )
        claims: dict[str, int] = {}
        for own in state.claims.get(self.host, {}).values():
            for source, connections in own.items():
                claims[source] = claims.get(source, 0) + connections
        ended = tuple((about, None) for about in abouts_of(self.host) if about in state.orders)
        return LedgerChanges(
            forget=self.host,
            writes=ended,
            reply=reasons.HostForgotten(
                host=self.host,
                silent_seconds=silent / 1000,
                claims=tuple(sorted(claims.items())),
                scheduler=state.slot.holder == self.host and state.slot.unit != "gone",
                led=state.lease.host == self.host and state.lease.until_ms > state.clock_ms,
                orders=len(ended),
            ),
        )


def to_fleet(order: Order, tick: HostTick) -> OrderToFleet | None:
    """The order as one to the fleet; None: it concerns this host alone. Raises OrderRefusedError."""
    view = tick.fleet
    if not view.shared:
        return None
    if isinstance(order, PauseHost | ResumeHost) and not order.host:  # below, "" is all hosts
        raise OrderRefusedError("no host of this fleet is called ''; `fleetctl hosts` lists them")
    here = isinstance(order, Pause | Resume)
    here = here or (isinstance(order, PauseHost | ResumeHost) and order.host == tick.policy.host)
    if view.alone and here:
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
    return None


def answered(changes: LedgerChanges, here: reasons.Reply | None) -> reasons.Reply:
    """The answer, with what ended on this host alone; raises OrderRefusedError if nothing did anywhere."""
    reply = changes.reply
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
ORDERS: tuple[type[Order], ...] = (*HOST_ORDERS, PauseHost, ResumeHost, Maintenance, EndMaintenance, ForgetHost)
