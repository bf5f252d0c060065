"""Tell the fleet: its hosts, who leads, who holds the scheduler, and what is wrong between them."""

from __future__ import annotations

from collections.abc import Collection

from fleetd.core.asking import refusal_reason
from fleetd.core.fleet.calls import Code, Told
from fleetd.core.model.heartbeats import other_hosts
from fleetd.core.model.status import FleetHostStatus, FleetStatus
from fleetd.core.sharing.report import read
from fleetd.daemon.tick import TickResult
from fleetd.words.reasons import sentence

#: Refusals that pass by themselves.
_PASSING = frozenset({Code.GATHERING, Code.GENERATION})


def fleet_status(result: TickResult) -> FleetStatus | None:
    """None: this host is the whole fleet, and asks nobody."""
    view = result.tick.fleet
    if not view.shared:
        return None
    reply, told = view.reply, view.reply.told if view.reply is not None else None
    names = sorted(told) if told is not None else view.known.members or (result.tick.policy.host,)
    slot = reply.slot if reply is not None else None
    return FleetStatus(
        leader=view.leader,
        leads=reply is not None and reply.token is not None,
        hosts=tuple(host_status(name, None if told is None else told[name]) for name in names),
        generation=view.known.generation,
        gathering=None if reply is None or reply.gathering is None else tuple(h for h in reply.gathering if h),
        scheduler_host=slot.host if slot is not None else "",
        problem=fleet_problem(result),
        differences=tuple(map(sentence, view.differences)),
        untold=untold_hosts(result, names),
    )


def untold_hosts(result: TickResult, known: Collection[str]) -> tuple[str, ...]:
    """Hosts that run workers of ours and are not known: of an older fleetd, for one."""
    sidekiq = result.tick.sidekiq
    found = () if sidekiq is None else other_hosts(sidekiq.processes, result.tick.policy.host)
    return tuple(host for host in found if host not in known)


def fleet_problem(result: TickResult) -> str:
    """Why nothing can be asked of the ledger; "": it can, or only has to gather."""
    refusal = result.tick.fleet.hindrance
    if refusal is None or refusal.code in _PASSING or result.tick.sidekiq is None:
        return ""
    return sentence(refusal_reason(refusal, ()))


def host_status(name: str, told: Told | None) -> FleetHostStatus:
    if told is None:
        return FleetHostStatus(host=name)
    sources: dict[str, int] = {}
    for claims in told.claims.values():
        for source, connections in claims.items():
            sources[source] = sources.get(source, 0) + connections
    report = read(told.record, name)
    return FleetHostStatus(
        host=name,
        silent_seconds=told.silent_ms / 1000,
        tick_seconds=None if report is None else report.tick_seconds,
        gone=told.gone,
        instances=None if report is None else sum(p.running for p in report.profiles),
        claims_connections=max(sources.values(), default=0),
        cores=None if report is None else report.cores,
        held="" if report is None else report.held,
        fleetd="" if report is None else report.fleetd,
        mastodon="" if report is None else report.code_version,
    )
