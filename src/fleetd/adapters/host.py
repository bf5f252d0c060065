"""This host: its memory, what each instance takes of it, and what fleetd-render wrote (port HostSource).

All of it is small files of the kernel's and of root's, read in microseconds; every read is bounded in size, and
nothing that could block (a FIFO, a device) is read.
"""

from __future__ import annotations

import os
import re
import stat
from itertools import islice, pairwise
from pathlib import Path

from fleetd.core.facts import HostFacts, RenderedInstance, SystemdFacts
from fleetd.core.identity import parse_tag
from fleetd.core.settings import parse_settings, read_rendered
from fleetd.errors import SourceUnavailableError

_FILE_BYTES_MAX = 64 * 1024
_RENDERED_MAX = 512
_ENTRIES_MAX = 4096

_MEMINFO = re.compile(rb"^(MemTotal|MemAvailable):\s+(\d{1,15}) kB$", re.MULTILINE)
_STAT = re.compile(rb"^(file|shmem) (\d{1,19})$", re.MULTILINE)
_INSTANCE_FILE = re.compile(r"(0|[1-9][0-9]{0,3})\.env")


class LinuxHost:
    """Reads /proc, the cgroup filesystem and the directory of rendered settings.

    `root` stands before every path (tests); `rendered_directory` is fleetd-render's.
    """

    def __init__(
        self, *, root: Path = Path("/"), rendered_directory: Path = Path("/var/lib/mastodon-sidekiq")
    ) -> None:
        self._root = root
        self._cgroups = root / "sys/fs/cgroup"
        self._rendered_directory = root / rendered_directory.relative_to("/")

    async def read(self, systemd: SystemdFacts | None) -> HostFacts:
        """Memory now; resident bytes of the instances in `systemd` where their cgroup tells them, else absent.

        Raises SourceUnavailableError when /proc/meminfo does not say what is available.
        """
        total, available = self._memory_bytes()
        resident = {}
        for number, unit in {} if systemd is None else systemd.instances.items():
            taken = self._resident_bytes(unit.control_group)
            if taken is not None:
                resident[number] = taken
        rendered, scheduler_rendered = self._rendered()
        return HostFacts(
            memory_available_bytes=available,
            memory_total_bytes=total,
            instance_resident_bytes=resident,
            rendered=rendered,
            scheduler_rendered=scheduler_rendered,
        )

    def _memory_bytes(self) -> tuple[int, int]:
        path = self._root / "proc/meminfo"
        content = _small_file(path)
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
        current = _small_file(directory / "memory.current")
        if current is None or not current.strip().isdigit():
            return None
        parts = {
            name: int(value) for name, value in _STAT.findall(_small_file(directory / "memory.stat") or b"")
        }
        cache = parts.get(b"file", 0) - parts.get(b"shmem", 0)
        return max(0, int(current) - max(0, cache))

    def _rendered(self) -> tuple[dict[int, RenderedInstance], bool]:
        rendered: dict[int, RenderedInstance] = {}
        try:
            with os.scandir(self._rendered_directory) as entries:
                names = sorted(entry.name for entry in islice(entries, _ENTRIES_MAX))
        except OSError:
            return {}, False  # never rendered; then nothing may start, which the core says
        for name in names:
            match = _INSTANCE_FILE.fullmatch(name)
            if match is not None and len(rendered) < _RENDERED_MAX:
                instance = read_rendered(int(match[1]), self._settings(name))
                if instance is not None:
                    rendered[instance.number] = instance
        return rendered, "scheduler.env" in names and _is_schedulers(self._settings("scheduler.env"))

    def _settings(self, name: str) -> str:
        """The text of a rendered file; empty when there is none that fleetd-render could have written."""
        return (_small_file(self._rendered_directory / name) or b"").decode(errors="replace")


def _is_schedulers(settings: str) -> bool:
    words = parse_settings(settings).get("SIDEKIQ_ARGS", "").split()
    tags = (parse_tag(word) for option, word in pairwise(words) if option == "-g")
    return any(tag is not None and tag.number == "scheduler" for tag in tags)


def _small_file(path: Path) -> bytes | None:
    """The content of a regular file of at most _FILE_BYTES_MAX; None: missing, unreadable, too big or no file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        content = b""
        while len(content) <= _FILE_BYTES_MAX and (part := os.read(descriptor, _FILE_BYTES_MAX + 1)):
            content += part
        return content if len(content) <= _FILE_BYTES_MAX else None
    except OSError:
        return None
    finally:
        os.close(descriptor)
