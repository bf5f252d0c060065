"""A port that another program has costs the metrics, never the queues."""

from __future__ import annotations

import asyncio
import socket
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from fleetd.adapters.clock import BoottimeClock
from fleetd.adapters.http import HttpListener
from fleetd.adapters.systemd import SystemdUnits
from fleetd.app import listening
from fleetd.app.listening import Listening
from fleetd.app.places import find_places
from fleetd.app.run import Daemon
from fleetd.config import load
from fleetd.core.status import Status
from fleetd.daemon.observe import Sources
from fleetd.errors import ConfigError, FleetdError
from tests.fakes import FakeDatabase, FakeHost, FakeSidekiq, FakeUnits, policy
from tests.free_ports import free_port
from tests.world import World

WAIT_SECONDS = 90.0
CONFIG = """
[redis]
host = "127.0.0.1"
[postgres]
host = "127.0.0.1"
[fleet]
host = "worker1"
[profiles.default-first]
instances = "1-2"
threads = 5
[pace]
tick_seconds = 1
[http]
listen = "127.0.0.1:{port}"
[state]
directory = "{state}"
"""


@pytest.fixture
def other() -> Iterator[socket.socket]:
    """Another program's port."""
    with socket.create_server(("127.0.0.1", free_port())) as taken:
        yield taken


def port_of(taken: socket.socket) -> int:
    return int(taken.getsockname()[1])


def warnings(said: list[Any]) -> list[str]:
    return [
        line["event"] for line in said if line["log_level"] == "warning" and "http.listen" in line["event"]
    ]


def test_it_is_said_once_and_tried_until_it_works(other: socket.socket) -> None:
    async def story() -> None:
        here = Listening(HttpListener(f"127.0.0.1:{port_of(other)}", {}))
        for _ in range(3):
            await here.ensure()
        assert "Address already in use" in here.problem
        other.close()
        await here.ensure()
        assert here.problem == ""
        with pytest.raises(OSError, match="in use"):
            socket.create_server(("127.0.0.1", port))
        await here.ensure()  # listening already: nothing to try
        assert here.problem == ""
        here.stop()

    port = port_of(other)
    with capture_logs() as said:
        asyncio.run(story())
    assert len(warnings(said)) == 1
    assert f"127.0.0.1:{port} can't be listened on" in warnings(said)[0]


def test_a_name_that_nobody_resolves_holds_up_no_tick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does each tick begin a look-up of its own."""
    monkeypatch.setattr(listening, "ATTEMPT_SECONDS", 0.05)

    async def story() -> None:
        resolved, began = asyncio.Event(), 0

        class Slow:
            def start(self) -> None:
                nonlocal began
                began += 1
                asyncio.run_coroutine_threadsafe(resolved.wait(), loop).result(WAIT_SECONDS)
                raise FleetdError("http.listen: gone.lab:1 can't be listened on: Name or service not known")

        loop = asyncio.get_running_loop()
        here = Listening(cast(HttpListener, Slow()))
        for _ in range(3):
            await asyncio.wait_for(here.ensure(), WAIT_SECONDS)
            assert "not resolved yet" in here.problem
        assert began == 1
        resolved.set()
        await until(lambda: here._attempt is not None and here._attempt.done())
        await here.ensure()
        assert "Name or service not known" in here.problem

    asyncio.run(story())


def test_a_name_that_can_be_none_is_a_sentence() -> None:
    with pytest.raises(FleetdError, match=r"http\.listen: a\.\.b:9849 can't be listened on"):
        HttpListener("a..b:9849", {}).start()


async def until(check: Callable[[], object]) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            if check():
                return
            await asyncio.sleep(0.05)


class Units(FakeUnits):
    def finished_jobs(self) -> list[Any]:
        return []


def daemon_at(port: int, directory: Path) -> Daemon:
    """The real daemon, but for what it reads."""
    file = directory / "fleetd.toml"
    file.write_text(CONFIG.format(port=port, state=directory))
    settings, world, clock = load(file), World(policy()), BoottimeClock(runtime_directory=None)
    units = Units(world)
    sources = Sources(
        FakeSidekiq(world), FakeDatabase(world), units, FakeHost(world), clock, deadline_seconds=WAIT_SECONDS
    )
    places = find_places(settings, {})
    return Daemon(file, settings, places, sources, cast(SystemdUnits, units), clock)


def test_the_daemon_goes_on_and_status_says_so(
    other: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={tmp_path}/no-bus")
    port = port_of(other)
    daemon = daemon_at(port, tmp_path)

    def status() -> Status | None:
        return daemon._loop.status

    def ask() -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=WAIT_SECONDS) as answer:
            return str(answer.read().decode())

    async def story() -> None:
        running = asyncio.create_task(daemon.run())
        await until(lambda: running.done() or ((now := status()) and now.ticks_total >= 2))
        assert not running.done(), running.exception()
        told = status()
        assert told is not None
        (problem,) = told.problems
        assert f"127.0.0.1:{port} can't be listened on" in problem
        (tmp_path / "fleetd.toml").write_text("nonsense = 1\n")
        with pytest.raises(ConfigError):
            await daemon.reload()
        await until(lambda: (now := status()) and len(now.problems) == 2)
        other.close()
        await until(
            lambda: (now := status()) and [p[:29] for p in now.problems] == ["the configuration was refused"]
        )
        assert "ok" in await asyncio.to_thread(ask)
        daemon._loop.stop()
        await asyncio.wait_for(running, WAIT_SECONDS)

    asyncio.run(story())
