"""What is said of a host's part of a fleet: the rows of reasons.py for it. Templates are as there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from fleetd.core.model import reasons
from fleetd.core.model.hosts import RestartOfFleet, RestartOnHost
from fleetd.core.model.identity import InstanceKey
from fleetd.core.model.reasons.base import ClampCode
from fleetd.words.formatting import are, short_name, times

#: Codes in words, where the code itself is not one.
_WHY = {
    "observes": "its fleetd only observes",
    "silent": "its fleetd is silent",
    "max": "at its max",
    "maintenance": "in maintenance",
    ClampCode.NO_NUMBER_FREE: "no number of it is free",
    ClampCode.HOST_PRESSURE: "under pressure",
    ClampCode.OOM_KILLED: "an instance was killed for memory",
    ClampCode.MEMORY: "no memory left",
    ClampCode.MEMORY_UNKNOWN: "its memory can't be read",
    ClampCode.CONNECTIONS: "no connections left",
    ClampCode.UPGRADE: "upgraded",
    ClampCode.FOREIGN_UNIT: "its units are not fleetd's",
    ClampCode.PINNED: "quieted by hand",
    ClampCode.SET: "set by a person",
}


def code_words(code: str) -> str:
    """What a host is short of or held by."""
    return _WHY.get(code) or code.replace("_", " ")


def untold_words(hosts: Sequence[str]) -> str:
    """Of hosts that run workers and keep no record in the ledger."""
    run = "runs workers and tells" if len(hosts) == 1 else "run workers and tell"
    why = 'an older fleetd, one that did not run since, or fleet.ledger = "local"'
    return (
        f"{', '.join(hosts)} {run} the fleet nothing: {why}. What beats there counts, and nothing is shared out to it."
    )


#: How a restart is on a host, where that is not a count.
_PHASES = {
    "waits": "waits",
    "stopped": "ended, as it was given up elsewhere",
    "lost": "lost, not waited for",
    "deaf": "has a fleetd that does not know it",
}


def restart_words(restart: RestartOfFleet) -> str:
    """How far a restart is, host by host."""
    return ", ".join(f"{one.host} {_restart_on(one)}" for one in restart.hosts)


def _restart_on(one: RestartOnHost) -> str:
    if one.phase in _PHASES:
        return _PHASES[one.phase]
    if one.phase == "done":
        return f"done ({one.total_instances})" if one.total_instances else "has nothing to restart"
    said = f"{one.done_instances} of {one.total_instances}"
    if one.phase == "given_up":
        return f"gave up after {said}"
    return said if one.at_key is None else f"{said} (at {short_name(InstanceKey(one.at_key))})"


def _of_fleet(r: reasons.SharedReason) -> str:
    return f"{are(r.fleet_instances)} wanted on all hosts together"


def _per_core(instances: int, cores: int | None) -> str:
    runs = f"{instances} {'runs' if instances == 1 else 'run'}"
    return f"{runs} there" if cores is None else f"{runs} there on {times(cores, 'core')}"


def _grows(r: reasons.GrowsHere) -> str:
    more = times(r.started_instances, "more goes", "more go")
    return f"{_of_fleet(r)}; {more} to {r.host}, which has room ({_per_core(r.present_instances, r.cores)})"


def _goes(r: reasons.GoesHere) -> str:
    why = code_words(r.pressed) if r.pressed else _per_core(r.present_instances, r.cores)
    return f"{_of_fleet(r)}; {times(r.ended_instances, 'goes', 'go')} on {r.host} ({why})"


def _move(queue: str, pressed: str, host: str) -> str:
    return f"so that two hosts serve {queue}" if queue else f"{host} is short ({code_words(pressed)})"


def _in_maintenance(r: reasons.InMaintenance) -> str:
    kept = f", but for {r.kept_instances} started or pinned by people" if r.kept_instances else ""
    return f"{r.host} is in maintenance: its instances move to other hosts{kept}"


def _no_host(r: reasons.NoHostTakesMore) -> str:
    said = ", ".join(f"{one.host} ({code_words(one.why)})" for one in r.hosts)
    more = f" and {r.more_hosts} more" if r.more_hosts else ""
    return f"{times(r.missing_instances, 'more is', 'more are')} wanted, and no host takes it: {said}{more}"


def _differs(r: reasons.SettingDiffers) -> str:
    if not r.setting:
        return f"some settings of {r.host} are not those of {r.leader}, which leads: {r.leader}'s hold for the fleet"
    what = "the order of its profiles" if r.setting == "profiles" else r.setting
    return f"{what} is {r.value} on {r.host} and {r.leader_value} on {r.leader}, which leads: {r.leader}'s holds"


SHARING: dict[type[reasons.Reason], str | Callable[[Any], str]] = {
    reasons.KeepsItsOwn: lambda r: f"{_of_fleet(r)}; {r.host} keeps its {r.instances}",
    reasons.GrowsHere: _grows,
    reasons.GoesUpToMin: lambda r: f"{_of_fleet(r)}; min on {r.host} is {r.min_instances}",
    reasons.GoesHere: _goes,
    reasons.MovesAway: lambda r: (
        f"{_of_fleet(r)}; one moves from {r.host} to {r.to_host}: {_move(r.queue, r.pressed, r.host)}"
    ),
    reasons.MovesHere: lambda r: (
        f"{_of_fleet(r)}; one moves from {r.from_host} to {r.host}: {_move(r.queue, r.pressed, r.from_host)}"
    ),
    reasons.WaitsForOthers: lambda r: (
        f"{_of_fleet(r)}, {r.goal_instances} of them on {r.host}, once "
        f"{'the one that comes' if r.coming_instances == 1 else f'the {r.coming_instances} that come'} on other "
        f"hosts {'serves' if r.coming_instances == 1 else 'serve'}"
    ),
    reasons.NotMoved: lambda r: (
        f"{_of_fleet(r)}; {r.host} keeps its {r.instances}, as it is not moved ({code_words(r.held)})"
    ),
    reasons.SetOnHost: "{host} is set to {instances} by a person",
    reasons.InMaintenance: _in_maintenance,
    reasons.NoHostTakesMore: _no_host,
    reasons.HostsKeepMore: lambda r: (
        f"{times(r.extra_instances, 'more is', 'more are')} kept than all hosts need together, by min, a hold or an "
        f"order on {', '.join(r.hosts)}{f' and {r.more_hosts} more' if r.more_hosts else ''}"
    ),
    reasons.HeartbeatsMissingThere: lambda r: (
        f"none of it stops while {', '.join(r.workers)}{f' and {r.more_workers} more' if r.more_workers else ''} "
        f"{'has' if len(r.workers) + r.more_workers == 1 else 'have'} no heartbeat in Redis; "
        "`fleetctl hosts` says whether a host is lost"
    ),
    reasons.SettingDiffers: _differs,
}
