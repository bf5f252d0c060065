"""StateFile: what is read back after saves, crashes and damage."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from fleetd.adapters.host.state_file import SIZE_BYTES_MAX, StateFile
from fleetd.core.instances.orders import Pause
from fleetd.errors import FleetdError, MemoryUnsavedError
from tests.support.rig.small_disk import small_disk
from tests.support.world.ports import Rig, policy
from tests.support.world.world import World


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "host.json"


def test_a_missing_file_is_no_memory_and_not_reported(path: Path) -> None:
    with capture_logs() as said:
        assert StateFile(path).load() is None
    assert said == []


@pytest.mark.parametrize("content", [b"", b"{}", b"\0\xff\n" * 100, b"x" * SIZE_BYTES_MAX])
def test_what_was_saved_is_read_back(path: Path, content: bytes) -> None:
    StateFile(path).save(b"older")
    StateFile(path).save(content)
    assert StateFile(path).load() == content
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["host.json"], "no leftovers"


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_a_damaged_file_gives_no_memory_and_never_a_wrong_one(path: Path, data: st.DataObject) -> None:
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


def test_too_large_a_memory_is_refused_and_the_old_one_stays(path: Path) -> None:
    state = StateFile(path)
    state.save(b"old")
    with pytest.raises(FleetdError, match="may not have more than"):
        state.save(b"x" * (SIZE_BYTES_MAX + 1))
    assert StateFile(path).load() == b"old"


def test_a_write_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    with small_disk(tmp_path) as disk:
        disk.fill()
        with pytest.raises(FleetdError, match="No space left"):
            StateFile(disk.path / "host.json").save(b"n" * 20_000)
        disk.free()
        assert list(disk.path.iterdir()) == []


def test_a_failure_after_the_replacement_is_not_taken_for_success(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The new file is already in place then. So what fleetd believes to be there must be forgotten."""
    state = StateFile(path)
    state.save(b"old")

    def fail(_: Path) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr("fleetd.adapters.host.files.sync_directory", fail)
        with pytest.raises(FleetdError, match="Input/output"):
            state.save(b"new")
    state.save(b"old")
    assert StateFile(path).load() == b"old"


def test_read_only_disk(tmp_path: Path) -> None:
    with small_disk(tmp_path) as disk:
        if not disk.mounted:
            pytest.skip("no file system can be mounted here")
        subprocess.run(["mount", "-o", "remount,ro", str(disk.path)], check=True)
        with pytest.raises(FleetdError, match="Read-only"):
            StateFile(disk.path / "host.json").save(b"x")


def test_a_missing_directory_gives_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(FleetdError, match=r"can't be written .* look at"):
        StateFile(tmp_path / "gone" / "host.json").save(b"x")


def test_an_order_given_on_a_full_disk_is_saved_once_there_is_room(tmp_path: Path) -> None:
    with small_disk(tmp_path) as disk:
        path = disk.path / "host.json"
        rig = Rig(World(policy()), store=StateFile(path))
        rig.run(60.0)
        disk.fill()
        rig.order(Pause(for_seconds=3600.0, reason="moving the database"))
        rig.run(10.0)
        assert b"moving" not in path.read_bytes()
        disk.free()
        rig.run(10.0)
        rig.store = StateFile(path)
        rig.kill_fleetd()
        status = rig.status(rig.tick())
    assert "moving the database" in status.holds[0].sentence


def test_an_unchanged_memory_is_not_written_again(path: Path) -> None:
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


def test_a_link_in_place_of_the_temporary_file_is_not_followed(path: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / ".host.json.new").symlink_to(victim)
    with pytest.raises(FleetdError):
        StateFile(path).save(b"x")
    assert victim.read_text() == "mine"


# -- the spare file below /run


def test_what_the_file_cannot_take_is_in_the_spare_file_until_it_can(tmp_path: Path) -> None:
    spare = tmp_path / "spare.json"
    with small_disk(tmp_path) as disk:
        path = disk.path / "host.json"
        StateFile(path, spare).save(b"old")
        assert not spare.exists()
        disk.fill()
        state = StateFile(path, spare)
        for content in (b"n" * 20_000, b"m" * 20_000):
            with pytest.raises(MemoryUnsavedError) as raised:
                state.save(content)
            assert raised.value.kept_in == str(spare)
            assert StateFile(path, spare).load() == content
        assert spare.stat().st_mode & 0o777 == 0o600
        disk.free()
        again = StateFile(path, spare)
        assert again.load() == b"m" * 20_000
        again.save(b"m" * 20_000)
        assert not spare.exists()
        assert StateFile(path).load() == b"m" * 20_000


def test_where_the_spare_file_finds_no_room_either_the_file_counts(tmp_path: Path) -> None:
    with small_disk(tmp_path) as disk:
        path, spare = disk.path / "host.json", disk.path / "spare.json"
        state = StateFile(path, spare)
        state.save(b"old")
        disk.fill()
        with pytest.raises(MemoryUnsavedError) as raised:
            state.save(b"n" * 20_000)
        assert raised.value.kept_in is None
        assert StateFile(path, spare).load() == b"old"


def test_a_spare_file_that_is_damaged_leaves_what_is_in_the_file(path: Path, tmp_path: Path) -> None:
    spare = tmp_path / "spare.json"
    StateFile(path).save(b"old")
    spare.write_bytes(b"x" * 100)
    with capture_logs() as said:
        state = StateFile(path, spare)
        assert state.load() == b"old"
    assert "spare.json is damaged" in said[0]["event"]
    state.save(b"new")
    assert not spare.exists()


class CrashedError(BaseException):
    """The process ends at this call of the kernel's."""


@pytest.mark.parametrize("full", ["never", "before", "before and now"])
@pytest.mark.parametrize("crash_at", range(16))
def test_after_a_crash_at_any_point_of_a_save_the_newest_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, crash_at: int, full: str
) -> None:
    """`last` was saved, somewhere, before the save of `new` that crashes. So nothing older may be found.

    Nothing was done yet that `new` says, because the save had not returned.
    """
    path, spare = tmp_path / "host.json", tmp_path / "run.json"
    room = {"there": True}
    calls = {"left": 1000}
    really_replace, really_fsync, really_unlink = Path.replace, os.fsync, Path.unlink

    def step() -> None:
        calls["left"] -= 1
        if calls["left"] < 0:
            raise CrashedError

    def replace(self: Path, target: Path) -> Path:
        step()
        if target == path and not room["there"]:
            raise OSError(28, "No space left on device")
        found = really_replace(self, target)
        step()
        return found

    def fsync(descriptor: int) -> None:
        step()
        really_fsync(descriptor)

    def unlink(self: Path, missing_ok: bool = False) -> None:
        step()
        really_unlink(self, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "replace", replace)
    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "unlink", unlink)
    state = StateFile(path, spare)
    state.save(b"oldest")
    room["there"] = full == "never"
    if room["there"]:
        state.save(b"last")
    else:
        with pytest.raises(MemoryUnsavedError):
            state.save(b"last")
    room["there"] = full != "before and now"
    calls["left"] = crash_at
    saved = False
    try:
        state.save(b"new")
        saved = True
    except MemoryUnsavedError as error:
        saved = error.kept_in is not None
    except CrashedError:
        pass
    calls["left"] = 1000
    found = StateFile(path, spare).load()
    assert found == b"new" if saved else found in {b"last", b"new"}
