"""A small disk that a test fills and frees."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

SIZE_BYTES = 64 * 1024


class SmallDisk:
    """`path` is a real file system of 64 KiB if one can be mounted (`mounted`). Otherwise writes fail on demand."""

    def __init__(self, path: Path, *, mounted: bool) -> None:
        self.path = path
        self.mounted = mounted
        self._patch = pytest.MonkeyPatch()

    def fill(self) -> None:
        if not self.mounted:
            self._patch.setattr(os, "fsync", _no_space)
            return
        with contextlib.suppress(OSError):
            (self.path / "filler").write_bytes(bytes(2 * SIZE_BYTES))
        assert os.statvfs(self.path).f_bavail == 0

    def free(self) -> None:
        self._patch.undo()
        (self.path / "filler").unlink(missing_ok=True)


def _no_space(_: int) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@contextlib.contextmanager
def small_disk(directory: Path) -> Iterator[SmallDisk]:
    """A small disk, mounted below `directory` if the tests' user may mount."""
    path = directory / "small"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE_BYTES}", "tmpfs", str(path)]
    mounted = os.geteuid() == 0 and subprocess.run(mount, check=False, capture_output=True).returncode == 0
    disk = SmallDisk(path, mounted=mounted)
    try:
        yield disk
    finally:
        disk._patch.undo()
        if mounted:
            subprocess.run(["umount", "--lazy", str(path)], check=True)
