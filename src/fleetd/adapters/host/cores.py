"""Cores that this host or container may use."""

from __future__ import annotations

import math
import os
from pathlib import Path

from fleetd.adapters.host.files import read_small_file
from fleetd.core.model.bounds import whole

#: Of the control group that is the root of what is seen; the machine's own has none.
_CPU_MAX = Path("/sys/fs/cgroup/cpu.max")


def usable_cores(schedulable: int | None = None, limit: Path = _CPU_MAX) -> int:
    """At least 1. `schedulable`: those a process may be on; None: as the kernel says. `limit`: the quota's file."""
    most = len(os.sched_getaffinity(0)) if schedulable is None else schedulable
    quota, _, period = (read_small_file(limit) or b"").decode("ascii", "replace").strip().partition(" ")
    shares = whole(quota, "bytes"), whole(period, "bytes")
    if shares[0] and shares[1]:
        most = min(most, math.ceil(shares[0] / shares[1]))
    return max(1, most)
