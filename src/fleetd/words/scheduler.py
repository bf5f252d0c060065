"""What is said of the one scheduler: the rows of reasons.py for it. Templates are as there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fleetd.core.model import reasons
from fleetd.core.model.identity import SCHEDULER
from fleetd.words.formatting import release_command, span, who

#: Processes that one sentence names.
_NAMED_MAX = 10


def _serving(processes: tuple[reasons.ServingProcess, ...]) -> str:
    shown = [f"process {p.pid}{f' ({p.unit})' if p.unit else ''} on {p.host}" for p in processes[:_NAMED_MAX]]
    left = len(processes) - _NAMED_MAX
    return ", ".join(shown) + (f" and {left} more" if left > 0 else "")


def _surplus(r: reasons.SchedulerSurplus) -> str:
    who_serves = _serving((r.process,)) if r.process is not None else f"another process on {r.host}"
    return f"{who_serves} serves the scheduler queue: ours is stopped"


def _kept_stopped(r: reasons.SchedulerKeptStopped) -> str:
    by = "it was stopped by hand" if r.by_hand else f"it is kept stopped by {who(r.person)}"
    return f"NO SCHEDULER RUNS: {by}, for another {span(r.left_seconds)}; {release_command(SCHEDULER)} ends that"


_UNREADABLE = {
    "systemd": "systemd can't be read: the scheduler is left as it is",
    "redis": "Redis can't be read, so a live scheduler elsewhere can't be ruled out: left as it is",
    "heartbeat": "a heartbeat in Redis is unreadable: it might be the scheduler's",
}


SCHEDULER_REASONS: dict[type[reasons.Reason], str | Callable[[Any], str]] = {
    reasons.SchedulerSurplus: _surplus,
    reasons.SchedulerMoves: "this host is in maintenance: ours is stopped, and {host} starts it then",
    reasons.SchedulerUnreadable: lambda r: _UNREADABLE[r.what],
    reasons.SchedulerRuns: "runs on {hosts:list}",
    reasons.SchedulerStillHere: (
        'runs on {hosts:list}, although place is "elsewhere": if fleetd stopped it, none might run; to hand it over: '
        "systemctl stop mastodon-sidekiq-scheduler"
    ),
    reasons.SchedulerElsewhere: lambda r: f"served by {_serving(r.processes)}, so none is started here",
    reasons.SchedulerQuiet: (
        "NONE SCHEDULES: the one on {host} is quiet, which can't be undone; it schedules again once it is restarted"
    ),
    reasons.SchedulerBeingReplaced: (
        "being replaced: the one on {host} takes no more jobs, and is started again once it is gone"
    ),
    reasons.SchedulerNeverHere: "NONE RUNS; this host is configured never to start it",
    reasons.SchedulerAbsent: (
        "none seen for {absent_seconds:.0f} s; this host starts it after {needed_seconds:.0f} s without one"
    ),
    reasons.SchedulerRefused: (
        "its unit saw another host's {ago_seconds:.0f} s ago and did not start: `journalctl -u "
        "mastodon-sidekiq-scheduler` says which; tried again in {left_seconds:.0f} s"
    ),
    reasons.SchedulerSkipped: (
        "mastodon-sidekiq-scheduler did not start, because another host runs it: `journalctl -u "
        "mastodon-sidekiq-scheduler` says which"
    ),
    reasons.SchedulerOverBudget: "NONE RUNS: the database has no connections for it, claims are above the budget",
    reasons.SchedulerStarted: "none runs: started on {host}",
    reasons.SchedulerUnitUnfit: "nothing is started or ended here by its unit, which is not fleetd's, or was changed",
    reasons.SchedulerKeptStopped: _kept_stopped,
    reasons.SchedulerHeld: "NO SCHEDULER RUNS, and none is started: {hold:why}",
}
