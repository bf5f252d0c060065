"""Files and answers of each release so far, as it wrote them in the lab, are read by this one.

They are in tests/support/fixtures/releases/VERSION: host.json, the answer that `fleetctl status --json` prints, and
history.sqlite as SQL. There: an instance pinned, two ordered, one killed, then a pause for two hours.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from fleetd.adapters.history.reader import SqliteHistorySource
from fleetd.adapters.history.schema import APPLICATION_ID, VERSION
from fleetd.adapters.host.state_file import StateFile
from fleetd.cli.client import read_status
from fleetd.core.model.identity import InstanceKey
from fleetd.daemon import kept_memory
from tests.support.builders.history import minute
from tests.support.project import PROJECT
from tests.support.rig.history_file import opened, sentences, settle

RELEASES = sorted((PROJECT / "tests/support/fixtures/releases").iterdir())
pytestmark = pytest.mark.parametrize("release", RELEASES, ids=lambda path: str(path.name))


@pytest.fixture
def history(release: Path, tmp_path: Path) -> Path:
    """As the release left it on the disk."""
    path = tmp_path / "history.sqlite"
    connection = sqlite3.connect(path)
    connection.executescript((release / "history.sql").read_text())
    connection.executescript(f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION};")
    connection.close()
    return path


def test_what_the_host_remembers(release: Path) -> None:
    memory, unread = kept_memory.read(StateFile(release / "host.json").load())
    assert unread is None
    assert memory.people.pause is not None
    assert memory.people.pause.note == "moving the database"
    assert memory.people.sets["local"].instances == 2
    assert set(memory.people.pins) == {InstanceKey(1)}
    assert set(memory.units.watches) == {InstanceKey(0), InstanceKey(1), InstanceKey(2)}


def test_what_it_did(history: Path) -> None:
    found = SqliteHistorySource(history).read(0.0, samples=True)
    assert found.entries[0].sentence.startswith("fleetd 0.")
    assert found.entries[-1].sentence == "fleetd stopped; the workers run on"
    assert found.samples[0].queues
    assert found.policies[0].policy.profiles[0].name == "local"


def test_its_history_goes_on_in_the_same_file(history: Path) -> None:
    before = sentences(history)
    written = opened(history, days=36_500)
    newest = SqliteHistorySource(history).read(0.0, samples=False).newest_seconds
    assert newest is not None
    written.append(minute(newest + 60.0, "one more"))
    settle(written)
    written.close()
    assert written.problem == ""
    assert sentences(history) == [*before, "one more"]


def test_what_a_fleetd_that_was_not_restarted_answers(release: Path) -> None:
    status = read_status((release / "status.json").read_text())
    assert status.version == release.name
    assert [hold.kind for hold in status.holds] == ["pause"]
    assert status.jobs.retry_jobs is None
    assert {order.kind for order in status.overrides} == {"pause", "set", "pin"}
