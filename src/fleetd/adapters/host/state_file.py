"""What this host remembers, in one small file (port MemoryStore).

The first line is the SHA-256 of the rest, so a half-written, damaged or foreign file is no memory, never a wrong one.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import structlog

from fleetd.adapters.host.files import read_file, replace_file
from fleetd.errors import FleetdError

SIZE_BYTES_MAX = 1024 * 1024
_HEADER_BYTES = 64 + 1

_log = structlog.get_logger("fleetd.state")


class StateFile:
    """The file at `path`, replaced as a whole by each save."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._saved: bytes | None = None  # what is certainly in the file; None: unknown

    def load(self) -> bytes | None:
        """What was saved last; None: nothing, or nothing that can be trusted, which the log then says."""
        try:
            content = read_file(self._path, SIZE_BYTES_MAX + _HEADER_BYTES)
        except FileNotFoundError:
            return None
        except OSError as error:
            self._forget(f"can't be read ({error.strerror})")
            return None
        header, memory = content[:_HEADER_BYTES], content[_HEADER_BYTES:]
        if header != _header(memory):
            self._forget("is damaged")
            return None
        self._saved = memory
        return memory

    def _forget(self, why: str) -> None:
        _log.warning(f"{self._path} {why}: windows begin anew, pins and pauses are forgotten")

    def save(self, content: bytes) -> None:
        """Write `content`, unless it is there already. After a crash either it or what was there before is found.

        Raises FleetdError when it can't be written (a full or read-only disk, more than 1 MiB).
        """
        if content == self._saved:
            return
        if len(content) > SIZE_BYTES_MAX:
            raise FleetdError(f"{self._path} may not have more than {SIZE_BYTES_MAX} bytes")
        self._saved = None  # a failure may come after the new file is in place
        try:
            replace_file(self._path, _header(content) + content, mode=0o600)
        except OSError as error:
            raise FleetdError(
                f"{self._path} can't be written ({error.strerror}): look at the disk's space and the directory's owner"
            ) from None
        self._saved = content


def _header(memory: bytes) -> bytes:
    return hashlib.sha256(memory).hexdigest().encode() + b"\n"
