"""Write the staged files to this host and make systemd, the bus and the account known; or take them away again.

Law 5: neither touches a worker. What workers run from, and what a boot starts them with, stays when the rest goes.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from fleetd import __version__
from fleetd.adapters.host.files import replace_file
from fleetd.app.installing.staged import MANIFEST, StagedFile, installed_before
from fleetd.errors import FleetdError

#: For systemctl: fleetd has 20 s to end and 60 s to start.
_SECONDS: Final = 90.0
#: fleetctl on everybody's PATH.
LINK: Final = "/usr/local/bin/fleetctl"
#: What is stopped and disabled before the files go. None of them is a worker's.
_OWN_UNITS: Final = (
    "fleetd.service",
    "fleetd-render.path",
    "fleetd-render.service",
    "fleetd-stamp.path",
    "fleetd-stamp-git.path",
    "fleetd-stamp.timer",
    "fleetd-stamp.service",
    "fleetd-stamp-again.service",
)
_WORKERS = re.compile(r".*/(?:mastodon-[^/]*|mastodon-sidekiq\.service\.d/.*|mastodon-workers/.*|needrestart/.*)")


def write(files: tuple[StagedFile, ...], bin_directory: Path, root: Path = Path("/")) -> Iterator[str]:
    """Install them, and restart fleetd if it runs; yields what was done, as sentences.

    Raises FleetdError, and OSError for a place.
    """
    stale = [path for path in installed_before(root) if path not in {file.path for file in files}]
    for file in files:
        if file.change != "same":
            place = root / file.path.lstrip("/")
            _make_directories(place.parent, root)
            replace_file(place, file.content, mode=file.mode)
            yield f"{file.change}: {file.path}"
    for path in stale:
        (root / path.lstrip("/")).unlink(missing_ok=True)
        yield f"removed: {path}, which an earlier version had"
    place = root / MANIFEST.lstrip("/")
    _make_directories(place.parent, root)
    replace_file(place, "".join(f"{file.path}\n" for file in files).encode(), mode=0o644)
    yield from _link(bin_directory, root)
    if root == Path("/"):
        _activate()
        yield from _restart()


def is_workers(path: str) -> bool:
    """Whether workers run from this file, or a boot starts them with it."""
    return _WORKERS.fullmatch(path) is not None


def remove(paths: tuple[str, ...], root: Path = Path("/")) -> Iterator[str]:
    """Stop fleetd and take its files away, but for what workers need; yields what was done. Raises as `write` does."""
    if root == Path("/"):
        _disable()
        yield "stopped and disabled: fleetd and the units that render for it; workers run on"
    for path in (*(path for path in paths if not is_workers(path)), MANIFEST):
        place = root / path.lstrip("/")
        if place.exists() or place.is_symlink():
            place.unlink()
            yield f"removed: {path}"
    link = root / LINK.lstrip("/")
    if link.is_symlink() and _leads_to_fleetd(link):
        link.unlink()
        yield f"removed: {LINK}"
    passwords = root / "run/fleetd-render"
    if passwords.is_dir():
        shutil.rmtree(passwords)
        yield "removed: /run/fleetd-render, a copy of Mastodon's settings"
    if root == Path("/"):
        _run("systemctl", "daemon-reload")


def _disable() -> None:
    """Those that are there: systemctl fails for one that is not, as when a removal was broken off."""
    there = [unit for unit in _OWN_UNITS if Path(f"/usr/local/lib/systemd/system/{unit}").exists()]
    if there:
        _run("systemctl", "disable", "--now", *there)


def _make_directories(folder: Path, root: Path) -> None:
    """With rights for everybody, whatever the umask is: units in a closed directory are not found by fleetd."""
    for place in reversed([folder, *folder.parents]):
        if place.is_relative_to(root) and not place.is_dir():
            place.mkdir()
            place.chmod(0o755)


def _link(bin_directory: Path, root: Path) -> Iterator[str]:
    link, target = root / LINK.lstrip("/"), bin_directory / "fleetctl"
    if link == target or (link.exists() and link.samefile(target)):
        return
    if link.exists() and not (link.is_symlink() and _leads_to_fleetd(link)):
        yield f"left alone: {LINK} is somebody else's; fleetctl is {target}"
        return
    link.unlink(missing_ok=True)
    _make_directories(link.parent, root)
    link.symlink_to(target)
    yield f"linked: {LINK} to {target}"


def _leads_to_fleetd(link: Path) -> bool:
    """Or nowhere. There are other programs of that name."""
    target = link.resolve()
    return not target.exists() or (target.parent / "fleetd-render").exists()


def _activate() -> None:
    _run("systemd-sysusers", "fleetd.conf")
    _run("systemd-tmpfiles", "--create", "fleetd.conf")
    _run("systemctl", "daemon-reload")
    # dbus-daemon watches its directories too; this makes sure that the new policy is loaded before the first start.
    bus = "org.freedesktop.DBus"
    _run("busctl", "call", bus, "/org/freedesktop/DBus", bus, "ReloadConfig")


def _restart() -> Iterator[str]:
    """Of the fleetd that was installed before. One that waits to be tried again counts as running."""
    if _run("systemctl", "show", "--property=ActiveState", "--value", "fleetd.service") in {"inactive", "failed"}:
        return
    try:
        _run("systemctl", "restart", "fleetd.service")
    except FleetdError:
        yield "look: fleetd did not start again; the workers run on. See: systemctl status fleetd"
    else:
        yield f"restarted: fleetd, which is {__version__} now"


def _run(*command: str) -> str:
    """What it printed."""
    try:
        done = subprocess.run(command, check=True, capture_output=True, timeout=_SECONDS)
    except (OSError, subprocess.SubprocessError) as error:
        said = (getattr(error, "stderr", None) or b"").decode(errors="replace").strip()
        raise FleetdError(f"`{' '.join(command)}` failed: {said or error}") from None
    return done.stdout.decode(errors="replace").strip()
