"""The stages of contracts/connections.py with a real Postgres and a real PgBouncer."""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import psycopg

from fleetd.adapters.database.pgbouncer import PgBouncerConsole
from fleetd.adapters.database.postgres import PostgresConnections
from tests.support.rig.manual_clock import ManualClock
from tests.support.rig.mastodon_postgres import settings
from tests.support.rig.pgbouncer_server import PgBouncer
from tests.support.rig.postgres_cluster import MAX_CONNECTIONS, RESERVED, WAIT_SECONDS, Cluster

POOL_SIZE = 2
MAX_CLIENTS = 20
PAUSES_SECONDS = 60.0  # longer than any pause


class RealPostgres:
    max_connections = MAX_CONNECTIONS

    def __init__(self, cluster: Cluster, stack: contextlib.ExitStack) -> None:
        self._cluster = cluster
        self._stack = stack
        self._clock = ManualClock()
        self.source = PostgresConnections(settings(cluster), monotonic=self._clock, deadline_seconds=WAIT_SECONDS)

    def connect(self, count: int, application_name: str = "puma") -> None:
        self._stack.enter_context(self._cluster.clients(count, application_name))

    def turn_away(self) -> None:
        self._crowd = self._cluster.clients(self._room(), "crowd", "other", "shop")
        self._crowd.__enter__()

    def _room(self) -> int:
        there = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND usename <> 'postgres'"
        self._cluster.wait_for("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'fleetd'", 0)
        return MAX_CONNECTIONS - RESERVED - int(self._cluster.value(there))

    def break_connection(self) -> None:
        self._cluster.stop(signal.SIGQUIT)

    def heal_connection(self) -> None:
        if hasattr(self, "_crowd"):
            self._crowd.__exit__(None, None, None)
        else:
            self._cluster.start()
        self._clock.seconds += PAUSES_SECONDS


class RealPgBouncer:
    max_clients = MAX_CLIENTS
    mastodon = ("mastodon", "mastodon")

    def __init__(self, bouncer: PgBouncer, stack: contextlib.ExitStack) -> None:
        self._bouncer = bouncer
        self._stack = stack
        self._clock = ManualClock()
        self.source = PgBouncerConsole(
            bouncer.settings(),
            mastodon=self.mastodon,
            monotonic=self._clock,
            deadline_seconds=WAIT_SECONDS,
        )

    def connect(self, count: int, pool: tuple[str, str] | None = None) -> None:
        database, user = pool or self.mastodon
        self._stack.enter_context(self._bouncer.clients(count, user, database))

    def crowd(self) -> None:
        self._stack.enter_context(crowded(self._bouncer, POOL_SIZE))

    def turn_away(self) -> None:
        self._bouncer.stop()
        self._stack.enter_context(fatal(self._bouncer.port, "no more connections allowed (max_client_conn)"))

    def break_connection(self) -> None:
        self._bouncer.stop()

    def heal_connection(self) -> None:
        self._stack.close()
        self._bouncer.start()
        self._clock.seconds += PAUSES_SECONDS


@contextlib.contextmanager
def crowded(bouncer: PgBouncer, size: int) -> Iterator[None]:
    """Have `size` clients of Mastodon's pool in a transaction, and one more that waits."""
    with contextlib.ExitStack() as stack:
        clients: list[psycopg.Connection[Any]] = []
        for _ in range(size + 1):
            client = bouncer.client()
            stack.callback(client.close)
            clients.append(client)
        for client in clients[:size]:
            client.execute("SELECT 1")  # begins a transaction, and keeps its server connection
        clients[size].pgconn.send_query(b"SELECT 1")
        deadline = time.monotonic() + WAIT_SECONDS
        while not any(row["cl_waiting"] and row["maxwait_us"] for row in bouncer.console("SHOW POOLS")):
            assert time.monotonic() < deadline, "nobody waits"
            time.sleep(0.02)
        yield


@contextlib.contextmanager
def fatal(port: int, message: str) -> Iterator[None]:
    """A server that turns every client away with `message`, as PgBouncer does: no SSL, no SQLSTATE of its own."""
    fields = b"SFATAL\0C08P01\0M" + message.encode() + b"\0\0"
    answer = b"E" + (len(fields) + 4).to_bytes(4, "big") + fields
    with socket.create_server(("127.0.0.1", port)) as server:
        server.settimeout(0.1)
        ended = threading.Event()

        def serve() -> None:
            while not ended.is_set():
                with contextlib.suppress(TimeoutError, OSError):
                    client, _ = server.accept()
                    with client:
                        client.settimeout(WAIT_SECONDS)
                        client.recv(4096)
                        client.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
