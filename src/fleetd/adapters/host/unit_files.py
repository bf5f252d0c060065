"""The workers' unit files as they are on disk: what systemd would load, and a digest of it.

Where systemd looks and what takes precedence: systemd.unit(5), "Unit File Load Path"; which of two drop-ins of the
same name wins, and their order, as systemd 252 does it. Left out are drop-ins of a single instance, and what
`systemctl set-property` writes, which applies to what runs and needs no restart.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
import re
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from fleetd.adapters.host.files import read_small_file
from fleetd.adapters.host.unit_syntax import unit_lines
from fleetd.core.model.facts import UnfitUnit
from fleetd.core.model.identity import SCHEDULER_UNIT, TEMPLATE_UNIT, key_of_unit
from fleetd.core.model.unit_rules.judge import unfit
from fleetd.core.model.unit_rules.text import UnitText
from fleetd.core.model.worker_settings import SETTINGS_NAMES

#: Instances with a unit file or drop-ins of their own that are looked at.
_SINGLE_MAX = 256
_SETS_OURS = re.compile(rf"^\s*(?:export\s+)?(?:{'|'.join(SETTINGS_NAMES)})\s*=".encode(), re.MULTILINE)
_SETS_ARGUMENTS = re.compile(rb"^\s*(?:export\s+)?SIDEKIQ_ARGS\s*=", re.MULTILINE)
UNIT_FILES = (TEMPLATE_UNIT, SCHEDULER_UNIT)
_DIGEST_LETTERS = 16

#: The highest precedence first. Root's, and readable for everyone.
UNIT_DIRECTORIES = (
    "etc/systemd/system",
    "run/systemd/system",
    "usr/local/lib/systemd/system",
    "usr/lib/systemd/system",
)


class UnitFiles:
    """The files of `UNIT_FILES` below `root` ("/" but in tests). Each call reads them anew: about 0.3 ms for all."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self._directories = [root / directory for directory in UNIT_DIRECTORIES]

    def digest(self, unit: str) -> str | None:
        """Of what the unit file and its drop-ins say, 16 hex digits; None: there is no such unit, or it can't be read.

        An edited comment, or a file that is copied over itself or moved to another directory, changes nothing.
        """
        fragment = self._fragment(unit)
        if fragment is None:
            return None
        contents = [_content(path) for path in (fragment, *self.drop_ins(unit))]
        if not contents[0] or any(content is None for content in contents):
            return None
        whole = b"\0".join(content for content in contents if content)
        return _digest(whole)

    def file_digests(self) -> dict[str, str]:
        """The digest of each unit file without its drop-ins; absent: there is none, or it can't be read."""
        found = ((unit, self._fragment(unit)) for unit in UNIT_FILES)
        contents = {unit: _content(path) for unit, path in found if path is not None}
        return {unit: _digest(content) for unit, content in contents.items() if content}

    def shipped_digests(self) -> dict[str, str]:
        """The digest of each unit file that is below /usr, where installing puts it; drop-ins are people's."""
        found = {}
        for unit in UNIT_FILES:
            fragment = self._fragment(unit)
            if fragment is None or not fragment.is_relative_to(self._root / "usr"):
                continue
            if content := _content(fragment):
                found[unit] = _digest(content)
        return found

    def drop_ins(self, unit: str) -> tuple[Path, ...]:
        """What systemd would add to the unit file, in systemd's order and with the paths of its DropInPaths."""
        found: dict[str, Path] = {}
        for directory in self._drop_in_directories(unit):
            for path in _listed(directory) or ():
                if path.suffix == ".conf" and not path.name.startswith("."):
                    found.setdefault(path.name, path)
        return tuple(path for _, path in sorted(found.items()))

    def lacks(self, unit: str, loaded: Iterable[str]) -> bool:
        """Whether there is a drop-in of this unit that systemd has not loaded, given its DropInPaths.

        NeedDaemonReload stays false (systemd 252) for a drop-in in a directory that did not exist when systemd looked
        last, as after `mkdir …@.service.d` and a copy into it.
        """
        known = [Path(path) for path in loaded]
        searched = set(self._drop_in_directories(unit))
        elsewhere = {path.name for path in known if path.parent not in searched}  # these win over ours
        missing = (path for path in self.drop_ins(unit) if path not in known and path.name not in elsewhere)
        return any(_content(path) != b"" for path in missing)

    def digests(self) -> dict[str, str | None]:
        """The digest of each unit."""
        return {unit: self.digest(unit) for unit in UNIT_FILES}

    def unfit(self, directory: str | None = None) -> dict[str, UnfitUnit]:
        """The units that fleetd does not run, and why, those of single instances included; about 1 ms.

        `directory`: Mastodon's; None: not compared. A unit that is missing or masked is not among them: systemd itself
        refuses to start it.
        """
        units = (*UNIT_FILES, *self._single_instances())
        texts = ((unit, self.text(unit)) for unit in units)
        judged = ((u, unfit(text, directory, self._same_place)) for u, text in texts if text is not None)
        return {unit: found for unit, found in judged if found is not None}

    def masked(self) -> tuple[str, ...]:
        """The units that systemd starts under no circumstances."""
        found = ((unit, self._fragment(unit)) for unit in (*UNIT_FILES, *self._single_instances()))
        return tuple(unit for unit, path in found if path is not None and _is_masked(path))

    def text(self, unit: str) -> UnitText | None:
        """What the unit file and its drop-ins set; None: there is no such unit, or it is masked."""
        fragment = self._fragment(unit)
        if fragment is None and "@" in unit:
            fragment = self._fragment(TEMPLATE_UNIT)
        closed = [path for path in self._directories if _listed(path) is None]
        if fragment is None and closed:
            fragment = closed[0] / unit
        if fragment is None or _is_masked(fragment):
            return None
        contents = {path: read_small_file(path) for path in (fragment, *self.drop_ins(unit)) if not _is_masked(path)}
        shown = {path: self._shown(path) for path in contents}
        parsed = tuple(line for path, said in contents.items() if said for line in unit_lines(said, shown[path]))
        named = {line.value.removeprefix("-") for line in parsed if line.name == "EnvironmentFile"}
        closed += [path for path in self._drop_in_directories(unit) if _listed(path) is None]
        return UnitText(
            unit=unit,
            file=shown[fragment],
            lines=parsed,
            unreadable=tuple(shown[path] for path, said in contents.items() if said is None),
            closed=tuple(map(self._shown, closed)),
            harmless=frozenset(posixpath.normpath(path) for path in named if self._sets_nothing_of_ours(path)),
            rivals=frozenset(posixpath.normpath(path) for path in named if self._sets_arguments(path)),
        )

    def _single_instances(self) -> list[str]:
        """Instances that a file or drop-in is meant for alone."""
        names = (path.name.removesuffix(".d") for directory in self._directories for path in _listed(directory) or ())
        found = {name for name in names if name.startswith("mastodon-sidekiq@") and key_of_unit(name) is not None}
        return sorted(found)[:_SINGLE_MAX]

    def _sets_arguments(self, settings: str) -> bool:
        if not settings.startswith("/") or "%" in settings:
            return False
        said = read_small_file(self._root / settings.lstrip("/"))
        return said is not None and _SETS_ARGUMENTS.search(said) is not None

    def _sets_nothing_of_ours(self, settings: str) -> bool:
        """Whether everybody sees that a settings file leaves fleetd's alone. So root and fleetd say the same."""
        if not settings.startswith("/") or "%" in settings:
            return False
        path = self._root / settings.lstrip("/")
        try:
            above = [parent for parent in path.parents if parent.is_relative_to(self._root)]
            if not all(parent.stat().st_mode & stat.S_IXOTH for parent in above):
                return False
            if not path.stat().st_mode & stat.S_IROTH:
                return False
        except FileNotFoundError:
            return True
        except OSError:
            return False
        content = read_small_file(path)
        return content is not None and _SETS_OURS.search(content) is None

    def _same_place(self, one: str, other: str) -> bool:
        """Whether two paths are one directory, by whatever links. Where we may not look, root says it instead."""
        try:
            return (self._root / one.lstrip("/")).samefile(self._root / other.lstrip("/"))
        except PermissionError:
            return True
        except OSError:
            return False

    def _shown(self, path: Path) -> str:
        """The path as the admin knows it."""
        root = self._root.resolve()
        return str(Path("/") / path.relative_to(root if path.is_relative_to(root) else self._root))

    def _fragment(self, unit: str) -> Path | None:
        return next((d / unit for d in self._directories if os.path.lexists(d / unit)), None)

    def _drop_in_directories(self, unit: str) -> Iterator[Path]:
        names = [f"{name}.d" for name in _drop_in_owners(unit)]
        paths = [directory / name for directory in self._directories for name in names]
        paths += [directory / "service.d" for directory in self._directories]
        return (path.resolve() for path in paths if os.path.isdir(path))  # noqa: PTH112 - Path's raises in closed ones


def _drop_in_owners(unit: str) -> Iterator[str]:
    """The unit, its template, then each name with a dash at its end, which stands for all units that begin so."""
    prefix, at, instance = unit.removesuffix(".service").partition("@")
    ends = [f"@{instance}", "@"] if instance else [at] if at else [""]
    yield from (f"{prefix}{end}.service" for end in ends)
    while "-" in prefix:
        prefix = prefix.rpartition("-")[0]
        yield from (f"{prefix}-{end}.service" for end in dict.fromkeys([*ends, ""]))


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:_DIGEST_LETTERS]


def _without_comments(content: bytes) -> bytes:
    lines = (line.strip() for line in content.splitlines())
    return b"\n".join(line for line in lines if line and not line.startswith((b"#", b";")))


def _listed(directory: Path) -> list[Path] | None:
    """What is in it; None: that can't be seen."""
    try:
        with os.scandir(directory) as found:
            return [directory / entry.name for entry in found]
    except FileNotFoundError:
        return []
    except OSError:
        return None


def _is_masked(path: Path) -> bool:
    """As a link to /dev/null, an empty file, or a link to nothing. Comments alone do not mask."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return stat.S_ISCHR(found.st_mode) or (stat.S_ISREG(found.st_mode) and found.st_size == 0)


def _content(path: Path) -> bytes | None:
    """The file without comments and blank lines; empty: masked or gone; None: it can't be read."""
    try:
        if stat.S_ISCHR(path.stat().st_mode):  # a link to /dev/null
            return b""
    except FileNotFoundError:
        return b""
    except OSError:
        return None
    content = read_small_file(path)
    if content is None:
        return None
    return _without_comments(content)
