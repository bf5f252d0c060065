"""StateFile and its fake keep the contract of MemoryStore."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleetd.adapters.host.state_file import StateFile
from tests.support.contracts.memory_store import MemoryCheck, memory_store_contract
from tests.support.rig.small_disk import SmallDisk, small_disk
from tests.support.world.ports import FakeStore


class RealMemory:
    def __init__(self, disk: SmallDisk) -> None:
        self._disk = disk
        self.fill_disk, self.free_disk = disk.fill, disk.free

    def open(self) -> StateFile:
        return StateFile(self._disk.path / "host.json")


class FakedMemory:
    def __init__(self) -> None:
        self._store = FakeStore()

    def open(self) -> FakeStore:
        return self._store

    def fill_disk(self) -> None:
        self._store.full = True

    def free_disk(self) -> None:
        self._store.full = False


@pytest.mark.parametrize("check", memory_store_contract, ids=lambda check: check.__name__)
def test_real_memory_store(check: MemoryCheck, tmp_path: Path) -> None:
    with small_disk(tmp_path) as disk:
        check(RealMemory(disk))


@pytest.mark.parametrize("check", memory_store_contract, ids=lambda check: check.__name__)
def test_fake_memory_store(check: MemoryCheck) -> None:
    check(FakedMemory())
