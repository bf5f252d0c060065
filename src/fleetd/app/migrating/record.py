"""What a migration found when it began, in a file of root's: the way back needs it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from fleetd.adapters.host.files import read_small_file, replace_file
from fleetd.app.migrating.seen import Record, Seen
from fleetd.errors import FleetdError

FILE: Final = Path("/var/lib/mastodon-sidekiq/migration.json")
#: Not the directory of FILE: fleetd-render, which a migration starts, locks that.
_LOCK: Final = Path("/run/fleetd-migrate.lock")


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
    """Raises FleetdError: without it there would be no way back."""
    try:
        replace_file(file, msgspec.json.encode(record), mode=0o644)
    except OSError as error:
        raise FleetdError(f"{file} can't be written, and the way back needs it: {error.strerror}") from None


def forget_record(file: Path = FILE) -> None:
    """Once all is as it was: what was started by hand meanwhile is not of the next migration."""
    file.unlink(missing_ok=True)


@contextmanager
def one_at_a_time(file: Path = _LOCK) -> Iterator[None]:
    """Two runs would undo each other's steps. The file is gone afterwards. Raises FleetdError."""
    try:
        lock = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise FleetdError(f"{file} can't be opened: {error.strerror}") from None
    if not _taken(lock):
        os.close(lock)
        raise FleetdError("another `fleetctl migrate` is at work")
    try:
        yield
    finally:
        file.unlink(missing_ok=True)
        os.close(lock)


def _taken(lock: int) -> bool:
    """Not if another has it, or has just ended with it: the next may have another file."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return os.fstat(lock).st_nlink > 0
