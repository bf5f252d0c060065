"""Servers that send without end, or ask for the password in the clear: neither memory nor password is theirs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from itertools import count

import msgspec
import psycopg
import pytest

from fleetd.adapters.database.login_steps import STILL_COMPUTING
from fleetd.adapters.database.pgbouncer import PgBouncerConsole
from fleetd.adapters.database.pooler import find_pooler
from fleetd.adapters.database.postgres import PostgresConnections
from fleetd.config.connections import PostgresSettings
from fleetd.errors import SourceUnavailableError
from tests.support.attacks.lying_postgres import ANSWERS, CLEAR_PASSWORD, LOGINS, NO_ROW, LyingPostgres, scram
from tests.support.attacks.peak_memory import peak_memory
from tests.support.rig.manual_clock import ManualClock
from tests.support.rig.mastodon_postgres import read_once, source, tcp
from tests.support.rig.pgbouncer_server import PgBouncer
from tests.support.rig.postgres_cluster import WAIT_SECONDS, Cluster

#: Without a bound: 300 to 2000 MiB within the deadline.
GROWN_MIB_MAX = 60.0
SECRET = "Geheim-42"
#: Far more than any of these takes; without a bound, memory would grow for as long.
DEADLINE_SECONDS = 20.0
#: A few seconds of a core.
ROUNDS = 4_000_000


def postgres(settings: PostgresSettings) -> PostgresConnections:
    return PostgresConnections(settings, monotonic=time.monotonic, deadline_seconds=DEADLINE_SECONDS)


def replica(settings: PostgresSettings) -> PostgresConnections:
    return PostgresConnections(settings, monotonic=time.monotonic, deadline_seconds=DEADLINE_SECONDS, standby=True)


def pgbouncer(settings: PostgresSettings) -> PgBouncerConsole:
    return PgBouncerConsole(
        settings, mastodon=("mastodon", "mastodon"), monotonic=time.monotonic, deadline_seconds=DEADLINE_SECONDS
    )


Source = Callable[[PostgresSettings], PostgresConnections | PgBouncerConsole]


def refusal(liar: LyingPostgres, of: Source, **settings: str) -> str:
    """Why there is no reading from this server."""

    async def go() -> str:
        given = PostgresSettings(host="127.0.0.1", port=liar.port, password=SECRET, **settings)  # type: ignore[arg-type]
        reader = of(given)
        async with liar.listening():
            try:
                with pytest.raises(SourceUnavailableError) as caught:
                    await reader.read()
            finally:
                await reader.close()
            # Cut off: the server notices, as its flood ends.
            for _ in range(int(WAIT_SECONDS / 0.01)):
                if len(asyncio.all_tasks()) == 1:
                    return str(caught.value)
                await asyncio.sleep(0.01)
        raise AssertionError("the server goes on sending")

    return asyncio.run(go())


@pytest.mark.parametrize("of", [postgres, replica, pgbouncer])
@pytest.mark.parametrize("what", ANSWERS)
def test_an_answer_without_end_is_cut_off(of: Source, what: str) -> None:
    with peak_memory() as peak:
        why = refusal(LyingPostgres(*ANSWERS[what]), of, sslmode="disable")
    assert "KiB that an answer may have" in why
    assert "127.0.0.1" in why
    assert peak.grown_mib < GROWN_MIB_MAX


@pytest.mark.parametrize("what", LOGINS)
def test_a_login_without_end_is_cut_off(what: str) -> None:
    with peak_memory() as peak:
        refusal(LyingPostgres(*LOGINS[what], logs_in=False), postgres, sslmode="disable")
    assert peak.grown_mib < GROWN_MIB_MAX


@pytest.mark.parametrize("of", [postgres, replica])
def test_an_answer_without_a_row_is_none(of: Source) -> None:
    """It was waited for in a loop that never yielded."""
    assert "gave no row" in refusal(LyingPostgres(NO_ROW, b""), of, sslmode="disable")


def test_a_login_that_computes_without_end_holds_up_nothing_else() -> None:
    """Unbounded, 2,000,000,000 rounds held up the event loop for as long as they took, until the watchdog."""
    first, second = scram(ROUNDS)

    async def go() -> None:
        liar = LyingPostgres(first, b"", logs_in=False, second=second)
        given = PostgresSettings(host="127.0.0.1", port=liar.port, password=SECRET, sslmode="disable")
        reader = PostgresConnections(given, monotonic=lambda: next(minutes), deadline_seconds=0.5)
        async with liar.listening():
            began = last = time.monotonic()
            longest, said = 0.0, list[str]()
            while len(said) < 2 or STILL_COMPUTING in said[-1]:
                reading = asyncio.ensure_future(reader.read())
                while not reading.done():
                    await asyncio.sleep(0.01)
                    longest, last = max(longest, time.monotonic() - last), time.monotonic()
                said.append(str(reading.exception()))
            took = time.monotonic() - began
            await reader.close()
        assert "did not answer within 0.5 s" in said[0]
        assert STILL_COMPUTING in said[1]
        assert "is that the right server?" in said[1]
        assert longest < took / 2, "the event loop ran on while the login computed"

    minutes = count(0.0, 60.0)
    asyncio.run(go())


def test_whoever_asks_a_server_that_makes_logins_compute_is_told_so() -> None:
    """Another error of its own escaped from the search for a pooler, which only knows psycopg's."""
    first, second = scram(ROUNDS)

    async def go() -> list[str]:
        liar = LyingPostgres(first, b"", logs_in=False, second=second)
        said = list[str]()
        async with liar.listening():
            for database in ("mastodon_production", "mastodon_production", "another"):
                login = PostgresSettings(
                    host="127.0.0.1", port=liar.port, dbname=database, password=SECRET, sslmode="disable"
                )
                with pytest.raises(SourceUnavailableError) as caught:
                    # The first one runs out; the others are refused at once, but on a busy machine not within that.
                    await find_pooler(login, deadline_seconds=10.0 if said else 0.5)
                said.append(str(caught.value))
        return said

    first_time, *again = asyncio.run(go())
    assert "did not answer within 0.5 s" in first_time
    assert all(STILL_COMPUTING in said and "is that the right server?" in said for said in again), again


def test_a_flood_holds_up_nothing_else() -> None:
    """A row of a gigabyte, unbounded, held up the event loop for 8 s."""

    async def go() -> float:
        longest, last = 0.0, time.monotonic()
        liar = LyingPostgres(*ANSWERS["one row of a gigabyte"])
        async with liar.listening():
            reader = postgres(PostgresSettings(host="127.0.0.1", port=liar.port, sslmode="disable"))
            reading = asyncio.ensure_future(reader.read())
            while not reading.done():
                await asyncio.sleep(0)
                now = time.monotonic()
                longest, last = max(longest, now - last), now
            assert isinstance(reading.exception(), SourceUnavailableError)
            await reader.close()
        return longest

    assert asyncio.run(go()) < 2.0


def test_a_reading_after_a_flood_is_right(cluster: Cluster) -> None:
    """What is allowed is allowed anew for each reading, and a connection that was cut off is replaced."""

    async def go() -> None:
        clock = ManualClock()
        async with source(tcp(cluster), clock=clock) as database:
            for _ in range(400):  # together they are more than one may be
                assert (await database.read()).own_connections == 1
            assert database._connection is not None
            database._connection.allow(10)  # bytes
            with pytest.raises(psycopg.OperationalError):
                await database._connection.execute("SELECT repeat('x', 1000)")
            with pytest.raises(SourceUnavailableError, match="was cut off"):
                await database.read()
            clock.seconds += 1.0
            assert (await database.read()).own_connections == 1

    asyncio.run(go())


@pytest.mark.parametrize("mode", ["disable", "allow", "prefer"])
@pytest.mark.parametrize("of", [postgres, replica, pgbouncer])
def test_a_server_without_tls_is_not_given_the_password(of: Source, mode: str) -> None:
    liar = LyingPostgres(CLEAR_PASSWORD, b"", logs_in=False)
    why = refusal(liar, of, sslmode=mode)
    assert SECRET.encode() not in liar.heard
    assert "requested a cleartext password" in why
    assert "network.cleartext_password" in why
    assert SECRET not in why


def clear(cluster: Cluster, mode: str, **changes: bool) -> PostgresSettings:
    """A role for which pg_hba.conf says `password`."""
    given = tcp(cluster, user="clear", sslmode=mode, sslrootcert=str(cluster.directory / "root.crt"))
    return msgspec.structs.replace(given, **changes)


def test_only_a_server_that_is_known_may_ask_for_it_in_the_clear(cluster: Cluster) -> None:
    for mode in ("verify-ca", "verify-full"):
        read_once(clear(cluster, mode))
    for mode in ("disable", "prefer"):
        with pytest.raises(SourceUnavailableError, match=r'network\.cleartext_password = \["postgres"\]'):
            read_once(clear(cluster, mode))
        read_once(clear(cluster, mode, cleartext_password=True))
    anyone = msgspec.structs.replace(clear(cluster, "require"), sslrootcert=None)
    with pytest.raises(SourceUnavailableError, match="verify-full"):
        read_once(anyone)


def test_pgbouncer_with_plain_passwords_is_read_when_that_is_allowed(cluster: Cluster) -> None:
    bouncer = PgBouncer(cluster, options={"auth_type": "plain"})
    bouncer.start()

    async def read(of: PostgresSettings) -> int:
        console = pgbouncer(of)
        try:
            return (await console.read()).client_connections
        finally:
            await console.close()

    try:
        with pytest.raises(SourceUnavailableError, match=r'network\.cleartext_password = \["pgbouncer"\]'):
            asyncio.run(read(bouncer.settings("stats")))
        allowed = msgspec.structs.replace(bouncer.settings("stats"), cleartext_password=True)
        assert asyncio.run(read(allowed)) == 1
    finally:
        bouncer.stop()


def test_an_old_libpq_is_not_given_a_password_to_lose(monkeypatch: pytest.MonkeyPatch) -> None:
    """libpq before 16 can't refuse to send it."""
    monkeypatch.setattr(psycopg.pq, "version", lambda: 150_018)
    with pytest.raises(SourceUnavailableError, match="libpq 15, which fleetd is installed with"):
        read_once(PostgresSettings(host="127.0.0.1", port=1, password=SECRET))
