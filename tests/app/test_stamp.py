"""fleetd-stamp: written when it changed, removed with the code, kept when the code can't be read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fleetd.adapters.mastodon_code import CodeUnreadableError
from fleetd.adapters.rendered_files import RenderedFiles
from fleetd.app.stamp import main, stamp
from fleetd.core.facts import CodeStamp

DIRECTORY = Path("/home/mastodon/live")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "home/mastodon/live").mkdir(parents=True)
    (tmp_path / "var/lib/mastodon-sidekiq").mkdir(parents=True)
    return tmp_path


def run(root: Path) -> int:
    try:
        main([str(DIRECTORY), "--root", str(root)])
    except SystemExit as exit_:
        return int(exit_.code or 0)
    return 0


def written(root: Path) -> Path:
    return root / "var/lib/mastodon-sidekiq/code.json"


def test_it_is_written_when_it_changed_and_removed_with_the_code(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = root / "home/mastodon/live/Gemfile.lock"
    assert run(root) == 0
    assert (written(root).exists(), capsys.readouterr().err) == (False, "")
    code.write_text("a")
    assert run(root) == 0
    first = json.loads(written(root).read_text())
    assert capsys.readouterr().err == f"Mastodon's code on disk: version unknown ({first['digest']}).\n"
    before = written(root).stat()
    assert run(root) == 0
    assert (written(root).stat(), capsys.readouterr().err) == (before, "")
    code.write_text("b")
    assert run(root) == 0
    assert json.loads(written(root).read_text())["digest"] != first["digest"]
    code.unlink()
    assert run(root) == 0
    assert not written(root).exists()
    assert "holds no code of Mastodon's" in capsys.readouterr().err


def test_what_changes_while_it_is_read_is_read_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """systemd starts nothing for a change while the service runs."""
    checkout = [CodeStamp(digest=letter * 16, version="4.5.3") for letter in "abcc"]
    monkeypatch.setattr("fleetd.app.stamp.read_code", lambda _: checkout.pop(0))
    said = stamp(DIRECTORY, RenderedFiles(root), root)
    assert said == f"Mastodon's code on disk: 4.5.3 ({'c' * 16})."
    assert json.loads(written(root).read_text())["digest"] == "c" * 16


def test_it_ends_although_the_code_never_rests(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Law 7."""
    count = iter(range(100))
    monkeypatch.setattr("fleetd.app.stamp.read_code", lambda _: CodeStamp(digest=f"{next(count):016x}"))
    assert stamp(DIRECTORY, RenderedFiles(root), root)


def test_code_that_cannot_be_read_leaves_the_stamp(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / "home/mastodon/live/REVISION").write_text("a")
    assert run(root) == 0
    before = written(root).read_text()
    capsys.readouterr()

    def unreadable(_: Path) -> None:
        raise CodeUnreadableError("/home/mastodon/live: Stale file handle.")

    monkeypatch.setattr("fleetd.app.stamp.read_code", unreadable)
    monkeypatch.setenv("JOURNAL_STREAM", "1:2")
    assert run(root) == 1
    assert capsys.readouterr().err == "<3>/home/mastodon/live: Stale file handle.\n"
    assert written(root).read_text() == before


def test_a_full_disk_is_a_sentence(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / "home/mastodon/live/REVISION").write_text("a")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    assert run(root) == 1
    assert "No space left on device. The last stamp stays." in capsys.readouterr().err
