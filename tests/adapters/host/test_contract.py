"""The adapters of this host and their fakes keep the contracts of HostSource, Clock and MemoryStore."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from fleetd.adapters.host.clock import BoottimeClock
from fleetd.adapters.host.readings import LinuxHost
from fleetd.adapters.host.state_file import StateFile
from fleetd.core.model.facts import SystemdFacts, UnitFacts
from fleetd.core.model.identity import InstanceKey
from fleetd.core.model.policy_tables import Policy
from fleetd.core.model.worker_settings import instance_settings
from tests.support.contracts.host import ClockCheck, HostCheck, clock_contract, host_source_contract
from tests.support.contracts.memory_store import MemoryCheck, memory_store_contract
from tests.support.rig.host_files import env, made_up_root
from tests.support.rig.small_disk import SmallDisk, small_disk
from tests.support.world.ports import FakeClock, FakeHost, FakeStore, policy
from tests.support.world.readings import systemd_facts
from tests.support.world.world import World


class RealHost:
    """LinuxHost on a made-up root."""

    def __init__(self, root: Path) -> None:
        self._root = made_up_root(root)
        self.source = LinuxHost(root)
        self.policy: Policy = policy()

    def render(self, number: int) -> None:
        profile = self.policy.profiles[0]
        settings = instance_settings(self.policy, profile, InstanceKey(number), name_connections=True)
        env(self._root, f"{number}.env", settings.text)

    def run(self, number: int, resident_bytes: int) -> SystemdFacts:
        group = self._root / "sys/fs/cgroup/worker"
        group.mkdir(parents=True)
        (group / "memory.current").write_text(f"{resident_bytes + 1000}\n")
        (group / "memory.stat").write_text("file 1000\nshmem 0\n")
        unit = UnitFacts(
            name="u",
            load_state="loaded",
            active_state="active",
            sub_state="running",
            control_group="/worker",
        )
        return SystemdFacts(units={InstanceKey(number): unit})

    def hide_memory(self) -> None:
        (self._root / "proc/meminfo").unlink()


class FakedHost:
    """FakeHost on a world."""

    def __init__(self) -> None:
        self._world = World(policy())
        self._world.rendered = set()
        self.policy = self._world.policy
        self.source = FakeHost(self._world)

    def render(self, number: int) -> None:
        self._world.rendered.add(number)

    def run(self, number: int, resident_bytes: int) -> SystemdFacts:
        self.render(number)
        self._world.resident_bytes = resident_bytes
        self._world.start(number)
        return systemd_facts(self._world)

    def hide_memory(self) -> None:
        self.source.readable = False


@pytest.mark.parametrize("check", host_source_contract, ids=lambda check: check.__name__)
def test_real_host_source(check: HostCheck, tmp_path: Path) -> None:
    asyncio.run(check(RealHost(tmp_path)))


@pytest.mark.parametrize("check", host_source_contract, ids=lambda check: check.__name__)
def test_fake_host_source(check: HostCheck) -> None:
    asyncio.run(check(FakedHost()))


@pytest.mark.parametrize("check", clock_contract, ids=lambda check: check.__name__)
def test_real_clock(check: ClockCheck) -> None:
    check(BoottimeClock())


@pytest.mark.parametrize("check", clock_contract, ids=lambda check: check.__name__)
def test_fake_clock(check: ClockCheck) -> None:
    check(FakeClock(World(policy())))


class RealMemory:
    """StateFile on a small disk."""

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
