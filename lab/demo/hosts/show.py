"""The whole demo of three hosts, from the first host to the summary."""

from __future__ import annotations

from lab.demo.hosts import stage, tell
from lab.demo.hosts.count import figures
from lab.demo.hosts.judge import judge, promised
from lab.demo.hosts.story import SHORTENED
from lab.demo.summary import summary_lines
from lab.demo.terms import Outcome, Terms
from lab.lab import Lab
from lab.observers.observer import observing

TITLE = (
    "fleetd's demo of three hosts, w1, w2 and w3; beside them main (Postgres), redis1 and redis2, each with a "
    f"Sentinel. {SHORTENED}"
)
AROUND = (
    ("w2", "fleetctl hosts"),
    ("w2", "fleetctl status --fleet"),
    ("w1", "journalctl -u fleetd -f"),
    ("w1", "systemctl list-units 'mastodon-sidekiq*'"),
    ("redis1", "redis-cli hkeys fleetd:ledger"),
)
"""What to look at afterwards: host and command."""
TRY = ("w1", "fleetctl maintenance w2 --for 10m")


def show(lab: Lab, terms: Terms) -> Outcome:
    """Raises LabError if the hosts could not be built, or one died that should not."""
    hosts = stage.prepare(lab, terms.steps.begin)
    with observing(lab, hosts.main) as observer:
        stage.start(hosts, observer, terms.steps.begin)
        terms.steps.end()
        watched = tell.tell(hosts, observer, terms)
        terms.steps.begin("Counting every job")
        counted = figures(hosts, observer.timeline(), watched)
        terms.steps.end()
    groups = judge(counted)
    lines = summary_lines(
        groups, watched.samples, width=terms.console.width, symbols=terms.symbols, counted_by="observers, all hosts"
    )
    return Outcome(groups, lines, promised(counted), lambda: tell.go_on(hosts), AROUND, TRY)
