"""What this host remembers, in one small file (port MemoryStore).

The first line is the SHA-256 of the rest, so a half-written, damaged or foreign file is no memory, never a wrong one.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import structlog

from fleetd.adapters.host.files import read_file, replace_file
from fleetd.errors import MemoryUnsavedError

SIZE_BYTES_MAX = 1024 * 1024
_HEADER_BYTES = 64 + 1

_log = structlog.get_logger("fleetd.state")


class StateFile:
    """The file at `path`, replaced as a whole by each save.

    `spare`: a file below /run that takes what `path` can't, so that a restart of fleetd on a full disk neither forgets
    an order nor takes a step of its own for a person's. While it is there it is the newer of the two: a save that could
    write `path` ends with its removal.
    """

    def __init__(self, path: Path, spare: Path | None = None) -> None:
        self._path = path
        self._spare = spare
        self._saved: bytes | None = None  # what is certainly in the file; None: unknown
        self._spared: bytes | None = None  # likewise in the spare file

    def load(self) -> bytes | None:
        """What was saved last; None: nothing, or nothing that can be trusted, which the log then says."""
        if self._spare is not None:
            self._spared = _read(self._spare)
            if self._spared is not None:
                return self._spared
        self._saved = _read(self._path)
        return self._saved

    def save(self, content: bytes) -> None:
        """Write `content`, unless it is there already. After a crash either it or what was there before is found.

        Raises MemoryUnsavedError when it can't be written (a full or read-only disk, more than 1 MiB).
        """
        if content == self._saved:
            return
        if len(content) > SIZE_BYTES_MAX:
            raise MemoryUnsavedError(f"{self._path} may not have more than {SIZE_BYTES_MAX} bytes")
        self._saved = None  # a failure may come after the new file is in place
        try:
            replace_file(self._path, _header(content) + content, mode=0o600)
            if self._spare is not None:  # before this returns: an older one must not be taken for the newest
                self._spare.unlink(missing_ok=True)
        except OSError as error:
            why = (
                f"{self._path} can't be written ({error.strerror}); look at the disk's space and the directory's owner"
            )
            raise MemoryUnsavedError(why, self._save_in_spare(content)) from None
        self._saved, self._spared = content, None

    def _save_in_spare(self, content: bytes) -> str | None:
        """Write it to the spare file, unless it is there already. Returns its name; None: it can't be written."""
        if self._spare is None:
            return None
        if content != self._spared or not self._spare.exists():
            self._spared = None
            try:
                replace_file(self._spare, _header(content) + content, mode=0o600)
            except OSError:
                return None
            self._spared = content
        return str(self._spare)


def _read(path: Path) -> bytes | None:
    """The memory in a file; None: there is no file, or the log says why it can't be trusted."""
    try:
        content = read_file(path, SIZE_BYTES_MAX + _HEADER_BYTES)
    except FileNotFoundError:
        return None
    except OSError as error:
        why = f"can't be read ({error.strerror})"
    else:
        header, memory = content[:_HEADER_BYTES], content[_HEADER_BYTES:]
        if header == _header(memory):
            return memory
        why = "is damaged"
    _log.warning(f"{path} {why}: the windows, pins and pauses in it are forgotten")
    return None


def _header(memory: bytes) -> bytes:
    return hashlib.sha256(memory).hexdigest().encode() + b"\n"
