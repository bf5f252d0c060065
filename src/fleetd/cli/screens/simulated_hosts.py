"""What `fleetctl simulate` says of each host of a trace: instances over time, outages, and where the scheduler ran."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

from rich.text import Text

from fleetd.cli.terminal.lines import Column, Lines, Page, table
from fleetd.cli.terminal.symbols import QUIET
from fleetd.simulate.trace.hosts import HostOutage, outages_of

if TYPE_CHECKING:
    from fleetd.simulate.scoring.outcome import HostScore, Outcome
    from fleetd.simulate.trace.trace import Trace

#: Parts of the trace for each of which the mean is shown.
PARTS = 6
_BEGINS = {"lost": "loses its power", "frozen": "stands still", "cut_off": "does not reach Redis"}
_ENDS = {"lost": "boots", "frozen": "goes on", "cut_off": "reaches it again"}


def hosts_lines(trace: Trace, outcome: Outcome, page: Page) -> Lines:
    """A row for each host, then a sentence for each outage and one for the scheduler. Host names are plain letters."""
    legend = "instances: the mean of each part of the trace, from that minute on; quiet ones do not count"
    sentences = [page.wrap("  ", said) for said in (*_outages(trace, outcome), scheduler_sentence(outcome))]
    return [
        *_table(trace, outcome, page),
        *page.wrap("", Text(legend, QUIET)),
        *(line for lines in sentences for line in lines),
    ]


def _table(trace: Trace, outcome: Outcome, page: Page) -> Lines:
    end = math.ceil(trace.duration_seconds)
    bounds = [end * part // PARTS for part in range(PARTS + 1)]
    columns = (
        Column("host", left=True, cells_min=6),
        *(Column(_minutes(begin)) for begin in bounds[:-1]),
        *(Column(title) for title in ("hours", "starts", "lost")),
    )
    rows = [
        [
            name,
            *(f"{mean_instances(host, begin, until):.1f}" for begin, until in pairwise(bounds)),
            f"{host.instance_seconds / 3600:.1f}",
            str(host.starts),
            str(host.lost_jobs),
        ]
        for name, host in outcome.score.hosts.items()
    ]
    return table(columns, rows, page)


def mean_instances(host: HostScore, begin: int, until: int) -> float:
    """Over the seconds from `begin` to `until`."""
    changes = [*host.instances, (until, 0)]
    seconds = sum(count * max(0, min(after, until) - max(at, begin)) for (at, count), (after, _) in pairwise(changes))
    return seconds / max(1, until - begin)


def _outages(trace: Trace, outcome: Outcome) -> list[str]:
    found = [(outage, host.name) for host in trace.hosts for outage in outages_of(host)]
    return [_outage(outage, name, trace, outcome) for outage, name in sorted(found, key=lambda entry: entry[0].at)]


def _outage(outage: HostOutage, name: str, trace: Trace, outcome: Outcome) -> str:
    at = math.ceil(outage.at)
    before = [count for second, count in outcome.score.hosts[name].instances if second < max(1, at)]
    had = before[-1] if before else 0
    schedules = [hosts for second, hosts in outcome.score.scheduler if second <= at]
    scheduler = " and the scheduler" if schedules and name in schedules[-1] else ""
    instances = f"{had} instance{'' if had == 1 else 's'}{scheduler}"
    ends = f", and {_ENDS[outage.kind]} at {_minutes(outage.until)}" if outage.until < trace.duration_seconds else ""
    return f"At {_minutes(at)} {name} {_BEGINS[outage.kind]}, with {instances}{ends}."


def scheduler_sentence(outcome: Outcome) -> str:
    """`The scheduler runs on w1, from 60 min on nowhere, from 66.4 min on w2.`"""
    parts = []
    for second, hosts in outcome.score.scheduler:
        where = f"on {' and '.join(hosts)}" if hosts else "nowhere"
        parts.append(f"from {_minutes(second)} {where}" if second else where)
    return f"The scheduler runs {', '.join(parts)}."


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.1f}".removesuffix(".0") + " min"
