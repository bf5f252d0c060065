"""What anybody may send to fleetd's connections, and what it costs."""

from __future__ import annotations

import asyncio
import os
import socket
import string

import pytest
from dbus_next.signature import SignatureTree, Variant

from fleetd.adapters.bus.client import fetch_status
from fleetd.adapters.bus.connection import BusCallError
from fleetd.errors import SourceUnavailableError
from tests.support.lab import bus_floods
from tests.support.rig.bus_daemon import PROPERTIES, BusDaemon, call, status_of, with_daemon
from tests.support.rig.private_bus import PrivateBus, private_bus

TEXT = "x" * 20_000


def raw_client(bus: PrivateBus) -> socket.socket:
    """A connection of another program, which reads nothing unless it is told to."""
    client = socket.socket(socket.AF_UNIX)
    client.connect(bus.address.removeprefix("unix:path="))
    client.settimeout(60)
    client.sendall(b"\0AUTH EXTERNAL " + str(os.geteuid()).encode().hex().encode() + b"\r\nBEGIN\r\n")
    name = "org.freedesktop.DBus"
    client.sendall(bus_floods.message(1, 0, {1: "/org/freedesktop/DBus", 2: name, 3: "Hello", 6: name}))
    return client


def made_up_signatures(count: int) -> list[str]:
    letters = "ynqiuxtd"
    return ["".join(letters[(number >> shift) & 7] for shift in range(0, 30, 3)) for number in range(count)]


@pytest.mark.parametrize(
    ("interface", "member", "signature", "body", "answer"),
    [
        ("org.freedesktop.DBus.Introspectable", "Introspect", "s", [TEXT], r"Introspect takes \(\)"),
        ("org.freedesktop.DBus.Peer", "Ping", "ay", [TEXT.encode()], r"Ping takes \(\)"),
        (PROPERTIES, "Get", "ss", ["org.fleetd1.Manager", TEXT], "may take 16 KiB at most"),
        ("org.fleetd1.Manager", "Pause", "ds", [60.0, TEXT], "may take 16 KiB at most"),
    ],
)
def test_a_call_that_is_too_long_is_refused_with_a_sentence(
    bus: PrivateBus, interface: str, member: str, signature: str, body: list[object], answer: str
) -> None:
    async def scenario(daemon: BusDaemon) -> None:
        with pytest.raises(BusCallError, match=answer):
            await call(bus, "/org/fleetd1", interface, member, signature, *body)
        assert daemon.orders == []

    with_daemon(bus, scenario)


def test_a_signature_that_is_not_offered_is_never_parsed(bus: PrivateBus) -> None:
    async def scenario(_: BusDaemon) -> None:
        made_up = made_up_signatures(50)
        with raw_client(bus) as stranger:
            for signature in made_up:
                ping = bus_floods.call("Ping", bus_floods.PEER, 1, signature, bus_floods.zeros(signature))
                await asyncio.to_thread(stranger.sendall, ping)
            assert await asyncio.to_thread(fetch_status, bus_address=bus.address)
        assert not SignatureTree._cache.keys() & set(made_up)

    with_daemon(bus, scenario)


def test_signatures_inside_a_call_are_not_kept_for_ever(bus: PrivateBus) -> None:
    """The value of Set may have any type."""

    async def scenario(_: BusDaemon) -> None:
        for signature in made_up_signatures(400):
            value = Variant(f"({signature})", [0] * len(signature))
            with pytest.raises(BusCallError):
                await call(bus, "/org/fleetd1", PROPERTIES, "Set", "ssv", "org.fleetd1.Manager", "Version", value)
        assert len(SignatureTree._cache) <= 256

    with_daemon(bus, scenario)


def test_replies_that_nobody_takes_do_not_shut_fleetd_off_the_bus() -> None:
    """The bus then stops reading from fleetd's connection for as long as that reader stays."""

    async def answers(bus: PrivateBus) -> bool:
        try:
            return bool(await asyncio.to_thread(fetch_status, 0.3, bus_address=bus.address))
        except SourceUnavailableError:
            return False

    async def scenario(bus: PrivateBus, daemon: BusDaemon) -> None:
        daemon.status = status_of(string.ascii_letters * 400)
        with raw_client(bus) as reader:
            await asyncio.to_thread(reader.sendall, bus_floods.asks(100))
            async with asyncio.timeout(60):
                while await answers(bus):
                    pass
                while not await answers(bus):
                    pass

    with private_bus(max_incoming_bytes=300_000) as bus:
        with_daemon(bus, lambda daemon: scenario(bus, daemon))
