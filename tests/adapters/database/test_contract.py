"""The real PostgresConnections and PgBouncerConsole keep the contracts of their ports."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

import pytest

from tests.support.contracts.connections import (
    DatabaseCheck,
    PgBouncerCheck,
    database_source_contract,
    pgbouncer_source_contract,
)
from tests.support.rig.connection_stages import MAX_CLIENTS, POOL_SIZE, RealPgBouncer, RealPostgres
from tests.support.rig.pgbouncer_server import PgBouncer
from tests.support.rig.postgres_cluster import Cluster
from tests.support.rig.postgres_stage import running_cluster, with_limits_restored


@pytest.fixture(scope="module")
def running() -> Iterator[Cluster]:
    yield from running_cluster()


@pytest.fixture
def cluster(running: Cluster) -> Iterator[Cluster]:
    yield from with_limits_restored(running)


@pytest.mark.parametrize("check", database_source_contract, ids=lambda check: check.__name__)
def test_postgres(cluster: Cluster, check: DatabaseCheck) -> None:
    with contextlib.ExitStack() as stack:
        asyncio.run(check(RealPostgres(cluster, stack)))


@pytest.mark.parametrize("check", pgbouncer_source_contract, ids=lambda check: check.__name__)
def test_pgbouncer(cluster: Cluster, check: PgBouncerCheck) -> None:
    bouncer = PgBouncer(
        cluster,
        options={"max_client_conn": MAX_CLIENTS, "default_pool_size": POOL_SIZE},
        databases={"mastodon": "user=mastodon", "shop": "user=other"},
    )
    bouncer.start()
    try:
        with contextlib.ExitStack() as stack:
            asyncio.run(check(RealPgBouncer(bouncer, stack)))
    finally:
        bouncer.stop()
