"""Which host of a fleet may replace instances: one at a time, until it has no more to replace or is kept from it."""

from __future__ import annotations

from collections.abc import Mapping

from fleetd.core.sharing.report import HostReport


def host_that_rolls(reports: Mapping[str, HostReport], before: str | None) -> str | None:
    """The host whose turn it is. `before`: whose it was: it goes on as long as it has something to replace."""
    free = {host: report for host, report in sorted(reports.items()) if not report.held}
    busy = [host for host, report in free.items() if report.rolls == "busy"]
    ready = [host for host, report in free.items() if report.rolls == "ready"]
    if before in busy or (before in ready and not busy):
        return before
    return next(iter([*busy, *ready]), None)
