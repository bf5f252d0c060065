"""A history file that somebody made to keep its readers, root among them, busy for ever."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from fleetd.adapters.history.reader import SqliteHistorySource
from fleetd.errors import SourceUnavailableError
from tests.support.builders.history import minute
from tests.support.rig.history_file import opened

ENDLESS = """
CREATE VIEW entries AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)
SELECT i AS id, i AS at, 'step' AS kind, 0 AS warning, 'x' AS sentence FROM n
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "history.sqlite"
    history = opened(path)
    history.append(minute(time.time(), "fleetd's own"))
    history.close()
    return path


@contextmanager
def tampered(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


def test_a_view_in_the_place_of_a_table_is_no_history(path: Path) -> None:
    with tampered(path) as connection:
        connection.execute("DROP TABLE entries")
        connection.execute(ENDLESS)
    with pytest.raises(SourceUnavailableError, match="no history of fleetd's"):
        SqliteHistorySource(path).read(0.0, samples=False)


def test_a_value_of_hundreds_of_megabytes_is_never_read(path: Path) -> None:
    with tampered(path) as connection:
        connection.execute("UPDATE entries SET sentence = CAST(zeroblob(200000000) AS TEXT)")
    with pytest.raises(SourceUnavailableError, match="no history of fleetd's"):
        SqliteHistorySource(path).read(0.0, samples=False)


def test_a_reading_that_does_not_end_ends(path: Path) -> None:
    with tampered(path) as connection:
        connection.executescript(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300000) "
            "INSERT INTO entries (at, kind, warning, sentence) SELECT 5, 'step', 0, 'x' FROM n"
        )
    with pytest.raises(SourceUnavailableError, match="could not be read within"):
        SqliteHistorySource(path, read_seconds_max=0.0).read(0.0, samples=False)
