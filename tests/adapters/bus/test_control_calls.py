"""Who may change what over org.fleetd1, and how nonsense is answered."""

from __future__ import annotations

import asyncio
import grp
import os

import pytest
from dbus_next.constants import MessageFlag
from dbus_next.message import Message
from dbus_next.signature import Variant

from fleetd.adapters.bus.client import fetch_status
from fleetd.adapters.bus.connection import BusCallError, Connection
from tests.support.rig.bus_daemon import (
    ADMINS,
    LOG_CONTROL,
    LOG_CONTROL_PATH,
    PROPERTIES,
    BusDaemon,
    busctl,
    call,
    status_of,
    with_daemon,
)
from tests.support.rig.private_bus import PrivateBus

RELOAD = ("/org/fleetd1", "org.fleetd1.Manager", "Reload")
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="changes need root, and strangers need another user")


@as_root
def test_reload_by_root(bus: PrivateBus) -> None:
    async def scenario(daemon: BusDaemon) -> None:
        await call(bus, *RELOAD)
        assert daemon.reloads == 1
        daemon.refusal = "/etc/fleetd/fleetd.toml: 1 problem(s)"
        with pytest.raises(BusCallError, match="1 problem"):
            await call(bus, *RELOAD)

    with_daemon(bus, scenario)


@as_root
def test_a_bug_gives_no_traceback_and_the_service_survives(bus: PrivateBus) -> None:
    async def scenario(daemon: BusDaemon) -> None:
        daemon.refusal = "bug"
        with pytest.raises(BusCallError, match="its journal says why") as told:
            await call(bus, *RELOAD)
        assert "secret" not in str(told.value)
        daemon.status = status_of("worker1")
        assert await asyncio.to_thread(fetch_status, bus_address=bus.address)

    with_daemon(bus, scenario)


@as_root
def test_only_root_and_the_admin_group_change_things(bus: PrivateBus) -> None:
    manager = ("org.fleetd1", "/org/fleetd1", "org.fleetd1.Manager")
    level = ("org.fleetd1", LOG_CONTROL_PATH, LOG_CONTROL, "LogLevel")
    admins = grp.getgrnam(ADMINS).gr_gid

    async def scenario(daemon: BusDaemon) -> None:
        assert "worker1" in await busctl(bus, "call", *manager, "Status", groups=[])
        assert await busctl(bus, "get-property", *level, groups=[]) == 's "info"\n'
        assert "Access denied" in await busctl(bus, "call", *manager, "Reload", groups=[])
        assert "Access denied" in await busctl(bus, "set-property", *level, "s", "debug", groups=[])
        assert (daemon.reloads, daemon.level) == (0, "info")
        assert await busctl(bus, "call", *manager, "Reload", groups=[admins]) == ""
        assert await busctl(bus, "set-property", *level, "s", "debug", groups=[admins]) == ""
        assert (daemon.reloads, daemon.level) == (1, "debug")

    with_daemon(bus, scenario)


@as_root
def test_log_level_as_systemctl_sets_it(bus: PrivateBus) -> None:
    async def scenario(daemon: BusDaemon) -> None:
        where = ["org.fleetd1", LOG_CONTROL_PATH, LOG_CONTROL]
        assert await busctl(bus, "get-property", *where, "LogLevel") == 's "info"\n'
        assert await busctl(bus, "get-property", *where, "SyslogIdentifier") == 's "fleetd"\n'
        assert await busctl(bus, "set-property", *where, "LogLevel", "s", "debug") == ""
        assert daemon.level == "debug"
        assert "one of emerg" in await busctl(bus, "set-property", *where, "LogLevel", "s", "loud")
        assert "LogTarget can't be set" in await busctl(bus, "set-property", *where, "LogTarget", "s", "kmsg")
        assert daemon.level == "debug"

    with_daemon(bus, scenario)


def test_busctl_finds_everything(bus: PrivateBus) -> None:
    async def scenario(_: BusDaemon) -> None:
        tree = await busctl(bus, "tree", "org.fleetd1")
        assert "/org/fleetd1" in tree
        assert LOG_CONTROL_PATH in tree
        offered = await busctl(bus, "introspect", "org.fleetd1", "/org/fleetd1")
        for member in (".Status", ".Reload", ".Version", '"1.2.3"', ".Ping"):
            assert member in offered
        assert ".LogLevel" in await busctl(bus, "introspect", "org.fleetd1", LOG_CONTROL_PATH)
        ping = ["org.fleetd1", "/org/fleetd1", "org.freedesktop.DBus.Peer", "Ping"]
        assert await busctl(bus, "call", *ping) == ""

    with_daemon(bus, scenario)


@pytest.mark.parametrize(
    ("path", "interface", "member", "rest", "error"),
    [
        ("/nowhere", "org.fleetd1.Manager", "Status", (), "UnknownObject"),
        ("/org", "org.fleetd1.Manager", "Status", (), "UnknownMethod"),
        ("/org/fleetd1", "org.fleetd1.Manager", "Kill", (), "UnknownMethod"),
        ("/org/fleetd1", "org.fleetd1.Manager", "Status", ("s", "x"), "InvalidArgs"),
        ("/org/fleetd1", PROPERTIES, "Get", ("ss", "org.fleetd1.Manager", "Secret"), "UnknownProperty"),
        ("/org/fleetd1", PROPERTIES, "Get", ("ss", LOG_CONTROL, "LogLevel"), "UnknownInterface"),
        ("/org", PROPERTIES, "GetAll", ("s", ""), "UnknownInterface"),
        (
            "/org/fleetd1",
            PROPERTIES,
            "Set",
            ("ssv", "org.fleetd1.Manager", "Version", Variant("s", "2")),
            "PropertyReadOnly",
        ),
        (
            LOG_CONTROL_PATH,
            PROPERTIES,
            "Set",
            ("ssv", LOG_CONTROL, "LogLevel", Variant("i", 7)),
            "InvalidArgs",
        ),
        (
            LOG_CONTROL_PATH,
            PROPERTIES,
            "Set",
            ("ssv", LOG_CONTROL, "LogLevel", Variant("as", [])),
            "InvalidArgs",
        ),
        ("/", "org.freedesktop.DBus.ObjectManager", "GetManagedObjects", (), "UnknownMethod"),
    ],
)
def test_nonsense_gets_a_plain_error(
    bus: PrivateBus, path: str, interface: str, member: str, rest: tuple[object, ...], error: str
) -> None:
    async def scenario(daemon: BusDaemon) -> None:
        with pytest.raises(BusCallError) as refused:
            await call(bus, path, interface, member, *rest)
        assert refused.value.name == f"org.freedesktop.DBus.Error.{error}"
        assert "Traceback" not in refused.value.text
        await daemon.control.ensure()
        assert "worker1" in await asyncio.to_thread(fetch_status, bus_address=bus.address)

    with_daemon(bus, scenario)


def test_a_crowd_of_readers_does_not_break_the_connection(bus: PrivateBus) -> None:
    async def scenario(_: BusDaemon) -> None:
        clients = [await Connection.open(bus.address) for _ in range(5)]
        try:
            ask = ("org.fleetd1", "/org/fleetd1", "org.fleetd1.Manager", "Status")
            replies = await asyncio.gather(*(client.call(*ask) for client in clients for _ in range(60)))
            assert all("worker1" in reply[0] for reply in replies)
        finally:
            for client in clients:
                client.close()

    with_daemon(bus, scenario)


def test_a_call_that_wants_no_reply_gets_none(bus: PrivateBus) -> None:
    async def scenario(_: BusDaemon) -> None:
        client = await Connection.open(bus.address)
        try:
            for member in ("Status", "Reload", "Nonsense"):
                client.send(
                    Message(
                        destination="org.fleetd1",
                        path="/org/fleetd1",
                        interface="org.fleetd1.Manager",
                        member=member,
                        flags=MessageFlag.NO_REPLY_EXPECTED,
                    )
                )
            [answer] = await client.call("org.fleetd1", "/org/fleetd1", "org.fleetd1.Manager", "Status")
            assert "worker1" in answer
        finally:
            client.close()

    with_daemon(bus, scenario)
