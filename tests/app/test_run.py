"""The whole daemon except its sources: it goes on without its port or its bus, or with a bug, and reports that."""

from __future__ import annotations

import asyncio
import socket
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from fleetd import __version__
from fleetd.adapters.host.clock import BoottimeClock
from fleetd.adapters.mastodon.env_file import EnvFile
from fleetd.adapters.systemd.units import SystemdUnits
from fleetd.app.endpoints import find_endpoints
from fleetd.app.run import Daemon, main
from fleetd.config import load
from fleetd.core.model.status import Status
from fleetd.daemon.bugs import Bugs
from fleetd.daemon.observe import Sources
from fleetd.errors import ConfigError
from tests.support.rig.free_port import free_port
from tests.support.world.ports import FakeDatabase, FakeHost, FakeSidekiq, FakeUnits, policy
from tests.support.world.world import World

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
def taken_port() -> Iterator[socket.socket]:
    """A port that another program listens on."""
    with socket.create_server(("127.0.0.1", free_port())) as taken:
        yield taken


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
    """The real daemon, except its sources."""
    file = directory / "fleetd.toml"
    file.write_text(CONFIG.format(port=port, state=directory))
    settings, world, clock = load(file), World(policy()), BoottimeClock(runtime_directory=None)
    units = Units(world)
    sources = Sources(
        FakeSidekiq(world),
        FakeDatabase(world),
        units,
        FakeHost(world),
        clock,
        deadline_seconds=WAIT_SECONDS,
        bugs=Bugs(lambda sentence, exc_info: None),
    )
    endpoints = find_endpoints(settings, EnvFile())
    return Daemon(file, settings, endpoints, sources, cast(SystemdUnits, units), clock)


def test_with_a_taken_port_only_the_metrics_are_missing(
    taken_port: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={tmp_path}/no-bus")
    port = int(taken_port.getsockname()[1])
    daemon = daemon_at(port, tmp_path)

    def status() -> Status | None:
        return daemon._loop.status

    def ask() -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=WAIT_SECONDS) as answer:
            return str(answer.read().decode())

    async def scenario() -> None:
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
        taken_port.close()
        await until(lambda: (now := status()) and [p[:29] for p in now.problems] == ["the configuration was refused"])
        assert "ok" in await asyncio.to_thread(ask)
        daemon._loop.stop()
        await asyncio.wait_for(running, WAIT_SECONDS)

    asyncio.run(scenario())


def test_with_a_bug_in_every_tick_it_goes_on_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={tmp_path}/no-bus")
    daemon = daemon_at(free_port(), tmp_path)
    daemon._loop.ticker.planned = None  # type: ignore[assignment]

    async def scenario() -> None:
        running = asyncio.create_task(daemon.run())
        await until(lambda: running.done() or ((now := daemon._loop.status_now()) and now.tick_failures_total >= 2))
        assert not running.done(), running.exception()
        told = daemon._loop.status_now()
        assert told is not None
        assert told.problems[0].startswith("a tick failed because of a bug in fleetd (AttributeError, plan.py line")
        daemon._loop.stop()
        await asyncio.wait_for(running, WAIT_SECONDS)

    asyncio.run(scenario())


def test_the_version_names_what_it_runs_with(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--version"])
    first, second = capsys.readouterr().out.splitlines()
    assert first == f"fleetd {__version__}"
    assert second.startswith("CPython 3.")
    assert all(f"{name} " in second for name in ("dbus-next", "psycopg", "libpq", "redis"))
