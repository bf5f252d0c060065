"""What arrives on a connection: cut into messages, header first, and whose turn a call is.

What was feared, each from any local user:
- A stream of messages that never ends must not keep the event loop: a bounded number of bytes for each turn.
- A message that nobody wants must cost neither its parsing nor its memory.
- The calls of one sender must not make those of another wait: senders are served in turn.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from io import BytesIO
from typing import Any, Final, NamedTuple

from dbus_next._private.unmarshaller import Unmarshaller
from dbus_next.constants import MessageType
from dbus_next.message import Message

from fleetd.adapters.bus.header import FIXED_BYTES, Header, header_of, size_of

#: A longer header is nobody's: only its path could be so long. Ours and systemd's have a few hundred bytes.
HEADER_BYTES_MAX: Final = 4 * 1024
#: No call that fleetd offers is longer.
CALL_BODY_BYTES_MAX: Final = 16 * 1024

#: The bus lets a connection wait for this many replies at once.
_CALLS_OF_ONE_SENDER_MAX: Final = 128
#: The bus has no more connections (max_completed_connections).
_SENDERS_MAX: Final = 2048
#: Above this, only senders without a call that waits get one more.
_WAITING_BYTES_MAX: Final = 1024 * 1024


class Received(NamedTuple):
    """A message: its header, and all of it as bytes; None: its body was not wanted."""

    header: Header
    content: bytes | None


class MessageSplitter:
    """Cuts a stream of bytes into messages.

    `body_bytes_max` says of a header how long a body is wanted at most; None: not even the header.
    """

    def __init__(self, body_bytes_max: Callable[[Header], int | None]) -> None:
        self._body_bytes_max = body_bytes_max
        self._buffer = bytearray()
        self._skip_bytes = 0  # the rest of a message that is not wanted
        self._header: Header | None = None  # of the message that is not whole yet

    @property
    def amid_long(self) -> bool:
        """Whether it is in the middle of a body, wanted or not."""
        return self._skip_bytes > 0 or self._header is not None

    def feed(self, data: bytes) -> Iterator[Received]:
        """The messages that are whole with `data`. Raises ValueError when these are no D-Bus messages."""
        skipped = min(self._skip_bytes, len(data))
        self._skip_bytes -= skipped
        self._buffer += memoryview(data)[skipped:]
        while len(self._buffer) >= FIXED_BYTES:
            size = size_of(self._buffer)
            if size.header > HEADER_BYTES_MAX:
                self._skip(size.whole)
                continue
            if len(self._buffer) < size.header:
                return
            header = self._header or header_of(self._buffer)
            longest = None if header is None else self._body_bytes_max(header)
            if header is None or longest is None or size.body > longest:
                self._skip(size.whole)
                if header is not None and longest is not None:
                    yield Received(header, None)
            elif len(self._buffer) < size.whole:
                self._header = header
                return
            else:
                content = bytes(memoryview(self._buffer)[: size.whole])
                self._skip(size.whole)
                yield Received(header, content)

    def _skip(self, count: int) -> None:
        self._header = None
        self._skip_bytes = max(0, count - len(self._buffer))
        del self._buffer[:count]


class Call:
    """A method call that came. Its body is parsed only when it is asked for, after a look at the header."""

    def __init__(self, received: Received) -> None:
        self.header = received.header
        self._content = received.content

    @property
    def kept_bytes(self) -> int:
        return self.header.size.header + len(self._content or b"")

    @property
    def too_long(self) -> bool:
        """Its body was longer than CALL_BODY_BYTES_MAX and was not kept."""
        return self._content is None

    def arguments(self) -> list[Any]:
        """Its body. Check first that the signature is one that is offered. Raises ValueError when it can't be read."""
        if self._content is None:
            raise ValueError("the call was too long to be kept")
        return list(parsed(self._content).body)

    def answer(self, signature: str = "", *body: object) -> Message:
        return Message(
            message_type=MessageType.METHOD_RETURN,
            reply_serial=self.header.serial,
            destination=self.header.sender,
            signature=signature,
            body=list(body),
        )

    def refusal(self, error_name: str, sentence: str) -> Message:
        return Message(
            message_type=MessageType.ERROR,
            reply_serial=self.header.serial,
            destination=self.header.sender,
            error_name=error_name,
            signature="s",
            body=[sentence],
        )


class CallQueue:
    """Calls that wait, with a bound; the senders take turns.

    Who waits for the reply to each call before the next is never refused. Refused are what goes beyond what the bus
    itself allows a sender, and, once a megabyte waits, second calls.
    """

    def __init__(self) -> None:
        self._of_sender: dict[str, deque[Call]] = {}  # in the order of their turns
        self._waiting_bytes = 0

    def __bool__(self) -> bool:
        return bool(self._of_sender)

    def put(self, call: Call) -> None:
        """Let it wait, or drop it."""
        mine = self._of_sender.get(call.header.sender)
        if mine is None:
            if len(self._of_sender) >= _SENDERS_MAX:
                return
            mine = self._of_sender[call.header.sender] = deque()
        elif len(mine) >= _CALLS_OF_ONE_SENDER_MAX or self._waiting_bytes >= _WAITING_BYTES_MAX:
            return
        mine.append(call)
        self._waiting_bytes += call.kept_bytes

    def take(self) -> Call:
        """The next one. There must be one."""
        sender = next(iter(self._of_sender))
        mine = self._of_sender.pop(sender)
        call = mine.popleft()
        if mine:
            self._of_sender[sender] = mine  # the others come first
        self._waiting_bytes -= call.kept_bytes
        return call


def parsed(content: bytes) -> Message:
    """A whole message. Raises ValueError when it can't be read."""
    try:
        message: Message | None = Unmarshaller(BytesIO(content)).unmarshall()  # type: ignore[no-untyped-call]
    except Exception as error:  # the library raises whatever it stumbles over
        raise ValueError(f"a message can't be read ({type(error).__name__}: {error})") from error
    if message is None:
        raise ValueError("a message can't be read: its body ends early")
    return message
