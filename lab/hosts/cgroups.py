"""The machine's cgroup2 hierarchy: one cgroup per lab, one below it per host.

Without a cgroup of its own each host's systemd would see the same cgroup root, and stopping
`mastodon-sidekiq@1` on one host would end the unit of that name on another.
"""

import contextlib
import os
import time
from pathlib import Path

from lab.errors import LabError

PREFIX = "fleetd-lab-"


def hierarchy() -> Path:
    """Where cgroup2 is mounted: /sys/fs/cgroup, or below it on a machine with the older layout as well."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        mount, _, source = line.partition(" - ")
        if source.startswith("cgroup2 "):
            return Path(mount.split()[4])
    raise LabError(
        "This machine has no cgroup2 hierarchy, which each virtual host needs for its systemd. "
        "Mount one: mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified"
    )


def of_lab(lab: str) -> Path:
    """The cgroup that holds the cgroups of a lab's hosts."""
    return hierarchy() / f"{PREFIX}{lab}"


def create(lab: str, host: str) -> Path:
    """Make the cgroup of one host, with every controller that the machine has to give."""
    parent = of_lab(lab)
    parent.mkdir(exist_ok=True)
    for controller in (parent / "cgroup.controllers").read_text().split():
        with contextlib.suppress(OSError):  # not everywhere can every controller be handed down
            (parent / "cgroup.subtree_control").write_text(f"+{controller}")
    group = parent / host
    group.mkdir(exist_ok=True)
    return group


def processes(group: Path) -> list[int]:
    """Processes in this very group, by their ids as this process sees them."""
    try:
        return [int(line) for line in (group / "cgroup.procs").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def remove(group: Path, timeout_seconds: float = 30.0) -> bool:
    """End whatever still runs in a group, remove it with all below it, and say whether it is gone."""
    deadline = time.monotonic() + timeout_seconds
    while group.exists():
        with contextlib.suppress(OSError):  # Linux before 5.14 has no cgroup.kill: hosts end with their PID 1
            (group / "cgroup.kill").write_text("1")
        for folder, _, _ in os.walk(group, topdown=False):
            with contextlib.suppress(OSError):  # a dying process keeps its group busy for a moment
                Path(folder).rmdir()
        if time.monotonic() > deadline:
            return not group.exists()
        time.sleep(0.01)
    return True
