"""PostgresConnections on a real PostgreSQL: logging in, keeping the connection, losing it."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from itertools import pairwise

import msgspec
import pytest

from fleetd.config.connections import PostgresSettings
from fleetd.errors import SourceUnavailableError
from tests.support.rig.free_port import free_port
from tests.support.rig.manual_clock import ManualClock
from tests.support.rig.mastodon_postgres import (
    read_once,
    settings,
    source,
    tcp,
)
from tests.support.rig.postgres_cluster import WAIT_SECONDS, Cluster


def test_one_connection_is_kept(cluster: Cluster) -> None:
    async def go() -> set[int]:
        pids = set()
        async with source(settings(cluster)) as database:
            for _ in range(5):
                await asyncio.gather(database.read(), database.read())
                pids.add(cluster.value("SELECT min(pid) FROM pg_stat_activity WHERE application_name = 'fleetd'"))
                assert (await database.read()).own_connections == 1
        return pids

    assert len(asyncio.run(go())) == 1


def test_a_dropped_connection_is_renewed_within_the_read(cluster: Cluster) -> None:
    async def go() -> None:
        async with source(settings(cluster)) as database:
            await database.read()
            cluster.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'fleetd'")
            assert (await database.read()).own_connections == 1
            cluster.stop()
            cluster.start()
            assert (await database.read()).own_connections == 1

    asyncio.run(go())


def test_a_killed_server_is_unknown_and_attempts_pause(cluster: Cluster) -> None:
    async def go() -> None:
        clock = ManualClock()
        async with source(settings(cluster), clock=clock) as database:
            await database.read()
            cluster.stop(signal.SIGQUIT)
            with pytest.raises(SourceUnavailableError, match="is it running") as first:
                await database.read()
            assert str(cluster.directory) in str(first.value)
            cluster.start()
            with pytest.raises(SourceUnavailableError, match="is it running"):
                await database.read()  # within the pause, so nothing is tried
            clock.seconds += 1.0
            assert (await database.read()).refused is False

    asyncio.run(go())


def test_pauses_grow_and_are_bounded() -> None:
    attempts: list[float] = []

    async def go() -> None:
        clock = ManualClock()

        def turned_away(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            attempts.append(clock.seconds)
            writer.close()

        port = free_port()
        server = await asyncio.start_server(turned_away, "127.0.0.1", port)
        gone = PostgresSettings(host="127.0.0.1", port=port, sslmode="disable")
        async with server, source(gone, clock=clock) as database:
            for _ in range(300):
                with pytest.raises(SourceUnavailableError):
                    await database.read()
                clock.seconds += 0.5

    asyncio.run(go())
    pauses = [later - before for before, later in pairwise(attempts)]
    assert pauses[:5] == [1.0, 2.0, 4.0, 8.0, 15.0]
    assert set(pauses[5:]) == {15.0}


@pytest.mark.parametrize("cancelled", [False, True])
def test_a_read_from_a_hung_server_ends_in_time_and_leaves_no_connection(cluster: Cluster, *, cancelled: bool) -> None:
    async def go(clock: ManualClock) -> float:
        async with source(settings(cluster), clock=clock) as database:
            await database.read()
            database._deadline_seconds = 0.6
            pid = cluster.value("SELECT pid FROM pg_stat_activity WHERE application_name = 'fleetd'")
            frozen = (pid, cluster.pid)  # the whole server, which then does not answer requests to cancel either
            for process in frozen:
                os.kill(process, signal.SIGSTOP)
            started = time.monotonic()
            try:
                reading = asyncio.ensure_future(database.read())
                await asyncio.sleep(0.2)
                if cancelled:
                    reading.cancel()
                    with pytest.raises(asyncio.CancelledError):
                        await reading
                else:
                    with pytest.raises(SourceUnavailableError, match=r"did not answer within 0\.6 s"):
                        await reading
                assert asyncio.all_tasks() == {asyncio.current_task()}, "nothing lingers"
                return time.monotonic() - started
            finally:
                for process in frozen:
                    os.kill(process, signal.SIGCONT)

    assert asyncio.run(go(ManualClock())) < 4.0, "psycopg's own way out waits 5 s for an answer to its cancelling"
    cluster.wait_for("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'fleetd'", 0)


def test_no_second_connection_is_tried_over_a_dead_network(cluster: Cluster) -> None:
    """A request to cancel would open another connection to a server that does not answer, and wait for it."""
    accepted: list[asyncio.StreamWriter] = []
    dead = asyncio.Event()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while (data := await reader.read(65536)) != b"":
            if not dead.is_set():
                writer.write(data)
        writer.close()

    async def go() -> None:
        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            accepted.append(writer)
            to_reader, to_writer = await asyncio.open_connection("127.0.0.1", cluster.port)
            await asyncio.gather(relay(reader, to_writer), relay(to_reader, writer))

        port = free_port()
        server = await asyncio.start_server(accept, "127.0.0.1", port)
        through = msgspec.structs.replace(tcp(cluster, sslmode="disable"), port=port)
        async with server, source(through) as database:
            await database.read()
            database._deadline_seconds = 0.5
            dead.set()
            with pytest.raises(SourceUnavailableError, match="did not answer"):
                await database.read()

    asyncio.run(go())
    assert len(accepted) == 1


def test_a_server_that_accepts_and_says_nothing(cluster: Cluster) -> None:
    """The read ends in time, and its socket is closed."""

    async def go() -> bytes:
        ended: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            rest = await reader.read()
            ended.set_result(rest)
            writer.close()

        port = free_port()
        server = await asyncio.start_server(silent, "127.0.0.1", port)
        hole = PostgresSettings(host="127.0.0.1", port=port)
        async with server, source(hole, deadline_seconds=0.3) as database:
            with pytest.raises(SourceUnavailableError, match="did not answer"):
                await database.read()
            return await asyncio.wait_for(ended, WAIT_SECONDS)

    assert asyncio.run(go()) != b""


def test_nonsense_from_the_server_is_unknown() -> None:
    async def go(answer: bytes) -> None:
        async def liar(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(8)
            writer.write(answer)
            writer.close()

        port = free_port()
        server = await asyncio.start_server(liar, "127.0.0.1", port)
        settings = PostgresSettings(host="127.0.0.1", port=port, sslmode="disable")
        async with server, source(settings) as database:
            with pytest.raises(SourceUnavailableError, match=f"127.0.0.1:{port}"):
                await database.read()

    for answer in (
        b"",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"-ERR unknown command\r\n",
        bytes(range(256)) * 40,
    ):
        asyncio.run(go(answer))


def test_a_wrong_password_is_reported_without_the_password(cluster: Cluster) -> None:
    with pytest.raises(SourceUnavailableError, match="DB_PASS") as raised:
        read_once(tcp(cluster, password="s3cr3t-of-mine"))
    assert "s3cr3t-of-mine" not in str(raised.value)
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__


def test_tls_modes(cluster: Cluster) -> None:
    root = str(cluster.directory / "root.crt")

    async def encrypted(of: PostgresSettings) -> bool:
        async with source(of) as database:
            await database.read()
            return bool(
                cluster.value(
                    "SELECT s.ssl FROM pg_stat_ssl s JOIN pg_stat_activity USING (pid) "
                    "WHERE application_name = 'fleetd'"
                )
            )

    assert asyncio.run(encrypted(tcp(cluster, sslmode="disable"))) is False
    for mode, certificate in [
        ("prefer", None),
        ("require", None),
        ("verify-ca", root),
        ("verify-full", root),
    ]:
        assert asyncio.run(encrypted(tcp(cluster, sslmode=mode, sslrootcert=certificate))) is True, mode
    with pytest.raises(SourceUnavailableError, match="sslmode"):
        read_once(tcp(cluster, user="tls_only", sslmode="disable"))
    with pytest.raises(SourceUnavailableError):
        read_once(tcp(cluster, sslmode="verify-full", sslrootcert=str(cluster.directory / "missing.crt")))
    with pytest.raises(SourceUnavailableError):
        read_once(tcp(cluster, sslmode="nonsense"))


def test_a_host_name_that_does_not_resolve() -> None:
    with pytest.raises(SourceUnavailableError, match=r"does-not-exist\.invalid"):
        read_once(PostgresSettings(host="does-not-exist.invalid"))
