"""What readings show to be wrong, in words: the rows of reasons.py for core/model/reasons/evidence.py."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import Any

from fleetd.core.model import reasons
from fleetd.words.formatting import names, short_name, span, times


def _ghosts(r: reasons.GhostHeartbeats) -> str:
    shown = ", ".join(r.identities) + (" and others" if r.count > len(r.identities) else "")
    # Others chose these names, and the command is there to be pasted.
    first, its_work = shlex.quote(r.identities[0]), shlex.quote(f"{r.identities[0]}:work")
    return (
        f"{times(r.count, 'heartbeat has', 'heartbeats have')} not moved for {span(r.still_seconds)} although others "
        f"could: the process is gone ({shown}); remove it with `redis-cli SREM processes {first}` and "
        f"`redis-cli DEL {first} {its_work}`"
    )


def _off(ahead_seconds: float) -> str:
    return f"{span(abs(ahead_seconds))} {'ahead' if ahead_seconds > 0 else 'behind'}"


def _finishes_nothing(r: reasons.FinishesNothing) -> str:
    who = short_name(r.key) if r.key is not None else f"a process on {r.host}"
    if r.queue is not None:
        return f"{who} has been idle for {span(r.seconds)} although jobs wait in {r.queue}, which it serves"
    jobs = f": {r.threads} × {r.job_class}" if r.job_class else ""
    return f"{who} has finished nothing for {span(r.seconds)}{jobs}"


def _beat_elsewhere(r: reasons.WorkersBeatElsewhere) -> str:
    where = f" ({r.reads})" if r.reads else ""
    theirs = f"; Mastodon's settings name {r.workers}" if r.workers else ""
    return (
        f"{names(r.keys)} run, but no heartbeat of theirs is in the Redis that fleetd reads{where}{theirs}: check "
        "[redis] in fleetd.toml, and the units' environment"
    )


def _names_missing(r: reasons.NamesMissing) -> str:
    more = f" and {times(r.count - len(r.names), 'more worker')}" if r.count > len(r.names) else ""
    who = f"{', '.join(r.names)}{more}"
    if r.none_open:
        return (
            f"{who} {'is' if r.count == 1 else 'are'} at work without any connection to Postgres: jobs that need one "
            "fail. See the log, `journalctl -e -u 'mastodon-sidekiq@*'`, and DB_HOST, DB_USER and DB_PASS in "
            ".env.production, then `fleetctl restart`"
        )
    return (
        f"no connection in Postgres bears the name of {who}, though {'it is' if r.count == 1 else 'they are'} at work: "
        "what they have open may look like others', so fleetd gives way only for what is certainly others', and grows "
        "more carefully. Look for application_name or options in DATABASE_URL, for a pooler in between, and for "
        "workers that were started before their settings had names (`fleetctl restart`)"
    )


def _threads_without_connections(r: reasons.ThreadsWithoutConnections) -> str:
    return (
        f"pool={r.pool_connections} in the address of Mastodon's database leaves threads of {', '.join(r.profiles)} "
        "without a connection, and their jobs fail: remove it, then `systemctl restart fleetd` and `fleetctl restart`"
    )


EVIDENCE: dict[type[reasons.Reason], str | Callable[[Any], str]] = {
    reasons.GhostHeartbeats: _ghosts,
    reasons.StatementsForgotten: (
        "PgBouncer hands each transaction to another connection, and Mastodon prepares statements, so its jobs fail: "
        "write PREPARED_STATEMENTS=false in .env.production, then `systemctl restart fleetd` and `fleetctl restart`; "
        "or set max_prepared_statements, from PgBouncer 1.21 on"
    ),
    reasons.ThreadsWithoutConnections: _threads_without_connections,
    reasons.ProcessClockWrong: lambda r: f"the clock of {r.host} is {_off(r.ahead_seconds)}: mend its time service",
    reasons.EnqueuerClockWrong: (
        lambda r: (
            f"what enqueues {r.queue} has a clock that is about {_off(r.ahead_seconds)}: the age of its jobs is "
            "taken from when they were seen; mend the time service of that host"
        )
    ),
    reasons.HostNamedTwice: (
        "another host ({hostname}) runs {key:unit} under the name {name} as well: give each its own `fleet.host`"
    ),
    reasons.FinishesNothing: _finishes_nothing,
    reasons.SchedulerEnqueuesNothing: (
        "the scheduler has enqueued nothing for {seconds:span}, though it runs: restart it "
        "(`systemctl restart mastodon-sidekiq-scheduler`) and look at its log"
    ),
    reasons.SchedulerQueueLate: (
        "the oldest job in the scheduler queue has waited {seconds:span}: is its process stuck? "
        "`journalctl -u mastodon-sidekiq-scheduler`"
    ),
    reasons.WorkersBeatElsewhere: _beat_elsewhere,
    reasons.NamesMissing: _names_missing,
    reasons.PolkitAbsent: (
        "polkit does not run, so systemd lets fleetd start and stop nothing: systemctl unmask polkit, then "
        "systemctl start polkit"
    ),
    reasons.PoolerBetween: (
        "a pooler stands between fleetd and Postgres, so connections bear no names of workers and its own limits are "
        'not watched; see "A pooler that fleetd does not know" in docs/other-mastodons.md'
    ),
}

#: What each sign is about, for a line that says that it is over.
SUBJECTS: dict[type[reasons.Reason], str] = {
    reasons.StatementsForgotten: "prepared statements through PgBouncer",
    reasons.ThreadsWithoutConnections: "fewer connections than threads",
    reasons.GhostHeartbeats: "heartbeats of processes that are gone",
    reasons.ProcessClockWrong: "a host whose clock is wrong",
    reasons.EnqueuerClockWrong: "a wrong clock where jobs are enqueued",
    reasons.HostNamedTwice: "another host with this host's name",
    reasons.SchedulerEnqueuesNothing: "a scheduler that enqueues nothing",
    reasons.SchedulerQueueLate: "a scheduler queue that is hours late",
    reasons.NamesMissing: "workers whose connections bear no name",
    reasons.PoolerBetween: "a pooler in front of Postgres",
    reasons.PolkitAbsent: "polkit that does not run",
}
