"""Limits on the workers' memory below the machine's: of a container, of a slice.

In a container lxcfs puts the container's own numbers over /proc/meminfo, but a unit with ProtectKernelTunables= or
ProtectProc= gets a fresh /proc, which shows the whole machine's. The container's limit is then in its control group,
which is the root of what can be seen there. Source: kernel documentation, "Control Group v2", memory.

Only version 2 of control groups is understood. fleetd's own MemoryMax= is no limit of the workers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from fleetd.adapters.host.files import read_small_file
from fleetd.core.model.bounds import whole

_STAT = re.compile(rb"^(file|shmem) (\d{1,19})$", re.MULTILINE)
_OWN_GROUP = re.compile(rb"^0::(/[^\n]*)$", re.MULTILINE)
#: Deeper ones don't exist.
_DEPTH_MAX = 16


def limits_above(root: Path, control_groups: Iterable[str]) -> Iterator[tuple[int, int]]:
    """(limit, bytes held) of each limited group that contains these groups of workers, or fleetd's; not of themselves.

    `held`: without what the kernel can take back. A limit whose use is unknown is left out.
    """
    own = _OWN_GROUP.search(_read(root, "/proc/self/cgroup"))
    groups = [*control_groups, *([own[1].decode(errors="replace")] if own else [])]
    above = {"/"}
    for group in groups:
        if _sound(group):
            above |= {str(parent) for parent in PurePosixPath(group).parents}
    for group in sorted(above):
        limit, held = _limit_bytes(root, group), held_bytes(root, group)
        if limit is not None and held is not None:
            yield limit, held


def held_bytes(root: Path, control_group: str) -> int | None:
    """Memory that a group's processes hold, without page cache that the kernel can take back.

    memory.current counts page cache; memory.stat's `file` is the cache, of which `shmem` is not reclaimable. Without a
    memory controller there is no such file: unknown.
    """
    if not _sound(control_group):
        return None
    directory = f"/sys/fs/cgroup{control_group.rstrip('/')}"
    current = whole(_read(root, f"{directory}/memory.current").strip(), "bytes")
    parts = dict(_STAT.findall(_read(root, f"{directory}/memory.stat")))
    cache, kept = whole(parts.get(b"file", b"0"), "bytes"), whole(parts.get(b"shmem", b"0"), "bytes")
    if current is None or cache is None or kept is None:
        return None
    return max(0, current - max(0, cache - kept))


def _limit_bytes(root: Path, group: str) -> int | None:
    """The lower of memory.max, beyond which something is killed, and memory.high, beyond which all stand still."""
    directory = f"/sys/fs/cgroup{group.rstrip('/')}"
    found = [whole(_read(root, f"{directory}/{name}").strip(), "bytes") for name in ("memory.max", "memory.high")]
    return min((limit for limit in found if limit), default=None)


def _sound(group: str) -> bool:
    parts = group.split("/")
    return group.startswith("/") and ".." not in parts and len(parts) <= _DEPTH_MAX


def _read(root: Path, path: str) -> bytes:
    return read_small_file(root / path.lstrip("/")) or b""
