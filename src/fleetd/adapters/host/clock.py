"""The host's clock that never jumps and runs through a suspend (port Clock)."""

from __future__ import annotations

import time
import uuid
from pathlib import Path

from fleetd.adapters.host.files import read_small_file, replace_file

_KERNEL_FILE = Path("/proc/sys/kernel/random/boot_id")
_MARK_CHARACTERS_MAX = 64


class BoottimeClock:
    """CLOCK_BOOTTIME. Times of two boots can't be compared; the boot id tells them apart.

    `runtime_directory`: one below /run, which every boot empties. A mark in it tells boots of a system container apart,
    which all have the boot id of the same kernel.
    """

    def __init__(self, boot_id_file: Path = _KERNEL_FILE, runtime_directory: Path | None = None) -> None:
        try:
            self._boot_id = boot_id_file.read_text(encoding="ascii").strip()
        except (OSError, ValueError):
            self._boot_id = ""  # then nothing that is remembered is of this boot
        if self._boot_id and runtime_directory is not None:
            self._boot_id += _mark(runtime_directory / "boot")

    def now_seconds(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def boot_id(self) -> str:
        """The kernel's random id of this boot with the mark; empty when the kernel's can't be read."""
        return self._boot_id


def boot_id_kept_in(runtime_directory: Path) -> str:
    """The boot id of whoever has its mark there; that of the kernel where there is no mark. Writes none."""
    kernels = BoottimeClock().boot_id()
    return kernels and kernels + _read_mark(runtime_directory / "boot")


def _mark(path: Path) -> str:
    """What the first start of this boot wrote; empty where nothing can be written, then the kernel's id must do."""
    try:
        if not read_small_file(path):  # or empty: left by an earlier fleetd whose write found no room
            replace_file(path, uuid.uuid4().hex.encode("ascii"), mode=0o644)
    except (OSError, ValueError):
        return ""
    return _read_mark(path)


def _read_mark(path: Path) -> str:
    """The mark that is there; empty: there is none."""
    try:
        mark = path.read_text(encoding="ascii").strip()[:_MARK_CHARACTERS_MAX]
    except (OSError, ValueError):
        return ""
    return f".{mark}" if mark else ""
