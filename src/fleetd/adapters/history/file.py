"""One write to the history file: open, make room, insert, close. Every wait in here has an end.

It has a rollback journal, not a write-ahead log: then anybody who may read the file can read it at any time, also after
fleetd has ended, without the right to write beside it; and one write a minute gains nothing from a log.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from fleetd.adapters.history.retention import FULL_SHARE, PAGE_BYTES, drop_aged, make_room, number, pages_used
from fleetd.adapters.history.schema import APPLICATION_ID, SQLITE_ERRORS, TABLES, VERSION, Row, code_of

#: How long a write waits for somebody else's lock.
BUSY_SECONDS = 2.0
CACHE_KIBIBYTES = 256

_INSERTS = {
    "readings": "INSERT INTO readings (begins, ends, samples) VALUES (?, ?, ?)",
    "policies": "INSERT INTO policies (at, policy) VALUES (?, ?)",
    "entries": "INSERT INTO entries (at, kind, warning, sentence) VALUES (?, ?, ?, ?)",
}
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR)


class HistoryFileError(Exception):
    """Why the file can't be written now, as part of a sentence."""


class _OtherVersionError(Exception):
    """The file is of another version of fleetd, or somebody else's."""


def store(path: Path, rows: list[Row], *, days: float, bytes_max: int, check: bool = False) -> str | None:
    """Write `rows`, and drop what is older than `days` or more than `bytes_max`.

    A file that can't be used is moved aside and a new one begun; then returns a sentence that says so. `check`: read
    the whole file first, to find damage that a write would not touch. Raises HistoryFileError.
    """
    try:
        _write(path, rows, days, bytes_max, check=check)
        return None
    except _OtherVersionError:
        why, ending = "is of another version of fleetd", ".other"
    except SQLITE_ERRORS as error:
        if code_of(error) not in _DAMAGED:
            raise HistoryFileError(_why(path, error)) from None
        why, ending = "is damaged", ".damaged"
    except OSError as error:
        raise HistoryFileError(f"{path}: {error.strerror}") from None
    aside = path.with_name(path.name + ending)
    moved = f"{path} {why}: it is now {aside.name}, and a new history has begun"
    try:
        path.replace(aside)
        path.with_name(path.name + "-journal").unlink(missing_ok=True)
        _write(path, [("entries", (time.time(), "daemon", 1, moved)), *rows], days, bytes_max)
    except OSError as error:
        raise HistoryFileError(f"{path} {why} and can't be moved aside: {error.strerror}") from None
    except SQLITE_ERRORS as error:
        raise HistoryFileError(_why(path, error)) from None
    return moved


def _why(path: Path, error: Exception) -> str:
    match code_of(error):
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return f"somebody holds {path} locked (sqlite3 open in a terminal?)"
        case sqlite3.SQLITE_FULL:
            return f"the disk of {path} is full"
        case sqlite3.SQLITE_READONLY:
            return f"{path} can't be written: it, its directory or the disk is read-only"
        case sqlite3.SQLITE_CANTOPEN:
            return f"{path} can't be opened or made: look at its directory's owner and mode"
    return f"{path}: {error}"


def _write(path: Path, rows: list[Row], days: float, bytes_max: int, *, check: bool = False) -> None:
    _create(path)
    with _opened(path) as connection:
        if check and connection.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
            raise sqlite3.DatabaseError("a page is damaged")
        pages_max = max(16, bytes_max // PAGE_BYTES)
        connection.execute(f"PRAGMA max_page_count = {pages_max}")
        before_seconds = time.time() - days * 86_400.0
        make_room(connection, pages_max, FULL_SHARE)
        try:
            _insert(connection, rows, before_seconds)
        except sqlite3.OperationalError as error:
            if code_of(error) != sqlite3.SQLITE_FULL or pages_used(connection) < pages_max / 2:
                raise  # the disk is full, not the file
            make_room(connection, pages_max, 0.5)
            _insert(connection, rows, before_seconds)


def _create(path: Path) -> None:
    """An empty file that everyone may read; what is there and not a file is refused, never waited for."""
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    except FileExistsError:
        if not stat.S_ISREG(path.lstat().st_mode):
            raise OSError(0, "it is no file") from None
        return
    try:
        os.fchmod(descriptor, 0o644)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA cache_size = -{CACHE_KIBIBYTES}")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA trusted_schema = OFF")
        _create_tables(connection)
        yield connection


def _create_tables(connection: sqlite3.Connection) -> None:
    """Make the tables in an empty file; any other must have them already."""
    version, application = (number(connection, f"PRAGMA {name}") for name in ("user_version", "application_id"))
    if (version, application) == (VERSION, APPLICATION_ID):
        return
    if (version, application) != (0, 0) or number(connection, "SELECT count(*) FROM sqlite_schema"):
        raise _OtherVersionError
    connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    connection.executescript(
        f"BEGIN IMMEDIATE; {TABLES} PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION}; COMMIT;"
    )


def _insert(connection: sqlite3.Connection, rows: list[Row], before_seconds: float) -> None:
    """All of `rows` or none; what is too old goes in the same transaction."""
    connection.execute("BEGIN IMMEDIATE")
    with connection:  # commits, or rolls back
        drop_aged(connection, rows, before_seconds)
        for table, values in rows:
            connection.execute(_INSERTS[table], values)
