"""What this host remembers, in one small file (port MemoryStore).

The first line is the SHA-256 of the rest: a half-written, damaged or foreign file is no memory, never a wrong one.
Saving that fails (full or read-only disk) must not stop fleetd: it is said once, and again when it works.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from pathlib import Path

import structlog

SIZE_BYTES_MAX = 1024 * 1024
_HEADER_BYTES = 64 + 1

_log = structlog.get_logger("fleetd.state")


class StateFile:
    """One file at `path`, replaced as a whole by each save."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._saved: bytes | None = None
        self._failing = False

    def load(self) -> bytes | None:
        """What was saved last; None: nothing, or nothing that can be trusted (said in the log)."""
        try:
            content = _read(self._path)
        except FileNotFoundError:
            return None
        except OSError as error:
            _log.warning(
                f"{self._path} can't be read ({error.strerror}): windows begin anew, pins are forgotten"
            )
            return None
        header, memory = content[:_HEADER_BYTES], content[_HEADER_BYTES:]
        if header != _header(memory):
            _log.warning(f"{self._path} is damaged and is ignored: windows begin anew, pins are forgotten")
            return None
        self._saved = memory
        return memory

    def save(self, content: bytes) -> None:
        """Write `content`, so that after a crash either it or what was there before is found."""
        if content == self._saved:
            return
        try:
            _replace(self._path, _header(content) + content)
        except OSError as error:
            if not self._failing:
                _log.error(
                    f"{self._path} can't be written ({error.strerror}): fleetd goes on, but a restart of it would "
                    "forget pins and drains under way. Look at the disk's space and the directory's owner"
                )
            self._failing = True
            return
        self._saved = content
        if self._failing:
            self._failing = False
            _log.info(f"{self._path} is written again")


def _header(memory: bytes) -> bytes:
    return hashlib.sha256(memory).hexdigest().encode() + b"\n"


def _read(path: Path) -> bytes:
    """At most the bound and one byte more, which then fails the checksum."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(0, "it is no file")
        return file.read(SIZE_BYTES_MAX + _HEADER_BYTES + 1)


def _replace(path: Path, content: bytes) -> None:
    if len(content) > SIZE_BYTES_MAX + _HEADER_BYTES:
        raise OSError(0, f"{len(content)} bytes are more than it may have")
    temporary = path.with_name(f".{path.name}.new")
    try:
        descriptor = os.open(
            temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
        )
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        temporary.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)  # else a crash of the machine could bring the old name back
    finally:
        os.close(directory)
