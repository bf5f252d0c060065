"""Tell of every host of the fleet, on demand: a follower is told of the others by nobody, so the ledger is read.

Law 3: what can't be read is said to be unknown. The asked host itself is always told, from its own last tick.
"""

from __future__ import annotations

from typing import Literal

from msgspec import structs

from fleetd.core.fleet.calls import Told
from fleetd.core.fleet.orders import KeptOrder, kept_orders
from fleetd.core.fleet.rules import waits_for
from fleetd.core.fleet.state import LedgerState
from fleetd.core.model.hosts import FleetHosts, HostOfFleet, OrderOfFleet, ProfileOfHost, RestartOfFleet
from fleetd.core.sharing.orders.restarts import restart_end, restart_on
from fleetd.core.sharing.report import HostReport, read, report_of, written
from fleetd.daemon.tell_fleet import host_status, untold_hosts
from fleetd.daemon.tick import TickResult
from fleetd.errors import SourceUnavailableError
from fleetd.ports import Ledger
from fleetd.words.formatting import times, who


async def fleet_hosts(result: TickResult, ledger: Ledger | None, fleetd: str) -> FleetHosts:
    """Every host of the fleet. `result`: of the last tick; `fleetd`: this one's version. Raises nothing foreseeable."""
    if ledger is None:
        return structs.replace(_own_only(result, fleetd, ""), alone=True)
    try:
        state = await ledger.read()
    except SourceUnavailableError as error:
        return _own_only(result, fleetd, str(error))
    if state is None:
        return _own_only(result, fleetd, "the fleet's ledger in Redis is empty; each host tells with its next tick")
    untold = untold_hosts(result, state.hosts)
    return structs.replace(
        of_ledger(state, result.tick.policy.host), several=not result.tick.fleet.alone, untold=untold
    )


def of_ledger(state: LedgerState, host: str) -> FleetHosts:
    """As the ledger has them. `host`: which was asked."""
    orders = kept_orders(state.orders, state.clock_ms)
    restarts = {kept.about: _restart(kept, state) for kept in orders if kept.kind == "restart"}
    maintained = {o.host for o in orders if o.kind == "maintenance"}
    leader, holder = state.leader, state.scheduler_host
    hosts = []
    for name, entry in sorted(state.hosts.items()):
        told = Told(
            silent_ms=max(0, state.clock_ms - entry.beat_ms),
            gone=entry.gone,
            record=entry.record,
            claims=state.claims.get(name, {}),
        )
        found = _host(name, told)
        hosts.append(
            structs.replace(found, leads=name == leader, scheduler=name == holder, maintenance=name in maintained)
        )
    gathering = None
    if state.gathering_ms is not None:
        gathering = tuple(host for host in waits_for(state) if host)
    return FleetHosts(
        host=host,
        leader=leader,
        scheduler_host=holder,
        gathering=gathering,
        hosts=tuple(hosts),
        orders=tuple(o for kept in orders if (o := _order(kept, restarts, state.clock_ms)) is not None),
        restarts=tuple(restarts.values()),
    )


def _own_only(result: TickResult, fleetd: str, problem: str) -> FleetHosts:
    """This host by its own last tick, and the others by name only."""
    tick, view = result.tick, result.tick.fleet
    own = tick.policy.host
    record = written(report_of(tick, result.host.memory, fleetd))
    told = structs.replace(_host(own, Told(silent_ms=0, gone=False, record=record, claims={})), claims_connections=None)
    others = (HostOfFleet(host=name) for name in view.known.members if name != own) if problem else ()
    return FleetHosts(
        host=own,
        leader="",
        scheduler_host="",
        gathering=None,
        hosts=tuple(sorted((told, *others), key=lambda h: h.host)),
        problem=problem,
    )


def _host(name: str, told: Told) -> HostOfFleet:
    found, report = host_status(name, told), read(told.record, name)
    profiles = () if report is None else tuple(_profile(report, place) for place in range(len(report.profiles)))
    fields = {field: getattr(found, field) for field in found.__struct_fields__}
    return HostOfFleet(**fields, profiles=profiles)


def _profile(report: HostReport, place: int) -> ProfileOfHost:
    profile = report.profiles[place]
    return ProfileOfHost(
        name=profile.name,
        queues=tuple(queue for queue, _ in report.queues_of(profile)),
        running_instances=profile.running,
        min_instances=profile.min_instances,
        max_instances=profile.max_instances,
    )


def _order(kept: KeptOrder, restarts: dict[str, RestartOfFleet], clock_ms: int) -> OrderOfFleet | None:
    """None: a restart that has ended."""
    order, kind = kept.order, _KINDS[kept.kind]
    note = f": {order.note}" if order.note else ""
    said = "paused" if kind == "pause" else "in maintenance"
    if kind == "set":
        together = "" if kept.host else " on all hosts together"
        said = f"{kept.profile} is set to {times(order.instances or 0, 'instance')}{together}"
    elif kind == "restart":
        restart = restarts[kept.about]
        if restart.ended:
            return None
        done, total = (sum(getattr(h, f"{n}_instances") for h in restart.hosts) for n in ("done", "total"))
        said = f"a restart{f' of {kept.profile}' if kept.profile else ''} is under way, {done} of {total} done"
    return OrderOfFleet(
        kind=kind,
        host=kept.host,
        sentence=f"{said}, ordered by {who(order.person)}{note}",
        seconds_left=(order.until_ms - clock_ms) / 1000,
        profile=kept.profile,
    )


_KINDS: dict[str, Literal["pause", "maintenance", "set", "restart"]] = {
    "pause": "pause",
    "maintenance": "maintenance",
    "set": "set",
    "restart": "restart",
}


def _restart(kept: KeptOrder, state: LedgerState) -> RestartOfFleet:
    hosts = restart_on(kept, state)
    return RestartOfFleet(host=kept.host, profile=kept.profile, hosts=hosts, ended=restart_end(hosts))
