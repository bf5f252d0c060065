"""The machine's cgroup2 hierarchy: one cgroup per lab, and below it one per host.

Otherwise all hosts' systemds would share a cgroup root, and stopping `mastodon-sidekiq@1` on one host would end the
unit of that name on another.
"""

import contextlib
import os
import time
from pathlib import Path

from lab.errors import LabError
from lab.waiting import wait_until

PREFIX = "fleetd-lab-"


def hierarchy() -> Path:
    """Where cgroup2 is mounted: at /sys/fs/cgroup or, on a machine that also has the older layout, below it."""
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
    """Make the cgroup of one host, with every controller that the machine can give it."""
    parent = of_lab(lab)
    parent.mkdir(exist_ok=True)
    for controller in (parent / "cgroup.controllers").read_text().split():
        with contextlib.suppress(OSError):  # some machines can't delegate every controller
            (parent / "cgroup.subtree_control").write_text(f"+{controller}")
    group = parent / host
    group.mkdir(exist_ok=True)
    return group


def processes(group: Path) -> list[int]:
    """The processes directly in this group, by their ids in this process's namespace."""
    try:
        return [int(line) for line in (group / "cgroup.procs").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def freeze(group: Path, timeout_seconds: float) -> None:
    """Stop every process in a group and below where it is, and wait until all have stopped."""
    _set_frozen(group, "1", timeout_seconds)


def thaw(group: Path, timeout_seconds: float) -> None:
    """Undo `freeze`."""
    _set_frozen(group, "0", timeout_seconds)


def _set_frozen(group: Path, frozen: str, timeout_seconds: float) -> None:
    (group / "cgroup.freeze").write_text(frozen)
    wait_until(
        f"{group.name} is {'frozen' if frozen == '1' else 'thawed'}",
        lambda: f"frozen {frozen}" in (group / "cgroup.events").read_text(),
        timeout_seconds,
        every=0.01,
    )


def remove(group: Path, timeout_seconds: float = 30.0) -> bool:
    """End whatever still runs in a group, remove it with all groups below, and return whether it is gone."""
    deadline = time.monotonic() + timeout_seconds
    while group.exists():
        with contextlib.suppress(OSError):  # Linux before 5.14 has no cgroup.kill; there, hosts end with their PID 1
            (group / "cgroup.kill").write_text("1")
        for folder, _, _ in os.walk(group, topdown=False):
            with contextlib.suppress(OSError):  # a dying process keeps its group busy for a moment
                Path(folder).rmdir()
        if time.monotonic() > deadline:
            return not group.exists()
        time.sleep(0.01)
    return True
