"""Rows of the history file, one by one, so that a damaged page costs what lies on it and nothing else.

A file may also come from elsewhere (`--file`), or somebody wrote to it with sqlite3: a row that makes no sense is left
out and counted.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any, get_args

from fleetd.adapters.history.schema import SQLITE_ERRORS, code_of, unpacked_policy, unpacked_samples
from fleetd.core.model.history import SENTENCE_CHARACTERS_MAX, Entry, EntryKind, PolicyChange, Sample

#: Where the index is damaged, so many of the newest rows are tried.
TRIED_MAX = 500_000
#: Unix times below this can be shown in any time zone (the year 5138).
TIME_SECONDS_MAX = 1e11
_KINDS = frozenset(get_args(EntryKind))
_SINCE = {
    "entries": "SELECT id FROM entries INDEXED BY entries_at WHERE at >= ?",
    "readings": "SELECT id FROM readings INDEXED BY readings_ends WHERE ends >= ?",
    "policies": "SELECT id FROM policies WHERE id >= (SELECT coalesce(max(id), 0) FROM policies WHERE at <= ?)",
}


class Rows:
    """The rows of one connection; `unreadable` counts those that could not be read or made no sense."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.unreadable = 0

    def since(self, table: str, columns: str, since_seconds: float) -> Iterator[tuple[Any, ...]]:
        """In the order they were written; older ones may be among them."""
        question = f"SELECT {columns} FROM {table} WHERE id = ?"  # noqa: S608 (both are ours)
        for number in self._ids(table, since_seconds):
            try:
                row = self._connection.execute(question, (number,)).fetchone()
            except SQLITE_ERRORS as error:
                if not damaged(error):
                    raise
                self.unreadable += 1
                continue
            if row is not None:
                yield row

    def _ids(self, table: str, since_seconds: float) -> list[int] | range:
        try:
            return sorted(n for (n,) in self._connection.execute(_SINCE[table], (since_seconds,)))
        except SQLITE_ERRORS as error:
            if not damaged(error):
                raise
        try:  # without the index: all there may be
            first, last = (
                self._connection.execute(f"SELECT {edge}(id) FROM {table}").fetchone()[0] or 0  # noqa: S608
                for edge in ("min", "max")
            )
        except SQLITE_ERRORS as error:
            if not damaged(error):
                raise
            self.unreadable += 1
            return range(0)
        return range(max(first, last - TRIED_MAX), last + 1)

    def entry(self, row: tuple[Any, ...], since_seconds: float) -> Entry | None:
        at, kind, warning, sentence = row
        if not (is_time(at) and kind in _KINDS and isinstance(sentence, str)):
            self.unreadable += 1
            return None
        if at < since_seconds:
            return None
        return Entry(
            at_seconds=float(at),
            kind=kind,
            warning=bool(warning),
            sentence=sentence[:SENTENCE_CHARACTERS_MAX],
        )

    def samples(self, content: object, since_seconds: float) -> list[Sample]:
        try:
            found = unpacked_samples(content) if isinstance(content, bytes) else None
        except ValueError:
            found = None
        if found is None or not all(is_time(s.at_seconds) and is_time(s.now_seconds) for s in found):
            self.unreadable += 1
            return []
        return [s for s in found if s.at_seconds >= since_seconds]

    def policy(self, row: tuple[Any, ...]) -> PolicyChange | None:
        at, content = row
        try:
            if is_time(at) and isinstance(content, bytes):
                return PolicyChange(at_seconds=float(at), policy=unpacked_policy(content))
        except ValueError:
            pass
        self.unreadable += 1
        return None


def is_time(found: object) -> bool:
    return isinstance(found, int | float) and 0.0 <= found <= TIME_SECONDS_MAX  # NaN is neither


def damaged(error: Exception) -> bool:
    """Of the file, or of one text in it (which the module says by itself, with no code)."""
    return code_of(error) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
