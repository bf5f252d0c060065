"""A host's disk: an overlay on this machine's files, prepared to boot as a separate host."""

import shutil
import subprocess
import uuid
from pathlib import Path

from lab.errors import LabError

SERVICES = ("redis-server", "redis-sentinel", "postgresql", "pgbouncer", "prometheus")
"""Services that a host runs only when asked to."""

_MASKED = (
    # hardware, clock and kernel are the machine's
    "systemd-udevd.service", "systemd-udevd-control.socket", "systemd-udevd-kernel.socket",
    "systemd-udev-trigger.service", "systemd-udev-settle.service", "systemd-sysctl.service",
    "systemd-modules-load.service", "systemd-timesyncd.service", "systemd-pstore.service",
    "systemd-remount-fs.service", "systemd-random-seed.service", "systemd-hwdb-update.service",
    "kmod-static-nodes.service", "sys-kernel-config.mount", "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount", "sys-fs-fuse-connections.mount", "dev-hugepages.mount",
    "proc-sys-fs-binfmt_misc.automount", "openipmi.service", "ipmievd.service",
    # a host is fully installed, and nobody logs in on a terminal
    "systemd-firstboot.service", "systemd-networkd.service", "systemd-networkd.socket",
    "systemd-resolved.service", "NetworkManager.service", "getty.target", "console-getty.service",
    "ldconfig.service", "e2scrub_reap.service",
)  # fmt: skip
_GENERATORS_KEPT = {"postgresql-generator"}


def mount(folder: Path, inner: int, base: str) -> None:
    """Mount the overlay on `base` at folder/root, in the mount namespace of process `inner`."""
    script = (
        'mkdir -p "$1/upper" "$1/work" "$1/root" && '
        'mount -t overlay -o "lowerdir=$2,upperdir=$1/upper,workdir=$1/work" overlay "$1/root"'
    )
    done = subprocess.run(
        ["nsenter", "-t", str(inner), "-m", "--", "sh", "-c", script, "sh", str(folder), base],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise LabError(f"No overlay of {base} could be mounted: {done.stderr.strip()}")


def prepare(root: Path, hostname: str, run: tuple[str, ...]) -> None:
    """Prepare this machine's files, seen through an overlay, so that a host boots what it should and nothing else."""
    unknown = set(run) - set(SERVICES)
    if unknown:
        raise LabError(f"The lab knows no service {sorted(unknown)[0]!r}; it knows: {', '.join(SERVICES)}.")
    etc = root / "etc"
    for name, text in (("machine-id", uuid.uuid4().hex), ("hostname", hostname), ("fstab", ""), ("crypttab", "")):
        _replace(etc / name, f"{text}\n" if text else "")
    _replace(etc / "resolv.conf", "")  # no name server, so that unknown names fail at once
    _replace(etc / "systemd/journald.conf", "[Journal]\nStorage=persistent\nAudit=no\nRateLimitBurst=0\n")
    units = etc / "systemd/system"
    for wants in [*units.glob("*.wants"), *units.glob("*.requires"), *etc.glob("rc?.d"), etc / "rc.local"]:
        _remove(wants)  # a host does not boot what this machine boots
    for generator in (root / "usr/lib/systemd/system-generators").iterdir():
        if not generator.name.startswith("systemd-") and generator.name not in _GENERATORS_KEPT:
            _mask(etc / "systemd/system-generators" / generator.name)
    for name in ("systemd-fstab-generator", "systemd-sysv-generator", "systemd-gpt-auto-generator"):
        _mask(etc / "systemd/system-generators" / name)
    for unit in _MASKED:
        _mask(units / unit)
    for service in SERVICES:
        if service not in run:
            _mask(units / f"{service}.service")
    for cluster in (etc / "postgresql").glob("*"):
        _remove(cluster)  # not this machine's databases; setup/services.py makes the lab's
    _remove(root / "var/log/journal")
    (root / "var/log/journal").mkdir()


def account(root: Path, name: str) -> tuple[int, int]:
    """The user and group id of an account on the host."""
    for line in (root / "etc/passwd").read_text().splitlines():
        fields = line.split(":")
        if fields[0] == name:
            return int(fields[2]), int(fields[3])
    raise LabError(f"The host has no user {name!r}.")


def _replace(path: Path, text: str) -> None:
    _remove(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _mask(path: Path) -> None:
    _remove(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to("/dev/null")


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
