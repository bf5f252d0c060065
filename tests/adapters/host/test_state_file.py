"""StateFile: what is found again after saves, crashes and damage."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from fleetd.adapters.host.state_file import SIZE_BYTES_MAX, StateFile


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "host.json"


def test_nothing_saved_is_nothing_and_is_not_complained_of(path: Path) -> None:
    with capture_logs() as said:
        assert StateFile(path).load() is None
    assert said == []


@pytest.mark.parametrize("content", [b"", b"{}", b"\0\xff\n" * 100, b"x" * SIZE_BYTES_MAX])
def test_what_was_saved_is_found(path: Path, content: bytes) -> None:
    StateFile(path).save(b"older")
    StateFile(path).save(content)
    assert StateFile(path).load() == content
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["host.json"], "no leftovers"


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_damage_is_no_memory_never_a_wrong_one(path: Path, data: st.DataObject) -> None:
    StateFile(path).save(b'{"pins": [1, 2, 3]}')
    whole = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        damaged = bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    else:
        whole[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
        damaged = bytes(whole)
    path.write_bytes(damaged)
    with capture_logs() as said:
        assert StateFile(path).load() is None
    assert "damaged" in said[0]["event"]


@pytest.mark.parametrize("kind", ["directory", "fifo", "too big"])
def test_something_else_in_its_place(path: Path, kind: str) -> None:
    if kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.write_bytes(b"a" * (SIZE_BYTES_MAX * 2))
    with capture_logs() as said:
        assert StateFile(path).load() is None
    assert len(said) == 1


def test_too_much_is_refused_and_the_old_stays(path: Path) -> None:
    state = StateFile(path)
    state.save(b"old")
    with capture_logs() as said:
        state.save(b"x" * (SIZE_BYTES_MAX + 1))
    assert "can't be written" in said[0]["event"]
    assert StateFile(path).load() == b"old"


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 64 KiB."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    mount = tmp_path / "small"
    mount.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(mount)], check=False)
    if done.returncode != 0:
        pytest.skip("no file system can be mounted here")
    yield mount
    subprocess.run(["umount", "--lazy", str(mount)], check=True)


def test_full_disk_stops_nothing_and_is_said_once(full_disk: Path) -> None:
    state = StateFile(full_disk / "host.json")
    state.save(b"old")
    filler = full_disk / "filler"
    with pytest.raises(OSError, match="No space"):
        filler.write_bytes(b"f" * 200_000)
    with capture_logs() as said:
        state.save(b"n" * 20_000)
        state.save(b"m" * 20_000)
    assert len(said) == 1
    assert "No space left" in said[0]["event"]
    assert StateFile(full_disk / "host.json").load() == b"old"
    filler.unlink()
    with capture_logs() as said:
        state.save(b"m" * 20_000)
        state.save(b"k" * 20_000)
    assert [line["event"] for line in said] == [f"{full_disk / 'host.json'} is written again"]
    assert StateFile(full_disk / "host.json").load() == b"k" * 20_000


def test_read_only_disk(full_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(full_disk)], check=True)
    with capture_logs() as said:
        StateFile(full_disk / "host.json").save(b"x")
    assert "Read-only" in said[0]["event"]


def test_missing_directory_stops_nothing(tmp_path: Path) -> None:
    with capture_logs() as said:
        StateFile(tmp_path / "gone" / "host.json").save(b"x")
    assert "can't be written" in said[0]["event"]


def test_the_same_again_is_not_written(path: Path) -> None:
    state = StateFile(path)
    state.save(b"a")
    first = path.stat().st_ino
    state.save(b"a")
    assert path.stat().st_ino == first
    again = StateFile(path)
    again.load()
    again.save(b"a")
    assert path.stat().st_ino == first
    again.save(b"b")
    assert path.stat().st_ino != first


def test_a_link_in_the_temporary_files_place_is_not_followed(path: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / ".host.json.new").symlink_to(victim)
    with capture_logs():
        StateFile(path).save(b"x")
    assert victim.read_text() == "mine"
