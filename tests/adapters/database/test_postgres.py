"""PostgresConnections on a real PostgreSQL: what it counts, and when a count is zero or unknown."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg
import pytest
from structlog.testing import capture_logs

from fleetd.config.connections import PostgresSettings
from fleetd.core.model.facts import DatabaseFacts
from fleetd.errors import SourceUnavailableError
from tests.support.rig.free_port import free_port
from tests.support.rig.manual_clock import ManualClock
from tests.support.rig.mastodon_postgres import (
    read_once,
    settings,
    source,
)
from tests.support.rig.postgres_cluster import MAX_CONNECTIONS, RESERVED, WAIT_SECONDS, Cluster, service_user


@pytest.mark.parametrize("user", ["mastodon", "watcher", "stranger", "postgres"])
def test_every_role_sees_every_client(cluster: Cluster, user: str) -> None:
    """Other roles' connections are always counted, with pg_monitor and without."""
    with (
        cluster.clients(3, "mastodon-sidekiq@1.w1"),
        cluster.clients(2, "mastodon-sidekiq@2.w1"),
        cluster.clients(2, "puma"),
        cluster.clients(4, "shop", "other", "shop"),
        cluster.clients(1, "mastodon-sidekiq@9.foreign", "other", "shop"),
    ):
        facts = read_once(settings(cluster, user), mastodon_role="mastodon", mastodon_database="mastodon")
    assert facts.max_connections == MAX_CONNECTIONS
    assert facts.reserved_connections == RESERVED
    assert facts.worker_connections == {"mastodon-sidekiq@1.w1": 3, "mastodon-sidekiq@2.w1": 2}
    assert facts.own_connections == 1
    assert facts.client_connections == 3 + 2 + 2 + 4 + 1 + 1
    # Another Mastodon's workers count as others, because our claims don't contain them.
    assert facts.others_connections == 2 + 4 + 1
    assert facts.role_connections == 7 + (user == "mastodon")
    assert facts.database_connections == 8
    assert facts.refused is False


def test_walsenders_and_own_processes_take_no_client_slot(cluster: Cluster) -> None:
    replication = psycopg.connect(
        f"host={cluster.directory} port={cluster.port} user=postgres replication=yes application_name=replica",
        autocommit=True,
        cursor_factory=psycopg.ClientCursor,
    )
    with closing(replication):
        for user in ("stranger", "watcher"):
            facts = read_once(settings(cluster, user))
            assert facts.client_connections == 1, user


def test_an_ordinary_role_reports_once_that_its_count_is_an_upper_bound(cluster: Cluster) -> None:
    async def go(user: str) -> None:
        async with source(settings(cluster, user)) as database:
            await database.read()
            await database.read()

    with cluster.clients(1, "shop", "other", "shop"), capture_logs() as said:
        asyncio.run(go("stranger"))
        asyncio.run(go("watcher"))
    assert [line["event"] for line in said if "GRANT pg_monitor TO stranger" in line["event"]] != []
    assert len(said) == 1


def test_limits_of_role_and_database(cluster: Cluster) -> None:
    cluster.sql("ALTER ROLE mastodon CONNECTION LIMIT 9", "ALTER DATABASE mastodon CONNECTION LIMIT 11")
    of_mastodon = read_once(settings(cluster))
    assert (of_mastodon.role_limit_connections, of_mastodon.database_limit_connections) == (9, 11)
    own_role = read_once(settings(cluster, "watcher", "postgres"))
    assert (own_role.role_limit_connections, own_role.database_limit_connections) == (None, None)
    named = read_once(settings(cluster, "watcher", "postgres"), mastodon_role="mastodon", mastodon_database="mastodon")
    assert (named.role_limit_connections, named.database_limit_connections) == (9, 11)


@pytest.mark.parametrize(
    ("options", "named"),
    [({"mastodon_role": "nobody'; --"}, "nobody'; --"), ({"mastodon_database": 'no"ne'}, 'no"ne')],
)
def test_a_role_or_database_that_does_not_exist_is_unknown(
    cluster: Cluster, options: dict[str, str], named: str
) -> None:
    with pytest.raises(SourceUnavailableError, match="check the configured Mastodon") as raised:
        read_once(settings(cluster), **options)
    assert named in str(raised.value)


@contextmanager
def full(cluster: Cluster) -> Iterator[None]:
    with cluster.clients(MAX_CONNECTIONS - RESERVED, "crowd", "other", "shop"):
        yield


def test_a_full_cluster_is_refused_and_not_unknown(cluster: Cluster) -> None:
    with full(cluster):
        facts = read_once(settings(cluster))
    assert facts.refused is True
    assert facts.max_connections == 0, "nothing was ever counted"


def test_with_a_full_cluster_the_last_good_numbers_are_kept(cluster: Cluster) -> None:
    async def go() -> None:
        clock = ManualClock()
        async with source(settings(cluster), clock=clock) as database:
            good = await database.read()
            await database.close()  # the connection is lost, and other clients take its place
            with full(cluster):
                refused = await database.read()
                assert refused.refused is True
                assert refused.max_connections == good.max_connections == MAX_CONNECTIONS
                assert (await database.read()).refused is True, "in the pause, too"
            assert (await database.read()).refused is True, "still pausing"
            clock.seconds += 1.5
            assert (await database.read()).refused is False

    asyncio.run(go())


def test_a_kept_connection_still_counts_in_a_full_cluster(cluster: Cluster) -> None:
    async def go() -> DatabaseFacts:
        async with source(settings(cluster)) as database:
            await database.read()
            with cluster.clients(MAX_CONNECTIONS - RESERVED - 1, "crowd", "other", "shop"):
                return await database.read()

    facts = asyncio.run(go())
    assert facts.client_connections == MAX_CONNECTIONS - RESERVED
    assert facts.refused is False


@pytest.mark.parametrize("what", ["ROLE", "DATABASE"])
def test_reaching_mastodons_own_limit_is_refused(cluster: Cluster, what: str) -> None:
    cluster.sql(f"ALTER {what} mastodon CONNECTION LIMIT 2")
    with cluster.clients(2, "puma"):
        assert read_once(settings(cluster)).refused is True


def test_a_limit_of_fleetds_own_role_says_nothing_about_mastodon(cluster: Cluster) -> None:
    cluster.sql("ALTER ROLE watcher CONNECTION LIMIT 0")
    with pytest.raises(SourceUnavailableError, match="fleetd's own login, whose role is at its connection limit"):
        read_once(settings(cluster, "watcher"), mastodon_role="mastodon")


def test_a_standby_is_not_taken_for_the_primary(cluster: Cluster) -> None:
    cluster.stop()
    marker = Path(cluster.data / "standby.signal")
    marker.touch()
    try:
        cluster.start()
        with pytest.raises(SourceUnavailableError, match="standby"):
            read_once(settings(cluster))
    finally:
        cluster.stop()
        marker.unlink()
        cluster.start()


def test_through_pgbouncer_no_setting_stays_on_the_server_connection(cluster: Cluster) -> None:
    """Transaction pooling gives the server connection to Mastodon next, so no SET may survive."""
    port = free_port()
    bouncer = cluster.directory / "pgbouncer.ini"
    bouncer.write_text(
        f"[databases]\nmastodon = host={cluster.directory} port={cluster.port} user=mastodon\n"
        f"[pgbouncer]\nlisten_addr=127.0.0.1\nlisten_port={port}\nunix_socket_dir=\nauth_type=any\n"
        f"pool_mode=transaction\ndefault_pool_size=1\nlogfile={cluster.directory}/pgbouncer.log\n"
    )
    process = subprocess.Popen(["pgbouncer", "-q", str(bouncer)], cwd=cluster.directory, **service_user())
    try:
        _wait_for_port(port)
        through = PostgresSettings(host="127.0.0.1", port=port, dbname="mastodon", user="mastodon", sslmode="disable")
        facts = read_once(through)
        assert facts.max_connections == MAX_CONNECTIONS
        with psycopg.connect(
            host="127.0.0.1", port=port, dbname="mastodon", user="mastodon", prepare_threshold=None
        ) as mastodon:
            row = mastodon.execute(
                "SELECT current_setting('statement_timeout'), current_setting('default_transaction_read_only')"
            ).fetchone()
        assert row == ("0", "off")
    finally:
        process.terminate()
        process.wait(10)


def _wait_for_port(port: int) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.02)
