"""Numbers in the kernel's files that can't be: unknown, or no reading where nothing can be decided without them."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleetd.core.model.facts import SystemdFacts, UnitFacts
from fleetd.core.model.identity import InstanceKey
from fleetd.errors import SourceUnavailableError
from tests.support.rig.host_files import MEMINFO, made_up_root, read

DIGITS = "9" * 5000


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return made_up_root(tmp_path)


def write(root: Path, path: str, content: str) -> None:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content)


@pytest.mark.parametrize("kibibytes", [DIGITS, "9" * 15, str(2**42 + 1), "-1", "inf"])
@pytest.mark.parametrize("line", ["16384000", "8192000"])
def test_impossible_memory_is_no_reading(root: Path, line: str, kibibytes: str) -> None:
    write(root, "proc/meminfo", MEMINFO.replace(line, kibibytes))
    with pytest.raises(SourceUnavailableError, match="MemAvailable"):
        read(root)


@pytest.mark.parametrize(
    ("current", "stat"),
    [
        (DIGITS, "file 5\nshmem 1\n"),
        (str(2**52 + 1), "file 5\nshmem 1\n"),
        ("-5", "file 5\nshmem 1\n"),
        ("1000000", f"file {'9' * 19}\nshmem 1\n"),
        ("1000000", f"file 5\nshmem {'9' * 19}\n"),
    ],
)
def test_impossible_memory_of_a_unit_is_unknown(root: Path, current: str, stat: str) -> None:
    write(root, "sys/fs/cgroup/a/memory.current", current)
    write(root, "sys/fs/cgroup/a/memory.stat", stat)
    facts = UnitFacts(name="u", load_state="loaded", active_state="active", sub_state="running", control_group="/a")
    assert read(root, SystemdFacts(units={InstanceKey(1): facts})).resident_bytes == {}


@pytest.mark.parametrize("group", ["/a\0b", "/\ud800", "/" + "a" * 5000])
def test_a_control_group_that_is_no_path_is_unknown(root: Path, group: str) -> None:
    facts = UnitFacts(name="u", load_state="loaded", active_state="active", sub_state="running", control_group=group)
    assert read(root, SystemdFacts(units={InstanceKey(1): facts})).resident_bytes == {}


def test_impossible_pressure_load_and_kills_are_unknown(root: Path) -> None:
    write(root, "proc/pressure/memory", "full avg10=0.00 avg60=100.01 avg300=0.00 total=0\n")
    write(root, "proc/pressure/cpu", "some avg10=0.00 avg60=1.00 avg300=0.00 total=0\n")
    write(root, "proc/loadavg", f"{DIGITS}.00 0.00 0.00 1/1 1\n")
    write(root, "proc/vmstat", f"oom_kill {'9' * 18}\n")
    facts = read(root)
    assert (facts.pressure, facts.load_per_core, facts.oom_kills_total) == (None, None, None)
