"""What goes from the history file: what is too old, and the oldest where it grows too large.

What was feared: a clock that is wrong for a while (an RTC before NTP has set it), which makes everything look too old;
and a flood of sentences, which would drive out the samples that are wanted after just such a day.
"""

from __future__ import annotations

import sqlite3
from typing import Any

from fleetd.adapters.history.schema import Rows

PAGE_BYTES = 4096
#: Begin to make room above this share of the size, so many at once.
FULL_SHARE = 0.9
READINGS_AT_ONCE, ENTRIES_AT_ONCE, BITES_MAX = 60, 200, 200
PAGES_GIVEN_BACK_MAX = 1000
#: Sentences take at most this share of what is used; above it they go first, below it the samples do.
ENTRIES_SHARE = 0.5
#: What a sentence takes beside its characters: its row's head, its place in the index, half-filled pages.
ENTRY_BYTES = 80
#: Too old are at most so many rows for each that a write brings, so a wrong clock takes little while it lasts.
AGED_FOR_EACH = 4
#: A policy is kept whenever it changes; somebody may reload all day.
POLICIES_MAX = 1000

_AGED = {
    "readings": "DELETE FROM readings WHERE id IN (SELECT id FROM readings WHERE ends < ? ORDER BY ends LIMIT ?)",
    "entries": "DELETE FROM entries WHERE id IN (SELECT id FROM entries WHERE at < ? ORDER BY at LIMIT ?)",
}
_OLDEST = {
    "readings": "DELETE FROM readings WHERE id IN (SELECT id FROM readings ORDER BY id LIMIT ?)",
    "entries": "DELETE FROM entries WHERE id IN (SELECT id FROM entries ORDER BY id LIMIT ?)",
}
_ENTRIES = "SELECT count(*), total(length(CAST(sentence AS BLOB))) FROM entries"


def age_out(connection: sqlite3.Connection, rows: list[Rows], before_seconds: float) -> None:
    """Drop what is older than this Unix time, little by little; the transaction is the caller's."""
    for table, aged in _AGED.items():
        brought = sum(1 for name, _ in rows if name == table)
        connection.execute(aged, (before_seconds, AGED_FOR_EACH * max(1, brought)))
    # The last policy from before the oldest samples is still in force there.
    oldest = number(connection, "SELECT coalesce(min(ends), ?) FROM readings", before_seconds)
    last = number(
        connection, "SELECT coalesce(max(id), 0) FROM policies WHERE at < ?", min(oldest, before_seconds)
    )
    newest = number(connection, "SELECT max(id) FROM policies")
    connection.execute("DELETE FROM policies WHERE id < ?", (max(last, newest - POLICIES_MAX),))


def make_room(connection: sqlite3.Connection, pages_max: int, share: float) -> None:
    """The oldest go, a bite at a time, where more than `share` is used; a file above the bound shrinks."""
    if pages_used(connection) > pages_max * share:
        count, length_bytes = connection.execute(_ENTRIES).fetchone()
        each_bytes = ENTRY_BYTES + length_bytes / max(1, count)
        _bite(connection, pages_max * share, count, each_bytes)
    if number(connection, "PRAGMA page_count") > pages_max:
        # Not execute: that would step once, which is one page.
        connection.executescript(f"PRAGMA incremental_vacuum({PAGES_GIVEN_BACK_MAX})")


def _bite(connection: sqlite3.Connection, pages_wanted: float, entries: int, each_bytes: float) -> None:
    for _ in range(BITES_MAX):
        if pages_used(connection) <= pages_wanted:
            return
        many = entries * each_bytes > ENTRIES_SHARE * pages_wanted * PAGE_BYTES
        gone = 0 if many else _drop(connection, "readings", READINGS_AT_ONCE)
        if not gone:
            gone = _drop(connection, "entries", ENTRIES_AT_ONCE)
            entries -= gone
        if not gone:
            return


def _drop(connection: sqlite3.Connection, table: str, rows: int) -> int:
    """A statement by itself is all or nothing."""
    return connection.execute(_OLDEST[table], (rows,)).rowcount


def pages_used(connection: sqlite3.Connection) -> float:
    return number(connection, "PRAGMA page_count") - number(connection, "PRAGMA freelist_count")


def number(connection: sqlite3.Connection, question: str, *values: Any) -> float:
    row = connection.execute(question, values).fetchone()
    return 0 if row is None or row[0] is None else row[0]
