"""`fleetctl set` over a fleet: how many of a profile all hosts have together, or one of them.

Law 6: what a person set on one host is its part of what all have together. A profile is meant by its name on any host;
hosts that call the same queues otherwise have it too, since what all have together is shared out by shape (shapes.py).
"""

from __future__ import annotations

from fleetd.core.fleet.orders import about_set
from fleetd.core.instances.host_memory import HostMemory
from fleetd.core.instances.orders import Order, SetInstances, Situation
from fleetd.core.model import reasons
from fleetd.core.sharing.orders.situation import FleetSituation, LedgerChanges, OrderToFleet, refuse_others
from fleetd.core.sharing.report import HostReport, ProfileReport
from fleetd.core.sharing.shapes import shapes_of
from fleetd.errors import OrderRefusedError

_NAMED_MAX = 20


class SetHost(Order, frozen=True, kw_only=True):
    """A count for a profile of one host of several."""

    command = "set"
    summary = SetInstances.summary
    host: str
    profile: str
    instances: int | None  # None: auto
    for_seconds: float = 0.0

    def obey(self, now: Situation) -> tuple[HostMemory, reasons.Reply]:
        refuse_others(self.host, now)
        here = SetInstances(profile=self.profile, instances=self.instances, for_seconds=self.for_seconds)
        return here.obey(now)


class SetFleet(OrderToFleet, frozen=True, kw_only=True):
    """A count for a profile, of all hosts together or of one."""

    host: str  # "": of all
    profile: str
    instances: int
    for_seconds: float

    def judge(self, now: FleetSituation) -> LedgerChanges:
        seconds = now.seconds(self.for_seconds)
        found = self._of_all(now) if not self.host else {self.host: self._of_host(now)}
        most = sum(p.max_instances for p in found.values())
        if not 0 <= self.instances <= most:
            where = f"on {self.host}"
            if not self.host:
                each = [f"{host} {p.max_instances}" for host, p in found.items()]
                where = f"on all hosts together: {', '.join(each[:_NAMED_MAX])}"
            raise OrderRefusedError(f"{self.profile} has 0 to {most} instances {where} (max), not {self.instances}")
        reports = now.reports()
        held = {host: reports[host].held for host in found if host in reports}
        own = {host: p.set_instances for host, p in found.items() if not self.host and p.set_instances is not None}
        leader = now.state.leader
        return LedgerChanges(
            writes=((about_set(self.profile, self.host), now.order(seconds, instances=self.instances)),),
            reply=reasons.FleetSetTaken(
                profile=self.profile,
                instances=self.instances,
                for_seconds=seconds,
                host=self.host,
                hosts=tuple(found),
                min_instances=sum(p.min_instances for p in found.values()),
                own=tuple(own.items()),
                held=tuple(reasons.NotTaken(host=host, why=why) for host, why in held.items() if why),
                deaf=() if self.host else now.deaf(),
                leader=leader if not self.host and any(one.host == leader for one in now.deaf()) else "",
            ),
        )

    def _of_host(self, now: FleetSituation) -> ProfileReport:
        report = now.told_by(self.host, "fleetctl set")
        profile = next((p for p in report.profiles if p.name == self.profile), None)
        if profile is None:
            known = ", ".join(p.name for p in report.profiles[:_NAMED_MAX])
            raise OrderRefusedError(f"{self.host} has no profile {self.profile[:64]!r}; there are: {known}")
        return profile

    def _of_all(self, now: FleetSituation) -> dict[str, ProfileReport]:
        """By host: what is meant, under whatever name. Refused where one name means several things."""
        reports = now.reports()
        named = {shape: host for host, report in reports.items() for shape in self._called_so(report)}
        if not named:
            known = sorted({p.name for report in reports.values() for p in report.profiles})
            raise OrderRefusedError(
                f"no host has a profile {self.profile[:64]!r}; there are: {', '.join(known[:_NAMED_MAX])}"
            )
        if len(named) > 1:
            hosts = ", ".join(sorted(set(named.values())))
            raise OrderRefusedError(
                f"{self.profile} has other queues or threads on one host than on another ({hosts}), so it has no count "
                "of all together: --host HOST sets one of them"
            )
        [meant] = named
        return {
            host: profile for host, report in reports.items() for shape, profile in shapes_of(report) if shape == meant
        }

    def _called_so(self, report: HostReport) -> list[object]:
        return [shape for shape, profile in shapes_of(report) if profile.name == self.profile]


class AutoFleet(OrderToFleet, frozen=True, kw_only=True):
    """The end of every count for a profile, or of one host's."""

    host: str  # "": of all
    profile: str

    def judge(self, now: FleetSituation) -> LedgerChanges:
        kept = [k for k in now.kept if k.kind == "set" and k.profile == self.profile]
        ended = [k for k in kept if self.host in ("", k.host)]
        if self.host and not ended:
            now.host(self.host)
        if not ended and kept and any(not k.host for k in kept):
            raise OrderRefusedError(
                f"{self.profile} has no number of {self.host}'s own, but one on all hosts together: "
                f"`fleetctl set {self.profile} auto` ends that"
            )
        return LedgerChanges(
            writes=tuple(now.ended(k.about) for k in ended),
            reply=reasons.FleetAutoTaken(
                profile=self.profile,
                whole=any(not k.host for k in ended),
                hosts=tuple(k.host for k in ended if k.host),
                left=tuple(
                    host
                    for host, report in now.reports().items()
                    if self.host in ("", host) and host != now.policy.host
                    if any(p.name == self.profile and p.set_instances is not None for p in report.profiles)
                    if not any(k.host == host for k in ended)
                ),
            ),
        )


def counted(order: SetInstances | SetHost) -> OrderToFleet:
    """The order as one to the fleet. Raises OrderRefusedError."""
    host = order.host if isinstance(order, SetHost) else ""
    if order.instances is not None:
        return SetFleet(host=host, profile=order.profile, instances=order.instances, for_seconds=order.for_seconds)
    if order.for_seconds:
        raise OrderRefusedError("auto ends an order and has no end of its own: leave the time out")
    return AutoFleet(host=host, profile=order.profile)
