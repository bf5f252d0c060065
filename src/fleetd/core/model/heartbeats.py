"""Which heartbeat is of a unit's present process, and how many connections that process may open.

A heartbeat outlives its process by up to 60 s, so a unit may have several; the others are of processes that have ended.
"""

from __future__ import annotations

from collections.abc import Iterable

from fleetd.core.model.facts import ProcessFacts, UnitFacts
from fleetd.core.model.identity import InstanceKey, parse_tag
from fleetd.core.model.policy_tables import CLAIM_MARGIN_CONNECTIONS

#: Sidekiq notes its start up to this long before systemd hears READY.
START_SLACK_SECONDS = 15.0


def heartbeats_by_key(processes: tuple[ProcessFacts, ...], host: str) -> dict[InstanceKey, list[ProcessFacts]]:
    """Heartbeats of this host's units, by unit. Those of processes that ended lately are included."""
    found: dict[InstanceKey, list[ProcessFacts]] = {}
    for process in processes:
        key = own_key(process, host)
        if key is not None:
            found.setdefault(key, []).append(process)
    return found


def own_key(process: ProcessFacts, host: str) -> InstanceKey | None:
    """The unit of this host that a heartbeat is of; None: of none."""
    tag = parse_tag(process.tag)
    return process.own_key if tag is None else tag.key if tag.host == host else None


def is_foreign(process: ProcessFacts) -> bool:
    """Whether the process is of no unit that fleetd rendered, on any host: a stock unit, or somebody's own."""
    return process.own_key is None and parse_tag(process.tag) is None


def other_hosts(processes: Iterable[ProcessFacts], host: str) -> tuple[str, ...]:
    """Other hosts whose units beat, by name."""
    tags = (parse_tag(process.tag) for process in processes)
    return tuple(sorted({tag.host for tag in tags if tag is not None} - {host}))


def present_heartbeat(own: list[ProcessFacts], unit: UnitFacts | None) -> ProcessFacts | None:
    """The heartbeat of a unit's present process, out of all of the unit's; None: it has none."""
    if not own or unit is None:
        return None
    if len(own) == 1 and own[0].pid == unit.main_pid:
        return own[0]
    exact = [p for p in own if p.pid == unit.main_pid]
    # Behind a wrapper the pid differs. A process older than the unit's present state is an earlier one.
    fresh = [p for p in own if p.started_age_seconds <= unit.state_age_seconds + START_SLACK_SECONDS]
    return min(exact or fresh, key=lambda p: p.started_age_seconds, default=None)


def claim_of(process: ProcessFacts) -> int:
    """Database connections a process may open, by what it was started with, not by what is configured now."""
    tag = parse_tag(process.tag)
    wanted = process.threads + CLAIM_MARGIN_CONNECTIONS
    return min(tag.db_pool, wanted) if tag else wanted
