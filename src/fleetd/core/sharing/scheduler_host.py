"""Where the fleet's scheduler would be started if none lives. Law 1 is kept by the slot (core/fleet/slot.py).

It moves nowhere by itself: a host is named whether or not one lives, and the ledger lets none start while one does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from fleetd.core.sharing.report import HostReport


def majority_code(reports: Mapping[str, HostReport]) -> str:
    """The digest of Mastodon's code that most hosts have; of several the later version's. "": none is known."""
    known = [r for r in reports.values() if r.code_digest]
    counts = Counter(r.code_digest for r in known)
    versions = {r.code_digest: r.code_version for r in sorted(known, key=lambda r: r.host)}
    return max(counts, key=lambda digest: (counts[digest], _order(versions[digest]), digest), default="")


def _order(version: str) -> tuple[int, ...]:
    numbers = version.split("-")[0].split("+")[0].split(".")
    return tuple(int(n) for n in numbers) if all(n.isascii() and n.isdigit() for n in numbers) else ()


def named_scheduler_host(reports: Mapping[str, HostReport], maintenance: frozenset[str] = frozenset()) -> str | None:
    """A host that may start it and is not held; of the majority's code if there is one. None: there is none at all.

    The configured one comes first, then that with the most memory left, then with the fewest instances for its cores.
    """
    code = majority_code(reports)

    def order(report: HostReport) -> tuple[bool, bool, int, float, str]:
        left = -1 if report.memory_left_mib is None else report.memory_left_mib
        ratio = report.present / (report.cores or 1)
        return report.code_digest != code, report.scheduler.place != "here", -left, ratio, report.host

    fit = [
        r
        for r in reports.values()
        if r.scheduler.may_start and r.scheduler.place != "elsewhere" and not r.held and r.host not in maintenance
    ]
    return min(fit, key=order).host if fit else None
