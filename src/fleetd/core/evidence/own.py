"""Which heartbeats are of this host's own units, besides those that carry the unit's tag.

A unit whose settings lost the tag still sends a heartbeat. It is its unit's if host name, process id and start agree;
the process id alone proves nothing, because other hosts have the same ones.
"""

from __future__ import annotations

from msgspec import structs

from fleetd.core.model.facts import ProcessFacts, SystemdFacts
from fleetd.core.model.heartbeats import START_SLACK_SECONDS
from fleetd.core.model.identity import InstanceKey, parse_tag

_RUNNING = frozenset({"active", "reloading"})


def own_units(processes: tuple[ProcessFacts, ...], systemd: SystemdFacts | None, host: str) -> tuple[ProcessFacts, ...]:
    """The processes, with `own_key` where one without a tag is of a unit of this host."""
    strangers = [process for process in processes if parse_tag(process.tag) is None]
    if not strangers or systemd is None:
        return processes
    # The kernel's name of this host may differ from the configured one; our tagged processes show it.
    hostnames = {host} | {p.hostname for p in processes if (t := parse_tag(p.tag)) is not None and t.host == host}
    by_pid = {unit.main_pid: (key, unit) for key, unit in systemd.units.items() if unit.active_state in _RUNNING}
    found: dict[str, InstanceKey] = {}
    for process in strangers:
        key, unit = by_pid.get(process.pid, (None, None))
        if key is None or unit is None or process.hostname not in hostnames:
            continue
        if abs(process.started_age_seconds - unit.state_age_seconds) <= START_SLACK_SECONDS:
            found[process.identity] = key
    return tuple(structs.replace(p, own_key=found[p.identity]) if p.identity in found else p for p in processes)
