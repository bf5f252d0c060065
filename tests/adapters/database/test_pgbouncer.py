"""PgBouncerConsole on a real PgBouncer in front of a real PostgreSQL."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest

from fleetd.adapters.database.pgbouncer import SETTINGS_SECONDS, PgBouncerConsole
from fleetd.config.connections import PostgresSettings
from fleetd.core.model.facts import PgBouncerFacts
from fleetd.errors import SourceUnavailableError
from tests.support.builders.pgbouncer_rows import RECORDED, VERSIONS, recorded
from tests.support.rig.connection_stages import crowded, fatal
from tests.support.rig.free_port import free_port
from tests.support.rig.manual_clock import ManualClock
from tests.support.rig.pgbouncer_server import PASSWORD, PgBouncer
from tests.support.rig.postgres_cluster import WAIT_SECONDS, Cluster

MASTODON = ("mastodon", "mastodon")


@contextmanager
def running(cluster: Cluster, **more: Any) -> Iterator[PgBouncer]:
    bouncer = PgBouncer(cluster, **more)
    bouncer.start()
    try:
        yield bouncer
    finally:
        bouncer.stop(signal.SIGKILL)


@pytest.fixture
def bouncer(cluster: Cluster) -> Iterator[PgBouncer]:
    databases = {"mastodon": "pool_size=1 user=mastodon", "shop": "pool_size=4 user=other"}
    with running(cluster, options={"max_client_conn": 6}, databases=databases) as bouncer:
        yield bouncer


@asynccontextmanager
async def source(of: PostgresSettings, **options: Any) -> AsyncIterator[PgBouncerConsole]:
    given = {"monotonic": ManualClock(), "mastodon": MASTODON, "deadline_seconds": WAIT_SECONDS, **options}
    made = PgBouncerConsole(of, **given)
    try:
        yield made
    finally:
        await made.close()


def read_once(of: PostgresSettings, **options: Any) -> PgBouncerFacts:
    async def go() -> PgBouncerFacts:
        async with source(of, **options) as console:
            return await console.read()

    return asyncio.run(go())


def test_two_databases_and_two_users(bouncer: PgBouncer) -> None:
    with bouncer.clients(2), bouncer.clients(1, "other", "shop"):
        facts = read_once(bouncer.settings())
    assert (facts.client_limit_connections, facts.client_connections, facts.own_connections) == (6, 4, 1)
    assert [(p.database, p.user, p.client_connections, p.size_connections) for p in facts.pools] == [
        ("mastodon", "mastodon", 2, 1),
        ("shop", "other", 1, 4),
    ]


@pytest.mark.parametrize("user", ["stats", "boss"])
def test_stats_and_admin_users_may_look(bouncer: PgBouncer, user: str) -> None:
    assert read_once(bouncer.settings(user)).client_connections == 1


def test_waiting_clients_and_how_long_they_wait(bouncer: PgBouncer) -> None:
    with crowded(bouncer, 1):
        pool = read_once(bouncer.settings()).mastodon_pool
    assert pool is not None
    assert (pool.waiting_clients, pool.active_servers, pool.size_connections) == (1, 1, 1)
    assert pool.longest_wait_seconds > 0


def test_the_console_still_answers_when_no_more_clients_are_allowed(bouncer: PgBouncer) -> None:
    """The console is let in beyond max_client_conn. So the numbers show that it is full, not a refusal."""
    with bouncer.clients(6):
        facts = read_once(bouncer.settings())
    assert facts.client_connections - facts.own_connections == facts.client_limit_connections == 6


def test_a_paused_database_is_read(bouncer: PgBouncer) -> None:
    bouncer.console("PAUSE mastodon")
    assert read_once(bouncer.settings()).refused is False


def test_a_wildcard_database(cluster: Cluster) -> None:
    options = {"default_pool_size": 5, "reserve_pool_size": 2}
    with running(cluster, options=options, databases={"*": "user=mastodon"}) as bouncer:
        assert read_once(bouncer.settings()).mastodon_pool is None
        with bouncer.clients(1):
            pool = read_once(bouncer.settings()).mastodon_pool
    assert pool is not None
    assert (pool.client_connections, pool.size_connections) == (1, 7)


def test_one_connection_is_kept_and_a_reload_is_noticed(bouncer: PgBouncer) -> None:
    clock = ManualClock()

    async def go() -> None:
        async with source(bouncer.settings(), monotonic=clock) as console:
            for _ in range(5):
                await asyncio.gather(console.read(), console.read())
            assert len([c for c in bouncer.console("SHOW CLIENTS") if c["user"] != "boss"]) <= 2
            assert (await console.read()).client_limit_connections == 6
            bouncer.options["max_client_conn"] = 9
            bouncer.write()
            bouncer.console("RELOAD")
            clock.seconds += SETTINGS_SECONDS
            facts = await console.read()
            assert (facts.client_limit_connections, facts.client_connections) == (9, 1)

    asyncio.run(go())


def test_killed_and_restarted(bouncer: PgBouncer) -> None:
    clock = ManualClock()

    async def go() -> None:
        async with source(bouncer.settings(), monotonic=clock) as console:
            await console.read()
            bouncer.stop(signal.SIGKILL)
            with pytest.raises(SourceUnavailableError, match=r"PgBouncer at 127\.0\.0\.1.*is it running"):
                await console.read()
            bouncer.start()
            with pytest.raises(SourceUnavailableError, match="is it running"):
                await console.read()  # within the pause, so nothing is tried
            clock.seconds += 1.0
            assert (await console.read()).client_connections == 1
            bouncer.stop(signal.SIGKILL)
            bouncer.options["max_client_conn"] = 8
            bouncer.start()
            facts = await console.read()  # a broken connection is renewed at once, and its settings are read again
            assert facts.client_limit_connections == 8

    asyncio.run(go())


def test_hung(bouncer: PgBouncer) -> None:
    async def go() -> float:
        async with source(bouncer.settings()) as console:
            await console.read()
            console._deadline_seconds = 0.5
            os.kill(bouncer.pid, signal.SIGSTOP)
            started = time.monotonic()
            try:
                with pytest.raises(SourceUnavailableError, match=r"PgBouncer .* did not answer within 0\.5 s"):
                    await console.read()
                assert asyncio.all_tasks() == {asyncio.current_task()}, "nothing lingers"
                return time.monotonic() - started
            finally:
                os.kill(bouncer.pid, signal.SIGCONT)

    assert asyncio.run(go()) < 4.0, "psycopg's own way out waits 5 s for an answer to its cancelling"


def test_a_user_who_may_not_look_is_told_how_to_change_that(bouncer: PgBouncer) -> None:
    with pytest.raises(SourceUnavailableError, match=r"stats_users = stranger \(no quotes\), and RELOAD"):
        read_once(bouncer.settings("stranger"))


def test_a_wrong_password_is_reported_without_the_password(bouncer: PgBouncer) -> None:
    with pytest.raises(SourceUnavailableError, match=r"the password is wrong.*\[pgbouncer\]") as raised:
        read_once(bouncer.settings(password="s3cr3t-of-mine"))
    assert "s3cr3t-of-mine" not in str(raised.value)
    assert PASSWORD not in str(raised.value)
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__


@pytest.mark.parametrize(
    ("message", "mastodon", "expected"),
    [
        ("no more connections allowed (max_client_conn)", MASTODON, True),
        ("client connections exceeded (max_user_client_connections)", ("mastodon", "stats"), True),
        ("client connections exceeded (max_user_client_connections)", MASTODON, "fleetd's own login"),
        ("client connections exceeded (max_db_client_connections)", MASTODON, "at its console"),
        ('database "pgbouncer" does not exist', MASTODON, "is that PgBouncer"),
        ("pgbouncer cannot connect to server", MASTODON, "pgbouncer cannot connect to server"),
    ],
)
def test_all_ways_of_turning_a_client_away(message: str, mastodon: tuple[str, str], expected: bool | str) -> None:
    port = free_port()
    of = PostgresSettings(host="127.0.0.1", port=port, user="stats", sslmode="disable")
    with fatal(port, message):
        if expected is True:
            facts = read_once(of, mastodon=mastodon)
            assert (facts.refused, facts.mastodon, facts.pools) == (True, mastodon, ())
        else:
            with pytest.raises(SourceUnavailableError, match=str(expected)):
                read_once(of, mastodon=mastodon)


def test_postgres_itself_is_not_taken_for_a_console(cluster: Cluster) -> None:
    cluster.sql("CREATE DATABASE pgbouncer")
    try:
        of = PostgresSettings(host=str(cluster.directory), port=cluster.port, user="stranger")
        with pytest.raises(SourceUnavailableError, match="is that PgBouncer"):
            read_once(of)
    finally:
        cluster.sql("DROP DATABASE pgbouncer")


def test_tls(cluster: Cluster) -> None:
    options = {
        "client_tls_sslmode": "require",
        "client_tls_key_file": cluster.data / "server.key",
        "client_tls_cert_file": cluster.data / "server.crt",
    }
    with running(cluster, options=options) as bouncer:
        certificate = str(cluster.directory / "root.crt")
        verified = bouncer.settings(sslmode="verify-full", sslrootcert=certificate)
        assert read_once(verified).client_connections == 1
        with pytest.raises(SourceUnavailableError):
            read_once(bouncer.settings(sslmode="disable"))


def test_a_wildcard_database_with_invalid_text_does_not_break_the_reading(cluster: Cluster) -> None:
    with running(cluster, options={"auth_type": "any"}, databases={"*": "user=mastodon"}) as bouncer:
        place = [b"-h", b"127.0.0.1", b"-p", str(bouncer.port).encode(), b"-U", b"mastodon"]
        subprocess.run([b"psql", *place, b"-d", b"b\xffd", b"-c", b"SELECT 1"], capture_output=True, check=False)
        with pytest.raises(UnicodeDecodeError):
            bouncer.console("SHOW DATABASES")
        assert read_once(bouncer.settings()).refused is False


def test_the_recording_matches_the_installed_pgbouncer(bouncer: PgBouncer) -> None:
    """If the installed PgBouncer has the recorded version, its columns are the recorded ones."""
    said = subprocess.run(["pgbouncer", "--version"], capture_output=True, text=True, check=True).stdout
    version = re.findall(r"PgBouncer ([0-9.]+)", said)[0]
    if version not in VERSIONS:
        pytest.skip(f"PgBouncer {version} is not among {RECORDED}")
    with bouncer.clients(1):
        for what in ("POOLS", "DATABASES", "USERS", "LISTS", "CONFIG"):
            shown = bouncer.console(f"SHOW {what}")
            assert list(shown[0]) == list(recorded(version)[what][0]), what
            if what in ("LISTS", "CONFIG"):
                kept = [next(iter(row.values())) for row in recorded(version)[what]]
                assert [next(iter(row.values())) for row in shown] == kept
