"""PostgresConnections on a real PostgreSQL: who the others are, how many are at work, and a replica."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from fleetd.adapters.database.postgres import CONSUMERS_MAX, consumers_from
from fleetd.core.model.facts import Consumer
from fleetd.errors import SourceUnavailableError
from tests.support.rig.mastodon_postgres import (
    read_once,
    settings,
    tcp,
)
from tests.support.rig.postgres_cluster import MAX_CONNECTIONS, Cluster

HERE = "the local socket"
MASTODON = {"mastodon_role": "mastodon", "mastodon_database": "mastodon"}


def test_others_are_named_by_role_address_and_application(cluster: Cluster) -> None:
    of_tcp = tcp(cluster, sslmode="disable")
    with (
        cluster.clients(3, "mastodon-sidekiq@1.w1"),
        cluster.clients(3, "puma"),
        cluster.clients(2, "shop", "other", "shop"),
        cluster.clients(1, "mastodon-sidekiq@9.w9", "other", "shop"),
        psycopg.connect(
            host=of_tcp.host, port=of_tcp.port, user=of_tcp.user, password=of_tcp.password, dbname="mastodon"
        ),
    ):
        facts = read_once(settings(cluster, "watcher"), **MASTODON)
    assert {c.name: c.connections for c in facts.consumers} == {
        f"mastodon from {HERE} (puma)": 3,
        f"other from {HERE} (shop)": 2,
        f"other from {HERE} (mastodon-sidekiq@9.w9)": 1,
        "mastodon from 127.0.0.1": 1,
    }
    assert [c.connections for c in facts.consumers] == [3, 2, 1, 1]
    assert sum(c.connections for c in facts.consumers) == facts.others_connections == 7
    assert facts.exact is True


def test_hidden_addresses_are_reported_as_unknown(cluster: Cluster) -> None:
    with cluster.clients(2, "puma"):
        hidden = read_once(settings(cluster, "stranger"), **MASTODON)
        own = read_once(settings(cluster))
    assert hidden.consumers == (Consumer(name="mastodon from an unknown address (puma)", connections=2),)
    assert hidden.exact is False
    assert own.consumers == (Consumer(name=f"mastodon from {HERE} (puma)", connections=2),)
    assert own.exact is True, "nobody else is connected"


def test_the_largest_consumers_are_listed_and_the_rest_is_summed_up(cluster: Cluster) -> None:
    connections = []
    try:
        for count in range(CONSUMERS_MAX + 2):
            name = "many" if count < 2 else f"app{count:02}"
            connections.append(
                psycopg.connect(
                    host=str(cluster.directory),
                    port=cluster.port,
                    user="other",
                    dbname="shop",
                    application_name=name,
                )
            )
        facts = read_once(settings(cluster, "watcher"), **MASTODON)
    finally:
        for connection in connections:
            connection.close()
    assert len(facts.consumers) == CONSUMERS_MAX + 1
    assert facts.consumers[0] == Consumer(name=f"other from {HERE} (many)", connections=2)
    assert facts.consumers[-1] == Consumer(name="others", connections=1)
    assert sum(c.connections for c in facts.consumers) == facts.others_connections


def test_foreign_names_are_bounded_and_exact() -> None:
    """What can't be shown of them is escaped where they are shown."""
    [consumer] = consumers_from([["ev\x1b[2Jil\n", "10.0.0.1", "x" * 500, 1]], 1)
    assert consumer.name == f"ev\x1b[2Jil\n from 10.0.0.1 ({'x' * 39}…)"
    assert consumers_from([[None, HERE, None, 2]], 2)[0].name == f"a dropped role from {HERE}"


@contextmanager
def latin_client(cluster: Cluster) -> Iterator[None]:
    """A client whose role was created in a LATIN1 database. In other databases its name is not valid UTF-8."""
    cluster.sql("CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'")
    with cluster.admin("latin") as admin:
        admin.execute('CREATE ROLE "müller" LOGIN')
    place = [b"-h", str(cluster.directory).encode(), b"-p", str(cluster.port).encode(), b"-d", b"shop"]
    client = subprocess.Popen(
        [b"psql", *place, b"-U", b"m\xfcller", b"-c", b"SELECT pg_sleep(60)"], stdout=subprocess.DEVNULL
    )
    there = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'psql'"
    try:
        cluster.wait_for(there, 1)
        yield
    finally:
        cluster.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'psql'")
        client.wait(10)
        cluster.wait_for(there, 0)
        with cluster.admin("latin") as admin:
            admin.execute('DROP ROLE "müller"')
        cluster.sql("DROP DATABASE latin")


def test_a_role_whose_name_is_not_utf8_does_not_break_the_reading(cluster: Cluster) -> None:
    name = 'back\\slash "quote" \\x41'
    with latin_client(cluster), cluster.clients(1, name, "other", "shop"):
        facts = read_once(settings(cluster, "watcher"), **MASTODON)
    assert {c.name for c in facts.consumers} == {
        f"other from {HERE} ({name})",
        f"m\ufffdller from {HERE} (psql)",
    }


@contextmanager
def at_work(cluster: Cluster, user: str = "mastodon") -> Iterator[None]:
    """Mastodon's clients: one idle, one in a query, one waiting for a lock, and the lock's idle holder."""
    with contextlib.ExitStack() as stack:
        opened = []
        for _ in range(4):
            connection = psycopg.connect(
                host=str(cluster.directory), port=cluster.port, user=user, dbname="mastodon", autocommit=True
            )
            stack.callback(connection.close)
            opened.append(connection)
        idle, busy, holder, waiter = opened
        idle.execute("SELECT 1")
        holder.execute("BEGIN")
        holder.execute("SELECT pg_advisory_xact_lock(1)")
        for connection, query in (
            (busy, b"SELECT pg_sleep(60)"),
            (waiter, b"SELECT pg_advisory_xact_lock(1)"),
        ):
            connection.pgconn.send_query(query)
        cluster.wait_for("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'", 1)
        cluster.wait_for("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'", 1)
        yield
        cluster.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'mastodon'")
    cluster.wait_for("SELECT count(*) FROM pg_stat_activity WHERE datname = 'mastodon'", 0)


@pytest.mark.parametrize(("user", "expected"), [("mastodon", (2, 1)), ("watcher", (2, 1)), ("stranger", (None, None))])
def test_active_and_stalled_backends_are_counted(
    cluster: Cluster, user: str, expected: tuple[int | None, int | None]
) -> None:
    with at_work(cluster):
        facts = read_once(settings(cluster, user), **MASTODON)
    assert (facts.active_backends, facts.stalled_backends) == expected


def test_other_roles_backends_at_work_are_not_counted(cluster: Cluster) -> None:
    with at_work(cluster, "postgres"):
        facts = read_once(settings(cluster, "watcher"), **MASTODON)
    assert (facts.active_backends, facts.stalled_backends) == (0, 0)


def test_without_track_activities_backends_at_work_are_unknown(cluster: Cluster) -> None:
    cluster.sql("ALTER ROLE mastodon SET track_activities = off")
    try:
        with cluster.clients(1, "puma"):
            facts = read_once(settings(cluster, "watcher"), **MASTODON)
    finally:
        cluster.sql("ALTER ROLE mastodon RESET track_activities")
    assert (facts.active_backends, facts.stalled_backends) == (None, None)


@contextmanager
def in_recovery(cluster: Cluster) -> Iterator[None]:
    marker = cluster.data / "standby.signal"
    cluster.stop()
    marker.touch()
    try:
        cluster.start()
        yield
    finally:
        cluster.stop()
        marker.unlink()
        cluster.start()


def test_a_replica_is_counted_like_a_primary(cluster: Cluster) -> None:
    cluster.sql("ALTER ROLE mastodon CONNECTION LIMIT 9")
    with in_recovery(cluster), cluster.clients(3, "mastodon-sidekiq@1.w1"), cluster.clients(2, "puma"):
        facts = read_once(settings(cluster), standby=True)
        with pytest.raises(SourceUnavailableError, match="Point fleetd at the primary"):
            read_once(settings(cluster))
    assert facts.worker_connections == {"mastodon-sidekiq@1.w1": 3}
    assert facts.max_connections == MAX_CONNECTIONS
    assert facts.role_limit_connections == 9
    assert facts.others_connections == 2


def test_a_replica_that_is_not_in_recovery_is_read(cluster: Cluster) -> None:
    assert read_once(settings(cluster), standby=True).max_connections == MAX_CONNECTIONS


def test_errors_of_a_replica_name_the_replica(cluster: Cluster) -> None:
    with pytest.raises(SourceUnavailableError, match=r"replica at 127\.0\.0\.1.*REPLICA_DB_PASS"):
        read_once(tcp(cluster, password="wrong-one"), standby=True)
    with pytest.raises(SourceUnavailableError, match=r"replica .*has no role nobody"):
        read_once(settings(cluster), standby=True, mastodon_role="nobody")
