"""The history in one SQLite file (port History). Lost history is nothing else lost, so nothing here reaches a tick.

What was feared: a disk that hangs, is full or read-only, a damaged file, a file of a newer fleetd, a person with
sqlite3 who holds a lock. So one thread writes, the way to it is bounded, the file is opened for each write and closed
after it (a file that was removed or replaced is noticed, and no cache stays in memory), and whatever goes wrong is said
once, shown in status until it is over, and tried again with the next write.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from fleetd.adapters.history.schema import packed_policy, packed_samples
from fleetd.adapters.logging.redaction import without_secrets
from fleetd.core.model.history import Batch

if TYPE_CHECKING:
    from fleetd.adapters.history.schema import Rows

#: Batches on their way to the thread; one a minute, or one a tick while much happens.
QUEUE_MAX = 32
#: Rows that wait for a better time: some hours of samples, or a bad day's sentences.
WAITING_ROWS_MAX = 500
CLOSE_SECONDS_MAX = 3.0
#: A file that had to be put aside is shown in status so long.
NOTICE_SECONDS = 3600.0
#: The whole file is looked at with the first write, and then so often.
CHECK_SECONDS = 86_400.0

_log = structlog.get_logger("fleetd.history")


class SqliteHistory:
    """Writes to `path`; keeps `days`, at most `bytes_max` of them. 0 days: keeps nothing, the file stays as it is."""

    def __init__(self, path: Path, *, days: float, bytes_max: int) -> None:
        self._path = path
        self._days, self._bytes_max = days, bytes_max
        self._batches: queue.Queue[Batch | None] = queue.Queue(QUEUE_MAX)
        self._waiting: deque[Rows] = deque()
        self._thread: threading.Thread | None = None
        self._trouble = self._stuck = self._notice = ""
        self._noticed_seconds = 0.0
        self._checked_seconds: float | None = None
        self._closed = False
        self._idle = threading.Event()  # nothing is under way

    @property
    def problem(self) -> str:
        """Why it is not being kept now, or lately was not; "": all is well."""
        if self._stuck or self._trouble:
            return self._stuck or self._trouble
        shown = self._notice and time.monotonic() - self._noticed_seconds < NOTICE_SECONDS
        return self._notice if shown else ""

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
            if not self._stuck:
                self._stuck = f"the history is not kept: the disk under {self._path} does not answer"
                _log.warning(self._stuck)

    def _start(self) -> bool:
        thread = threading.Thread(target=self._work, name="history", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # the host, or TasksMax=, allows no more
            self._say(f"the history is not kept: {error}")
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
        while True:
            self._idle.set()
            batch = self._batches.get()
            self._idle.clear()
            if batch is None:
                return
            try:
                self._write(batch)
            except Exception as error:  # a thread that dies would be silent for ever
                self._say(f"the history is not kept: {type(error).__name__}: {error}")

    def _write(self, batch: Batch) -> None:
        from fleetd.adapters.history.file import (  # SQLite: a megabyte, where one is kept
            HistoryFileError,
            store,
        )

        self._waiting.extend(_rows(batch))
        _shorten(self._waiting)
        now, checked = time.monotonic(), self._checked_seconds
        check = checked is None or now - checked >= CHECK_SECONDS
        try:
            aside = store(
                self._path, list(self._waiting), days=self._days, bytes_max=self._bytes_max, check=check
            )
        except HistoryFileError as error:
            self._say(f"the history is not kept: {error}")
            return
        self._waiting.clear()
        self._checked_seconds = now if check else checked
        self._stuck = ""
        if aside:
            _log.warning(aside)
            self._notice, self._noticed_seconds = aside, time.monotonic()
        if self._trouble:
            _log.info("the history is kept again")
        self._trouble = ""

    def _say(self, trouble: str) -> None:
        if trouble != self._trouble:
            _log.warning(f"{trouble}. Everything else goes on, and it is tried again")
        self._trouble = trouble


def _shorten(waiting: deque[Rows]) -> None:
    """The oldest go, the sentences first where they are more than half: a flood of them costs no samples."""
    while len(waiting) > WAITING_ROWS_MAX:
        sentences = [place for place, (table, _) in enumerate(waiting) if table == "entries"]
        del waiting[sentences[0] if 2 * len(sentences) > len(waiting) else 0]


def _rows(batch: Batch) -> list[Rows]:
    """As they are written; packed here, in the thread, and small while they wait."""
    rows: list[Rows] = []
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
