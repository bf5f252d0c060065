"""What is new between two looks, as sentences that name the host which says so."""

from __future__ import annotations

import re

from fleetd.cli.advice.verdict import LATE_SECONDS, LOST_SECONDS, is_silent
from fleetd.cli.terminal.safe_text import cleaned
from fleetd.core.model.hosts import FleetHosts, HostOfFleet
from fleetd.core.model.status import Status
from fleetd.words.formatting import duration, sentence

_NUMBER = re.compile(r"\b\d+(\.\d+)?\b")


def scheduler_news(before: Status, now: Status) -> list[str]:
    """What a host says of the scheduler, if that differs in more than a number."""
    was, said = (cleaned(status, ascii_only=False).scheduler.sentence for status in (before, now))
    if _NUMBER.sub("", was) == _NUMBER.sub("", said):
        return []
    return [f"{now.host}: scheduler: {sentence(said)}"]


def fleet_news(before: FleetHosts | None, now: FleetHosts) -> list[str]:
    """Who leads, who has the scheduler, and who is silent, as `fleetctl hosts` on the host that was asked has it."""
    now = cleaned(now, ascii_only=False)
    if now.problem:
        return [] if before is not None and before.problem == now.problem else [f"{now.host}: {sentence(now.problem)}"]
    if before is None:
        return [
            f"{now.host}: {now.leader or 'no host'} leads the fleet, {now.scheduler_host or 'none'} has the scheduler."
        ]
    told = []
    if now.leader != before.leader:
        told.append(f"{now.leader} leads the fleet" if now.leader else "no host leads the fleet")
    if now.scheduler_host != before.scheduler_host:
        told.append(f"{now.scheduler_host or 'no host'} has the scheduler")
    known = {host.host: host for host in before.hosts}
    for host in now.hosts:
        if host.host in known and _heard(known[host.host]) != _heard(host):
            told.append(_HEARD[_heard(host)].format(host=host.host, silent=duration(host.silent_seconds)))
    return [f"{now.host}: {sentence(said)}" for said in told]


_HEARD = {
    "heard": "{host} is heard of again",
    "late": "{host} has not been heard of for {silent}",
    "lost": "{host} is lost: it has not been heard of for {silent}",
    "gone": "nothing is left of {host}",
}


def _heard(host: HostOfFleet) -> str:
    if host.gone:
        return "gone"
    return "lost" if is_silent(host, LOST_SECONDS) else "late" if is_silent(host, LATE_SECONDS) else "heard"
