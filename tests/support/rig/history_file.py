"""A real history file: waiting for its thread, and reading what is in it."""

from __future__ import annotations

import time
from pathlib import Path

from fleetd.adapters.history.reader import SqliteHistorySource
from fleetd.adapters.history.writer import SqliteHistory

MIB = 1024 * 1024


def settle(history: SqliteHistory) -> None:
    """Wait until the thread has taken everything and is done with it."""
    end = time.monotonic() + 90.0
    while time.monotonic() < end:
        if not history._batches.unfinished_tasks:
            return
        time.sleep(0.005)
    raise AssertionError("the history's thread hangs")


def opened(path: Path, *, days: float = 14, mebibytes: int = 64) -> SqliteHistory:
    return SqliteHistory(path, days=days, bytes_max=mebibytes * MIB)


def sentences(path: Path, since: float = 0.0) -> list[str]:
    return [e.sentence for e in SqliteHistorySource(path).read(since, samples=False).entries]
