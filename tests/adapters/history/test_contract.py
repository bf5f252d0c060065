"""The real history and its fake keep the contracts of both ports."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

import pytest

from fleetd.adapters.history import file as history_file
from fleetd.adapters.history.reader import SqliteHistorySource
from fleetd.adapters.history.writer import SqliteHistory
from fleetd.ports import History
from tests.support.contracts.history import HistoryCheck, history_contract
from tests.support.rig.history_file import MIB, settle
from tests.support.world.history import FakeHistory


class RealHistory:
    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.at = time.time() - 7200.0
        self.path = path
        self._monkeypatch = monkeypatch

    def open(self) -> SqliteHistory:
        return SqliteHistory(self.path, days=1, bytes_max=MIB)

    @property
    def source(self) -> SqliteHistorySource:
        return SqliteHistorySource(self.path)

    def settle(self, history: History) -> None:
        assert isinstance(history, SqliteHistory)
        settle(history)

    def fill_disk(self) -> None:
        def full(*_: object) -> None:
            error = sqlite3.OperationalError("database or disk is full")
            error.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise error

        self._monkeypatch.setattr(history_file, "_insert", full)

    def free_disk(self) -> None:
        self._monkeypatch.undo()


class FakedHistory:
    def __init__(self) -> None:
        self.at = 1_000_000.0
        self.history = FakeHistory()

    def open(self) -> FakeHistory:
        self.history.closed = False
        return self.history

    @property
    def source(self) -> FakeHistory:
        return self.history

    def settle(self, history: History) -> None: ...

    def fill_disk(self) -> None:
        self.history.full = True

    def free_disk(self) -> None:
        self.history.full = False


@pytest.mark.parametrize("check", history_contract, ids=lambda check: check.__name__)
def test_real(check: HistoryCheck, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check(RealHistory(tmp_path / "history.sqlite", monkeypatch))


@pytest.mark.parametrize("check", history_contract, ids=lambda check: check.__name__)
def test_fake(check: HistoryCheck) -> None:
    check(FakedHistory())
