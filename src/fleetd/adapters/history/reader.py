"""The history file for people who ask later (port HistorySource): only reads, while fleetd writes or after it ended."""

from __future__ import annotations

import contextlib
import sqlite3
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import get_args
from urllib.parse import quote

from fleetd.adapters.history.schema import (
    APPLICATION_ID,
    SQLITE_ERRORS,
    VERSION,
    code_of,
    unpacked_policy,
    unpacked_samples,
)
from fleetd.core.model.bounds import BOUNDS
from fleetd.core.model.history import Entry, EntryKind, PolicyChange, Recording, Sample, TimeSpan
from fleetd.errors import SourceUnavailableError

#: A write of fleetd's takes milliseconds; a person's transaction may take for ever.
BUSY_SECONDS = 5.0
#: The file belongs to user fleetd and root reads it: what would never end, or fill the memory, is no history.
READ_SECONDS_MAX = 60.0
VALUE_BYTES_MAX = 16 * 1024 * 1024
_STEPS_BETWEEN_LOOKS = 100_000  # of SQLite's machine, a few milliseconds
#: Between samples that are further apart than this, nothing was recorded.
GAP_SECONDS = 90.0
#: Samples come a little early or late.
SLACK_SECONDS = 0.5

#: A time beyond this can't be shown. SQLite takes text in the place of a number, and sorts it after all numbers.
_LATEST = BOUNDS["unix_seconds"].high
_ENTRIES = "SELECT at, kind, warning, sentence FROM entries WHERE at BETWEEN :since AND :latest ORDER BY id"
_READINGS = """
SELECT begins, ends, CASE WHEN :samples THEN samples END FROM readings
WHERE ends BETWEEN :since AND :latest AND begins BETWEEN 0 AND :latest ORDER BY id
"""
#: The one that was in force then, and all since.
_POLICIES = """
SELECT at, policy FROM policies WHERE id >= (SELECT coalesce(max(id), 0) FROM policies WHERE at <= :since)
AND at BETWEEN 0 AND :latest ORDER BY id
"""
_NEWEST = """
SELECT max(at) FROM (SELECT max(ends) AS at FROM readings WHERE ends <= :latest
                     UNION ALL SELECT max(at) FROM entries WHERE at <= :latest)
"""
_TIMELESS = """
SELECT (SELECT count(*) FROM entries WHERE at > :latest) + (SELECT count(*) FROM policies WHERE at > :latest)
     + (SELECT count(*) FROM readings WHERE ends > :latest OR begins > :latest)
"""
_TABLES = ("entries", "readings", "policies")
#: A view of such a name could compute for ever.
_TABLES_THERE = f"SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name IN {_TABLES}"  # noqa: S608 - constants
_KINDS = frozenset(get_args(EntryKind))
#: A SIGKILL in the middle of a write leaves a journal that only fleetd's next start can apply. The file is read as it
#: is then, which is better than not at all.
_NEEDS_WRITER = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN)


class SqliteHistorySource:
    """The file at `path`."""

    def __init__(self, path: Path, read_seconds_max: float = READ_SECONDS_MAX) -> None:
        self._path = path
        self._read_seconds_max = read_seconds_max

    def read(self, since_seconds: float, *, samples: bool, apart_seconds: float = 0.0) -> Recording:
        """Everything since this Unix time; `samples` only if asked for, and at least `apart_seconds` apart.

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
            elif code_of(error) == sqlite3.SQLITE_INTERRUPT:
                what = f"could not be read within {READ_SECONDS_MAX:g} s: look at its size, and at what this host does"
            else:
                what = f"can't be read: {error}"
            raise SourceUnavailableError(f"{self._path} {what}") from None
        except SQLITE_ERRORS:
            raise SourceUnavailableError(
                f"{self._path} is damaged or no history of fleetd's. fleetd moves a damaged file aside when it starts "
                f"and once a day; sqlite3 {self._path} .dump shows what can still be read"
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

    def _read(self, mode: str, since_seconds: float, with_samples: bool, apart_seconds: float) -> Recording:
        entries: list[Entry] = []
        policies: list[PolicyChange] = []
        samples: list[Sample] = []
        watched_spans: list[TimeSpan] = []
        unreadable = 0
        bounds = {"since": since_seconds, "latest": _LATEST}
        with self._opened(mode) as connection:
            connection.execute("BEGIN")  # one state of the file, however long the reading takes
            for at, kind, warning, sentence in connection.execute(_ENTRIES, bounds):
                if kind in _KINDS and isinstance(sentence, str):
                    entries.append(Entry(at_seconds=at, kind=kind, warning=bool(warning), sentence=sentence))
                else:
                    unreadable += 1
            for at, content in connection.execute(_POLICIES, bounds):
                try:
                    policies.append(PolicyChange(at_seconds=at, policy=unpacked_policy(content)))
                except (ValueError, TypeError):
                    unreadable += 1
            for begins, ends, content in connection.execute(_READINGS, bounds | {"samples": with_samples}):
                _add_span(watched_spans, max(begins, since_seconds), ends)
                try:
                    found = unpacked_samples(content) if with_samples else ()
                except (ValueError, TypeError):
                    unreadable += 1
                    continue
                for sample in found:
                    if since_seconds <= sample.at_seconds <= _LATEST and _is_apart(samples, sample, apart_seconds):
                        samples.append(sample)
            (newest,) = connection.execute(_NEWEST, bounds).fetchone()
            (timeless,) = connection.execute(_TIMELESS, bounds).fetchone()
        return Recording(
            samples=tuple(samples),
            entries=tuple(entries),
            policies=_from_the_one_in_force(policies, since_seconds),
            watched_spans=tuple(watched_spans),
            newest_seconds=newest,
            unreadable_rows=unreadable + timeless,
        )

    @contextlib.contextmanager
    def _opened(self, mode: str) -> Iterator[sqlite3.Connection]:
        address = f"file:{quote(str(self._path.absolute()))}?{mode}"
        connection = sqlite3.connect(address, uri=True, timeout=BUSY_SECONDS, isolation_level=None)
        connection.text_factory = lambda text: text.decode(errors="replace")
        with contextlib.closing(connection):
            connection.execute("PRAGMA trusted_schema = OFF")
            connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, VALUE_BYTES_MAX)
            deadline = time.monotonic() + self._read_seconds_max
            connection.set_progress_handler(lambda: time.monotonic() > deadline, _STEPS_BETWEEN_LOOKS)
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            application = connection.execute("PRAGMA application_id").fetchone()[0]
            if (version, application) == (0, 0) and self._path.stat().st_size == 0:
                raise SourceUnavailableError(f"The history at {self._path} is empty: nothing was written yet")
            if application == APPLICATION_ID and version != VERSION:
                raise SourceUnavailableError(
                    f"{self._path} was written by another version of fleetd: use the fleetctl that is installed with it"
                )
            if application != APPLICATION_ID or connection.execute(_TABLES_THERE).fetchone() != (len(_TABLES),):
                raise sqlite3.DatabaseError("not ours")
            yield connection


def _add_span(watched_spans: list[TimeSpan], begins: float, ends: float) -> None:
    """One more minute that was recorded; it continues the last span where that has only just ended."""
    last = watched_spans[-1] if watched_spans else None
    if last is not None and abs(begins - last.to_seconds) <= GAP_SECONDS:
        watched_spans[-1] = TimeSpan(from_seconds=last.from_seconds, to_seconds=max(ends, last.to_seconds))
    else:
        watched_spans.append(TimeSpan(from_seconds=begins, to_seconds=ends))


def _from_the_one_in_force(changes: list[PolicyChange], since_seconds: float) -> tuple[PolicyChange, ...]:
    before = [c for c in changes if c.at_seconds <= since_seconds][-1:]
    return (*before, *(c for c in changes if c.at_seconds > since_seconds))


def _is_apart(found: list[Sample], sample: Sample, apart_seconds: float) -> bool:
    """Compared by the distance, because the clock may have been set back."""
    return not found or abs(sample.at_seconds - found[-1].at_seconds) >= apart_seconds - SLACK_SECONDS
