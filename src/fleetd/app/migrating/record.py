"""What a migration found when it began, in a file of root's: the way back needs it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from fleetd.adapters.host.files import read_small_file, replace_file
from fleetd.app.migrating.seen import Record, Seen

FILE: Final = Path("/var/lib/mastodon-sidekiq/migration.json")


def load_record(file: Path = FILE) -> Record:
    """An empty one if there is none, or none that can be understood."""
    try:
        return msgspec.json.decode(read_small_file(file) or b"{}", type=Record)
    except (msgspec.MsgspecError, RecursionError):
        return Record()


def record_of(seen: Seen, before: Record) -> Record:
    """With what is seen before the first step: nothing that was noted is forgotten when it has gone meanwhile."""
    units = (*seen.old, *seen.named)
    return Record(
        enabled=tuple(dict.fromkeys((*before.enabled, *(unit.name for unit in units if unit.enabled)))),
        active=tuple(dict.fromkeys((*before.active, *(unit.name for unit in units if unit.active)))),
        moved=tuple(dict.fromkeys((*before.moved, *seen.hiding))),
    )


def save_record(record: Record, file: Path = FILE) -> None:
    """Raises OSError."""
    replace_file(file, msgspec.json.encode(record), mode=0o644)
