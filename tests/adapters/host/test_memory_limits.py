"""In a container, or below a limited slice, that limit counts and not the machine's memory."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from fleetd.adapters.host.readings import LinuxHost
from fleetd.core.model.facts import SystemdFacts, UnitFacts
from fleetd.core.model.identity import InstanceKey

GIB = 1024**3
MIB = 1024**2
WORKER = "/system.slice/system-mastodon\\x2dsidekiq.slice/mastodon-sidekiq@1.service"


def machine(root: Path, *, total: int = 64 * GIB, available: int = 40 * GIB, own: str = "") -> None:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/meminfo").write_text(f"MemTotal: {total // 1024} kB\nMemAvailable: {available // 1024} kB\n")
    if own:
        (root / "proc/self/cgroup").write_text(f"0::{own}\n")


def group(root: Path, path: str, current: int, *, limit: str = "max", high: str = "max", cache: int = 0) -> None:
    directory = root / f"sys/fs/cgroup{path}"
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "memory.max").write_text(f"{limit}\n")
    (directory / "memory.high").write_text(f"{high}\n")
    (directory / "memory.current").write_text(f"{current}\n")
    (directory / "memory.stat").write_text(f"anon 1\nfile {cache}\nshmem 0\n")


def read(root: Path, *groups: str) -> tuple[int, int]:
    units = {
        InstanceKey(n): UnitFacts(
            name="x", load_state="loaded", active_state="active", sub_state="running", control_group=name
        )
        for n, name in enumerate(groups, 1)
    }
    facts = asyncio.run(LinuxHost(root).read(SystemdFacts(units=units)))
    return facts.memory_total_bytes, facts.memory_available_bytes


def test_a_machine_of_its_own(tmp_path: Path) -> None:
    machine(tmp_path, own="/system.slice/fleetd.service")
    assert read(tmp_path) == (64 * GIB, 40 * GIB)


@pytest.mark.parametrize("own", ["", "/system.slice/fleetd.service"])
def test_a_containers_limit_counts(tmp_path: Path, own: str) -> None:
    """LXC: the container's group is the root of what it sees."""
    machine(tmp_path, own=own)
    group(tmp_path, "", 3 * GIB, limit=str(4 * GIB), cache=1 * GIB)
    assert read(tmp_path) == (4 * GIB, 2 * GIB)


def test_without_a_namespace_of_groups_the_containers_is_above_fleetds(tmp_path: Path) -> None:
    machine(tmp_path, own="/lxc/ct/system.slice/fleetd.service")
    group(tmp_path, "/lxc/ct", 1 * GIB, limit=str(4 * GIB))
    assert read(tmp_path) == (4 * GIB, 3 * GIB)


def test_fleetds_own_limit_is_not_the_workers(tmp_path: Path) -> None:
    machine(tmp_path, own="/system.slice/fleetd.service")
    group(tmp_path, "/system.slice/fleetd.service", 60 * MIB, limit=str(512 * MIB))
    assert read(tmp_path) == (64 * GIB, 40 * GIB)


def test_a_slice_of_the_workers_and_the_smallest_of_several(tmp_path: Path) -> None:
    machine(tmp_path, own="/system.slice/fleetd.service")
    group(tmp_path, "", 10 * GIB, limit=str(16 * GIB))
    group(tmp_path, "/system.slice", 6 * GIB, limit=str(12 * GIB), high=str(8 * GIB))
    group(tmp_path, WORKER.rsplit("/", 1)[0], 1 * GIB, limit=str(10 * GIB))
    assert read(tmp_path, WORKER) == (8 * GIB, 2 * GIB)


def test_a_limit_above_the_machines_memory_changes_nothing(tmp_path: Path) -> None:
    machine(tmp_path)
    group(tmp_path, "", 3 * GIB, limit=str(100 * GIB))
    assert read(tmp_path) == (64 * GIB, 40 * GIB)


def test_a_full_container_has_nothing_left(tmp_path: Path) -> None:
    machine(tmp_path)
    group(tmp_path, "", 5 * GIB, limit=str(4 * GIB))
    assert read(tmp_path) == (4 * GIB, 0)


@pytest.mark.parametrize("text", ["", "x", "-1", "9" * 40, "max"])
def test_a_limit_that_makes_no_sense_is_none(tmp_path: Path, text: str) -> None:
    machine(tmp_path)
    group(tmp_path, "", 3 * GIB, limit=text)
    assert read(tmp_path, "/../../etc/x.service", "relative", "/" * 100) == (64 * GIB, 40 * GIB)
