"""fleetd-stamp: the stamp is written when the code changes, removed with it, and kept if it can't be read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fleetd.adapters.mastodon.code import CodeUnreadableError
from fleetd.adapters.rendering.rendered_files import RenderedFiles
from fleetd.app.stamp import LOOKING_SECONDS_MAX, QUIET_SECONDS, main, stamp_until_quiet
from fleetd.core.model.facts import CodeStamp

DIRECTORY = Path("/home/mastodon/live")


class Clock:
    """Time passes only in `sleep`."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("fleetd.app.stamp.time", clock)
    return clock


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


def test_the_stamp_is_written_when_it_changes_and_removed_with_the_code(
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


def test_a_change_during_a_look_is_noticed(
    root: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """systemd starts nothing for a change while the service runs."""
    checkout = iter("aabbbc")

    def code(*_: object) -> CodeStamp:
        return CodeStamp(digest=next(checkout, "c") * 16, version="4.5.3")

    monkeypatch.setattr("fleetd.adapters.mastodon.code.read_code", code)
    stamp_until_quiet(DIRECTORY, RenderedFiles(root), root)
    assert json.loads(written(root).read_text())["digest"] == "c" * 16
    assert capsys.readouterr().err.count("Mastodon's code on disk: 4.5.3") == 3
    assert clock.now == 5 * 0.5 + QUIET_SECONDS


def test_a_look_ends_at_once_if_nothing_changed(root: Path, clock: Clock) -> None:
    stamp_until_quiet(DIRECTORY, RenderedFiles(root), root)
    assert clock.now == 0


def test_a_look_ends_even_if_the_code_keeps_changing(root: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Law 7: everything is bounded."""
    count = iter(range(1000))
    code = "fleetd.adapters.mastodon.code.read_code"
    monkeypatch.setattr(code, lambda *_: CodeStamp(digest=f"{next(count):016x}"))
    stamp_until_quiet(DIRECTORY, RenderedFiles(root), root)
    assert clock.now == LOOKING_SECONDS_MAX


def test_code_that_cannot_be_read_leaves_the_stamp(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / "home/mastodon/live/REVISION").write_text("a")
    assert run(root) == 0
    before = written(root).read_text()
    capsys.readouterr()

    def unreadable(*_: object) -> None:
        raise CodeUnreadableError("/home/mastodon/live: Stale file handle.")

    monkeypatch.setattr("fleetd.adapters.mastodon.code.read_code", unreadable)
    monkeypatch.setenv("JOURNAL_STREAM", "1:2")
    assert run(root) == 1
    assert capsys.readouterr().err == "<3>/home/mastodon/live: Stale file handle.\n"
    assert written(root).read_text() == before


def test_a_full_disk_gives_a_sentence(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / "home/mastodon/live/REVISION").write_text("a")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    assert run(root) == 1
    assert "No space left on device. The last stamp stays." in capsys.readouterr().err
