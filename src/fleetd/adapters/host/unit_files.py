"""The workers' unit files as they are on disk: what systemd would load, and a digest of it.

Where systemd looks and what takes precedence: systemd.unit(5), "Unit File Load Path"; which of two drop-ins of the
same name wins, and their order, as systemd 252 does it. Left out are drop-ins of a single instance, and what
`systemctl set-property` writes, which applies to what runs and needs no restart.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from fleetd.adapters.host.files import read_small_file
from fleetd.core.model.facts import UnfitUnit
from fleetd.core.model.identity import SCHEDULER_UNIT, TEMPLATE_UNIT, key_of_unit
from fleetd.core.model.unit_rules import UnitLine, UnitText, unfit

#: Instances with a unit file or drop-ins of their own that are looked at.
_SINGLE_MAX = 64
UNIT_FILES = (TEMPLATE_UNIT, SCHEDULER_UNIT)
_DIGEST_LETTERS = 16

#: The highest precedence first. Root's, and readable for everyone.
_DIRECTORIES = ("etc/systemd/system", "run/systemd/system", "usr/local/lib/systemd/system", "usr/lib/systemd/system")


class UnitFiles:
    """The files of `UNIT_FILES` below `root` ("/" but in tests). Each call reads them anew: about 0.3 ms for all."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self._directories = [root / directory for directory in _DIRECTORIES]

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
        return hashlib.sha256(whole).hexdigest()[:_DIGEST_LETTERS]

    def drop_ins(self, unit: str) -> tuple[Path, ...]:
        """What systemd would add to the unit file, in systemd's order and with the paths of its DropInPaths."""
        found: dict[str, Path] = {}
        for directory in self._drop_in_directories(unit):
            for path in directory.glob("[!.]*.conf"):
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
        judged = ((unit, unfit(text, directory)) for unit in units if (text := self.text(unit)) is not None)
        return {unit: found for unit, found in judged if found is not None}

    def text(self, unit: str) -> UnitText | None:
        """What the unit file and its drop-ins set in [Service]; None: there is no such unit, or it is masked."""
        fragment = self._fragment(unit)
        if fragment is None and "@" in unit:
            fragment = self._fragment(TEMPLATE_UNIT)
        if fragment is None or _content(fragment) == b"":
            return None
        contents = {path: _content(path) for path in (fragment, *self.drop_ins(unit))}
        shown = {path: self._shown(path) for path in contents}
        lines = (line for path, said in contents.items() if said for line in service_lines(said, shown[path]))
        unreadable = tuple(shown[path] for path, said in contents.items() if said is None)
        return UnitText(unit=unit, file=shown[fragment], lines=tuple(lines), unreadable=unreadable)

    def _single_instances(self) -> list[str]:
        """Instances that a file or drop-in is meant for alone."""
        found = (p.name.removesuffix(".d") for d in self._directories for p in d.glob("mastodon-sidekiq@?*.service*"))
        return sorted({name for name in found if key_of_unit(name) is not None})[:_SINGLE_MAX]

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
        return (path.resolve() for path in paths if path.is_dir())


def _drop_in_owners(unit: str) -> Iterator[str]:
    """The unit, its template, then each name with a dash at its end, which stands for all units that begin so."""
    yield unit
    prefix, _, instance = unit.removesuffix(".service").partition("@")
    if instance:
        yield f"{prefix}@.service"
    while "-" in prefix:
        prefix = prefix.rpartition("-")[0]
        yield f"{prefix}-.service"


def service_lines(content: bytes, file: str) -> tuple[UnitLine, ...]:
    """The assignments in [Service]; comments inside a line that a backslash continues are left out, as systemd does."""
    found, section = [], b""
    for line in _without_comments(content).replace(b"\\\n", b" ").splitlines():
        if line.startswith(b"["):
            section = line
        elif section == b"[Service]" and b"=" in line:
            name, _, value = line.decode(errors="replace").partition("=")
            found.append(UnitLine(name=name.strip(), value=value.strip(), file=file))
    return tuple(found)


def _without_comments(content: bytes) -> bytes:
    lines = (line.strip() for line in content.splitlines())
    return b"\n".join(line for line in lines if line and not line.startswith((b"#", b";")))


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
