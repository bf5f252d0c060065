"""This host: its memory and pressure, what each instance takes of it, and what root wrote for it (port HostSource).

All of it is small files of the kernel's and of root's, read in microseconds; every read is bounded in size, and
nothing that could block (a FIFO, a device) is read. What a kernel or root does not tell is None or left out, never
zero; only memory is needed for a reading at all.
"""

from __future__ import annotations

import os
import re
from itertools import islice
from pathlib import Path

import msgspec

from fleetd.adapters.host.files import read_small_file
from fleetd.adapters.host.unit_files import UNIT_FILES, UnitFiles
from fleetd.core.model.facts import CodeStamp, HostFacts, HostPressure, RenderedSettings, SystemdFacts
from fleetd.core.model.identity import InstanceKey, key_of
from fleetd.core.model.worker_settings import read_rendered, settings_file_name
from fleetd.errors import SourceUnavailableError

_CODE_FILE = "code.json"  # fleetd-stamp's
_RENDERED_MAX = 512
_ENTRIES_MAX = 4096

_MEMINFO = re.compile(rb"^(MemTotal|MemAvailable):\s+(\d{1,15}) kB$", re.MULTILINE)
_STAT = re.compile(rb"^(file|shmem) (\d{1,19})$", re.MULTILINE)
_PRESSURE = re.compile(rb"^(some|full) avg10=[\d.]+ avg60=(\d{1,3}\.\d{1,6}) ", re.MULTILINE)
_LOAD = re.compile(rb"(\d{1,6}\.\d{1,4}) ")
_OOM_KILLS = re.compile(rb"^oom_kill (\d{1,18})$", re.MULTILINE)
_CODE_DIGEST = re.compile(r"[0-9a-zA-Z._-]{1,128}")
_CODE_VERSION = re.compile(r"[0-9a-zA-Z.+_-]{0,64}")


class LinuxHost:
    """Reads /proc, the cgroup filesystem and the directory of rendered settings.

    `root` stands before every path (tests); `rendered_directory` is fleetd-render's.
    """

    def __init__(
        self,
        *,
        root: Path = Path("/"),
        rendered_directory: Path = Path("/var/lib/mastodon-sidekiq"),
        cores: int | None = None,
    ) -> None:
        self._root = root
        self._cores = cores or os.cpu_count()
        self._cgroups = root / "sys/fs/cgroup"
        self._rendered_directory = root / rendered_directory.relative_to("/")
        self._unit_files = UnitFiles(root)
        self._digests_read: dict[str, str] = {}  # by unit file; "": it had none

    async def read(self, systemd: SystemdFacts | None) -> HostFacts:
        """All of it now; resident bytes of the units in `systemd` where their cgroup tells them, else absent.

        Raises SourceUnavailableError when /proc/meminfo does not say what is available.
        """
        total, available = self._memory_bytes()
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
            oom_kills_total=self._oom_kills_total(),
            code=self._code(),
            unit_digests=self._unit_digests(),
        )

    def _memory_bytes(self) -> tuple[int, int]:
        path = self._root / "proc/meminfo"
        content = read_small_file(path)
        found = {name: int(kilobytes) * 1024 for name, kilobytes in _MEMINFO.findall(content or b"")}
        try:
            return found[b"MemTotal"], found[b"MemAvailable"]
        except KeyError:
            raise SourceUnavailableError(
                f"{path} does not say MemTotal and MemAvailable: is /proc mounted, and without ProcSubset=pid?"
            ) from None

    def _resident_bytes(self, control_group: str) -> int | None:
        """Memory that a unit's processes hold, without page cache that the kernel can take back.

        Kernel documentation, "Control Group v2": memory.current counts page cache; memory.stat's `file` is the
        cache, of which `shmem` is not reclaimable. Without a memory controller there is no such file: unknown.
        """
        if not control_group.startswith("/") or ".." in control_group.split("/"):
            return None
        directory = self._cgroups / control_group[1:]
        if control_group == "/":
            return None
        current = read_small_file(directory / "memory.current")
        if current is None or not current.strip().isdigit():
            return None
        parts = {
            name: int(value)
            for name, value in _STAT.findall(read_small_file(directory / "memory.stat") or b"")
        }
        cache = parts.get(b"file", 0) - parts.get(b"shmem", 0)
        return max(0, int(current) - max(0, cache))

    def _pressure(self) -> HostPressure | None:
        """Shares of the last minute, as the kernel averages them. Without PSI, or with psi=0, nothing is told."""
        directory = self._root / "proc/pressure"
        memory = dict(_PRESSURE.findall(read_small_file(directory / "memory") or b"")).get(b"full")
        cpu = dict(_PRESSURE.findall(read_small_file(directory / "cpu") or b"")).get(b"some")
        if memory is None or cpu is None:
            return None
        return HostPressure(memory_stalled_share=_share(memory), cpu_waiting_share=_share(cpu))

    def _load_per_core(self) -> float | None:
        found = _LOAD.match(read_small_file(self._root / "proc/loadavg") or b"")
        return float(found[1]) / self._cores if found and self._cores else None

    def _oom_kills_total(self) -> int | None:
        found = _OOM_KILLS.search(read_small_file(self._root / "proc/vmstat") or b"")
        return int(found[1]) if found else None

    def _code(self) -> CodeStamp | None:
        """The stamp of Mastodon's code; what fleetd-stamp did not write is none."""
        content = read_small_file(self._rendered_directory / _CODE_FILE)
        if content is None:
            return None
        try:
            stamp = msgspec.json.decode(content, type=CodeStamp)
        except (msgspec.MsgspecError, RecursionError, ValueError):
            return None
        sound = _CODE_DIGEST.fullmatch(stamp.digest) and _CODE_VERSION.fullmatch(stamp.version)
        return stamp if sound else None

    def _unit_digests(self) -> dict[str, str]:
        """Those on which two readings agree; while a file changes its digest is unknown.

        So what is half written passes by, and a reading of systemd's (need_daemon_reload) lies between.
        """
        before = self._digests_read
        self._digests_read = {unit: self._unit_files.digest(unit) for unit in UNIT_FILES}
        return {
            unit: digest
            for unit, digest in self._digests_read.items()
            if digest and before.get(unit, digest) == digest
        }

    def _rendered(self) -> dict[InstanceKey, RenderedSettings]:
        rendered: dict[InstanceKey, RenderedSettings] = {}
        try:
            with os.scandir(self._rendered_directory) as entries:
                files = [Path(entry.name) for entry in islice(entries, _ENTRIES_MAX)]
        except OSError:
            return {}  # never rendered; then nothing may start, which the core says
        keys = (key_of(file.stem) for file in files if file.suffix == ".env")
        for key in sorted(key for key in keys if key is not None)[:_RENDERED_MAX]:
            content = read_small_file(self._rendered_directory / settings_file_name(key)) or b""
            settings = read_rendered(key, content.decode(errors="replace"))
            if settings is not None:
                rendered[key] = settings
        return rendered


def _share(percent: bytes) -> float:
    return min(1.0, float(percent) / 100.0)
