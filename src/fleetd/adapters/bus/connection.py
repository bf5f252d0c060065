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
- It reads on while anything comes, and parses every message whole, whoever sent it (see incoming.py).
- It keeps every signature that it ever saw.
- The bus stops reading from a connection whose replies nobody takes: 127 MiB of them wait there at most.
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
from dbus_next.signature import SignatureTree

from fleetd.adapters.bus.header import METHOD_CALL, SIGNAL, Header
from fleetd.adapters.bus.incoming import CALL_BODY_BYTES_MAX, Call, CallQueue, MessageSplitter, Received, parsed

DBUS = "org.freedesktop.DBus"
DBUS_PATH = "/org/freedesktop/DBus"
NAME_HAS_NO_OWNER = "org.freedesktop.DBus.Error.NameHasNoOwner"
UNKNOWN_METHOD = "org.freedesktop.DBus.Error.UnknownMethod"

PENDING_CALLS_MAX = 64
UNSENT_MESSAGES_MAX = 1024
_AUTH_LINE_BYTES_MAX = 512
_TRUSTED_BODY_BYTES_MAX = 32 * 1024 * 1024  # the bus itself allows no more
_SIGNATURES_MAX = 256

# For each turn of the event loop: what costs about a millisecond.
_READ_BYTES = 16 * 1024
_READ_BYTES_AMID_LONG = 256 * 1024
_CALLS = 4
#: While so many messages wait to be sent, no further call is answered; neither do more than a few wait in the kernel.
#: In a flood the bus takes 2 KiB of ours in a turn of its own, so that replies to others would be in the way.
_UNSENT_MAX = 2
_SEND_BUFFER_BYTES = 16 * 1024
_STUCK_SECONDS = 1.0


class BusCallError(Exception):
    """An error reply: its D-Bus error name and its text."""

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.text = text
        super().__init__(f"{name}: {text}")


class BusLostError(Exception):
    """There is no connection, or it broke under the call."""


class _Signatures(dict[str, SignatureTree]):
    """The library's store of parsed signatures, with a bound: anybody can make up new ones."""

    def __setitem__(self, signature: str, tree: SignatureTree) -> None:
        if len(self) >= _SIGNATURES_MAX:
            self.clear()
        super().__setitem__(signature, tree)


SignatureTree._cache = _Signatures()  # noqa: SLF001 - the library offers no other way


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

    def __init__(self, address: str | None, on_readable: Callable[[socket.socket], None], on_lost: Callable[[], None]):
        super().__init__(bus_address=address, bus_type=BusType.SYSTEM)  # type: ignore[arg-type]  # it takes None
        self._on_readable = on_readable
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
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
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
            self.give_up()
            gone: asyncio.Future[None] = self._loop.create_future()
            gone.add_done_callback(_retrieve_exception)
            gone.set_exception(ConnectionResetError("the bus connection is gone"))
            return gone
        sent: asyncio.Future[None] = super().send(msg)
        sent.add_done_callback(_retrieve_exception)
        self.last_sent = sent
        return sent

    @property
    def unsent_messages(self) -> int:
        return int(self._writer.messages.qsize()) + (self._writer.buf is not None)

    def awaits_reply_to(self, serial: int) -> bool:
        return serial in self._method_return_handlers

    def reply_came(self, reply: Message) -> None:
        """Hand it to the call that waits for it."""
        self._method_return_handlers.pop(reply.reply_serial)(reply, None)

    def _message_reader(self) -> None:
        try:
            self._on_readable(self._sock)
        except BlockingIOError:
            return
        except (OSError, EOFError, ValueError) as error:
            self._finalize(error)

    def _finalize(self, err: Exception | None = None) -> None:
        if self._disconnected:
            return
        super()._finalize(err)  # type: ignore[no-untyped-call]
        with contextlib.suppress(OSError):
            self._stream.close()
        self._sock.close()
        self._on_lost()

    def give_up(self) -> None:
        self._finalize(ConnectionResetError("the bus takes no more messages"))

    def disconnect(self) -> None:
        self._user_disconnect = True
        self._finalize(None)


def _retrieve_exception(future: asyncio.Future[Any]) -> None:
    if not future.cancelled():
        future.exception()


class Connection:
    """A connection to a bus. Once lost it stays lost, and its owner opens a new one.

    `on_signal` gets every signal of a sender that `trusts` names. `on_call` gets every method call and returns the
    reply, or None when it will send one later with `send`. `on_lost` is called once, when it is lost or closed. None of
    them may raise. Whatever anybody else sends costs a look at its header.
    """

    def __init__(
        self,
        on_signal: Callable[[Message], None] | None,
        trusts: Callable[[str], bool],
        on_call: Callable[[Call], Message | None] | None,
    ) -> None:
        self._bus: _MessageBus
        self._on_signal = on_signal
        self._trusts = trusts
        self._on_call = on_call or _offer_nothing
        self._pending = asyncio.Semaphore(PENDING_CALLS_MAX)
        self._incoming = MessageSplitter(self._body_bytes_max)
        self._calls = CallQueue()
        self._answering = False  # whether it is scheduled
        self._loop = asyncio.get_running_loop()

    @classmethod
    async def open(
        cls,
        address: str | None = None,
        *,
        on_signal: Callable[[Message], None] | None = None,
        trusts: Callable[[str], bool] = lambda _sender: False,
        on_call: Callable[[Call], Message | None] | None = None,
        on_lost: Callable[[], None] = lambda: None,
        timeout_seconds: float = 5.0,
    ) -> Connection:
        """Connect to the bus at `address`; None: the system bus.

        Raises BusLostError when it can't be reached within `timeout_seconds`.
        """
        connection = cls(on_signal, trusts, on_call)
        try:
            bus = connection._bus = _MessageBus(address, connection._read, on_lost)
        except (OSError, ValueError) as error:
            raise BusLostError(f"the bus can't be reached ({error})") from error
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

    def _read(self, sock: socket.socket) -> None:
        """Take what has come, as much as one turn may cost; the event loop calls again while there is more."""
        data = sock.recv(_READ_BYTES_AMID_LONG if self._incoming.amid_long else _READ_BYTES)
        if not data:
            raise EOFError("the bus hung up")
        for received in self._incoming.feed(data):
            self._take(received)

    def _body_bytes_max(self, header: Header) -> int | None:
        if header.kind == METHOD_CALL:
            return CALL_BODY_BYTES_MAX
        wanted = (
            self._on_signal is not None and self._trusts(header.sender)
            if header.kind == SIGNAL
            else self._bus.awaits_reply_to(header.reply_serial)
        )
        return _TRUSTED_BODY_BYTES_MAX if wanted else None

    def _take(self, received: Received) -> None:
        if received.header.kind == METHOD_CALL:
            self._calls.put(Call(received))
            self._answer_soon()
        elif received.content is None:
            return  # longer than the bus allows
        elif received.header.kind != SIGNAL:
            self._bus.reply_came(parsed(received.content))
        elif self._on_signal is not None:
            self._on_signal(parsed(received.content))

    def _answer_soon(self) -> None:
        if self._calls and not self._answering:
            self._answering = True
            self._loop.call_soon(self._answer_calls)

    def _answer_calls(self) -> None:
        self._answering = False
        for _ in range(_CALLS):
            if not self._calls or not self._bus.connected:
                return
            if self._bus.unsent_messages >= _UNSENT_MAX:
                self._answer_once_sent()
                return
            call = self._calls.take()
            reply = self._on_call(call)
            if reply is not None and call.header.expects_reply:
                self._bus.send(reply)
        self._answer_soon()

    def _answer_once_sent(self) -> None:
        """Go on when the bus has taken what waits. If it takes nothing, only a new connection helps: see above."""
        self._answering = True
        stuck = self._loop.call_later(_STUCK_SECONDS, self._bus.give_up)

        def sent(_: asyncio.Future[None]) -> None:
            stuck.cancel()
            self._answer_calls()

        self._bus.last_sent.add_done_callback(sent)


def _offer_nothing(call: Call) -> Message:
    return call.refusal(UNKNOWN_METHOD, "nothing is offered here")
