"""Reading a file that somebody else may have put there, with bounds; and replacing one of ours as a whole."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path

SMALL_FILE_BYTES_MAX = 64 * 1024
_NO_FILE = "it is no regular file"


def read_file(path: Path, bytes_max: int) -> bytes:
    """The content of a regular file.

    Raises OSError when it is missing, can't be read, is larger than `bytes_max`, or is not a file: a FIFO or a device
    in its place is neither waited for nor read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ENXIO:  # a socket
            raise OSError(0, _NO_FILE) from None
        raise
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(0, _NO_FILE)
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            content = file.read(bytes_max + 1)
    finally:
        os.close(descriptor)
    if len(content) > bytes_max:
        raise OSError(0, f"it has more than {bytes_max} bytes")
    return content


def read_small_file(path: Path, bytes_max: int = SMALL_FILE_BYTES_MAX) -> bytes | None:
    """The content of a regular file; None: missing, unreadable, larger than `bytes_max`, not a file, or no path."""
    try:
        return read_file(path, bytes_max)
    except (OSError, ValueError):  # ValueError: a path with a zero byte or half a surrogate pair
        return None


def replace_file(path: Path, content: bytes, *, mode: int, group: int | None = None) -> None:
    """Write `path` in one step: after a crash or a power cut it holds `content` or what was there before.

    `group`: the id of the group that it is to belong to; None: the writer's. Raises OSError; then nothing is left
    behind.
    """
    temporary = path.with_name(f".{path.name}.new")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
        with os.fdopen(descriptor, "wb") as file:
            if group is not None:
                os.fchown(descriptor, -1, group)
            os.fchmod(descriptor, mode)  # whatever the umask is
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Without it a crash of the machine could bring back the names that were there before."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
