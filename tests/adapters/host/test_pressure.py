"""What LinuxHost reads besides memory: pressure, OOM kills, the stamp of Mastodon's code, unit files."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import msgspec
import pytest

from fleetd.adapters.host.readings import LinuxHost
from fleetd.core.model.facts import CodeStamp, HostPressure
from fleetd.core.model.identity import SCHEDULER_UNIT, TEMPLATE_UNIT
from tests.support.rig.host_files import env, made_up_root, read


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return made_up_root(tmp_path)


def pressure(root: Path, **files: str) -> None:
    (root / "proc/pressure").mkdir(exist_ok=True)
    for name, content in files.items():
        (root / "proc/pressure" / name).write_text(content)


MEMORY_PRESSURE = "some avg10=9.00 avg60=8.00 avg300=7.00 total=1\nfull avg10=30.01 avg60=20.50 avg300=1.00 total=9\n"
CPU_PRESSURE = "some avg10=99.00 avg60=87.25 avg300=7.00 total=1\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"


def test_pressure_is_given_as_shares_of_the_last_minute(root: Path) -> None:
    pressure(root, memory=MEMORY_PRESSURE, cpu=CPU_PRESSURE.splitlines(keepends=True)[0])  # before Linux 5.13
    assert read(root).pressure == HostPressure(memory_stalled_share=0.205, cpu_waiting_share=0.8725)
    pressure(root, memory=MEMORY_PRESSURE.replace("20.50", "100.00"), cpu=CPU_PRESSURE.replace("87.25", "0.00"))
    assert read(root).pressure == HostPressure(memory_stalled_share=1.0, cpu_waiting_share=0.0)


@pytest.mark.parametrize(
    ("memory", "cpu"),
    [
        (None, None),
        (MEMORY_PRESSURE, None),
        (None, CPU_PRESSURE),
        ("", ""),
        (MEMORY_PRESSURE.replace("full", "some"), CPU_PRESSURE),
        (MEMORY_PRESSURE.replace("20.50", "-1.00"), CPU_PRESSURE),
        (MEMORY_PRESSURE, CPU_PRESSURE.replace("87.25", "nan")),
        (MEMORY_PRESSURE, CPU_PRESSURE.replace("avg60=", "avg61=")),
    ],
)
def test_pressure_that_is_not_reported_is_none_and_not_calm(root: Path, memory: str | None, cpu: str | None) -> None:
    told = {"memory": memory, "cpu": cpu}
    pressure(root, **{name: content for name, content in told.items() if content is not None})
    assert read(root).pressure is None


@pytest.mark.parametrize(
    ("content", "kills"),
    [
        ("nr_free_pages 5\noom_kill 3\nnuma_hit 7\n", 3),
        ("oom_kill 0\n", 0),
        ("nr_free_pages 5\n", None),  # before Linux 4.13
        ("oom_kill -1\n", None),
        ("x_oom_kill 4\n", None),
        (None, None),
    ],
)
def test_oom_kills(root: Path, content: str | None, kills: int | None) -> None:
    if content is not None:
        (root / "proc/vmstat").write_text(content)
    assert read(root).oom_kills_total == kills


@pytest.mark.parametrize(
    ("content", "stamp"),
    [
        (
            '{"digest":"0a1b2c3d4e5f6071","version":"4.5.3"}\n',
            CodeStamp(digest="0a1b2c3d4e5f6071", version="4.5.3"),
        ),
        ('{"digest":"0a1b"}', CodeStamp(digest="0a1b")),
        (
            '{"digest":"0a1b","version":"4.6.0-alpha.4+x","more":[1]}',
            CodeStamp(digest="0a1b", version="4.6.0-alpha.4+x"),
        ),
        (None, None),
        ("", None),
        ("[]", None),
        ("{}", None),
        ('{"digest":""}', None),
        ('{"digest":5}', None),
        ('{"digest":"0a\\u001b[31m"}', None),
        ('{"digest":"0a1b","version":"4.5\\n3"}', None),
        ('{"digest":"0a1b","version":null}', None),
        ('{"digest":"' + "a" * 129 + '"}', None),
        ('{"digest":"0a1b"}' + " " * 70_000, None),
        ("[" * 60_000, None),
    ],
)
def test_the_stamp_of_mastodons_code(root: Path, content: str | None, stamp: CodeStamp | None) -> None:
    if content is not None:
        env(root, "code.json", content)
    assert read(root).code == stamp


def test_a_stamp_that_is_written_is_read(root: Path) -> None:
    stamp = CodeStamp(digest="0a1b2c3d4e5f6071", version="4.5.3")
    env(root, "code.json", msgspec.json.encode(stamp) + b"\n")
    assert read(root).code == stamp


def unit_file(root: Path, name: str, content: str) -> None:
    path = root / "etc/systemd/system" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def test_a_unit_file_that_changes_is_unknown_until_two_readings_agree(root: Path) -> None:
    host = LinuxHost(root=root)

    def digests() -> dict[str, str]:
        return asyncio.run(host.read(None)).unit_digests

    assert digests() == {}
    unit_file(root, TEMPLATE_UNIT, "[Service]\n")
    unit_file(root, SCHEDULER_UNIT, "[Service]\nNice=1\n")
    assert digests() == {}
    before = digests()
    assert set(before) == {TEMPLATE_UNIT, SCHEDULER_UNIT}
    assert before[TEMPLATE_UNIT] != before[SCHEDULER_UNIT]
    assert before == read(root).unit_digests  # a fleetd that has just started needs no second reading
    unit_file(root, TEMPLATE_UNIT, "[Service]\nEnviron")
    assert set(digests()) == {SCHEDULER_UNIT}
    unit_file(root, TEMPLATE_UNIT, "[Service]\nEnvironment=A=1\n")
    assert set(digests()) == {SCHEDULER_UNIT}
    assert digests()[TEMPLATE_UNIT] != before[TEMPLATE_UNIT]
    (root / "etc/systemd/system" / TEMPLATE_UNIT).unlink()
    assert set(digests()) == set(digests()) == {SCHEDULER_UNIT}


def test_the_load_of_the_last_minute_per_core(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read(root).load_per_core is None
    (root / "proc/loadavg").write_text("6.50 3.00 1.00 2/345 6789\n")
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    assert read(root).load_per_core == 1.625
    (root / "proc/loadavg").write_text("nan")
    assert read(root).load_per_core is None


def test_the_cores_that_may_be_used_are_those_of_the_quota(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    assert read(root).cores == 8
    (root / "sys/fs/cgroup").mkdir(parents=True, exist_ok=True)
    (root / "sys/fs/cgroup/cpu.max").write_text("250000 100000\n")
    assert read(root).cores == 3
