"""Unit files that run a Sidekiq, this Mastodon's or another's, read without systemd, which a boot does not have yet.

The units, the settings and the scheduler of fleetd are of one Mastodon. A second one has another Redis or database, of
which nothing here is read, so its workers can't be told from other programs.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from fleetd.adapters.host.files import read_small_file
from fleetd.adapters.host.unit_files import UNIT_DIRECTORIES, UnitFiles
from fleetd.adapters.mastodon.sidekiq_command import runs_sidekiq, sidekiq_command, works_in
from fleetd.core.model.identity import SCHEDULER_UNIT, TEMPLATE_UNIT, key_of_unit
from fleetd.core.model.unit_rules.text import UnitLine

_UNITS_MAX = 500
_STOCK_UNIT = "mastodon-sidekiq.service"


def other_sidekiqs(directory: str, root: Path = Path("/")) -> dict[str, str]:
    """Units whose Sidekiq works in another directory than Mastodon's `directory`: name to that directory.

    Two names of one directory (a symbolic link to a release) are the same. `root`: another root directory.
    """
    found = _places(root)
    return {unit: place for unit, place in found.items() if _real(root, place) != _real(root, directory)}


def own_sidekiqs(directory: str, root: Path = Path("/")) -> tuple[str, ...]:
    """Unit files, templates among them, that run this Mastodon's Sidekiq and have none of fleetd's names."""
    return tuple(unit for unit, place in _places(root).items() if _real(root, place) == _real(root, directory))


def sidekiq_units(root: Path = Path("/")) -> tuple[str, ...]:
    """Unit files of any name, templates among them, that run some Sidekiq and are not fleetd's."""
    return tuple(_places(root))


def booted_schedulers(directory: str, hiding: Iterable[str], root: Path = Path("/")) -> tuple[str, ...]:
    """Units that a boot starts and that may serve `scheduler`, besides fleetd's: those of own_sidekiqs and `hiding`.

    `hiding`: names of fleetd's units that are somebody else's.
    """
    found = []
    for unit in dict.fromkeys((_STOCK_UNIT, *own_sidekiqs(directory, root), *hiding)):
        text = UnitFiles(root).text(unit)
        *_, command = ("", *(line.value for line in text.lines if line.name == "ExecStart")) if text else ("",)
        found += [name for name in _enabled(unit, root) if _may_schedule(command, name)]
    return tuple(found)


def _enabled(unit: str, root: Path) -> list[str]:
    """The unit, or the instances of a template, that a boot starts, but for fleetd-render's own links."""
    start, at, _ = unit.partition("@.")
    links = (
        link.name
        for place in UNIT_DIRECTORIES
        for kind in ("wants", "requires")
        for wants in sorted((root / place).glob(f"*.{kind}"))
        if wants.is_dir() and wants.name != "mastodon-workers-boot.target.wants"
        for link in sorted(wants.iterdir())
    )
    return [name for name in links if name == unit or (at and name.startswith(f"{start}@"))]


def _may_schedule(command: str, unit: str) -> bool:
    """Without a queue Sidekiq serves those of Mastodon's configuration, `scheduler` among them."""
    instance = unit.removesuffix(".service").partition("@")[2]
    words = re.sub(r"%[iI]", lambda _: instance, command).split()
    found = sidekiq_command(words[0], " ".join(words), {}) if words else None
    if "$" in command.partition("sidekiq")[2]:
        return True
    queues = [queue for queue, _ in found.queues] if found is not None else []
    # What a variable or another specifier stands for is not known here: it is empty, or has its sign.
    return not queues or any(queue in ("", "scheduler") or "%" in queue for queue in queues)


def _places(root: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    seen = {TEMPLATE_UNIT, SCHEDULER_UNIT}
    for folder in UNIT_DIRECTORIES:
        for path in sorted((root / folder).glob("*.service"))[:_UNITS_MAX]:
            if path.name in seen or key_of_unit(path.name) is not None:
                continue
            seen.add(path.name)
            if not runs_sidekiq((read_small_file(path) or b"").decode(errors="replace")):
                continue
            text = UnitFiles(root).text(path.name)  # with drop-ins, which may move it elsewhere
            place = _works_in(text.lines) if text is not None else None
            if place is not None:
                found[path.name] = place
    return found


def _works_in(lines: tuple[UnitLine, ...]) -> str | None:
    """Where a unit runs Sidekiq; None: it does not, or does not say where."""
    given = [line.value for line in lines if line.name == "ExecStart"]
    valid = given[len(given) - given[::-1].index("") :] if "" in given else given  # an empty one takes back the others
    commands = [command for command in valid if runs_sidekiq(command)]
    if not commands:
        return None
    places = [line.value for line in lines if line.name == "WorkingDirectory"]
    return works_in(commands[-1], next(reversed(places), "")) or None


def _real(root: Path, path: str) -> str:
    return os.path.realpath(root / path.lstrip("/"))
