"""`fleetctl restart` over a fleet: ordered once, begun by every host, done by one after the other (rolls.py).

Law 6: each host obeys it once (core/sharing/orders/heard.py). Law 7: a host that is lost is waited for by nobody.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from fleetd.core.fleet.orders import RESTART_SECONDS, KeptOrder, about_restart
from fleetd.core.fleet.state import Entry, LedgerState
from fleetd.core.instances.host_memory import HostMemory
from fleetd.core.instances.orders import Order, Restart, Situation
from fleetd.core.model import reasons
from fleetd.core.model.hosts import RestartEnd, RestartOnHost
from fleetd.core.model.reasons.base import ClampCode
from fleetd.core.sharing.orders.situation import FleetSituation, LedgerChanges, OrderToFleet, beats, refuse_others
from fleetd.core.sharing.report import ORDERS_KNOWN, HostReport, read
from fleetd.errors import OrderRefusedError


class RestartHost(Order, frozen=True, kw_only=True):
    """A restart of one host of several."""

    command = "restart"
    summary = Restart.summary
    host: str
    profile: str = ""

    def obey(self, now: Situation) -> tuple[HostMemory, reasons.Reply]:
        refuse_others(self.host, now)
        return Restart(profile=self.profile).obey(now)


class RestartFleet(OrderToFleet, frozen=True, kw_only=True):
    """A restart of all hosts, or of another one."""

    host: str  # "": of all
    profile: str

    def judge(self, now: FleetSituation) -> LedgerChanges:
        reports = now.reports() if not self.host else self._of_host(now)
        deaf = () if self.host else now.deaf()
        reports = {host: r for host, r in reports.items() if r.orders >= ORDERS_KNOWN}
        upgraded = tuple(host for host, r in reports.items() if r.held == ClampCode.UPGRADE)
        under_way = None if upgraded else self._under_way(now)
        if under_way is not None:
            return LedgerChanges(reply=under_way)
        found = {host: self._running(report) for host, report in reports.items()}
        if not sum(found.values()):
            where = f"on {self.host}" if self.host else "on any host"
            raise OrderRefusedError(f"no instance of {self.profile or 'any profile'} runs {where}: nothing to restart")
        return LedgerChanges(
            writes=((about_restart(self.host), now.order(RESTART_SECONDS, profile=self.profile)),),
            reply=reasons.FleetRestartTaken(
                profile=self.profile,
                host=self.host,
                hosts=tuple((host, count) for host, count in found.items() if count),
                upgraded=upgraded,
                held=tuple(
                    reasons.NotTaken(host=host, why=r.held)
                    for host, r in reports.items()
                    if found[host] and r.held and host not in upgraded
                ),
                deaf=deaf,
            ),
        )

    def _of_host(self, now: FleetSituation) -> dict[str, HostReport]:
        entry = now.host(self.host)
        if not beats(entry, read(entry.record, self.host), now.state.clock_ms):
            silent = now.silent_ms(entry)
            raise OrderRefusedError(
                f"{self.host} was last heard {silent / 1000:.0f} s ago, so it would not hear this: see to its fleetd "
                "first"
            )
        return {self.host: now.told_by(self.host, "fleetctl restart")}

    def _running(self, report: HostReport) -> int:
        """Instances that it concerns there, the scheduler among them."""
        if self.profile:
            return sum(p.running for p in report.profiles if p.name == self.profile)
        return sum(p.running for p in report.profiles) + report.scheduler.present

    def _under_way(self, now: FleetSituation) -> reasons.FleetRestartUnderWay | None:
        """The restart of the same that is under way. Refused where one of others is."""
        for host in dict.fromkeys(("", self.host)):
            kept = now.found("restart", host)
            hosts = () if kept is None else restart_on(kept, now.state)
            if kept is None or restart_end(hosts):
                continue
            what = f"a restart of {f'{kept.profile} on ' if kept.profile else ''}{host or 'all hosts'} is under way"
            done, total = sum(h.done_instances for h in hosts), sum(h.total_instances for h in hosts)
            if host == self.host and kept.profile in ("", self.profile):
                return reasons.FleetRestartUnderWay(
                    host=host, profile=kept.profile, done_instances=done, total_instances=total
                )
            raise OrderRefusedError(
                f"{what}, {done} of {total} done: order this one once it has ended; `fleetctl pause` holds it"
            )
        return None


def restart_on(kept: KeptOrder, state: LedgerState) -> tuple[RestartOnHost, ...]:
    """How far a restart that the ledger keeps is on each host that it concerns."""
    entries = {name: entry for name, entry in sorted(state.hosts.items()) if not entry.gone}
    meant = entries if not kept.host else {name: e for name, e in entries.items() if name == kept.host}
    return tuple(_on(kept, name, entry, state.clock_ms) for name, entry in meant.items())


def _on(kept: KeptOrder, name: str, entry: Entry, clock_ms: int) -> RestartOnHost:
    report = read(entry.record, name)
    lost = not beats(entry, report, clock_ms)
    told = () if report is None else report.restarts
    mine = [r for r in told if (r.whole, r.until_ms) == (not kept.host, kept.order.until_ms)]
    if not mine:
        deaf = bool(entry.record) and (report is None or report.orders < ORDERS_KNOWN)
        return RestartOnHost(host=name, phase="lost" if lost else "deaf" if deaf else "waits")
    one = mine[0]
    phase: Literal["waits", "under_way", "done", "given_up", "stopped", "lost"]
    match one.phase:
        case "done" | "given_up" | "stopped":
            phase = one.phase
        case _ if lost:
            phase = "lost"
        case "under_way":
            phase = "under_way"
        case _:
            phase = "waits"
    return RestartOnHost(host=name, phase=phase, done_instances=one.done, total_instances=one.total, at_key=one.at)


def restart_end(hosts: Sequence[RestartOnHost]) -> RestartEnd:
    """How it ended; "": it has not. Hosts that are lost, or don't know the order, are not waited for."""
    if any(h.phase in ("waits", "under_way") for h in hosts):
        return ""
    return "given_up" if any(h.phase in ("given_up", "stopped") for h in hosts) else "done"
