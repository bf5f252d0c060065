"""What every MemoryStore promises, checked on the real adapter and on the fake."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import pytest

from fleetd.errors import FleetdError
from fleetd.ports import MemoryStore


class MemoryStage(Protocol):
    """One place where fleetd's memory is stored."""

    def open(self) -> MemoryStore:
        """Open it as a new fleetd process does."""
        ...

    def fill_disk(self) -> None: ...

    def free_disk(self) -> None: ...


MemoryCheck = Callable[[MemoryStage], None]


def nothing_saved_is_none(stage: MemoryStage) -> None:
    assert stage.open().load() is None


def the_next_process_finds_what_was_saved_last(stage: MemoryStage) -> None:
    store = stage.open()
    store.save(b"older")
    store.save(b"newer")
    assert store.load() == b"newer"
    assert stage.open().load() == b"newer"


def a_full_disk_raises_each_time_and_leaves_the_old(stage: MemoryStage) -> None:
    store = stage.open()
    store.save(b"old")
    stage.fill_disk()
    for _ in range(2):
        with pytest.raises(FleetdError, match=r"(?i)no space left on device") as raised:
            store.save(b"new" * 5000)
        assert len(str(raised.value)) > 20
    assert stage.open().load() == b"old"


def what_failed_is_written_once_the_disk_is_free(stage: MemoryStage) -> None:
    store = stage.open()
    store.save(b"old")
    stage.fill_disk()
    with pytest.raises(FleetdError):
        store.save(b"new" * 5000)
    stage.free_disk()
    store.save(b"new" * 5000)
    assert stage.open().load() == b"new" * 5000


def going_back_to_the_old_after_a_failure_is_written_too(stage: MemoryStage) -> None:
    store = stage.open()
    store.save(b"old")
    stage.fill_disk()
    with pytest.raises(FleetdError):
        store.save(b"new" * 5000)
    stage.free_disk()
    store.save(b"old")
    assert stage.open().load() == b"old"


memory_store_contract: tuple[MemoryCheck, ...] = (
    nothing_saved_is_none,
    the_next_process_finds_what_was_saved_last,
    a_full_disk_raises_each_time_and_leaves_the_old,
    what_failed_is_written_once_the_disk_is_free,
    going_back_to_the_old_after_a_failure_is_written_too,
)
