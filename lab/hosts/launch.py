"""Starts PID 1 of a host in its own namespaces."""

import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from lab.errors import LabError
from lab.hosts import cgroups
from lab.hosts.namespaces import piped

_SCRIPT = Path(__file__).with_name("host.sh")


def launch(
    inner: int, group: Path, arguments: Sequence[str], plug_in: Callable[[str], None]
) -> tuple[subprocess.Popen[str], int]:
    """Start a host's systemd below the lab's inner process, and return its launcher and its process id.

    The launcher lives as long as the host. `arguments` are the remaining arguments of host.sh. `plug_in` is called when
    the host is ready for its network, with the process id in the lab's own namespace.
    """
    lab = ["nsenter", "-t", str(inner), "-m", "-n", "-p", "--"]
    own = ["unshare", "--pid", "--fork", "--kill-child", "--mount", "--uts", "--ipc", "--net", "--"]
    pipe = subprocess.PIPE
    launcher = subprocess.Popen(
        [*lab, *own, "sh", str(_SCRIPT), "enter", str(group), *arguments],
        stdin=pipe,
        stdout=pipe,
        stderr=pipe,
        text=True,
        start_new_session=True,
    )
    with piped(launcher.stdin) as stdin, piped(launcher.stdout) as out, piped(launcher.stderr) as err:
        if out.readline() != "ready\n":
            raise LabError(f"A host did not boot: {err.read().strip()}")
        (pid,) = cgroups.processes(group)
        plug_in(_id_in_lab(pid))
        stdin.write("go\n")
        stdin.flush()
        if out.readline() != "starting systemd\n":
            raise LabError(f"A host did not boot: {err.read().strip()}")
    return launcher, pid


def _id_in_lab(pid: int) -> str:
    # NSpid lists a process's ids from this namespace down to its own, where it is 1. The lab's is the one before that.
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("NSpid:"):
            return line.split()[-2]
    raise LabError("This kernel does not tell NSpid in /proc/PID/status: the lab needs Linux 4.1 or newer.")
