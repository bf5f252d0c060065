"""What watching connections costs: one reading of Postgres, and one of PgBouncer's console.

    python -m benchmarks.connections_watch      needs PostgreSQL and PgBouncer; starts its own, half a minute

Each is compared, in turns, with the cheapest query to the same server over the same connection, so that the ratio means
something on any machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import psycopg
from psycopg import AsyncClientCursor, AsyncConnection, ClientCursor

from fleetd.adapters.database.pgbouncer import PgBouncerConsole
from fleetd.adapters.database.postgres import QUERY, PostgresConnections, query_parameters
from fleetd.config.connections import PostgresSettings
from tests.support.rig.mastodon_postgres import running_cluster, settings
from tests.support.rig.pgbouncer_server import PgBouncer
from tests.support.rig.postgres_cluster import Cluster

MAX_CONNECTIONS = 720
OPEN = 700
ROUNDS = 300
#: A large instance: 8 workers of 60 threads, web, streaming, and 60 programs with one connection each.
SHARES = (
    *((f"mastodon-sidekiq@{n}.worker1", 60) for n in range(1, 9)),
    ("puma", 120),
    ("streaming", 40),
    *((f"script{n}", 1) for n in range(60)),
)
MASTODON = ("mastodon", "mastodon")


def main() -> None:
    for cluster in running_cluster():
        with (cluster.data / "postgresql.conf").open("a") as file:
            file.write(f"max_connections={MAX_CONNECTIONS}\n")
        cluster.stop()
        cluster.start()
        with crowd(cluster):
            asyncio.run(postgres(cluster))
        asyncio.run(pgbouncer(cluster))


@contextlib.contextmanager
def crowd(cluster: Cluster) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for name, count in SHARES:
            for _ in range(count):
                stack.enter_context(
                    contextlib.closing(
                        psycopg.connect(
                            host=str(cluster.directory),
                            port=cluster.port,
                            user="mastodon",
                            dbname="mastodon",
                            application_name=name,
                        )
                    )
                )
        yield


async def turns(*calls: Callable[[], Awaitable[object]]) -> list[float]:
    """Median milliseconds of each call, made in turns."""
    seconds: list[list[float]] = [[] for _ in calls]
    for _ in range(ROUNDS):
        for kept, call in zip(seconds, calls, strict=True):
            begun = time.perf_counter()
            await call()
            kept.append(time.perf_counter() - begun)
    return [statistics.median(kept) * 1e3 for kept in seconds]


async def postgres(cluster: Cluster) -> None:
    login = settings(cluster, "watcher")
    source = PostgresConnections(
        login, monotonic=time.monotonic, mastodon_role="mastodon", mastodon_database="mastodon"
    )
    async with await connect(login, "mastodon") as connection:
        facts = await source.read()
        reading, select = await turns(source.read, lambda: connection.execute("SELECT 1"))
    await source.close()
    print(f"Postgres with {facts.client_connections} connections: a reading {reading:.2f} ms, ", end="")
    print(f"SELECT 1 {select:.2f} ms ({reading / select:.1f}×)\n")
    print(plan(cluster))


def plan(cluster: Cluster) -> str:
    """EXPLAIN ANALYZE of the query: only its nodes and times."""
    query = next(part for part in QUERY.split(";\n") if "WITH target" in part)
    place = {"host": str(cluster.directory), "port": cluster.port, "user": "watcher", "dbname": "mastodon"}
    with psycopg.connect(**place, cursor_factory=ClientCursor) as connection:  # type: ignore[arg-type]
        rows = connection.execute(
            "EXPLAIN (ANALYZE, COSTS off) " + query, query_parameters("mastodon", "mastodon", 3.0)
        ).fetchall()
    lines = [str(row[0]) for row in rows]
    shown = [line for line in lines if re.search(r"Scan|CTE|Join|Loop|Aggregate|Time", line)]
    return "\n".join(shown)


async def pgbouncer(cluster: Cluster) -> None:
    databases = {"mastodon": "pool_size=20 user=mastodon", "shop": "pool_size=5 user=other"}
    bouncer = PgBouncer(cluster, options={"max_client_conn": 1000}, databases=databases)
    bouncer.start()
    try:
        with bouncer.clients(OPEN - 100), bouncer.clients(100, "other", "shop"):
            await console(bouncer)
    finally:
        bouncer.stop()


async def console(bouncer: PgBouncer) -> None:
    source = PgBouncerConsole(bouncer.settings(), mastodon=MASTODON, monotonic=time.monotonic)
    async with await connect(bouncer.settings(), "pgbouncer") as connection:

        def show(what: str) -> Callable[[], Awaitable[object]]:
            return lambda: connection.execute(f"SHOW {what}".encode())

        facts = await source.read()
        words = ("VERSION", "LISTS", "POOLS", "DATABASES", "CONFIG", "USERS")
        reading, version, *each = await turns(source.read, *(show(word) for word in words))
    await source.close()
    print(f"\nPgBouncer with {facts.client_connections} clients: a reading {reading:.2f} ms, ", end="")
    print(f"SHOW VERSION {version:.2f} ms ({reading / version:.1f}×); of that and once a minute: ", end="")
    print(", ".join(f"SHOW {word} {took:.2f}" for word, took in zip(words[1:], each, strict=True)))


async def connect(login: PostgresSettings, dbname: str) -> AsyncConnection[Any]:
    return await AsyncConnection.connect(
        host=login.host,
        port=login.port,
        user=login.user,
        password=login.password,
        dbname=dbname,
        sslmode="disable",
        autocommit=True,
        prepare_threshold=None,
        cursor_factory=AsyncClientCursor,
    )


if __name__ == "__main__":
    main()
