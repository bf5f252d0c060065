"""The stamp of Mastodon's code: what changes it, what does not, and a hostile directory."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from fleetd.adapters.mastodon.code import FILE_BYTES_MAX, FILES, CodeUnreadableError, read_code, version_in

VERSION = """# frozen_string_literal: true

module Mastodon
  module Version
    module_function

    # def major is not this one
    def major
      4
    end

    def minor
      5
    end

    def patch
      3
    end

    def default_prerelease
      ''
    end

    def prerelease
      version_configuration[:prerelease].presence || default_prerelease
    end
  end
end
"""


def digest(live: Path) -> str:
    code = read_code(live)
    assert code is not None
    return code.digest


def git(live: Path, *arguments: str) -> None:
    """Runs git as an admin would, without this machine's configuration."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(live), "GIT_CONFIG_NOSYSTEM": "1"}
    author = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main"]
    subprocess.run(["git", *author, *arguments], cwd=live, env=environment, check=True, capture_output=True)


@pytest.fixture
def live(tmp_path: Path) -> Path:
    live = tmp_path / "live"
    for name in FILES:
        (live / name).parent.mkdir(parents=True, exist_ok=True)
        (live / name).write_text(VERSION if name.endswith("version.rb") else f"{name}\n")
    return live


def test_the_stamp_has_the_version_and_a_digest(live: Path) -> None:
    code = read_code(live)
    assert code is not None
    assert code.version == "4.5.3"
    assert len(code.digest) == 16
    assert set(code.digest) <= set("0123456789abcdef")
    assert read_code(live) == code


@pytest.mark.parametrize("name", FILES)
def test_each_file_counts_as_does_its_absence(live: Path, name: str) -> None:
    before = digest(live)
    text = (live / name).read_text()
    (live / name).write_text(text + "#\n")
    changed = digest(live)
    (live / name).unlink()
    gone = digest(live)
    (live / name).write_text("")
    assert len({before, changed, gone, digest(live)}) == 4
    (live / name).write_text(text)
    assert digest(live) == before


def test_files_that_no_upgrade_changes_do_not_count(live: Path) -> None:
    before = digest(live)
    (live / "log").mkdir()
    (live / "log/production.log").write_text("x")
    os.utime(live / "Gemfile.lock", (0, 0))
    assert digest(live) == before


def test_a_directory_without_mastodon_has_no_stamp(tmp_path: Path) -> None:
    assert read_code(tmp_path) is None
    assert read_code(tmp_path / "missing") is None
    (tmp_path / "file").write_text("")
    assert read_code(tmp_path / "file") is None


def test_a_checkout_changes_the_stamp_and_housekeeping_does_not(live: Path) -> None:
    git(live, "init")
    git(live, "add", ".")
    git(live, "commit", "-m", "one")
    one = digest(live)
    git(live, "tag", "v1")
    git(live, "pack-refs", "--all")
    assert digest(live) == one
    git(live, "checkout", "v1")
    assert digest(live) == one, "the same commit by another name is the same code"
    git(live, "checkout", "main")
    git(live, "commit", "--allow-empty", "-m", "two")
    two = digest(live)
    assert two != one, "a commit counts although no file that is looked at changed"
    git(live, "gc")
    assert digest(live) == two
    git(live, "reset", "--hard", "v1")
    assert digest(live) == one


def test_a_release_directory_is_followed(live: Path, tmp_path: Path) -> None:
    (tmp_path / "releases").mkdir()
    for name in ("1", "2"):
        (tmp_path / "releases" / name).mkdir()
        (tmp_path / "releases" / name / "REVISION").write_text(name)
    current = tmp_path / "current"
    current.symlink_to("releases/1")
    one = digest(current)
    current.unlink()
    current.symlink_to("releases/2")
    assert digest(current) != one


def test_no_link_inside_is_followed(live: Path, tmp_path: Path) -> None:
    """Otherwise root would reveal, in a digest, what only root may read."""
    secret = tmp_path / "secret"
    secret.write_text("one")
    (live / "REVISION").unlink()
    (live / "REVISION").symlink_to(secret)
    (live / "db/schema.rb").unlink()
    (live / "db").rmdir()
    (live / "db").symlink_to(tmp_path)
    before = digest(live)
    secret.write_text("two")
    (tmp_path / "schema.rb").write_text("two")
    assert digest(live) == before
    (live / "REVISION").unlink()
    (live / "REVISION").symlink_to("elsewhere")
    assert digest(live) != before, "the link itself counts"


@pytest.mark.parametrize("head", ["ref: refs/../../secret\n", "ref: refs/heads//x\n", "ref: /etc/passwd\n", "\0"])
def test_a_head_that_points_outside_is_not_followed(live: Path, tmp_path: Path, head: str) -> None:
    (live / ".git").mkdir()
    (live / ".git/HEAD").write_text(head)
    before = digest(live)
    (tmp_path / "secret").write_text("a" * 40)
    (live / "secret").write_text("a" * 40)
    assert digest(live) == before


def test_an_entry_that_is_no_file_neither_hangs_nor_fails(live: Path) -> None:
    (live / "REVISION").unlink()
    os.mkfifo(live / "REVISION")
    (live / "Gemfile.lock").unlink()
    (live / "Gemfile.lock").mkdir()
    (live / ".git").write_text("gitdir: /elsewhere\n")
    open_files = len(list(Path("/proc/self/fd").iterdir()))
    assert digest(live) == digest(live)
    assert len(list(Path("/proc/self/fd").iterdir())) == open_files


def test_a_huge_file_is_not_read(live: Path) -> None:
    with (live / "db/schema.rb").open("wb") as file:
        file.truncate(FILE_BYTES_MAX * 1000)
    assert digest(live) == digest(live)


def test_an_unreadable_file_is_not_taken_for_absent(live: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Law 3: a stale mount does not mean that Mastodon is gone."""
    really = os.open

    def stale(path: str, *arguments: int, **more: int) -> int:
        if path == "Gemfile.lock":
            raise OSError(116, "Stale file handle", path)
        return really(path, *arguments, **more)

    monkeypatch.setattr("os.open", stale)
    with pytest.raises(CodeUnreadableError, match=r"live/Gemfile\.lock: Stale file handle"):
        read_code(live)


@pytest.mark.parametrize(
    ("changes", "version"),
    [
        ({}, "4.5.3"),
        ({"      ''\n": "      'alpha.4'\n"}, "4.5.3-alpha.4"),
        ({"      ''\n": '      "rc.1"\n'}, "4.5.3-rc.1"),
        ({"default_prerelease\n      ''": "flags\n      'rc1'"}, "4.5.3rc1"),  # up to 4.1
        ({"      4\n": "      ENV['MAJOR']\n"}, ""),
        ({"      ''\n": "      '\n      puts'\n"}, "4.5.3"),
        ({"      3\n": "      13 # security\n"}, "4.5.13"),
        ({"def minor": "def self.minor"}, ""),
    ],
)
def test_the_version_as_mastodon_writes_it(changes: dict[str, str], version: str) -> None:
    text = VERSION
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    assert version_in(text.encode()) == version


def test_nonsense_has_no_version() -> None:
    for text in (b"", b"\xff\xfe def major", b"def major\n99999\nend" * 1000, b"\n" * FILE_BYTES_MAX):
        assert version_in(text) == ""
