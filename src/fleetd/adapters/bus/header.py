"""The header of a D-Bus message, read without its body: enough to decide whether anybody wants the rest.

dbus-next parses a whole message, whoever sent it, before it says who that was. A message of 32 MB from any local user
took seconds and hundreds of megabytes that way.

Format: D-Bus Specification, "Message Format". The bus has validated every message that it passes on, set SENDER itself
and removed fields it does not know; a header that reads otherwise is skipped with its message.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

METHOD_CALL: Final = 1
METHOD_RETURN: Final = 2
ERROR: Final = 3
SIGNAL: Final = 4

NO_REPLY_EXPECTED: Final = 0x1

#: Endianness, type, flags, version, bytes of the body, serial, bytes of the fields.
FIXED_BYTES: Final = 16
_FIXED: Final = {ord("l"): struct.Struct("<BBBBIII"), ord("B"): struct.Struct(">BBBBIII")}
_NUMBER: Final = {ord("l"): struct.Struct("<I"), ord("B"): struct.Struct(">I")}
_VERSION: Final = 1
_TEXT_TYPES: Final = frozenset(b"so")
_FIELDS: Final = {1: "path", 2: "interface", 3: "member", 7: "sender", 8: "signature"}
_REPLY_SERIAL: Final = 5


class Size(NamedTuple):
    """Bytes of a message."""

    header: int  # with the padding before the body
    body: int

    @property
    def whole(self) -> int:
        return self.header + self.body


class Header(NamedTuple):
    """What of a header matters here; a field that is not there is "" or 0."""

    kind: int  # METHOD_CALL, …
    flags: int
    serial: int
    size: Size
    reply_serial: int = 0
    path: str = ""
    interface: str = ""
    member: str = ""
    sender: str = ""
    signature: str = ""

    @property
    def expects_reply(self) -> bool:
        return not self.flags & NO_REPLY_EXPECTED


def size_of(start: bytes | bytearray) -> Size:
    """The size of the message that begins with `start`, at least FIXED_BYTES of it.

    Raises ValueError when this is no D-Bus message: where the next one begins is then unknown.
    """
    fixed = _FIXED.get(start[0])
    if fixed is None:
        raise ValueError(f"no D-Bus message begins with the byte {start[0]}")
    _, _, _, version, body_bytes, _, fields_bytes = fixed.unpack_from(start)
    if version != _VERSION:
        raise ValueError(f"version {version} of D-Bus is unknown")
    return Size(header=FIXED_BYTES + _padded(fields_bytes), body=body_bytes)


def header_of(start: bytes | bytearray) -> Header | None:
    """The header of the message that begins with `start`, which holds it whole; None: it can't be read."""
    try:
        return _header_of(start)
    except (IndexError, UnicodeDecodeError, struct.error):
        return None


def _header_of(start: bytes | bytearray) -> Header | None:
    size = size_of(start)
    _, kind, flags, _, _, serial, fields_bytes = _FIXED[start[0]].unpack_from(start)
    number = _NUMBER[start[0]]
    texts: dict[str, str] = {}
    reply_serial = 0
    at, end = FIXED_BYTES, FIXED_BYTES + fields_bytes
    while at < end:
        # Each field: its code, the signature of its value (a length, one letter, NUL), the value; padded to 8 bytes.
        code, letters, letter = start[at], start[at + 1], start[at + 2]
        at += 4
        if letters != 1:
            return None
        if letter in _TEXT_TYPES:
            [length] = number.unpack_from(start, at)
            text_at = at + 4
            at = text_at + length + 1
        elif letter == ord("g"):
            length, text_at = start[at], at + 1
            at = text_at + length + 1
        elif letter == ord("u"):
            if code == _REPLY_SERIAL:
                [reply_serial] = number.unpack_from(start, at)
            at = _padded(at + 4)
            continue
        else:
            return None
        if at > end:
            return None
        if code in _FIELDS:
            texts[_FIELDS[code]] = start[text_at : text_at + length].decode()
        at = _padded(at)
    return Header(kind=kind, flags=flags, serial=serial, size=size, reply_serial=reply_serial, **texts)


def _padded(count: int) -> int:
    return (count + 7) & ~7
