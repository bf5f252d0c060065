"""The whole demo of one host, from the first host to the summary."""

from __future__ import annotations

from lab.demo import count, stage, tell
from lab.demo.story import SHORTENED
from lab.demo.summary import PROMISED, judge, summary_lines
from lab.demo.terms import Outcome, Terms
from lab.lab import Lab

TITLE = (
    f"fleetd's demo: two virtual hosts, main (Redis, Postgres, PgBouncer) and worker1 (fleetd, Sidekiq). {SHORTENED}"
)
AROUND = (
    ("worker1", "fleetctl status --watch"),
    ("worker1", "journalctl -u fleetd -f"),
    ("worker1", "systemctl list-units 'mastodon-sidekiq*'"),
    ("worker1", "curl -s http://127.0.0.1:9849/metrics"),
    ("main", "redis-cli llen queue:push"),
)
"""What to look at afterwards: host and command."""
TRY = ("worker1", "systemctl stop mastodon-sidekiq@1")


def show(lab: Lab, terms: Terms) -> Outcome:
    """Raises LabError if the hosts could not be built, or one died."""
    hosts = stage.build(lab, terms.steps.begin)
    terms.steps.end()
    seen = tell.tell(hosts, terms)
    terms.steps.begin("Counting every job")
    groups = judge(count.figures(hosts, seen))
    terms.steps.end()
    lines = summary_lines(groups, seen.samples, width=terms.console.width, symbols=terms.symbols)
    return Outcome(groups, lines, PROMISED, lambda: tell.go_on(hosts), AROUND, TRY)
