"""The head of each screen of a status: what is wrong, and which fleetd says so."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from fleetd.cli.advice.verdict import Finding
from fleetd.cli.terminal.lines import NBSP, Lines, Page
from fleetd.cli.terminal.symbols import BANNER_STYLE, QUIET, STYLES
from fleetd.core.model.status import Status
from fleetd.words.formatting import duration, sentence, times
from fleetd.words.observing import would
from fleetd.words.sharing import untold_words


def finding_lines(found: Sequence[Finding], page: Page) -> Lines:
    """Each finding with its sign, the first one bold, a hold with a banner."""
    lines: Lines = []
    for finding in found:
        text = Text(finding.sentence, f"bold {STYLES[finding.level]}" if finding is found[0] else "")
        if finding.banner:
            text = Text.assemble((f" {finding.banner} ", BANNER_STYLE), " ", text)
        lines += page.item(finding.level, text)
    return lines


def would_lines(status: Status, page: Page) -> Lines:
    """What fleetd would do if it did not only observe."""
    lines: Lines = []
    for wish in status.would:
        lines += page.labelled("Would" if wish is status.would[0] else "", sentence(would(wish).removeprefix("would ")))
    return lines


def origin_lines(status: Status, page: Page, clock: str | None = None) -> Lines:
    """Which fleetd says this, and how old its answer is. `clock`: the time, if the screen is drawn again and again."""
    said = [
        *([clock] if clock else []),
        status.host,
        f"fleetd {status.version}",
        *([f"Mastodon {status.mastodon_version}"] if status.mastodon_version else []),
        f"up {duration(status.uptime_seconds)}",
        f"as of {duration(status.tick_age_seconds)} ago",
    ]
    parts = (part.replace(" ", NBSP) for part in said)
    return page.wrap("  ", Text(f" {page.symbols.dot} ".join(parts), QUIET))


def fleet_head_lines(status: Status, page: Page) -> Lines:
    """With several hosts: how many, who leads, and where the scheduler is; nothing with one."""
    fleet = status.fleet
    hosts = () if fleet is None else tuple(host for host in fleet.hosts if not host.gone)
    if fleet is None or (len(hosts) < 2 and not fleet.untold):
        return []
    leads = f"{fleet.leader} leads" if fleet.leader else "no host leads"
    scheduler = f"scheduler on {fleet.scheduler_host}" if fleet.scheduler_host else "no host has the scheduler"
    unread = any(source.name == "redis" and not source.ok for source in status.sources)
    said = [
        f"fleet: {times(len(hosts), 'host')}",
        *(["who leads and who has the scheduler is unknown"] if unread else [leads, scheduler]),
        *([f"waits for {', '.join(fleet.gathering) or 'all to tell'}"] if fleet.gathering is not None else []),
        *(["see fleetctl hosts"] if not page.dense else []),
    ]
    lines = page.wrap("  ", Text(", ".join(said), QUIET))
    for difference in fleet.differences:
        lines += page.wrap("  ", Text(sentence(difference), QUIET))
    if fleet.untold:
        lines += page.wrap("  ", Text(untold_words(fleet.untold), QUIET))
    return lines
