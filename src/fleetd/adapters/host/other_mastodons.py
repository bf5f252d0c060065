"""A second Mastodon on this VM: units that run Sidekiq elsewhere than ours do.

The units, the settings and the scheduler of fleetd are of one Mastodon. A second one has another Redis or database, of
which nothing here is read, so its workers can't be told from other programs.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from fleetd.adapters.host.files import read_small_file

_DIRECTORIES = ("etc/systemd/system", "usr/local/lib/systemd/system", "usr/lib/systemd/system")
_WORKS_IN = re.compile(rb"^WorkingDirectory=[-~!]*(/[^\n]*?)/*\s*$", re.MULTILINE)
_RUNS_SIDEKIQ = re.compile(rb"^ExecStart=.*\bsidekiq\b", re.MULTILINE)
_OURS = re.compile(r"mastodon-sidekiq(@|-scheduler)\.service|mastodon-sidekiq(@|-scheduler).*")
_UNITS_MAX = 500


def other_mastodons(directory: str, root: Path = Path("/")) -> dict[str, str]:
    """Units whose Sidekiq works in another directory than Mastodon's `directory`: name to that directory.

    Two names of one directory (a symbolic link to a release) are the same. `root`: another root directory.
    """
    found: dict[str, str] = {}
    for folder in _DIRECTORIES:
        for path in sorted((root / folder).glob("*.service"))[:_UNITS_MAX]:
            if path.name in found or _OURS.fullmatch(path.name):
                continue
            content = read_small_file(path) or b""
            works_in = _WORKS_IN.search(content)
            if works_in is None or not _RUNS_SIDEKIQ.search(content):
                continue
            place = works_in[1].decode(errors="replace")
            if _real(root, place) != _real(root, directory):
                found[path.name] = place
    return found


def _real(root: Path, path: str) -> str:
    return os.path.realpath(root / path.lstrip("/"))
