"""Other Sidekiqs on this VM, such as a second Mastodon's: units that run one elsewhere than ours do.

The units, the settings and the scheduler of fleetd are of one Mastodon. A second one has another Redis or database, of
which nothing here is read, so its workers can't be told from other programs.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from fleetd.adapters.host.files import read_small_file
from fleetd.adapters.host.unit_syntax import unit_lines
from fleetd.core.model.identity import SCHEDULER_UNIT, TEMPLATE_UNIT, key_of_unit
from fleetd.core.model.unit_rules.text import UnitLine

_DIRECTORIES = ("etc/systemd/system", "run/systemd/system", "usr/local/lib/systemd/system", "usr/lib/systemd/system")
_RUNS_SIDEKIQ = re.compile(r"(?<![\w-])sidekiq(?![\w-])")
_GOES_TO = re.compile(r"\bcd\s+[\"']?(/[^\s\"';&]+)")
_UNITS_MAX = 500


def other_sidekiqs(directory: str, root: Path = Path("/")) -> dict[str, str]:
    """Units whose Sidekiq works in another directory than Mastodon's `directory`: name to that directory.

    Two names of one directory (a symbolic link to a release) are the same. `root`: another root directory.
    """
    found = _places(root)
    return {unit: place for unit, place in found.items() if _real(root, place) != _real(root, directory)}


def own_sidekiqs(directory: str, root: Path = Path("/")) -> tuple[str, ...]:
    """Unit files, templates among them, that run this Mastodon's Sidekiq and have none of fleetd's names."""
    return tuple(unit for unit, place in _places(root).items() if _real(root, place) == _real(root, directory))


def _places(root: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    seen = {TEMPLATE_UNIT, SCHEDULER_UNIT}
    for folder in _DIRECTORIES:
        for path in sorted((root / folder).glob("*.service"))[:_UNITS_MAX]:
            if path.name in seen or key_of_unit(path.name) is not None:
                continue
            seen.add(path.name)
            place = _works_in(unit_lines(read_small_file(path) or b"", str(path)))
            if place is not None:
                found[path.name] = place.rstrip("/")
    return found


def _works_in(lines: tuple[UnitLine, ...]) -> str | None:
    """Where a unit runs Sidekiq; None: it does not, or does not say where."""
    commands = [line.value for line in lines if line.name == "ExecStart" and _RUNS_SIDEKIQ.search(line.value)]
    if not commands:
        return None
    goes = _GOES_TO.search(commands[-1])
    places = [line.value.lstrip("-~!") for line in lines if line.name == "WorkingDirectory"]
    place = goes[1] if goes is not None else next(reversed(places), "")
    return place if place.startswith("/") else None


def _real(root: Path, path: str) -> str:
    return os.path.realpath(root / path.lstrip("/"))
