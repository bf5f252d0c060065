"""What the hosts of a fleet claim of a source at their `min`, and one scheduler: set aside in any case (law 2).

By what each host told last, however long ago: a boot starts `min` without asking anybody.
"""

from __future__ import annotations

from fleetd.core.fleet.admission import is_scheduler
from fleetd.core.fleet.state import Entry, LedgerState
from fleetd.core.model.facts import Value
from fleetd.core.sharing.report import HostReport, read


class MinOfHost(Value, frozen=True, kw_only=True):
    """One host, without its scheduler: by its profiles, else by what it runs and may still start."""

    host: str
    connections: int


class SetAside(Value, frozen=True, kw_only=True):
    """Of one source, by all hosts but one."""

    hosts: tuple[MinOfHost, ...] = ()
    scheduler_connections: int = 0  # the largest that one of them would start


def set_aside(state: LedgerState, without: str, source: str) -> SetAside:
    """`without`: the host that counts itself. `source`: its identity, as claims have it."""
    hosts, schedulers = [], [0]
    for name, entry in sorted(state.hosts.items()):
        if name == without or entry.gone:
            continue
        report = read(entry.record, name)
        if _takes(state, name, entry, source):
            hosts.append(_min(state, name, entry, report, source))
            schedulers.append(entry.scheduler.get(source, 0))
    return SetAside(hosts=tuple(hosts), scheduler_connections=max(schedulers))


def _takes(state: LedgerState, name: str, entry: Entry, source: str) -> bool:
    """Whether its workers connect there. One that has named no source yet is taken to."""
    named = {*entry.missing, *entry.scheduler, *(s for claims in state.claims.get(name, {}).values() for s in claims)}
    return not named or source in named


def _min(state: LedgerState, name: str, entry: Entry, report: HostReport | None, source: str) -> MinOfHost:
    if report is not None and not report.cut:
        return MinOfHost(host=name, connections=sum(p.min_instances * p.claim_connections for p in report.profiles))
    runs = sum(c.get(source, 0) for process, c in state.claims.get(name, {}).items() if not is_scheduler(process))
    return MinOfHost(host=name, connections=runs + entry.missing.get(source, 0))
