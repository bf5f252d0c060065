"""What is wrong with the connections: for `fleetctl status` among the rest, for `fleetctl connections` alone."""

from __future__ import annotations

from fleetd.cli.verdict import Finding, Level, binding, connection_level, doubt_costs, used_connections
from fleetd.cli.wording import CONNECTION_SOURCES, capitalised, sentence
from fleetd.core.model.status import Status

_LOST = {
    "postgres": "Connections are unknown, so nothing grows above min",
    "pgbouncer": "PgBouncer's connections are unknown, so nothing grows above min",
    "replica": "The replica's connections are unknown, so nothing grows above min",
}


def connection_findings(status: Status) -> list[Finding]:
    """What can't be read, who refuses, what doesn't fit, what can't be told apart, where more would not help."""
    doubt = status.connections.unattributable if doubt_costs(status) else ""
    told = (doubt, status.connections.bottleneck)
    return [
        *_lost(status),
        *_refused(status),
        *_over(status),
        *(Finding(level=Level.WARN, sentence=sentence(capitalised(text))) for text in told if text),
    ]


def _lost(status: Status) -> list[Finding]:
    return [
        Finding(
            level=Level.UNKNOWN,
            sentence=f"{_LOST[source.name]}: {sentence(source.why or source.name + ' gave no reading')}",
        )
        for source in status.sources
        if not source.ok and source.name in _LOST
    ]


def _refused(status: Status) -> list[Finding]:
    return [
        Finding(
            level=Level.BAD,
            sentence=f"{capitalised(CONNECTION_SOURCES[source.name])} refuses new clients, too many already: web and"
            " workers that need a connection fail now, and nothing is started.",
        )
        for source in status.connections.sources
        if source.refused
    ]


def _over(status: Status) -> list[Finding]:
    connections, source = status.connections, binding(status)
    used = used_connections(status)
    if connection_level(status) != Level.BAD or connections.limit_connections is None or used is None:
        return []
    over = used - connections.limit_connections
    if over <= 0:
        return []
    who = (
        capitalised(CONNECTION_SOURCES[source.name])
        if source and source.name != "postgres"
        else "The database"
    )
    return [
        Finding(
            level=Level.BAD,
            sentence=f"{who} may run out of connections: claims and reserve exceed its limit of "
            f"{connections.limit_connections:,} by {over:,}. fleetd drains until they fit.",
        )
    ]
