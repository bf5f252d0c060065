"""A real PgBouncer in front of a test's cluster, on a free loopback port. It is ended by pid."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from typing import Any

import psycopg
import pytest

from fleetd.config.connections import PostgresSettings
from tests.support.rig.free_port import free_port
from tests.support.rig.postgres_cluster import WAIT_SECONDS, Cluster, service_user

PASSWORD = "bouncer's hünter2 =&@:/"
#: Who may log in to PgBouncer. On the console `stats` may only look; `boss` may also change things.
USERS = ("mastodon", "other", "stats", "boss", "stranger")


class PgBouncer:
    """Can be started and stopped. `options` are lines of [pgbouncer], `databases` are lines of [databases]."""

    def __init__(
        self,
        cluster: Cluster,
        *,
        options: Mapping[str, object] | None = None,
        databases: Mapping[str, str] | None = None,
    ) -> None:
        if shutil.which("pgbouncer") is None:
            pytest.skip("PgBouncer is not installed (Debian: pgbouncer)")
        self.cluster = cluster
        self.port = free_port()
        self.options = dict(options or {})
        self.databases = dict(databases or {"mastodon": "pool_size=3", "shop": "pool_size=2 user=other"})
        self._process: subprocess.Popen[bytes] | None = None
        self._file = cluster.directory / f"pgbouncer-{self.port}.ini"

    def write(self) -> None:
        """Write the configuration. It takes effect on `reload` or `start`."""
        users = cluster_file(self, "users", "".join(f'"{u}" "{quoted(PASSWORD)}"\n' for u in USERS))
        behind = f"host={self.cluster.directory} port={self.cluster.port}"
        listed = "".join(f"{name} = {behind} {more}\n" for name, more in self.databases.items())
        options = {
            "listen_addr": "127.0.0.1",
            "listen_port": self.port,
            "unix_socket_dir": "",
            "auth_type": "scram-sha-256",
            "auth_file": users,
            "stats_users": "stats",
            "admin_users": "boss",
            "pool_mode": "transaction",
            "logfile": f"{self.cluster.directory}/pgbouncer-{self.port}.log",
            **self.options,
        }
        lines = "".join(f"{key} = {value}\n" for key, value in options.items())
        self._file.write_text(f"[databases]\n{listed}[pgbouncer]\n{lines}")

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        self.write()
        self._process = subprocess.Popen(
            ["pgbouncer", "-q", str(self._file)],
            cwd=self.cluster.directory,
            stderr=subprocess.DEVNULL,
            **service_user(),
        )
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                assert time.monotonic() < deadline, "PgBouncer does not come up"
                time.sleep(0.02)

    def stop(self, how: signal.Signals = signal.SIGQUIT) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(WAIT_SECONDS)
            self._process = None

    def settings(self, user: str = "stats", **changes: Any) -> PostgresSettings:
        """The settings that the console takes."""
        given = {
            "host": "127.0.0.1",
            "port": self.port,
            "dbname": "pgbouncer",
            "sslmode": "disable",
            **changes,
        }
        return PostgresSettings(**{"user": user, "password": PASSWORD, **given})

    def client(self, user: str = "mastodon", dbname: str = "mastodon", **more: Any) -> psycopg.Connection[Any]:
        return psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            user=user,
            dbname=dbname,
            password=PASSWORD,
            connect_timeout=int(WAIT_SECONDS),
            prepare_threshold=None,
            **more,
        )

    @contextlib.contextmanager
    def clients(self, count: int, user: str = "mastodon", dbname: str = "mastodon") -> Iterator[list[Any]]:
        """`count` open clients, each of which has done one transaction."""
        with contextlib.ExitStack() as stack:
            opened = []
            for _ in range(count):
                client = self.client(user, dbname, autocommit=True)
                stack.callback(client.close)
                client.execute("SELECT 1")
                opened.append(client)
            yield opened

    def console(self, command: str, user: str = "boss") -> list[dict[str, Any]]:
        """What the console answers an administrator."""
        with psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            user=user,
            dbname="pgbouncer",
            password=PASSWORD,
            autocommit=True,
            cursor_factory=psycopg.ClientCursor,
            prepare_threshold=None,
            row_factory=psycopg.rows.dict_row,
        ) as connection:
            cursor = connection.execute(command.encode())
            return cursor.fetchall() if cursor.description else []


def cluster_file(bouncer: PgBouncer, name: str, text: str) -> str:
    path = bouncer.cluster.directory / f"pgbouncer-{bouncer.port}-{name}"
    path.write_text(text)
    return str(path)


def quoted(text: str) -> str:
    return text.replace('"', '""')
