"""What fleetd tells systemd about itself: datagrams to NOTIFY_SOCKET, as in sd_notify(3).

Nothing here raises or waits: without a service manager every call does nothing, and a datagram that can't be delivered
at once is dropped (the next watchdog ping comes soon enough).
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Mapping

from fleetd.words.plain import plain

_STATUS_LENGTH_MAX = 400
_PATH_BYTES_MAX = 107  # sockaddr_un


class SdNotify:
    """Port ServiceManager. `environ`: has NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._address = _address(environ.get("NOTIFY_SOCKET", ""))
        self._watchdog_interval_seconds = _watchdog_interval_seconds(environ)

    def ready(self) -> None:
        """Started, or reloaded."""
        self._send("READY=1")

    def status(self, sentence: str) -> None:
        """The line that `systemctl status fleetd` shows."""
        self._send(f"STATUS={_one_line(sentence)}")

    def watchdog(self) -> None:
        self._send("WATCHDOG=1")

    def watchdog_interval_seconds(self) -> float | None:
        """How often to ping: half of WatchdogSec; None: no watchdog, or it is not for this process."""
        return self._watchdog_interval_seconds

    def reloading(self) -> None:
        """A reload begins; ready() ends it. Type=notify-reload needs the time with it."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        self._send("STOPPING=1")

    def _send(self, state: str) -> None:
        if self._address is None:
            return
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender,
        ):
            sender.setblocking(False)
            sender.sendto(state.encode(errors="replace"), self._address)


def _address(path: str) -> bytes | None:
    """A path, or after an @ a name in the abstract namespace; None: no socket, or none of these kinds."""
    encoded = os.fsencode(path)
    if not encoded or len(encoded) > _PATH_BYTES_MAX or encoded[:1] not in (b"/", b"@") or b"\0" in encoded:
        return None
    return b"\0" + encoded[1:] if encoded[:1] == b"@" else encoded


def _watchdog_interval_seconds(environ: Mapping[str, str]) -> float | None:
    microseconds = environ.get("WATCHDOG_USEC", "")
    if not (microseconds.isascii() and microseconds.isdigit()) or int(microseconds) == 0:
        return None
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    return int(microseconds) / 2_000_000


def _one_line(sentence: str) -> str:
    """A line break would begin another assignment, so a queue's name could say READY=1."""
    return plain(sentence[:_STATUS_LENGTH_MAX])[:_STATUS_LENGTH_MAX]
