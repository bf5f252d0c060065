"""Which unit a Sidekiq process of this host is of: a stock unit, or somebody's own, whose heartbeat tells only the pid.

By control groups, which everybody may read; /proc of other users' processes is hidden from fleetd (ProtectProc=). Only
units with `sidekiq` in their names are looked at, and of those below system.slice.
"""

from __future__ import annotations

import re
from pathlib import Path

from fleetd.adapters.host.files import read_small_file

UNITS_MAX = 256
_PID = re.compile(rb"^([1-9][0-9]{0,9})$", re.MULTILINE)
#: A template's instances are in a slice of their own.
_GROUPS = ("*sidekiq*.service", "*sidekiq*.slice/*sidekiq*.service")


def sidekiq_units(root: Path) -> dict[int, str]:
    """By pid: the unit. Empty without version 2 of control groups."""
    slice_ = root / "sys/fs/cgroup/system.slice"
    groups = sorted(group for pattern in _GROUPS for group in slice_.glob(pattern))[:UNITS_MAX]
    found: dict[int, str] = {}
    for group in groups:
        for pid in _PID.findall(read_small_file(group / "cgroup.procs") or b""):
            found[int(pid)] = group.name
    return found
