"""Which host of a fleet may replace instances: one at a time, until it has no more to replace or is kept from it.

A restart of all hosts that one of them has given up is over for all.
"""

from __future__ import annotations

from collections.abc import Mapping

from fleetd.core.fleet.view import RestartStopped
from fleetd.core.sharing.fleet_plan import FleetPlan
from fleetd.core.sharing.report import OBSERVES, HostReport


def host_that_rolls(reports: Mapping[str, HostReport], before: str | None) -> str | None:
    """The host whose turn it is. `before`: whose it was: it goes on as long as it has something to replace.

    One that only observes replaces what people ordered, and nothing else.
    """
    free = {host: report for host, report in sorted(reports.items()) if report.held in ("", OBSERVES)}
    busy = [host for host, report in free.items() if report.rolls == "busy"]
    ready = [host for host, report in free.items() if report.rolls == "ready"]
    if before in busy or (before in ready and not busy):
        return before
    return next(iter([*busy, *ready]), None)


def restart_stopped(reports: Mapping[str, HostReport], previous: FleetPlan | None) -> RestartStopped | None:
    """The last restart of all hosts that was given up, and where. `previous`: where it may have been found before."""
    found = [
        RestartStopped(until_ms=one.until_ms, host=host)
        for host, report in sorted(reports.items())
        for one in report.restarts
        if one.whole and one.phase == "given_up"
    ]
    if previous is not None and previous.restart_stopped is not None:
        found.insert(0, previous.restart_stopped)
    return max(found, key=lambda one: one.until_ms, default=None)
