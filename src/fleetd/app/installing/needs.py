"""What has to be on a host before fleetd's units are of use there: each thing that is missing, with its cure."""

from __future__ import annotations

import re
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import fleetd
from fleetd.errors import ConfigProblem

_PROGRAMS: Final = ("fleetd", "fleetd-render", "fleetd-stamp", "fleetctl")
#: fleetd.service sees none of these (ProtectHome=).
_HOMES: Final = ("/home", "/root", "/run/user")
_PACKAGED: Final = Path("/usr/lib/systemd/system/fleetd.service")
#: The first with rules in JavaScript; from 121 on versions have no 0. in front.
_POLKIT_MIN: Final = (0, 106)
_ASK_SECONDS: Final = 10.0
_OWN_PLACE: Final = "`sudo make install` in a clone of its source puts it into /opt/fleetd."


def missing(bin_directory: Path) -> Iterator[ConfigProblem]:
    """What is missing on this host, for programs in `bin_directory`; nothing if all is there."""
    if not Path("/run/systemd/system").is_dir():
        yield ConfigProblem("systemd", "does not run here", "fleetd runs on hosts that were booted with systemd.")
    if not Path("/run/dbus/system_bus_socket").exists():
        yield ConfigProblem("dbus", "there is no system bus", "apt install dbus")
    if _PACKAGED.exists():
        what = "the Debian package is installed here, and these units would hide its own"
        yield ConfigProblem("fleetd", what, "Use the package's fleetd, or remove it first: apt-get remove fleetd")
    yield from _polkit()
    yield from reachable(bin_directory)


def _polkit() -> Iterator[ConfigProblem]:
    version = polkit_version()
    why = "without it fleetd may start and stop nothing"
    if version is None:
        yield ConfigProblem("polkit", f"is not installed: {why}", "apt install polkitd")
    elif version < _POLKIT_MIN:
        what = f"is older than {'.'.join(map(str, _POLKIT_MIN))}, which does not read rules such as fleetd's: {why}"
        yield ConfigProblem("polkit", what, "Use Debian 12, Ubuntu 23.04 or newer.")


def polkit_version() -> tuple[int, ...] | None:
    """As (0, 105) or (122,); None: it is not there."""
    try:
        shown = subprocess.run(
            ["pkaction", "--version"], capture_output=True, text=True, timeout=_ASK_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(r"(\d{1,6}(?:\.\d{1,6})*)\s*$", shown.stdout)
    return tuple(map(int, found[1].split("."))) if found else None


def reachable(bin_directory: Path) -> Iterator[ConfigProblem]:
    """What keeps user fleetd from running these programs."""
    absent = [name for name in _PROGRAMS if not (bin_directory / name).is_file()]
    if absent:
        what = f"{bin_directory} lacks {', '.join(absent)}, which the units start"
        yield ConfigProblem("programs", what, f"Install fleetd where they stay together: {_OWN_PLACE}")
        return
    if re.fullmatch(r"[\w/.+@-]+", str(bin_directory)) is None:
        what = f"a unit can't name {bin_directory}, with signs other than letters, digits and / . _ + @ -"
        yield ConfigProblem("programs", what, f"Install fleetd elsewhere: {_OWN_PLACE}")
        return
    python = (bin_directory / "python").resolve()
    places = [*(bin_directory / name for name in _PROGRAMS), python, Path(fleetd.__file__)]
    for place in (place for place in places if place.exists()):
        if any(place.is_relative_to(home) for home in _HOMES):
            what = f"{place} is in a home directory, which fleetd.service does not see"
            yield ConfigProblem("programs", what, f"Install fleetd elsewhere, with the system's Python: {_OWN_PLACE}")
            return
        closed = _closed(place)
        if closed is not None:
            what = f"user fleetd may not use {closed}, so systemd could not start it (203/EXEC)"
            own = closed.is_relative_to(bin_directory.parent)
            cure = f"chmod -R a+rX {bin_directory.parent}" if own else f"chmod a+rX {closed}"
            yield ConfigProblem("programs", what, cure)
            return


def _closed(file: Path) -> Path | None:
    """The first directory on the way to a file that others may not enter, or the file; None: they may read it."""
    above = (parent for parent in reversed(file.parents) if not parent.stat().st_mode & stat.S_IXOTH)
    return next(above, None if file.stat().st_mode & stat.S_IROTH else file)
