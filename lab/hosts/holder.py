"""The process that holds a lab: the lab lives as long as this process, and nothing of the lab outlives it.

It starts one *inner* process, PID 1 of a process namespace, which owns the lab's mounts and network. Every host
is a process namespace below that one. Whatever ends, no host is left behind:

- the program that made the lab ends, in whatever way: this process reads the end of its standard input (unless it
  was told `keep`), ends the inner process, and sweeps the cgroups;
- this process is killed: the inner process reads the end of *its* standard input and exits. The kernel then kills
  all processes in the namespace. The empty cgroups are swept when the next lab starts.

Run as `python -m lab.hosts.holder NAME`. Prints the line `ready PID`, and reads the lines `keep` and `end`.
"""

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

from lab.hosts import cgroups, limits, namespaces

STATE = Path("/run/fleetd-lab")
NETWORK = "10.77"  # 10.77.0.0/16, in the lab's own network namespace only
DISK_INODES = 2_000_000

INNER = f"""set -eu
mount -t proc proc /proc
mount -t tmpfs -o mode=755,nr_inodes={DISK_INODES} lab "$1"
ip link set lo up
ip link add lab0 type bridge
ip address add {NETWORK}.0.1/16 dev lab0
ip link set lab0 up
echo ready
cat > /dev/null
"""


def lock(name: str, wait_seconds: float = 0.0) -> IO[str] | None:
    """Take the lock of a lab. Whoever gets it knows that the lab has no live holder."""
    path = STATE / name / "lock"
    deadline = time.monotonic() + wait_seconds
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(OSError):  # somebody else has it, or is just sweeping
            file = path.open("a")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(file.fileno()).st_ino == path.stat().st_ino:
                    return file
            except OSError:
                pass
            file.close()
        if time.monotonic() >= deadline:
            return None
        time.sleep(0.02)


def sweep() -> list[str]:
    """Remove what dead labs left: their cgroups and state. Returns their names.

    They are found by their state and not by their cgroup: a container or chroot may share the cgroups but have its own
    /run. Then a cgroup without state here may belong to a lab that is alive there.
    """
    names = {folder.name for folder in STATE.iterdir() if folder.is_dir()} if STATE.is_dir() else set()
    swept = []
    for name in sorted(names):
        held = lock(name)
        if held is None:
            continue  # alive
        with held:
            cgroups.remove(cgroups.of_lab(name))
            shutil.rmtree(STATE / name, ignore_errors=True)
        swept.append(name)
    return swept


def inner_pid(unshare: int) -> int:
    """The id of the inner process: the only child of the `unshare` that made its namespaces."""
    children = Path(f"/proc/{unshare}/task/{unshare}/children")
    if children.exists():
        return int(children.read_text().split()[0])
    for status in Path("/proc").glob("[0-9]*/status"):  # a kernel without that file
        with contextlib.suppress(OSError):
            if f"\nPPid:\t{unshare}\n" in status.read_text():
                return int(status.parent.name)
    raise ProcessLookupError(f"the child of process {unshare} is gone")


def main() -> None:
    name = sys.argv[1]
    held = lock(name, wait_seconds=10.0)  # a sweep may hold it for a moment
    if held is None:
        sys.exit(f"A lab named {name!r} runs already. See `python -m lab list`; `python -m lab down {name}` ends it.")
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # Ctrl-C is for the program that made the lab
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    limits.raise_inotify()
    disks = STATE / name / "hosts"
    disks.mkdir(exist_ok=True)
    unshare = ["unshare", "--pid", "--mount", "--net", "--fork", "--kill-child", "--"]
    inner = subprocess.Popen(
        [*unshare, "sh", "-c", INNER, "sh", str(disks)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        if namespaces.piped(inner.stdout).readline() != "ready\n":
            sys.exit("The lab's namespaces could not be made; the reason is printed above.")
        print("ready", inner_pid(inner.pid), flush=True)
        if sys.stdin.readline() == "keep\n":
            inner.wait()
    finally:
        namespaces.piped(inner.stdin).close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            inner.wait(timeout=2)
        inner.kill()
        inner.wait()
        cgroups.remove(cgroups.of_lab(name))
        shutil.rmtree(STATE / name, ignore_errors=True)
        held.close()


if __name__ == "__main__":
    main()
