"""One D-Bus connection: dbus-next 0.2.3 with its faults worked around. Nothing else touches the library's internals.

What was feared; each was seen with 0.2.3:
- A server that hangs up during authentication sends the library into a loop that never yields.
- A full socket buffer (EAGAIN) counts as a broken connection.
- A call has no deadline, and waits for ever once the connection is gone.
- 200 calls at once break the connection, and dbus-daemon itself allows 128 pending replies.
- A lost connection keeps its file descriptor open. A late write then registers its number again, which may belong to
  another file by then.
- Connecting blocks the event loop when the server's backlog is full.
- Error replies carry tracebacks.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import Any

from dbus_next.aio.message_bus import MessageBus
from dbus_next.constants import BusType, MessageFlag, MessageType
from dbus_next.message import Message

DBUS = "org.freedesktop.DBus"
DBUS_PATH = "/org/freedesktop/DBus"
NAME_HAS_NO_OWNER = "org.freedesktop.DBus.Error.NameHasNoOwner"
UNKNOWN_METHOD = "org.freedesktop.DBus.Error.UnknownMethod"

PENDING_CALLS_MAX = 64
UNSENT_MESSAGES_MAX = 1024
_AUTH_LINE_BYTES_MAX = 512


class BusCallError(Exception):
    """An error reply: its D-Bus error name and its text."""

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.text = text
        super().__init__(f"{name}: {text}")


class BusLostError(Exception):
    """There is no connection, or it broke under the call."""


class _NonBlockingSocket:
    """What dbus-next writes to: with a full buffer nothing is sent, and that is no error."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def send(self, data: bytes) -> int:
        try:
            return self._sock.send(data)
        except BlockingIOError:
            return 0


class _MessageBus(MessageBus):
    """The library's class without the faults named above."""

    def __init__(self, address: str | None, on_lost: Callable[[], None]) -> None:
        super().__init__(bus_address=address, bus_type=BusType.SYSTEM)  # type: ignore[arg-type]  # it takes None
        self._on_lost = on_lost
        self._writer.sock = _NonBlockingSocket(self._sock)
        # The library leaves the reason for a disconnect in a future that nobody awaits.
        self._disconnect_future.add_done_callback(_retrieve_exception)

    def _setup_socket(self) -> None:
        error: Exception = OSError("no unix: address in the bus address")
        for transport, options in self._bus_address:
            path = options.get("path") or ("\0" + options["abstract"] if "abstract" in options else "")
            if transport != "unix" or not path:
                continue
            self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._sock.setblocking(False)  # then a full backlog is an error, not a wait
            try:
                self._sock.connect(path)
            except OSError as refused:
                self._sock.close()
                error = refused
                continue
            self._stream = self._sock.makefile("rwb")
            self._fd = self._sock.fileno()
            return
        raise error

    async def _auth_readline(self) -> str:
        line = b""
        while not line.endswith(b"\r\n"):
            byte = await self._loop.sock_recv(self._sock, 1)
            if not byte or len(line) >= _AUTH_LINE_BYTES_MAX:
                raise ConnectionResetError("the bus hung up during authentication")
            line += byte
        return line[:-2].decode()

    def send(self, msg: Message) -> asyncio.Future[None]:  # type: ignore[override]
        if self._disconnected or self._writer.messages.qsize() >= UNSENT_MESSAGES_MAX:
            self._finalize(ConnectionResetError("the bus takes no more messages"))
            gone: asyncio.Future[None] = self._loop.create_future()
            gone.add_done_callback(_retrieve_exception)
            gone.set_exception(ConnectionResetError("the bus connection is gone"))
            return gone
        sent: asyncio.Future[None] = super().send(msg)
        sent.add_done_callback(_retrieve_exception)
        return sent

    def _finalize(self, err: Exception | None = None) -> None:
        if self._disconnected:
            return
        super()._finalize(err)  # type: ignore[no-untyped-call]
        with contextlib.suppress(OSError):
            self._stream.close()
        self._sock.close()
        self._on_lost()

    def disconnect(self) -> None:
        self._user_disconnect = True
        self._finalize(None)


def _retrieve_exception(future: asyncio.Future[Any]) -> None:
    if not future.cancelled():
        future.exception()


class Connection:
    """A connection to a bus. Once lost it stays lost, and its owner opens a new one.

    `on_signal` gets every signal. `on_call` gets every method call and returns the reply, or None when it will send
    one later with `send`. `on_lost` is called once, when it is lost or closed. None of them may raise.
    """

    def __init__(
        self,
        bus: _MessageBus,
        on_signal: Callable[[Message], None] | None,
        on_call: Callable[[Message], Message | None] | None,
    ) -> None:
        self._bus = bus
        self._on_signal = on_signal
        self._on_call = on_call
        self._pending = asyncio.Semaphore(PENDING_CALLS_MAX)

    @classmethod
    async def open(
        cls,
        address: str | None = None,
        *,
        on_signal: Callable[[Message], None] | None = None,
        on_call: Callable[[Message], Message | None] | None = None,
        on_lost: Callable[[], None] = lambda: None,
        timeout_seconds: float = 5.0,
    ) -> Connection:
        """Connect to the bus at `address`; None: the system bus.

        Raises BusLostError when it can't be reached within `timeout_seconds`.
        """
        try:
            bus = _MessageBus(address, on_lost)
        except (OSError, ValueError) as error:
            raise BusLostError(f"the bus can't be reached ({error})") from error
        connection = cls(bus, on_signal, on_call)
        bus.add_message_handler(connection._received)
        try:
            await asyncio.wait_for(bus.connect(), timeout_seconds)
        except TimeoutError as error:
            bus.disconnect()
            raise BusLostError(f"the bus did not answer within {timeout_seconds:g} s") from error
        except asyncio.CancelledError:
            bus.disconnect()
            raise
        except Exception as error:
            bus.disconnect()
            raise BusLostError(f"the bus refused the connection ({error})") from error
        return connection

    @property
    def connected(self) -> bool:
        return bool(self._bus.connected)

    @property
    def unique_name(self) -> str:
        return self._bus.unique_name or ""

    def close(self) -> None:
        self._bus.disconnect()

    def send(self, message: Message) -> None:
        """Send a reply or a signal; does nothing when the connection is gone."""
        if self._bus.connected:
            self._bus.send(message)

    async def call(
        self,
        destination: str,
        path: str,
        interface: str,
        member: str,
        signature: str = "",
        *body: object,
        reply_signature: str | None = None,
        timeout_seconds: float = 5.0,
    ) -> list[Any]:
        """The body of the reply.

        Raises BusCallError for an error reply, or a reply of another signature than `reply_signature`; BusLostError
        when the connection is gone or breaks; TimeoutError after `timeout_seconds`. A call that times out or is
        cancelled ends the connection: a message that still waits to be sent must not take effect later, when nobody
        expects it any more.
        """
        message = Message(
            destination=destination,
            path=path,
            interface=interface,
            member=member,
            flags=MessageFlag.NO_AUTOSTART,
            signature=signature,
            body=list(body),
        )
        try:
            async with asyncio.timeout(timeout_seconds), self._pending:
                if not self._bus.connected:
                    raise BusLostError("the bus connection is gone")
                reply = await self._bus.call(message)
        except (TimeoutError, asyncio.CancelledError):
            self.close()
            raise
        except (OSError, EOFError, ValueError) as error:
            if self._bus.connected:  # then our own message was wrong
                raise
            raise BusLostError(f"the bus connection broke ({str(error) or type(error).__name__})") from error
        if reply is None:
            raise BusLostError("the bus connection was closed")
        if reply.message_type is MessageType.ERROR:
            text = reply.body[0] if reply.body and isinstance(reply.body[0], str) else ""
            raise BusCallError(reply.error_name or "", text)
        if reply_signature is not None and reply.signature != reply_signature:
            raise BusCallError("", f"{member} answered {reply.signature!r} instead of {reply_signature!r}")
        return list(reply.body)

    async def call_bus(self, member: str, signature: str = "", *body: object) -> list[Any]:
        """A call to the bus itself."""
        return await self.call(DBUS, DBUS_PATH, DBUS, member, signature, *body)

    def _received(self, message: Message) -> Message | bool | None:
        if message.message_type is MessageType.SIGNAL:
            if self._on_signal is not None:
                self._on_signal(message)
            return True
        if message.message_type is not MessageType.METHOD_CALL:
            return None  # a reply: the library hands it to the caller
        if self._on_call is None:
            reply: Message | None = Message.new_error(message, UNKNOWN_METHOD, "nothing is offered here")
        else:
            reply = self._on_call(message)
        if reply is None or message.flags & MessageFlag.NO_REPLY_EXPECTED:
            return True
        return reply
