"""Where a log line goes: to the journal's socket with fields, to a terminal, or to a stream with a priority in front.

Format of the journal's datagrams: systemd, "Native Journal Protocol". Nothing here raises, and nothing waits for a
journald that does not read: a line that can't be sent is counted, and the next one that is sent says how many are
missing.
"""

from __future__ import annotations

import os
import re
import socket
import struct
import time
from collections.abc import Mapping
from typing import Any, Protocol, TextIO

from structlog.dev import ConsoleRenderer, plain_traceback

JOURNAL_SOCKET = "/run/systemd/journal/socket"
FIELDS_MAX = 32
FIELD_BYTES_MAX = 4 * 1024
MESSAGE_BYTES_MAX = 16 * 1024

_NOT_IN_A_NAME = re.compile(r"[^A-Z0-9_]")
#: sd-daemon(3): priorities of syslog, by structlog's level names.
PRIORITIES = {"critical": 2, "exception": 3, "error": 3, "warning": 4, "warn": 4, "notice": 5, "info": 6, "debug": 7}

#: A finished line: `event` (the sentence), `level`, perhaps `logger`, `exception`, and fields of its own; all strings,
#: and bounded in number and length.
Line = Mapping[str, str]


class Output(Protocol):
    def write(self, line: Line) -> None: ...


def output_for(stream: TextIO, environ: Mapping[str, str], journal_socket: str = JOURNAL_SOCKET) -> Output:
    """The journal when `stream` leads there, a terminal when `stream` is one, else lines with priorities."""
    if _leads_to_journal(stream, environ) and os.access(journal_socket, os.W_OK):
        return Journal(journal_socket)
    try:
        terminal = stream.isatty()
    except ValueError:
        terminal = False
    return Terminal(stream, colours="NO_COLOR" not in environ) if terminal else Prefixed(stream)


def _leads_to_journal(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """systemd.exec(5): JOURNAL_STREAM is device:inode of the first stderr; it may have been redirected since."""
    try:
        stat = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return environ.get("JOURNAL_STREAM") == f"{stat.st_dev}:{stat.st_ino}"


class Journal:
    """Native datagrams; `journalctl -u fleetd -o verbose` shows the fields, FLEETD_UNIT=… finds them."""

    def __init__(self, path: str = JOURNAL_SOCKET) -> None:
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.setblocking(False)
        self._missing = 0

    def write(self, line: Line) -> None:
        fields = _fields(line)
        if self._missing:
            fields.append(("FLEETD_LINES_MISSING_BEFORE", str(self._missing)))
        # Their bounds keep a line below the system's limit for a datagram (208 KiB by default).
        datagram = b"".join(_encoded(name, value) for name, value in fields)
        try:
            self._socket.sendto(datagram, self._path)
            self._missing = 0
        except OSError:
            self._missing += 1


def _fields(line: Line) -> list[tuple[str, str]]:
    message = line["event"]
    if "exception" in line:
        message = f"{message}\n{line['exception']}"
    fields = [
        ("MESSAGE", message),
        ("PRIORITY", str(PRIORITIES.get(line["level"], 6))),
        ("SYSLOG_IDENTIFIER", "fleetd"),
    ]
    for key, value in line.items():
        if key not in ("event", "level", "exception"):
            fields.append((f"FLEETD_{_NOT_IN_A_NAME.sub('_', key.upper())}"[:64], value))
    return fields


def _encoded(name: str, value: str) -> bytes:
    limit = MESSAGE_BYTES_MAX if name == "MESSAGE" else FIELD_BYTES_MAX
    data = value.encode(errors="replace")[:limit]
    if b"\n" in data:  # after NAME= a line break would begin another field
        return name.encode() + b"\n" + struct.pack("<Q", len(data)) + data + b"\n"
    return name.encode() + b"=" + data + b"\n"


class Terminal:
    """For a person: time, level, sentence, fields; in colour if wanted."""

    def __init__(self, stream: TextIO, *, colours: bool) -> None:
        self._stream = stream
        self._renderer = ConsoleRenderer(colors=colours, exception_formatter=plain_traceback)

    def write(self, line: Line) -> None:
        shown: dict[str, Any] = {key: value for key, value in line.items() if key != "logger"}
        shown["timestamp"] = time.strftime("%H:%M:%S")
        _print(self._stream, str(self._renderer(None, line["level"], shown)))


class Prefixed:
    """`<N>` in front of each line, as in sd-daemon(3), from which a service manager reads the priority."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, line: Line) -> None:
        rest = [f"{k}={v}" for k, v in line.items() if k not in ("event", "level", "exception", "logger")]
        text = " ".join([line["event"], *rest])
        if "exception" in line:
            text = f"{text}\n{line['exception']}"
        prefix = f"<{PRIORITIES.get(line['level'], 6)}>"
        lines = text[:MESSAGE_BYTES_MAX].splitlines() or [""]
        _print(self._stream, "\n".join(prefix + part for part in lines))


def _print(stream: TextIO, text: str) -> None:
    encoding = getattr(stream, "encoding", None) or "utf-8"
    try:
        stream.write(text.encode(encoding, errors="replace").decode(encoding) + "\n")
        stream.flush()
    except (OSError, ValueError):
        return  # a log that can't be written is no reason to stop
