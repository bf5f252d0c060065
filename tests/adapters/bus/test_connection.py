"""The bus connection works around faults of dbus-next. Without the workaround each test hangs or loses the bus."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
from pathlib import Path

import pytest
from dbus_next.message import Message
from dbus_next.signature import Variant

from fleetd.adapters.bus.connection import NAME_HAS_NO_OWNER, BusCallError, BusLostError, Connection
from fleetd.adapters.bus.incoming import Call
from tests.support.rig.private_bus import PrivateBus

NAME = "org.example.Echo"
LONG = 100_000


def open_sockets() -> int:
    gc.collect()
    links = [Path(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")]  # noqa: PTH208
    return sum(1 for link in links if link.is_symlink() and "socket:" in os.readlink(link))  # noqa: PTH115


async def echo_service(address: str) -> Connection:
    """Replies to Say with the string it got, to Long with a long one. Never replies to Silence."""

    def answer(call: Call) -> Message | None:
        if call.header.member == "Silence":
            return None
        [text] = call.arguments()
        return call.answer("s", text * LONG if call.header.member == "Long" else text)

    service = await Connection.open(address, on_call=answer)
    await service.call_bus("RequestName", "su", NAME, 4)
    return service


async def echo(client: Connection, text: str, member: str = "Say") -> str:
    [reply] = await client.call(NAME, "/echo", NAME, member, "s", text, timeout_seconds=60)
    return str(reply)


def test_an_address_where_nobody_listens(tmp_path: Path) -> None:
    with pytest.raises(BusLostError, match="can't be reached"):
        asyncio.run(Connection.open(f"unix:path={tmp_path}/nothing"))
    with pytest.raises(BusLostError):
        asyncio.run(Connection.open("tcp:host=127.0.0.1,port=1"))
    with pytest.raises(BusLostError):
        asyncio.run(Connection.open("nonsense"))


@pytest.mark.parametrize("answer", [b"", b"REJECTED EXTERNAL\r\n", b"x" * 4000, b"\xff\xff\r\n"])
def test_a_server_that_hangs_up_or_sends_nonsense_during_authentication(tmp_path: Path, answer: bytes) -> None:
    async def run() -> None:
        async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(answer)
            writer.close()

        server = await asyncio.start_unix_server(hang_up, tmp_path / "bus")
        try:
            with pytest.raises(BusLostError):
                await asyncio.wait_for(Connection.open(f"unix:path={tmp_path}/bus", timeout_seconds=90), 60)
        finally:
            server.close()

    asyncio.run(run())


def test_a_server_that_says_nothing(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "bus"))
        listener.listen(0)
        address = f"unix:path={tmp_path}/bus"
        with pytest.raises(BusLostError, match="did not answer within"):
            asyncio.run(Connection.open(address, timeout_seconds=0.1))
        # The first client still fills the backlog. So this is an error at once; the library would block the event loop.
        with pytest.raises(BusLostError, match="can't be reached"):
            asyncio.run(Connection.open(address, timeout_seconds=0.1))


def test_hundreds_of_calls_with_large_replies_at_once(bus: PrivateBus) -> None:
    async def run() -> None:
        service = await echo_service(bus.address)
        client = await Connection.open(bus.address)
        try:
            replies = await asyncio.gather(*(echo(client, "x", "Long") for _ in range(300)))
            assert all(reply == "x" * LONG for reply in replies)
            assert client.connected
            assert service.connected
        finally:
            client.close()
            service.close()

    asyncio.run(run())


def test_a_call_ends_when_the_bus_dies_under_it(bus: PrivateBus) -> None:
    async def run() -> None:
        service = await echo_service(bus.address)
        client = await Connection.open(bus.address)
        waiting = asyncio.ensure_future(client.call(NAME, "/echo", NAME, "Silence", timeout_seconds=90))
        assert await echo(client, "a") == "a"  # so that the earlier call is under way
        bus.stop()
        with pytest.raises(BusLostError):
            await asyncio.wait_for(waiting, 60)
        assert not client.connected
        with pytest.raises(BusLostError):
            await echo(client, "b")
        client.close()
        service.close()

    asyncio.run(run())


def test_a_call_without_an_answer_ends_at_its_deadline_and_ends_the_connection(bus: PrivateBus) -> None:
    async def run() -> None:
        service = await echo_service(bus.address)
        client = await Connection.open(bus.address)
        with pytest.raises(TimeoutError):
            await client.call(NAME, "/echo", NAME, "Silence", timeout_seconds=0.1)
        assert not client.connected
        service.close()

    asyncio.run(run())


def test_an_unknown_name_is_an_error_at_once_and_the_connection_lives(bus: PrivateBus) -> None:
    async def run() -> None:
        client = await Connection.open(bus.address)
        with pytest.raises(BusCallError) as refused:
            await echo(client, "a")
        assert refused.value.name == NAME_HAS_NO_OWNER
        assert client.connected
        client.close()

    asyncio.run(run())


def test_a_client_offers_no_methods_and_reveals_no_traceback(bus: PrivateBus) -> None:
    async def run() -> None:
        quiet = await Connection.open(bus.address)
        client = await Connection.open(bus.address)
        with pytest.raises(BusCallError) as refused:
            await client.call(
                quiet.unique_name,
                "/",
                "org.freedesktop.DBus.Properties",
                "Set",
                "ssv",
                "a",
                "b",
                Variant("s", "c"),
            )
        assert refused.value.text == "nothing is offered here"
        client.close()
        quiet.close()

    asyncio.run(run())


def test_lost_connections_leave_no_descriptor_open(bus: PrivateBus) -> None:
    async def run() -> None:
        for _ in range(5):
            client = await Connection.open(bus.address)
            bus.stop()
            with pytest.raises(BusLostError):
                await client.call_bus("GetId")
            with pytest.raises(BusLostError):
                await Connection.open(bus.address)
            bus.start()
        closed = await Connection.open(bus.address)
        closed.close()
        closed.close()

    asyncio.run(run())
    before = open_sockets()
    asyncio.run(run())
    assert open_sockets() == before
