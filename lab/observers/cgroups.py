"""Which Sidekiq processes live in the units of every host of a lab, read from control groups and /proc only."""

import os
from collections.abc import Iterator
from pathlib import Path

Alive = tuple[str, str, int, bool]
"""(host, unit, process id as seen from here, whether it is frozen)"""


class Looker:
    """Looks at the control group of a lab. It remembers which processes it knows to be Sidekiq."""

    def __init__(self, lab: Path, proc: Path = Path("/proc")) -> None:
        self._lab = lab
        self._proc = proc
        self._known: set[tuple[str, int]] = set()

    def look(self) -> list[Alive]:
        """Every live Sidekiq process of a mastodon-sidekiq unit, from its exec on: also while Rails boots."""
        found: list[Alive] = []
        for host in _folders(self._lab):
            for unit in _units(Path(host.path)):
                found += self._processes(host.name, unit)
        self._known &= {(f"{host}/{unit}", pid) for host, unit, pid, _ in found}
        return found

    def _processes(self, host: str, unit: os.DirEntry[str]) -> Iterator[Alive]:
        events = _read(Path(unit.path) / "cgroup.events")
        if "populated 1" not in events:
            return
        for word in _read(Path(unit.path) / "cgroup.procs").split():
            known = (f"{host}/{unit.name}", int(word))
            if known in self._known or self._is_sidekiq(word):
                self._known.add(known)
                yield host, unit.name, int(word), "frozen 1" in events

    def _is_sidekiq(self, pid: str) -> bool:
        # `ruby /usr/bin/sidekiq -r …` at first, `sidekiq 6.4.1 live [0 of 5 busy]` later. The unit's checks before the
        # start are processes of the unit too, but no Sidekiq.
        words = _read(self._proc / pid / "cmdline").split("\0")
        return words[0].startswith("sidekiq ") or any(os.path.basename(word) == "sidekiq" for word in words[:2])  # noqa: PTH119


def _units(group: Path) -> Iterator[os.DirEntry[str]]:
    for folder in _folders(group):
        if folder.name.endswith(".slice"):
            yield from _units(Path(folder.path))
        elif folder.name.startswith("mastodon-sidekiq") and folder.name.endswith(".service"):
            yield folder


def _folders(group: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(group) as entries:
            return [entry for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:  # it has just gone
        return []


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:  # it has just gone
        return ""
