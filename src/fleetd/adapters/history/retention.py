"""What is dropped from the history file: what is too old, and the oldest rows where the file grows too large.

What was feared: a clock that is wrong for a while (an RTC before NTP has set it), by which everything looks too old;
and a flood of sentences, which would drive out the samples that are wanted after just such a day.
"""

from __future__ import annotations

import sqlite3
from typing import Any

from fleetd.adapters.history.schema import Row

PAGE_BYTES = 4096
#: Room is made above this share of the size, so that it is made seldom and much at once.
FULL_SHARE = 0.9
#: Sentences may take this share of what is used: above it the oldest sentences go first, below it the oldest samples.
ENTRIES_SHARE = 0.5
#: What a sentence takes besides its characters: the head of its row, its place in the index, half-filled pages.
ENTRY_OVERHEAD_BYTES = 80
DELETIONS_MAX = 200
PAGES_GIVEN_BACK_MAX = 1000
#: For each row written, at most this many are dropped for their age, so a wrong clock costs little while it lasts.
AGED_ROWS_PER_ROW = 4
#: A policy is kept each time it changes, and somebody may reload all day.
POLICIES_MAX = 1000

_DELETE_AGED = {
    "readings": "DELETE FROM readings WHERE id IN (SELECT id FROM readings WHERE ends < ? ORDER BY ends LIMIT ?)",
    "entries": "DELETE FROM entries WHERE id IN (SELECT id FROM entries WHERE at < ? ORDER BY at LIMIT ?)",
}
_DELETE_OLDEST = {
    "readings": "DELETE FROM readings WHERE id IN (SELECT id FROM readings ORDER BY id LIMIT 60)",
    "entries": "DELETE FROM entries WHERE id IN (SELECT id FROM entries ORDER BY id LIMIT 200)",
}
_ENTRIES_BYTES = "SELECT total(? + length(CAST(sentence AS BLOB))) FROM entries"


def drop_aged(connection: sqlite3.Connection, rows: list[Row], before_seconds: float) -> None:
    """Drop some of what is older than this Unix time; the transaction is the caller's."""
    for table, statement in _DELETE_AGED.items():
        written = sum(1 for name, _ in rows if name == table)
        connection.execute(statement, (before_seconds, AGED_ROWS_PER_ROW * max(1, written)))
    # The last policy from before the oldest samples is still in force there.
    oldest_seconds = number(
        connection, "SELECT min(coalesce(min(ends), ?), ?) FROM readings", before_seconds, before_seconds
    )
    in_force = number(connection, "SELECT max(id) FROM policies WHERE at < ?", oldest_seconds)
    newest = number(connection, "SELECT max(id) FROM policies")
    connection.execute("DELETE FROM policies WHERE id < ?", (max(in_force, newest - POLICIES_MAX),))


def make_room(connection: sqlite3.Connection, pages_max: int, share: float) -> None:
    """Drop the oldest rows until at most `share` of `pages_max` is used, and shrink a file that is above it.

    Each deletion is a transaction of its own, so a crash in between loses nothing more.
    """
    pages_wanted = pages_max * share
    if pages_used(connection) > pages_wanted:
        _drop_oldest(connection, pages_wanted)
    if number(connection, "PRAGMA page_count") > pages_max:
        # executescript runs it to its end; execute would give back one page.
        connection.executescript(f"PRAGMA incremental_vacuum({PAGES_GIVEN_BACK_MAX})")


def _drop_oldest(connection: sqlite3.Connection, pages_wanted: float) -> None:
    entries_pages = number(connection, _ENTRIES_BYTES, ENTRY_OVERHEAD_BYTES) / PAGE_BYTES
    used = pages_used(connection)
    for _ in range(DELETIONS_MAX):
        if used <= pages_wanted:
            return
        table = "entries" if entries_pages > ENTRIES_SHARE * pages_wanted else "readings"
        if not _delete_oldest(connection, table) and not _delete_oldest(connection, "entries"):
            return
        before, used = used, pages_used(connection)
        if table == "entries":
            entries_pages -= before - used


def _delete_oldest(connection: sqlite3.Connection, table: str) -> int:
    """Delete some; returns how many."""
    return connection.execute(_DELETE_OLDEST[table]).rowcount


def pages_used(connection: sqlite3.Connection) -> float:
    return number(connection, "PRAGMA page_count") - number(connection, "PRAGMA freelist_count")


def number(connection: sqlite3.Connection, question: str, *values: Any) -> float:
    """The one number that answers `question`; 0 for none."""
    row = connection.execute(question, values).fetchone()
    return 0 if row is None or row[0] is None else row[0]
