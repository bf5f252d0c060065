from __future__ import annotations

import time
from pathlib import Path

import pytest

from fleetd.adapters.host.clock import BoottimeClock, boot_id_kept_in


def test_boottime() -> None:
    clock = BoottimeClock()
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    assert before <= clock.now_seconds() <= clock.now_seconds() <= time.clock_gettime(time.CLOCK_BOOTTIME)


def test_the_boot_id_comes_from_the_kernel() -> None:
    assert BoottimeClock().boot_id() == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert len(BoottimeClock().boot_id()) == 36


def test_a_boot_id_that_cannot_be_read_matches_nothing(tmp_path: Path) -> None:
    assert BoottimeClock(tmp_path / "none").boot_id() == ""
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    assert BoottimeClock(tmp_path / "bytes").boot_id() == ""


def test_boots_of_a_container_are_told_apart(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"  # /run is empty after each boot
    first.mkdir()
    second.mkdir()
    booted = BoottimeClock(runtime_directory=first).boot_id()
    assert booted == BoottimeClock(runtime_directory=first).boot_id()
    assert booted != BoottimeClock(runtime_directory=second).boot_id()
    assert booted.startswith(BoottimeClock().boot_id())


def test_a_mark_is_read_by_others_and_written_by_none_of_them(tmp_path: Path) -> None:
    kernels = BoottimeClock().boot_id()
    assert boot_id_kept_in(tmp_path) == kernels
    assert list(tmp_path.iterdir()) == []
    assert boot_id_kept_in(tmp_path / "none") == kernels
    booted = BoottimeClock(runtime_directory=tmp_path).boot_id()
    assert booted != kernels
    assert boot_id_kept_in(tmp_path) == booted


def test_if_no_mark_can_be_written_the_kernels_id_is_used(tmp_path: Path) -> None:
    kernels = BoottimeClock().boot_id()
    assert BoottimeClock(runtime_directory=tmp_path / "none").boot_id() == kernels
    (tmp_path / "boot").write_bytes(b"\xff")
    assert BoottimeClock(runtime_directory=tmp_path).boot_id() == kernels


def test_a_mark_that_found_no_room_is_not_half_a_mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """/run is full at the start. A file left empty would give this boot a third name, and orders would be forgotten."""
    kernels = BoottimeClock().boot_id()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        assert BoottimeClock(runtime_directory=tmp_path).boot_id() == kernels
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "boot").touch()
    assert len(BoottimeClock(runtime_directory=tmp_path).boot_id()) > len(kernels) + 30
