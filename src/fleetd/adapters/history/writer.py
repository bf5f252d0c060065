"""The history in one SQLite file (port History). When it is lost nothing else is, so nothing here reaches a tick.

What was feared: a disk that hangs, is full or read-only; a damaged file; a file of a newer fleetd; a person with
sqlite3 who holds a lock. So one thread writes, and the queue to it is bounded. The file is opened for each write and
closed after it, so a file that was removed or replaced is noticed and no cache stays in memory. What goes wrong is
logged once, shown in status until it is over, and tried again with the next write.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import time
from collections import deque
from pathlib import Path

import structlog

from fleetd.adapters.history.file import HistoryFileError, store
from fleetd.adapters.history.schema import Row, packed_policy, packed_samples
from fleetd.adapters.logging.redaction import without_secrets
from fleetd.core.model.history import Batch

#: Batches on their way to the thread: one a minute, or one a tick while much happens.
QUEUE_MAX = 32
#: Rows that wait for the file to be writable again: some hours of samples, or a bad day's sentences.
WAITING_ROWS_MAX = 500
CLOSE_SECONDS_MAX = 3.0
#: That a file was moved aside is shown in status for this long; the new history says it for good.
MOVED_SHOWN_SECONDS = 3600.0
#: The whole file is checked for damage with the first write, and then this often.
CHECK_SECONDS = 86_400.0

_log = structlog.get_logger("fleetd.history")


class SqliteHistory:
    """Writes to `path`; keeps `days`, and at most `bytes_max`. 0 days: keeps nothing, the file stays as it is."""

    def __init__(self, path: Path, *, days: float, bytes_max: int) -> None:
        self._path = path
        self._days, self._bytes_max = days, bytes_max
        self._batches: queue.Queue[Batch | None] = queue.Queue(QUEUE_MAX)
        self._waiting: deque[Row] = deque()
        self._thread: threading.Thread | None = None
        self._problem = self._moved = ""
        self._moved_seconds = 0.0
        self._checked_seconds: float | None = None
        self._closed = False

    @property
    def problem(self) -> str:
        """Why the history is not being kept now, or that a file was moved aside not long ago; "": all is well."""
        recently = time.monotonic() - self._moved_seconds < MOVED_SHOWN_SECONDS
        return self._problem or (self._moved if recently else "")

    def keep(self, *, days: float, bytes_max: int) -> None:
        """Other bounds, from the next write on."""
        self._days, self._bytes_max = days, bytes_max

    def append(self, batch: Batch) -> None:
        """Never blocks, never raises."""
        if self._closed or batch.empty or self._days <= 0:
            return
        if self._thread is None and not self._start():
            return
        try:
            self._batches.put_nowait(batch)
        except queue.Full:
            self._not_kept(f"the disk under {self._path} does not answer")

    def _start(self) -> bool:
        thread = threading.Thread(target=self._work, name="history", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # the host, or TasksMax=, allows no more threads
            self._not_kept(str(error))
            return False
        self._thread = thread
        return True

    def close(self) -> None:
        """Write what waits, within a few seconds, or drop it."""
        self._closed = True
        if self._thread is None:
            return
        with contextlib.suppress(queue.Full):  # then it hangs in a write, and ends with the process
            self._batches.put_nowait(None)
        self._thread.join(CLOSE_SECONDS_MAX)

    def _work(self) -> None:
        while (batch := self._batches.get()) is not None:
            try:
                self._write(batch)
            except HistoryFileError as error:
                self._not_kept(str(error))
            except Exception as error:  # the thread must live on: nobody would notice its death
                self._not_kept(f"{type(error).__name__}: {error}")
            self._batches.task_done()

    def _write(self, batch: Batch) -> None:
        self._waiting.extend(_rows(batch))
        _shorten(self._waiting)
        now, checked = time.monotonic(), self._checked_seconds
        check = checked is None or now - checked >= CHECK_SECONDS
        moved = store(self._path, list(self._waiting), days=self._days, bytes_max=self._bytes_max, check=check)
        self._waiting.clear()
        if check:
            self._checked_seconds = now
        if moved:
            _log.warning(moved)
            self._moved, self._moved_seconds = moved, now
        if self._problem:
            _log.info("the history is kept again")
        self._problem = ""

    def _not_kept(self, why: str) -> None:
        problem = f"the history is not kept: {why}"
        if problem != self._problem:
            _log.warning(f"{problem}. Everything else goes on, and it is tried again")
        self._problem = problem


def _shorten(waiting: deque[Row]) -> None:
    """Drop the oldest; sentences first where they are more than half, so that a flood of them costs no samples."""
    while len(waiting) > WAITING_ROWS_MAX:
        sentences = [index for index, (table, _) in enumerate(waiting) if table == "entries"]
        del waiting[sentences[0] if 2 * len(sentences) > len(waiting) else 0]


def _rows(batch: Batch) -> list[Row]:
    """Packed here, in the thread, so that they are small while they wait."""
    rows: list[Row] = []
    if batch.samples:
        begins, ends = batch.samples[0].at_seconds, batch.samples[-1].at_seconds
        rows.append(("readings", (min(begins, ends), max(begins, ends), packed_samples(batch.samples))))
    rows += [("policies", (change.at_seconds, packed_policy(change.policy))) for change in batch.policies]
    rows += [
        ("entries", (entry.at_seconds, entry.kind, int(entry.warning), without_secrets(entry.sentence)))
        for entry in batch.entries
    ]
    return rows


def history_path(state_directory: str | os.PathLike[str]) -> Path:
    return Path(state_directory) / "history.sqlite"
