"""A PostgreSQL with Mastodon's roles, and a PostgresConnections on it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

from fleetd.adapters.database.postgres import PostgresConnections
from fleetd.config.connections import PostgresSettings
from fleetd.core.model.facts import DatabaseFacts
from tests.support.rig.manual_clock import ManualClock
from tests.support.rig.postgres_cluster import WAIT_SECONDS, Cluster

PASSWORD = "hünter2 =&'@:/"


def running_cluster() -> Iterator[Cluster]:
    cluster = Cluster()
    try:
        cluster.start()
        cluster.sql(
            f"CREATE ROLE mastodon LOGIN PASSWORD '{PASSWORD.replace(chr(39), chr(39) * 2)}'",
            "CREATE ROLE other LOGIN",
            "CREATE ROLE watcher LOGIN",
            "CREATE ROLE stranger LOGIN",
            f"CREATE ROLE tls_only LOGIN PASSWORD '{PASSWORD.replace(chr(39), chr(39) * 2)}'",
            f"CREATE ROLE clear LOGIN PASSWORD '{PASSWORD.replace(chr(39), chr(39) * 2)}'",
            "GRANT pg_monitor TO watcher",
            "CREATE DATABASE mastodon OWNER mastodon",
            "CREATE DATABASE shop OWNER other",
        )
        yield cluster
    finally:
        cluster.remove()


def with_limits_restored(running: Cluster) -> Iterator[Cluster]:
    yield running
    running.sql(
        "ALTER ROLE mastodon CONNECTION LIMIT -1",
        "ALTER ROLE watcher CONNECTION LIMIT -1",
        "ALTER DATABASE mastodon CONNECTION LIMIT -1",
    )
    running.wait_for("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'fleetd'", 0)


def settings(cluster: Cluster, user: str = "mastodon", dbname: str = "mastodon") -> PostgresSettings:
    return PostgresSettings(host=str(cluster.directory), port=cluster.port, dbname=dbname, user=user)


def tcp(cluster: Cluster, **changes: str | None) -> PostgresSettings:
    given: dict[str, str | None] = {"user": "mastodon", "password": PASSWORD, "sslmode": "prefer", **changes}
    return PostgresSettings(host="127.0.0.1", port=cluster.port, dbname="mastodon", **given)  # type: ignore[arg-type]


@asynccontextmanager
async def source(
    of: PostgresSettings, *, clock: Callable[[], float] | None = None, **options: Any
) -> AsyncIterator[PostgresConnections]:
    given = {"deadline_seconds": WAIT_SECONDS, **options}
    made = PostgresConnections(of, monotonic=clock or ManualClock(), **given)
    try:
        yield made
    finally:
        await made.close()


def read_once(of: PostgresSettings, **options: Any) -> DatabaseFacts:
    async def go() -> DatabaseFacts:
        async with source(of, **options) as database:
            return await database.read()

    return asyncio.run(go())
