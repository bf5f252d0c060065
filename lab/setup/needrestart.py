"""needrestart on a host: Debian's package and what it needs, unpacked there and not installed on this machine.

Installed here it would hook into every later run of apt.
"""

import subprocess
from pathlib import Path

from lab.errors import LabError
from lab.hosts.host import Host
from lab.setup import cache

PACKAGES = (
    "needrestart",
    "libmodule-find-perl",
    "libproc-processtable-perl",
    "libsort-naturally-perl",
    "libterm-readkey-perl",
    "libintl-perl",
    "libintl-xs-perl",
)


def install(host: Host) -> None:
    """Unpack it below the host's root. Call it before the host boots, or on a running one."""
    packages = cache.once(f"needrestart-{cache.digest(*PACKAGES)}", _download)
    for package in sorted(packages.glob("*.deb")):
        subprocess.run(["dpkg", "--extract", str(package), str(host.root)], check=True)


def _download(folder: Path) -> None:
    done = subprocess.run(
        ["apt-get", "download", *PACKAGES], cwd=folder, capture_output=True, text=True, check=False, timeout=120
    )
    if done.returncode != 0:
        raise LabError(f"needrestart could not be downloaded: {done.stderr.strip()[-1000:]}")
