"""A real redis-server (and redis-sentinel) for tests, in its own directory. It is ended by pid."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

WAIT_SECONDS = 90.0


def _client(socket_path: str, password: str | None = None) -> redis.Redis:
    """A client that reports an error at once; by default redis-py retries for seconds."""
    return redis.Redis(unix_socket_path=socket_path, password=password, retry=Retry(NoBackoff(), 0))


class RedisServer:
    """Can be started and stopped. Its unix socket and data directory stay the same."""

    def __init__(self, *options: str, port: int = 0, sentinel_config: str | None = None) -> None:
        program = shutil.which("redis-server")
        if program is None:
            pytest.skip("redis-server is not installed (Debian: redis-server)")
        self.directory = Path(tempfile.mkdtemp(prefix="fleetd-redis-"))
        self.socket = str(self.directory / "redis.sock")
        self.port = port
        common = [
            "--port",
            str(port),
            "--unixsocket",
            self.socket,
            "--dir",
            str(self.directory),
            "--daemonize",
            "no",
        ]
        if sentinel_config is None:
            self._command = [program, *common, "--bind", "127.0.0.1", "--save", "", *options]
        else:
            config = self.directory / "sentinel.conf"
            config.write_text(sentinel_config)
            self._command = [program, str(config), "--sentinel", *common, *options]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        with contextlib.closing(_client(self.socket)) as client:
            deadline = time.monotonic() + WAIT_SECONDS
            while True:
                try:
                    client.ping()
                    return
                except redis.AuthenticationError:
                    return
                except redis.RedisError:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.02)

    def stop(self) -> None:
        """Stop as in a crash: what was written is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(WAIT_SECONDS)
            self._process = None

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)


@contextlib.contextmanager
def redis_server(*options: str, port: int = 0) -> Iterator[RedisServer]:
    server = RedisServer(*options, port=port)
    try:
        server.start()
        yield server
    finally:
        server.close()


@contextlib.contextmanager
def admin(server: RedisServer, password: str | None = None) -> Iterator[redis.Redis]:
    client = _client(server.socket, password)
    try:
        yield client
    finally:
        client.close()


def command(client: redis.Redis, *words: str) -> object:
    """Run a command for which redis-py has no types."""
    reply: object = client.execute_command(*words)  # type: ignore[no-untyped-call]
    return reply


def wait_until(condition: Callable[[], object], what: str, seconds: float = WAIT_SECONDS) -> None:
    """Polls a real server, with a time limit."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.05)
