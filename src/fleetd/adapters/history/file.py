"""One write to the history file: open, make room, insert, close. Every wait in here has an end.

A rollback journal and not a write-ahead log: then who may read the file can do so at any time, also after fleetd has
ended, with no right to write beside it; and one write a minute gains nothing from a log.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from fleetd.adapters.history.retention import FULL_SHARE, PAGE_BYTES, age_out, make_room, number, pages_used
from fleetd.adapters.history.schema import APPLICATION_ID, SQLITE_ERRORS, TABLES, VERSION, Rows, code_of

#: Somebody else's lock is waited for so long.
BUSY_SECONDS = 2.0
CACHE_KIBIBYTES = 256

_INSERTS = {
    "readings": "INSERT INTO readings (begins, ends, samples) VALUES (?, ?, ?)",
    "policies": "INSERT INTO policies (at, policy) VALUES (?, ?)",
    "entries": "INSERT INTO entries (at, kind, warning, sentence) VALUES (?, ?, ?, ?)",
}
_FULL, _BUSY = sqlite3.SQLITE_FULL, (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR)


class HistoryFileError(Exception):
    """Why it can't be written now, as part of a sentence."""


class _OtherVersionError(Exception):
    """Not of this version's form."""


def store(path: Path, rows: list[Rows], *, days: float, bytes_max: int, check: bool = False) -> str:
    """Write `rows`, and drop what is older than `days` or more than `bytes_max`. `check`: look at all of it first.

    Returns a sentence when the file was not usable and was put aside, else "". Raises HistoryFileError.
    """
    try:
        _write(path, rows, days, bytes_max, check=check)
        return ""
    except _OtherVersionError:
        why, ending = "is of another version of fleetd", ".other"
    except SQLITE_ERRORS as error:
        if code_of(error) not in _DAMAGED:
            raise HistoryFileError(_why(path, error)) from None
        why, ending = "is damaged", ".damaged"
    except OSError as error:
        raise HistoryFileError(f"{path}: {error.strerror}") from None
    aside = path.with_name(path.name + ending)
    try:
        path.replace(aside)
        path.with_name(path.name + "-journal").unlink(missing_ok=True)
        _write(path, rows, days, bytes_max)
    except OSError as error:
        raise HistoryFileError(f"{path} {why} and can't be put aside: {error.strerror}") from None
    except SQLITE_ERRORS as error:
        raise HistoryFileError(_why(path, error)) from None
    said = f"{path} {why}: it is now {aside.name}, and a new history has begun"
    return (
        said
        if ending == ".other"
        else f"{said}; `fleetctl history --file {aside}` shows what can be read of it"
    )


def _why(path: Path, error: Exception) -> str:
    code = code_of(error)
    if code in _BUSY:
        return f"somebody holds {path} locked (sqlite3 open in a terminal?)"
    if code == _FULL:
        return f"the disk of {path} is full"
    if code == sqlite3.SQLITE_READONLY:
        return f"{path} can't be written: it, its directory or the disk is read-only"
    if code == sqlite3.SQLITE_CANTOPEN:
        return f"{path} can't be opened or made: look at its directory's owner and mode"
    return f"{path}: {error}"


def _write(path: Path, rows: list[Rows], days: float, bytes_max: int, *, check: bool = False) -> None:
    _make(path)
    with _opened(path) as connection:
        if check:
            _check(connection)
        pages_max = max(16, bytes_max // PAGE_BYTES)
        connection.execute(f"PRAGMA max_page_count = {pages_max}")
        before_seconds = time.time() - days * 86_400.0
        make_room(connection, pages_max, FULL_SHARE)
        try:
            _insert(connection, rows, before_seconds)
        except sqlite3.OperationalError as error:
            if code_of(error) != _FULL or pages_used(connection) < pages_max / 2:
                raise  # the disk's own end, not our bound
            make_room(connection, pages_max, 0.5)
            _insert(connection, rows, before_seconds)


def _make(path: Path) -> None:
    """An empty file that everyone may read, as everyone may ask fleetd; what is no file is refused, not waited for."""
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
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
    try:
        connection.execute(f"PRAGMA cache_size = -{CACHE_KIBIBYTES}")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA trusted_schema = OFF")
        _check_form(connection)
        yield connection
    finally:
        connection.close()


def _check_form(connection: sqlite3.Connection) -> None:
    version, application = (
        number(connection, f"PRAGMA {name}") for name in ("user_version", "application_id")
    )
    if (version, application) == (VERSION, APPLICATION_ID):
        return
    if (version, application) != (0, 0) or number(connection, "SELECT count(*) FROM sqlite_schema"):
        raise _OtherVersionError
    connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    connection.executescript(
        f"BEGIN IMMEDIATE; {TABLES} PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION}; COMMIT;"
    )


@contextlib.contextmanager
def _all_or_nothing(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(*SQLITE_ERRORS):
            connection.execute("ROLLBACK")
        raise


def _insert(connection: sqlite3.Connection, rows: list[Rows], before_seconds: float) -> None:
    """What is too old goes in the same breath."""
    with _all_or_nothing(connection):
        age_out(connection, rows, before_seconds)
        for table, values in rows:
            connection.execute(_INSERTS[table], values)


def _check(connection: sqlite3.Connection) -> None:
    """Read every page once: a damaged one in the middle is touched by no write. The file's size bounds it."""
    found = connection.execute("PRAGMA quick_check(1)").fetchone()
    if found is None or found[0] != "ok":
        raise sqlite3.DatabaseError("a page is damaged")
