"""What is to be installed, and how that differs from what is there.

units/install.sh alone says which file goes where. It is run for an empty directory, and the result is compared with
this host.
"""

from __future__ import annotations

import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final, Literal

import fleetd
from fleetd.adapters.host.files import read_small_file
from fleetd.core.model.facts import Value
from fleetd.errors import FleetdError

#: The units and scripts of this package: links into units/ of the source, files in a wheel.
_SHIPPED: Final = Path(fleetd.__file__).parent / "units"
#: Which files an earlier run installed; those that this one does not are taken away.
MANIFEST: Final = "/usr/local/share/fleetd/installed"
_SECONDS: Final = 60.0

Change = Literal["new", "changed", "same", "unseen"]


class StagedFile(Value, frozen=True, kw_only=True):
    """A file and its place on this host."""

    path: str
    content: bytes
    mode: int
    change: Change


def programs() -> Path:
    """The directory of the program that runs: the units name those beside it."""
    return Path(sys.argv[0]).resolve().parent if sys.argv[0].endswith("fleetctl") else Path(sys.prefix) / "bin"


def staged(bin_directory: Path, root: Path = Path("/")) -> tuple[StagedFile, ...]:
    """Every file, with `bin_directory` where units name programs. Raises FleetdError. `root`: instead of /."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            subprocess.run(
                ["/bin/sh", str(_SHIPPED / "install.sh"), folder],
                env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "FLEETD_BIN": str(bin_directory)},
                check=True,
                capture_output=True,
                timeout=_SECONDS,
            )
        except (OSError, subprocess.SubprocessError) as error:
            said = getattr(error, "stderr", None) or b""
            why = said.decode(errors="replace").strip() or str(error)
            raise FleetdError(f"the units could not be made in a temporary directory: {why}") from None
        found = [path for path in sorted(Path(folder).rglob("*")) if path.is_file()]
        return tuple(_compared(path, Path(folder), root) for path in found)


def _compared(path: Path, folder: Path, root: Path) -> StagedFile:
    name, content = f"/{path.relative_to(folder)}", path.read_bytes()
    mode, there = stat.S_IMODE(path.stat().st_mode), root / name.lstrip("/")
    before = read_small_file(there, len(content) + 1)
    try:
        shown = there.lstat()
    except FileNotFoundError:
        change: Change = "new"
    except OSError:  # polkit's directory is closed to all but root
        change = "unseen"
    else:
        same = before == content and stat.S_ISREG(shown.st_mode) and stat.S_IMODE(shown.st_mode) == mode
        change = "same" if same else "changed"
    return StagedFile(path=name, content=content, mode=mode, change=change)


def installed_before(root: Path = Path("/")) -> tuple[str, ...]:
    """The paths that an earlier run has noted; none if there was none."""
    content = read_small_file(root / MANIFEST.lstrip("/")) or b""
    return tuple(line for line in content.decode(errors="replace").splitlines() if line.startswith("/"))
