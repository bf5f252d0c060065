"""Small files of the kernel's and of root's, read in microseconds: bounded, and nothing that could block."""

from __future__ import annotations

import os
import stat
from pathlib import Path

FILE_BYTES_MAX = 64 * 1024


def read_small_file(path: Path) -> bytes | None:
    """The content of a regular file of at most 64 KiB; None: missing, unreadable, too big or no file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        content = b""
        while len(content) <= FILE_BYTES_MAX and (part := os.read(descriptor, FILE_BYTES_MAX + 1)):
            content += part
        return content if len(content) <= FILE_BYTES_MAX else None
    except OSError:
        return None
    finally:
        os.close(descriptor)
