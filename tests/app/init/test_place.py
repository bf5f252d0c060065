"""Where the file goes: never over one that somebody has changed, and whole or not at all."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from fleetd.app.init import place
from fleetd.app.init.place import FileTakenError, refuse_taken, write

EXAMPLE = "# the example\n"


@pytest.fixture
def examples(tmp_path: Path) -> tuple[Path, ...]:
    (tmp_path / "example.toml").write_text(EXAMPLE)
    return (tmp_path / "none.toml", tmp_path / "example.toml")


def test_a_new_file_and_the_shipped_example_are_written(tmp_path: Path, examples: tuple[Path, ...]) -> None:
    path = tmp_path / "fleetd.toml"
    write(path, "a = 1\n", examples)
    assert path.read_text() == "a = 1\n"
    path.write_text(EXAMPLE)
    write(path, "a = 2\n", examples)
    assert path.read_text() == "a = 2\n"
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


@pytest.mark.parametrize("content", ["", "# the example", "[profiles.mine]\n"])
def test_any_other_file_is_left_as_it_is(tmp_path: Path, examples: tuple[Path, ...], content: str) -> None:
    path = tmp_path / "fleetd.toml"
    path.write_text(content)
    with pytest.raises(FileTakenError, match="--output FILE"):
        write(path, "a = 1\n", examples)
    assert path.read_text() == content


def test_a_link_to_nothing_and_a_directory_are_taken_too(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    for path in (tmp_path / "link", tmp_path):
        with pytest.raises(FileTakenError):
            refuse_taken(path)


def test_a_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileTakenError, match="is no directory"):
        refuse_taken(tmp_path / "none/fleetd.toml")


def test_without_a_group_fleetd_only_its_owner_may_read_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(place, "OWN_ROLE", "no-such-group")
    assert write(tmp_path / "f", "x", ()) == "nobody"
    assert stat.S_IMODE((tmp_path / "f").stat().st_mode) == 0o600


def test_a_disk_that_is_full_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(place, "replace_file", full)
    with pytest.raises(FileTakenError, match=r"No space left on device\. Nothing was changed"):
        write(tmp_path / "f", "x", ())
    assert not (tmp_path / "f").exists()
