"""What an order to a fleet is judged by, and what it changes: the ledger as just read, and what to write there.

Law 7: what has ended is taken out of the ledger with the next order, so that its ORDERS_MAX are those in force.
"""

from __future__ import annotations

from fleetd.core.fleet.orders import FleetOrder, KeptOrder, kept_orders, over, written
from fleetd.core.fleet.state import Entry, LedgerState
from fleetd.core.instances.host_memory import HostMemory
from fleetd.core.instances.host_tick import HostTick
from fleetd.core.instances.orders import Order, Situation
from fleetd.core.model import reasons
from fleetd.core.model.facts import Value
from fleetd.core.model.heartbeats import other_hosts
from fleetd.core.model.person import Person
from fleetd.core.model.policy_tables import PUNCTUAL_TICKS
from fleetd.core.sharing.merged import GONE_SECONDS
from fleetd.core.sharing.report import OBSERVES, ORDERS_KNOWN, HostReport, read
from fleetd.errors import OrderRefusedError


def beats(entry: Entry, report: HostReport | None, clock_ms: int) -> bool:
    """Whether a host is there, or may be: as long as its report counts for the leader (merged.there).

    `report`: what it told last, as far as this version can read it.
    """
    punctual_seconds = 0.0 if report is None else PUNCTUAL_TICKS * report.tick_seconds
    return (clock_ms - entry.beat_ms) / 1000 < max(GONE_SECONDS, punctual_seconds)


class LedgerChanges(Value, frozen=True, kw_only=True):
    """What to write, in this order: orders by what they are about (None: it ends), then a host to forget."""

    reply: reasons.Reply
    writes: tuple[tuple[str, str | None], ...] = ()
    forget: str = ""
    over: tuple[str, ...] = ()  # what has ended by itself, to be taken out first


class FleetSituation(Situation):
    """What an order to the fleet is judged by: this host's situation, and the ledger as just read."""

    def __init__(
        self, tick: HostTick, memory: HostMemory, now_seconds: float, person: Person | None, state: LedgerState
    ) -> None:
        super().__init__(tick, memory, now_seconds, person)
        self.state = state
        self._gathers = state.gathering_ms is not None
        lost = tick.fleet.known.orders if self._gathers else {}  # hosts tell them again
        self.kept = kept_orders({**lost, **state.orders}, state.clock_ms)
        self.over = () if self._gathers else over(state.orders, state.clock_ms)  # see `ended`

    def host(self, name: str) -> Entry:
        entry = self.state.hosts.get(name)
        if entry is None:
            known = ", ".join(sorted(self.state.hosts)[:20])
            raise OrderRefusedError(f"no host of this fleet is called {name[:64]!r}; there are: {known}")
        return entry

    def silent_ms(self, entry: Entry) -> int:
        return max(0, self.state.clock_ms - entry.beat_ms)

    def order(
        self,
        for_seconds: float,
        note: str | None = None,
        *,
        force: bool = False,
        instances: int | None = None,
        profile: str = "",
    ) -> str:
        until = self.state.clock_ms + round(1000 * for_seconds)
        return written(
            FleetOrder(until_ms=until, note=note, person=self.person, force=force, instances=instances, profile=profile)
        )

    def ended(self, about: str) -> tuple[str, str | None]:
        """The end of an order. While the ledger gathers it stays there as one that is over, because a host that is
        still to tell its own orders again does not know of this.
        """
        return about, written(FleetOrder(until_ms=self.state.clock_ms)) if self._gathers else None

    def found(self, kind: str, host: str, profile: str = "") -> KeptOrder | None:
        """This order, if the ledger keeps it."""
        same = (k for k in self.kept if (k.kind, k.host) == (kind, host) and profile in ("", k.profile))
        return next(same, None)

    def reports(self) -> dict[str, HostReport]:
        """What the hosts told that are there, as far as this version can read it."""
        found = {name: read(entry.record, name) for name, entry in sorted(self.state.hosts.items())}
        return {name: report for name, report in found.items() if report is not None and self._beats(name, report)}

    def _beats(self, name: str, report: HostReport | None) -> bool:
        entry = self.state.hosts[name]
        return not entry.gone and beats(entry, report, self.state.clock_ms)

    def deaf(self) -> tuple[reasons.DeafHost, ...]:
        """Hosts whose fleetd does not know counts and restarts, or that beat with an older one without any record."""
        reports = self.reports()
        found = {name: report.fleetd for name, report in reports.items() if report.orders < ORDERS_KNOWN}
        # One whose fleetd has just started has told nothing yet; it hears the order.
        there = {name for name, entry in self.state.hosts.items() if entry.record and self._beats(name, None)}
        found |= dict.fromkeys(there - reports.keys(), "")
        found |= {name: "" for name in self.beating() if name not in self.state.hosts}
        return tuple(reasons.DeafHost(host=name, fleetd=found[name]) for name in sorted(found))

    def beating(self) -> tuple[str, ...]:
        """The other hosts whose workers beat in Redis, as this host has read it last."""
        sidekiq = self.tick.sidekiq
        return () if sidekiq is None else other_hosts(sidekiq.processes, self.policy.host)

    def told_by(self, host: str, command: str) -> HostReport:
        """What this host told last. Refused where its fleetd would not know the order."""
        entry = self.host(host)
        report = read(entry.record, host)
        if not entry.record:
            raise OrderRefusedError(f"the fleetd of {host} has just started: try again in a few seconds")
        if report is None or report.orders < ORDERS_KNOWN:
            version = f"fleetd {report.fleetd}" if report is not None and report.fleetd else "another fleetd"
            raise OrderRefusedError(f"{host} runs {version}, which obeys `{command}` only on {host} itself")
        return report

    def paused_hosts(self) -> tuple[str, ...]:
        """Whose pauses the ledger keeps; "": that of all."""
        return tuple(kept.host for kept in self.kept if kept.kind == "pause")

    def serving_besides(self, host: str) -> tuple[str, ...]:
        """The other hosts that run workers, or may, and are not to be left."""
        leaving = {kept.host for kept in self.kept if kept.kind == "maintenance"} | {host}
        serve = {
            name
            for name, report in self.reports().items()
            if report.held != OBSERVES and any(p.max_instances for p in report.profiles)
        }
        return tuple(sorted(serve - leaving))


def refuse_others(host: str, now: Situation) -> None:
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
