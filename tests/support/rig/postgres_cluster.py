"""A real PostgreSQL cluster for tests, in its own directory and on a free loopback port. It is ended by pid."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.support.rig.free_port import free_port

WAIT_SECONDS = 90.0
MAX_CONNECTIONS = 20
RESERVED = 3


def service_user() -> dict[str, Any]:
    """Who Postgres and PgBouncer run as: whoever runs the tests, except root, as which they refuse to run."""
    return {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}


def binaries() -> Path:
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: int(p.parts[4]))
    if not versions:
        pytest.skip("PostgreSQL's server is not installed (Debian: postgresql)")
    return versions[-1].parent


class Cluster:
    """Can be started and stopped. `admin()` connects as superuser over the socket."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="fleetd-pg-"))
        self.data = self.directory / "data"
        self.port = free_port()
        self._bin = binaries()
        self._process: subprocess.Popen[bytes] | None = None
        if os.geteuid() == 0:
            shutil.chown(self.directory, "postgres", "postgres")
        self.run("initdb", "-D", str(self.data), "-A", "trust", "-U", "postgres", "--no-sync", "-E", "UTF8")
        self._certificates()
        (self.data / "postgresql.conf").write_text(
            f"port={self.port}\nlisten_addresses='127.0.0.1'\nunix_socket_directories='{self.directory}'\n"
            f"max_connections={MAX_CONNECTIONS}\nsuperuser_reserved_connections={RESERVED}\nfsync=off\n"
            "shared_buffers=4MB\nssl=on\nssl_cert_file='server.crt'\nssl_key_file='server.key'\n"
            "autovacuum=off\nlog_destination=stderr\nhot_standby=on\nwal_level=replica\n"
        )
        (self.data / "pg_hba.conf").write_text(
            "local all all trust\nlocal replication postgres trust\n"
            "hostssl all tls_only 127.0.0.1/32 scram-sha-256\nhost all tls_only 127.0.0.1/32 reject\n"
            "host all clear 127.0.0.1/32 password\nhost all all 127.0.0.1/32 scram-sha-256\n"
        )

    def run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [str(self._bin / program), *arguments],
            check=True,
            capture_output=True,
            cwd=self.directory,
            timeout=60,
            **service_user(),
        )

    def _certificates(self) -> None:
        subprocess.run(
            shlex.split(
                "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost "
                "-addext subjectAltName=IP:127.0.0.1 -keyout server.key -out server.crt"
            ),
            check=True,
            capture_output=True,
            cwd=self.data,
            timeout=60,
            **service_user(),
        )
        (self.data / "server.key").chmod(0o600)
        shutil.copy(self.data / "server.crt", self.directory / "root.crt")

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(self._bin / "postgres"), "-D", str(self.data)],
                stdout=log,
                stderr=log,
                cwd=self.directory,
                **service_user(),
            )
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            try:
                self.admin().close()
                return
            except psycopg.OperationalError:
                if time.monotonic() > deadline:
                    raise AssertionError((self.directory / "log").read_text()) from None
                time.sleep(0.05)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(WAIT_SECONDS)
            self._process = None

    def remove(self) -> None:
        try:
            self.stop(signal.SIGQUIT)
        finally:
            shutil.rmtree(self.directory, ignore_errors=True)

    def admin(self, dbname: str = "postgres") -> psycopg.Connection[Any]:
        return psycopg.connect(
            host=str(self.directory),
            port=self.port,
            user="postgres",
            dbname=dbname,
            autocommit=True,
            connect_timeout=int(WAIT_SECONDS),
        )

    def sql(self, *statements: str) -> None:
        with self.admin() as connection:
            for statement in statements:
                connection.execute(statement)

    def value(self, query: str, *parameters: object) -> Any:
        with self.admin() as connection:
            row = connection.execute(query, parameters).fetchone()
            return None if row is None else row[0]

    def wait_for(self, query: str, expected: object) -> None:
        """Polls until `query` gives `expected`. Backends end a moment after their clients."""
        deadline = time.monotonic() + WAIT_SECONDS
        while (got := self.value(query)) != expected:
            assert time.monotonic() < deadline, f"{query}: {got!r} instead of {expected!r}"
            time.sleep(0.02)

    @contextlib.contextmanager
    def clients(self, count: int, name: str = "", user: str = "mastodon", dbname: str = "mastodon") -> Iterator[None]:
        """`count` open connections of another program."""
        with contextlib.ExitStack() as stack:
            for _ in range(count):
                connection: psycopg.Connection[Any] = psycopg.connect(
                    host=str(self.directory), port=self.port, user=user, dbname=dbname, application_name=name
                )
                stack.callback(connection.close)
            yield
        self.wait_for(f"SELECT count(*) FROM pg_stat_activity WHERE application_name = '{name}'", 0)
