"""The history file as people ask it (port HistorySource): reads only, also while fleetd writes, or when it is gone."""

from __future__ import annotations

import contextlib
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from fleetd.adapters.history.rows import TIME_SECONDS_MAX, Rows, is_time
from fleetd.adapters.history.schema import APPLICATION_ID, SQLITE_ERRORS, VERSION, code_of
from fleetd.core.model.history import PolicyChange, Recording, Sample, TimeSpan
from fleetd.errors import SourceUnavailableError

#: A write of fleetd's takes milliseconds; a person's transaction may take for ever.
BUSY_SECONDS = 5.0
#: Samples this far apart: nobody was watching in between.
GAP_SECONDS = 90.0
_NEWEST = (
    "SELECT max(ends) FROM readings WHERE ends <= ?",
    "SELECT max(at) FROM entries WHERE at <= ?",
)
#: Samples come a little early or late.
SLACK_SECONDS = 0.5
#: A SIGKILL in the middle of a write leaves a journal that only fleetd's next start can apply; reading as it is, is
#: better than not at all.
_NEEDS_WRITER = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN)


class SqliteHistorySource:
    """The file at `path`."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self, since_seconds: float, *, samples: bool, apart_seconds: float = 0.0) -> Recording:
        """All since then; of the samples those that are at least so far apart.

        Raises SourceUnavailableError with what is wrong and what to do.
        """
        self._check()
        try:
            try:
                return self._read("mode=ro", since_seconds, samples, apart_seconds)
            except SQLITE_ERRORS as error:
                if code_of(error) not in _NEEDS_WRITER:
                    raise
                return self._read("mode=ro&immutable=1", since_seconds, samples, apart_seconds)
        except sqlite3.OperationalError as error:
            if code_of(error) == sqlite3.SQLITE_BUSY:
                what = "is locked by somebody (sqlite3 open in a terminal?): try again, or end that"
            else:
                what = f"can't be read: {error}"
            raise SourceUnavailableError(f"{self._path} {what}") from None
        except SQLITE_ERRORS:
            raise SourceUnavailableError(
                f"{self._path} is damaged or no history of fleetd's. A running fleetd puts it aside and begins a new "
                "one within a minute"
            ) from None

    def _check(self) -> None:
        try:
            mode = self._path.stat().st_mode
            with self._path.open("rb") if stat.S_ISREG(mode) else contextlib.nullcontext():
                pass
        except FileNotFoundError:
            raise SourceUnavailableError(
                f"There is no history at {self._path}: fleetd has not run here yet, or keeps it elsewhere "
                "([state] directory; name the file with --file), or keeps none ([history] days = 0)"
            ) from None
        except PermissionError:
            raise SourceUnavailableError(f"You may not read {self._path}: use sudo") from None
        except OSError as error:
            raise SourceUnavailableError(f"{self._path} can't be read: {error.strerror}") from None
        if not stat.S_ISREG(mode):
            raise SourceUnavailableError(f"{self._path} is no file")

    def _read(self, how: str, since_seconds: float, with_samples: bool, apart_seconds: float) -> Recording:
        with self._opened(how) as connection:
            connection.execute("BEGIN")  # one state of it, however long the reading takes
            rows = Rows(connection)
            written = rows.since("entries", "at, kind, warning, sentence", since_seconds)
            entries = [entry for row in written if (entry := rows.entry(row, since_seconds)) is not None]
            kept = rows.since("policies", "at, policy", since_seconds)
            policies = [change for row in kept if (change := rows.policy(row)) is not None]
            samples: list[Sample] = []
            watched_spans: list[TimeSpan] = []
            columns = "begins, ends, samples" if with_samples else "begins, ends, NULL"
            for begins, ends, content in rows.since("readings", columns, since_seconds):
                if not (is_time(begins) and is_time(ends)):
                    rows.unreadable += 1
                elif ends >= since_seconds:
                    _watched(watched_spans, max(begins, since_seconds), ends)
                    for sample in rows.samples(content, since_seconds) if with_samples else ():
                        if _apart(samples, sample, apart_seconds):
                            samples.append(sample)
            return Recording(
                samples=tuple(samples),
                entries=tuple(entries),
                policies=_from_the_one_in_force(policies, since_seconds),
                watched_spans=tuple(watched_spans),
                newest_seconds=_newest(connection),
                unreadable_rows=rows.unreadable,
            )

    @contextlib.contextmanager
    def _opened(self, how: str) -> Iterator[sqlite3.Connection]:
        address = f"file:{quote(str(self._path.absolute()))}?{how}"
        connection = sqlite3.connect(address, uri=True, timeout=BUSY_SECONDS, isolation_level=None)
        try:
            connection.execute("PRAGMA trusted_schema = OFF")
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            application = connection.execute("PRAGMA application_id").fetchone()[0]
            if (version, application) == (0, 0) and self._path.stat().st_size == 0:
                raise SourceUnavailableError(f"The history at {self._path} is empty: nothing was written yet")
            if application == APPLICATION_ID and version != VERSION:
                raise SourceUnavailableError(
                    f"{self._path} was written by another version of fleetd: use the fleetctl that is installed with it"
                )
            if application != APPLICATION_ID:
                raise sqlite3.DatabaseError("not ours")
            yield connection
        finally:
            connection.close()


def _watched(watched_spans: list[TimeSpan], begins: float, ends: float) -> None:
    """One more minute that was watched, with the spell before it where that has just ended."""
    last = watched_spans[-1] if watched_spans else None
    if last is not None and abs(begins - last.to_seconds) <= GAP_SECONDS:
        watched_spans[-1] = TimeSpan(from_seconds=last.from_seconds, to_seconds=max(ends, last.to_seconds))
    else:
        watched_spans.append(TimeSpan(from_seconds=begins, to_seconds=ends))


def _from_the_one_in_force(changes: list[PolicyChange], since_seconds: float) -> tuple[PolicyChange, ...]:
    before = [c for c in changes if c.at_seconds <= since_seconds][-1:]
    return (*before, *(c for c in changes if c.at_seconds > since_seconds))


def _newest(connection: sqlite3.Connection) -> float | None:
    found = []
    for question in _NEWEST:
        with contextlib.suppress(*SQLITE_ERRORS):
            found += [at for (at,) in connection.execute(question, (TIME_SECONDS_MAX,)) if is_time(at)]
    return max(found, default=None)


def _apart(found: list[Sample], sample: Sample, apart_seconds: float) -> bool:
    """Also where the clock was set back."""
    return not found or abs(sample.at_seconds - found[-1].at_seconds) >= apart_seconds - SLACK_SECONDS
