"""What is said of connections: the rows of reasons.py for them. Templates are as there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fleetd.core.model import reasons
from fleetd.words.formatting import CONNECTION_SOURCES, are, capitalised, limit_text, times


def _headroom_unknown(r: reasons.HeadroomUnknown) -> str:
    unread = "; ".join(f"{CONNECTION_SOURCES[u.source]} can't be read: {u.why}" for u in r.unread)
    return f"connection headroom is unknown: nothing grows above min ({unread})"


def _of(source: str) -> str:
    """` of PgBouncer`; nothing for Postgres, which is meant if no source is named."""
    return "" if source == "postgres" else f" of {CONNECTION_SOURCES[source]}"


def _clients_refused(r: reasons.ClientsRefused) -> str:
    name = CONNECTION_SOURCES[r.source]
    return (
        f"{capitalised(name)} refuses new clients, too many already: web and workers that need a connection fail now, "
        "and nothing is started"
    )


def _no_connections_left(r: reasons.NoConnectionsLeft) -> str:
    return (
        f"one more needs {times(r.needed_connections, 'connection')}, {are(r.left_connections)} left{_of(r.source)}: "
        f"limit {limit_text(r.limit_connections, r.limit_set)} − reserve {r.reserve_connections} − others "
        f"{r.others_connections} − claimed {r.claimed_connections}"
    )


_OTHERS_BY = {
    "seen": "others hold {others}",
    "peak": "others held up to {others} a while ago ({seen} now)",
    "rise": "others rise to {others} ({seen} now)",
    "taken": "others may take {others} ({seen} now)",
}


def _connections_overdrawn(r: reasons.ConnectionsOverdrawn) -> str:
    name = CONNECTION_SOURCES[r.source]
    others = _OTHERS_BY[r.others_by].format(others=f"{r.others_connections:,}", seen=f"{r.seen_connections:,}")
    whose = "of them" if r.told_apart else "clients, ours among them"
    largest = ", ".join(f"{holder.name} {holder.connections:,}" for holder in r.holders)
    return (
        f"{capitalised(name)} may run out of connections: {others}, our instances may open {r.claimed_connections:,}, "
        f"and {r.reserve_connections:,} are kept in reserve. That is {r.over_connections:,} more than its limit of "
        f"{limit_text(r.limit_connections, r.limit_set)}. {_given_back(r)}"
        f"{f'. The largest {whose}: {largest}' if largest else ''}"
    )


def _given_back(r: reasons.ConnectionsOverdrawn) -> str:
    """What fleetd does about it, or why it can't, and whether min could ever fit."""
    alone = r.min_connections > r.limit_connections - r.reserve_connections
    beside = r.min_connections > r.limit_connections - r.reserve_connections - r.others_connections
    said = {
        "drains": f"fleetd lets {times(r.going_instances, 'instance')} go",
        "unwatched": "fleetd lets none go while Redis can't be read, because a drain could not be watched",
        "kept": "What runs above min is kept by people, so fleetd lets none go",
        "min": "Nothing runs above min, so fleetd can give none back",
        "closing": "What still runs fits, once the connections of instances that are gone are closed",
    }[r.gives_back]
    if alone:
        return f"{said}. At min our instances alone may open {r.min_connections:,}: lower min or threads"
    if beside and r.gives_back == "drains":
        return f"{said}, which is not enough: at min ours may still open {r.min_connections:,}"
    return said


def _claims_above_budget(r: reasons.ClaimsAboveBudget) -> str:
    return (
        f"all claims are {times(r.claimed_connections, 'connection')}, the budget{_of(r.source)} is "
        f"{r.budget_connections}: giving way"
    )


def _unattributable(r: reasons.OthersUnattributable) -> str:
    who = f"our workers on {CONNECTION_SOURCES[r.source]}, where they have no names"
    if r.nameless:
        who = f"those of {', '.join(r.nameless)}, which bear no name on {CONNECTION_SOURCES[r.source]}"
    if r.foreign_hosts:
        who = f"a Sidekiq process that fleetd did not render ({', '.join(r.foreign_hosts)})"
    return (
        f"others can't be told from {who}: up to {are(r.bound_connections)} taken to be others', at least "
        f"{are(r.others_connections)}. Declare what web and streaming may take under "
        "[[connections.claims]] in fleetd.toml (docs/operations.md has the lines)"
    )


def _clients_wait(r: reasons.ClientsWait) -> str:
    waiting = times(r.waiting_clients, "client waits", "clients wait")
    return (
        f"more workers would not help: {waiting} for one of the {r.pool_connections} connections of PgBouncer's pool, "
        f"the longest for {r.longest_wait_seconds:.1f} s"
    )


CONNECTION_REASONS: dict[type[reasons.Reason], str | Callable[[Any], str]] = {
    reasons.HeadroomUnknown: _headroom_unknown,
    reasons.ClientsRefused: _clients_refused,
    reasons.NoConnectionsLeft: _no_connections_left,
    reasons.ClaimsAboveBudget: _claims_above_budget,
    reasons.ConnectionsOverdrawn: _connections_overdrawn,
    reasons.OthersUnattributable: _unattributable,
    reasons.ClientsWait: _clients_wait,
}
