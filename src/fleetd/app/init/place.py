"""Where the file goes: written whole or not at all, and never over one that somebody has changed."""

from __future__ import annotations

import grp
import os
from pathlib import Path
from typing import Literal

from fleetd.adapters.host.files import read_small_file, replace_file
from fleetd.app.route import OWN_ROLE
from fleetd.errors import FleetdError

#: As it was installed; the file of an installation that nobody has touched is equal to it.
EXAMPLES = (
    Path("/usr/local/share/fleetd/config.example.toml"),
    Path("/usr/share/fleetd/config.example.toml"),
)
_MODE, _MODE_ALONE = 0o640, 0o600
#: Who may read it: fleetd as well, only its owner because there is no fleetd yet, or only whoever wrote it.
Readers = Literal["fleetd", "nobody", "owner"]


class FileTakenError(FleetdError):
    """There is a file already, or none can be written there; the sentence says what to do instead."""


def refuse_taken(path: Path, examples: tuple[Path, ...] = EXAMPLES) -> None:
    """Raises FileTakenError unless `path` is free, or holds the example as it was shipped, and may be written."""
    if os.path.lexists(path):
        own = read_small_file(path)
        if own is None or own not in (read_small_file(example) for example in examples):
            raise FileTakenError(
                f"{path} is there already, and is not the example that was installed: nothing was written. See what "
                "it would be with --stdout, or write it beside with --output FILE."
            )
    if not path.parent.is_dir():
        raise FileTakenError(f"{path.parent} is no directory: make it first, or name another file with --output.")
    if not os.access(path.parent, os.W_OK):
        raise FileTakenError(f"You may not write to {path.parent}: use sudo, or --stdout.")


def write(path: Path, text: str, examples: tuple[Path, ...] = EXAMPLES) -> Readers:
    """Write the file, and say who may read it. Raises FileTakenError; then nothing was changed."""
    refuse_taken(path, examples)  # asked again: finding takes seconds
    readers, group = _group()
    try:
        replace_file(path, text.encode(), mode=_MODE_ALONE if group is None else _MODE, group=group)
    except OSError as error:
        raise FileTakenError(f"{path} can't be written: {error.strerror}. Nothing was changed.") from None
    return readers


def _group() -> tuple[Readers, int | None]:
    """The group that the file is to belong to; None: only its owner may read it."""
    try:
        group = grp.getgrnam(OWN_ROLE).gr_gid
    except KeyError:
        return "nobody", None
    return ("fleetd", group) if os.geteuid() == 0 or group in os.getgroups() else ("owner", None)
