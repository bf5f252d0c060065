"""org.fleetd1 on a real dbus-daemon: the status, the name, and what busctl finds."""

from __future__ import annotations

import asyncio
import json
import os
from typing import cast

import msgspec
import pytest

from fleetd.adapters.bus.asked import FRESH_SECONDS
from fleetd.adapters.bus.client import fetch_hosts, fetch_status
from fleetd.core.model.hosts import FleetHosts
from fleetd.core.model.status import Status
from fleetd.errors import FleetdError, SourceUnavailableError
from tests.support.rig.bus_daemon import BusDaemon, busctl, status_of, with_daemon
from tests.support.rig.private_bus import PrivateBus


def test_status_is_the_json_of_the_last_tick(bus: PrivateBus) -> None:
    async def scenario(daemon: BusDaemon) -> None:
        for host in ("worker1", "worker2"):
            daemon.status = status_of(host)
            text = await asyncio.to_thread(fetch_status, bus_address=bus.address)
            assert msgspec.json.decode(text, type=Status) == daemon.status
            assert json.loads(text)["host"] == host

    with_daemon(bus, scenario)


def test_hosts_are_told_to_anybody_and_asked_for_once_at_a_time(bus: PrivateBus) -> None:
    async def scenario(daemon: BusDaemon) -> None:
        asked = (asyncio.to_thread(fetch_hosts, bus_address=bus.address) for _ in range(5))
        for text in await asyncio.gather(*asked):
            assert msgspec.json.decode(text, type=FleetHosts).leader == "w2"
        assert daemon.asked == 1
        told = await busctl(bus, "call", "org.fleetd1", "/org/fleetd1", "org.fleetd1.Manager", "Hosts", groups=[])
        assert "leader" in told
        await asyncio.sleep(FRESH_SECONDS)
        daemon.refusal = "fleetd has just started: no tick is finished yet"
        with pytest.raises(FleetdError, match="no tick is finished yet"):
            await asyncio.to_thread(fetch_hosts, bus_address=bus.address)
        daemon.refusal = "bug"
        with pytest.raises(FleetdError, match="its journal says why"):
            await asyncio.to_thread(fetch_hosts, bus_address=bus.address)

    with_daemon(bus, scenario)


def test_status_before_the_first_tick(bus: PrivateBus) -> None:
    async def scenario(daemon: BusDaemon) -> None:
        daemon.status = None
        with pytest.raises(SourceUnavailableError, match="no tick is finished yet"):
            await asyncio.to_thread(fetch_status, bus_address=bus.address)

    with_daemon(bus, scenario)


def test_a_status_that_cannot_be_encoded_gives_no_traceback(bus: PrivateBus) -> None:
    async def scenario(daemon: BusDaemon) -> None:
        daemon.status = cast("Status", object())
        with pytest.raises(SourceUnavailableError, match="its journal says why"):
            await asyncio.to_thread(fetch_status, bus_address=bus.address)

    with_daemon(bus, scenario)


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


def test_a_second_fleetd_cannot_run_on_the_same_host(bus: PrivateBus) -> None:
    async def scenario(daemon: BusDaemon) -> None:
        second = BusDaemon(bus.address)
        with pytest.raises(FleetdError, match=rf"another fleetd runs on this host \(pid {os.getpid()}\)") as no:
            await second.control.ensure()
        assert not isinstance(no.value, SourceUnavailableError)
        await daemon.control.close()
        await second.control.ensure()
        await second.control.close()

    with_daemon(bus, scenario)


def test_the_name_comes_back_after_a_restart_of_the_bus(bus: PrivateBus) -> None:
    async def scenario(daemon: BusDaemon) -> None:
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

    with_daemon(bus, scenario)
