"""Installs the Debian packages that the lab's hosts need, without starting anything on this machine."""

import contextlib
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from lab.errors import LabError
from lab.hosts.namespaces import piped

PACKAGES = (
    "systemd",
    "dbus",
    "polkitd",
    "util-linux",
    "iproute2",
    "python3-venv",
    "redis-server",
    "redis-sentinel",
    "postgresql",
    "pgbouncer",
    "ruby-sidekiq",
    "ruby-activerecord",
    "ruby-pg",
    "ruby-rufus-scheduler",
    "ruby-dotenv",
    "prometheus",
    "libjemalloc2",
    "curl",
)
_SERVICES = ("redis-server", "redis-sentinel", "postgresql", "pgbouncer", "prometheus", "prometheus-node-exporter")
_POLICY = Path("/usr/sbin/policy-rc.d")


def missing() -> list[str]:
    """The packages that are not installed. Raises LabError on a system other than Debian or Ubuntu."""
    if shutil.which("dpkg-query") is None or shutil.which("apt-get") is None:
        raise LabError(
            "The lab was tried on Debian 12; this system has no apt. It needs what these Debian packages hold, in "
            "Debian's places: " + " ".join(PACKAGES)
        )
    query = ["dpkg-query", "--show", "--showformat=${db:Status-Status} ${Package}\n", *PACKAGES]
    shown = subprocess.run(query, capture_output=True, text=True, check=False, timeout=60).stdout
    installed = {line.split()[1] for line in shown.splitlines() if line.startswith("installed ")}
    return [name for name in PACKAGES if name not in installed]


def install(say: Callable[[str], None]) -> None:
    """Install what is missing, and report to `say`. Needs root. New services stay disabled on this machine."""
    wanted = missing()
    if not wanted:
        return
    say(f"installing {len(wanted)} Debian packages: {' '.join(wanted)}")
    with _nothing_starts():
        _apt(["update"], say)
        _apt(["install", "--yes", "--no-install-recommends", *wanted], say)
    # Services that a package enables would start at this machine's next boot.
    started = [service for service in _SERVICES if service in wanted]
    if started and shutil.which("systemctl"):
        subprocess.run(["systemctl", "--quiet", "disable", *started], check=False, capture_output=True)
    left = missing()
    if left:
        raise LabError(f"apt-get ended well, but these packages are still missing: {' '.join(left)}")


def _apt(arguments: list[str], say: Callable[[str], None]) -> None:
    environment = {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    command = ["apt-get", "--quiet", "-o", "Dpkg::Use-Pty=0", *arguments]
    last: list[str] = []
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=subprocess.STDOUT, text=True, env=environment) as apt:
        for line in piped(apt.stdout):
            last = [*last[-15:], line]
            if line.startswith(("Get:", "Unpacking ", "Setting up ")):
                say(line.strip())
    if apt.returncode != 0:
        raise LabError(f"`{' '.join(command)}` failed:\n{''.join(last)}")


@contextlib.contextmanager
def _nothing_starts() -> Iterator[None]:
    """Keeps packages from starting services with Debian's policy-rc.d. An existing policy-rc.d is kept."""
    ours = not _POLICY.exists()
    if ours:
        _POLICY.write_text("#!/bin/sh\nexit 101\n")
        _POLICY.chmod(0o755)
    try:
        yield
    finally:
        if ours:
            _POLICY.unlink(missing_ok=True)
