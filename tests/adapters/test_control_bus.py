"""org.fleetd1 on a real dbus-daemon: the status, the name, and what busctl finds."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from typing import cast

import msgspec
import pytest

from fleetd.adapters.control_client import fetch_status
from fleetd.core.status import Status
from fleetd.errors import FleetdError, SourceUnavailableError
from tests.adapters.control_story import Daemon, play, status_of
from tests.adapters.private_bus import PrivateBus, private_bus


@pytest.fixture
def bus() -> Iterator[PrivateBus]:
    with private_bus() as bus:
        yield bus


def test_status_is_the_json_of_the_last_tick(bus: PrivateBus) -> None:
    async def story(daemon: Daemon) -> None:
        for host in ("worker1", "worker2"):
            daemon.status = status_of(host)
            text = await asyncio.to_thread(fetch_status, bus_address=bus.address)
            assert msgspec.json.decode(text, type=Status) == daemon.status
            assert json.loads(text)["host"] == host

    play(bus, story)


def test_status_before_the_first_tick(bus: PrivateBus) -> None:
    async def story(daemon: Daemon) -> None:
        daemon.status = None
        with pytest.raises(SourceUnavailableError, match="no tick is finished yet"):
            await asyncio.to_thread(fetch_status, bus_address=bus.address)

    play(bus, story)


def test_a_status_that_cannot_be_told_is_no_traceback(bus: PrivateBus) -> None:
    async def story(daemon: Daemon) -> None:
        daemon.status = cast("Status", object())
        with pytest.raises(SourceUnavailableError, match="its journal says why"):
            await asyncio.to_thread(fetch_status, bus_address=bus.address)

    play(bus, story)


def test_status_without_a_daemon_or_a_bus(bus: PrivateBus) -> None:
    with pytest.raises(SourceUnavailableError, match=r"fleetd is not on the bus.*systemctl status fleetd"):
        fetch_status(bus_address=bus.address)
    bus.freeze()
    with pytest.raises(SourceUnavailableError, match="did not answer within"):
        fetch_status(0.2, bus_address=bus.address)
    bus.thaw()
    bus.stop()
    with pytest.raises(SourceUnavailableError, match="the bus can't be reached"):
        fetch_status(bus_address=bus.address)


def test_two_fleetds_cannot_be_on_one_host(bus: PrivateBus) -> None:
    async def story(daemon: Daemon) -> None:
        second = Daemon(bus.address)
        with pytest.raises(
            FleetdError, match=rf"another fleetd runs on this host \(pid {os.getpid()}\)"
        ) as no:
            await second.control.ensure()
        assert not isinstance(no.value, SourceUnavailableError)
        await daemon.control.close()
        await second.control.ensure()
        await second.control.close()

    play(bus, story)


def test_comes_back_after_a_restart_of_the_bus(bus: PrivateBus) -> None:
    async def story(daemon: Daemon) -> None:
        bus.stop()
        await asyncio.sleep(0)  # as between two ticks
        for _ in range(6000):
            try:
                await daemon.control.ensure()
            except SourceUnavailableError as error:
                assert "see systemctl status dbus" in str(error)  # noqa: PT017
                break
            await asyncio.sleep(0.01)
        else:
            pytest.fail("a bus that is gone was not noticed")
        bus.start()
        await daemon.control.ensure()
        assert "worker1" in await asyncio.to_thread(fetch_status, bus_address=bus.address)

    play(bus, story)
