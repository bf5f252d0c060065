"""Which heartbeats are of this host's own units, besides those that carry the unit's tag.

A unit whose settings lost the tag still sends a heartbeat. It is its unit's if host name, process id and start agree;
the process id alone proves nothing, because other hosts have the same ones. It stays its unit's while it is there: a
unit that restarts has another process id already, and the old heartbeat was then taken for a second scheduler's.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from msgspec import structs

from fleetd.core.model.facts import ProcessFacts, SystemdFacts
from fleetd.core.model.heartbeats import START_SLACK_SECONDS
from fleetd.core.model.identity import InstanceKey, parse_tag

#: Remembered while not all heartbeats can be read.
OWN_MAX = 256
_RUNNING = frozenset({"active", "reloading"})


def own_units(
    processes: tuple[ProcessFacts, ...],
    systemd: SystemdFacts | None,
    host: str,
    before: Mapping[str, InstanceKey] = MappingProxyType({}),
) -> tuple[ProcessFacts, ...]:
    """The processes, with `own_key` where one without a tag is of a unit of this host.

    `before`: by identity, what was found at earlier readings.
    """
    strangers = [process for process in processes if parse_tag(process.tag) is None]
    if not strangers:
        return processes
    units = systemd.units if systemd is not None else {}
    # The kernel's name of this host may differ from the configured one; our tagged processes show it.
    hostnames = {host} | {p.hostname for p in processes if (t := parse_tag(p.tag)) is not None and t.host == host}
    by_pid = {unit.main_pid: (key, unit) for key, unit in units.items() if unit.active_state in _RUNNING}
    found = {p.identity: before[p.identity] for p in strangers if p.identity in before}
    for process in strangers:
        key, unit = by_pid.get(process.pid, (None, None))
        if key is None or unit is None or process.hostname not in hostnames:
            continue
        if abs(process.started_age_seconds - unit.state_age_seconds) <= START_SLACK_SECONDS:
            found[process.identity] = key
    return tuple(structs.replace(p, own_key=found[p.identity]) if p.identity in found else p for p in processes)


def remembered_own(
    processes: tuple[ProcessFacts, ...], before: Mapping[str, InstanceKey], *, complete: bool
) -> dict[str, InstanceKey]:
    """By identity: those without a tag that were found to be of a unit here. `complete`: none is unread."""
    found = {p.identity: p.own_key for p in processes if p.own_key is not None}
    return found if complete else dict([*before.items(), *found.items()][-OWN_MAX:])
