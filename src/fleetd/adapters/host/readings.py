"""This host: its memory and pressure, what each instance takes of it, and what root wrote for it (port HostSource).

All of it is in small files of the kernel's and of root's, read in microseconds. What a kernel or root does not say is
None or left out, never zero; a reading needs only the host's memory.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import msgspec

from fleetd.adapters.host.cores import usable_cores
from fleetd.adapters.host.files import read_small_file
from fleetd.adapters.host.memory_limits import held_bytes, limits_above
from fleetd.adapters.host.unit_files import UnitFiles
from fleetd.adapters.host.unit_processes import sidekiq_units
from fleetd.core.model import worker_settings
from fleetd.core.model.bounds import real, whole
from fleetd.core.model.facts import CodeStamp, HostFacts, HostPressure, RenderedSettings, SystemdFacts
from fleetd.core.model.identity import InstanceKey, key_of
from fleetd.core.model.worker_settings import read_rendered, settings_file_name
from fleetd.errors import SourceUnavailableError

SETTINGS_DIRECTORY = Path(worker_settings.SETTINGS_DIRECTORY)  # root's: fleetd-render and fleetd-stamp write there
CODE_FILE = "code.json"
_RENDERED_MAX = 512

_MEMINFO = re.compile(rb"^(MemTotal|MemAvailable):\s+(\d{1,15}) kB$", re.MULTILINE)
_PRESSURE = re.compile(rb"^(some|full) avg10=[\d.]+ avg60=(\d{1,3}\.\d{1,6}) ", re.MULTILINE)
_LOAD = re.compile(rb"(\d{1,6}\.\d{1,4}) ")
_OOM_KILLS = re.compile(rb"^oom_kill (\d{1,18})$", re.MULTILINE)
_CODE_DIGEST = re.compile(r"[0-9a-zA-Z._-]{1,128}")
_CODE_VERSION = re.compile(r"[0-9a-zA-Z.+_-]{0,64}")


def read_stamp(path: Path) -> CodeStamp | None:
    """The stamp of Mastodon's code; None: there is none, or fleetd-stamp did not write it."""
    try:
        stamp = msgspec.json.decode(read_small_file(path) or b"", type=CodeStamp)
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return None
    sound = _CODE_DIGEST.fullmatch(stamp.digest) and _CODE_VERSION.fullmatch(stamp.version)
    return stamp if sound else None


def rendered_keys(root: Path = Path("/")) -> frozenset[InstanceKey]:
    """The units that have a settings file, whatever is in it."""
    keys = (key_of(path.stem) for path in (root / SETTINGS_DIRECTORY.relative_to("/")).glob("*.env"))
    return frozenset(sorted(key for key in keys if key is not None)[:_RENDERED_MAX])


class LinuxHost:
    """Reads /proc, the cgroup file system and the rendered settings below `root` ("/" but in tests)."""

    def __init__(self, root: Path = Path("/"), directory: str | None = None) -> None:
        """`directory`: Mastodon's, with which the units' is compared; None: it is not."""
        self._root = root
        self._directory = directory
        self._settings_directory = root / SETTINGS_DIRECTORY.relative_to("/")
        self._unit_files = UnitFiles(root)
        self._digests_read: dict[str, str | None] = {}  # by unit file

    async def read(self, systemd: SystemdFacts | None) -> HostFacts:
        """All of it now, with the resident bytes of those units in `systemd` whose cgroups say them.

        Raises SourceUnavailableError when /proc/meminfo does not say how much memory is available.
        """
        total, available = self._memory_bytes()
        groups = [] if systemd is None else [unit.control_group for unit in systemd.units.values()]
        for limit, held in limits_above(self._root, groups):
            total, available = min(total, limit), min(available, max(0, limit - held))
        resident = {}
        for key, unit in {} if systemd is None else systemd.units.items():
            taken = self._resident_bytes(unit.control_group)
            if taken is not None:
                resident[key] = taken
        return HostFacts(
            memory_available_bytes=available,
            memory_total_bytes=total,
            resident_bytes=resident,
            rendered=self._rendered(),
            pressure=self._pressure(),
            load_per_core=self._load_per_core(),
            cores=usable_cores(limit=self._root / "sys/fs/cgroup/cpu.max"),
            oom_kills_total=self._oom_kills_total(),
            code=read_stamp(self._settings_directory / CODE_FILE),
            unit_digests=self._unit_digests(),
            file_digests=self._unit_files.file_digests(),
            shipped_digests=self._unit_files.shipped_digests(),
            sidekiq_units=sidekiq_units(self._root),
            unfit_units=self._unit_files.unfit(self._directory),
            masked_units=self._unit_files.masked(),
        )

    def _memory_bytes(self) -> tuple[int, int]:
        found = {
            name: whole(int(kibibytes) * 1024, "bytes")
            for name, kibibytes in _MEMINFO.findall(self._read("proc/meminfo"))
        }
        total, available = found.get(b"MemTotal"), found.get(b"MemAvailable")
        if total is None or available is None:
            raise SourceUnavailableError(
                "/proc/meminfo does not say MemTotal and MemAvailable: is /proc mounted, and without ProcSubset=pid?"
            )
        return total, available

    def _resident_bytes(self, control_group: str) -> int | None:
        """Memory that a unit's processes hold, without page cache that the kernel can take back; None: unknown."""
        return held_bytes(self._root, control_group)

    def _pressure(self) -> HostPressure | None:
        """Shares of the last minute, as the kernel averages them; None without PSI or with psi=0."""
        memory = real(dict(_PRESSURE.findall(self._read("proc/pressure/memory"))).get(b"full"), "percent")
        cpu = real(dict(_PRESSURE.findall(self._read("proc/pressure/cpu"))).get(b"some"), "percent")
        if memory is None or cpu is None:
            return None
        return HostPressure(memory_stalled_share=memory / 100.0, cpu_waiting_share=cpu / 100.0)

    def _load_per_core(self) -> float | None:
        found = _LOAD.match(self._read("proc/loadavg"))
        load = real(found[1], "load") if found else None
        return None if load is None else load / (os.cpu_count() or 1)

    def _oom_kills_total(self) -> int | None:
        found = _OOM_KILLS.search(self._read("proc/vmstat"))
        return whole(found[1], "total") if found else None

    def _read(self, path: str) -> bytes:
        """A file's content; empty when there is none that can be read."""
        return read_small_file(self._root / path) or b""

    def _unit_digests(self) -> dict[str, str]:
        """Those on which two readings agree; while a file changes its digest is unknown.

        So a half-written file is never reported, and systemd is read in between, which says need_daemon_reload.
        """
        before = self._digests_read
        self._digests_read = self._unit_files.digests()
        return {
            unit: digest for unit, digest in self._digests_read.items() if digest and before.get(unit, digest) == digest
        }

    def _rendered(self) -> dict[InstanceKey, RenderedSettings]:
        """Empty when nothing was ever rendered; then the core lets nothing start."""
        rendered: dict[InstanceKey, RenderedSettings] = {}
        for key in sorted(rendered_keys(self._root)):
            content = read_small_file(self._settings_directory / settings_file_name(key)) or b""
            settings = read_rendered(key, content.decode(errors="replace"))
            if settings is not None:
                rendered[key] = settings
        return rendered
