"""LinuxHost on a made-up root, and once on the real one."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fleetd.adapters.host.readings import LinuxHost, rendered_keys
from fleetd.core.model.facts import RenderedSettings, SystemdFacts, UnitFacts
from fleetd.core.model.identity import SCHEDULER, InstanceKey
from fleetd.core.model.policy_tables import Policy, Profile
from fleetd.core.model.worker_settings import (
    instance_digest,
    instance_settings,
    scheduler_digest,
    scheduler_settings,
)
from fleetd.errors import SourceUnavailableError
from tests.support.rig.host_files import env, made_up_root, read


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return made_up_root(tmp_path)


POLICY = Policy(
    host="worker1",
    profiles=(
        Profile(
            name="default-first",
            order="strict",
            queues=(("default", 1), ("push", 1)),
            threads=60,
            db_pool=90,
            numbers=(InstanceKey(1), InstanceKey(2), InstanceKey(12)),
            min_instances=1,
            max_instances=3,
        ),
    ),
    targets_seconds={},
)
PROFILE = POLICY.profiles[0]


def rendered_text(key: int) -> str:
    """A settings file as fleetd-render writes it."""
    if key == SCHEDULER:
        return scheduler_settings(POLICY, name_connections=True).text
    return instance_settings(POLICY, PROFILE, InstanceKey(key), name_connections=True).text


def unit(control_group: str) -> UnitFacts:
    return UnitFacts(
        name="u", load_state="loaded", active_state="active", sub_state="running", control_group=control_group
    )


def test_memory(root: Path) -> None:
    facts = read(root)
    assert facts.memory_total_bytes == 16384000 * 1024
    assert facts.memory_available_bytes == 8192000 * 1024


@pytest.mark.parametrize("content", [None, "", "MemTotal: 5 kB\n", "MemTotal: x kB\nMemAvailable: 3\n", "\0" * 99])
def test_memory_that_the_kernel_does_not_report_is_unknown(root: Path, content: str | None) -> None:
    meminfo = root / "proc/meminfo"
    meminfo.unlink()
    if content is not None:
        meminfo.write_text(content)
    with pytest.raises(SourceUnavailableError, match="MemAvailable"):
        read(root)


def test_resident_memory_leaves_out_reclaimable_cache(root: Path) -> None:
    group = "/system.slice/system-mastodon\\x2dsidekiq.slice/mastodon-sidekiq@1.service"
    directory = root / "sys/fs/cgroup" / group[1:]
    directory.mkdir(parents=True)
    (directory / "memory.current").write_text("1000000\n")
    (directory / "memory.stat").write_text("anon 500000\nfile 400000\nshmem 100000\nfile_mapped 7\n")
    bare = root / "sys/fs/cgroup/b"
    bare.mkdir()
    (bare / "memory.current").write_text("77\n")
    (root / "sys/fs/cgroup/c").mkdir()
    units = {
        1: unit(group),
        2: unit("/b"),
        3: unit("/c"),  # no memory controller
        4: unit(""),  # not running
        5: unit("/b/../b"),
        6: unit("b"),
        SCHEDULER: unit("/b"),
    }
    systemd = SystemdFacts(units={InstanceKey(key): facts for key, facts in units.items()})
    assert read(root, systemd).resident_bytes == {1: 700000, 2: 77, SCHEDULER: 77}
    assert read(root, SystemdFacts(units={})).resident_bytes == {}


def test_rendered_instances(root: Path) -> None:
    env(root, "1.env", rendered_text(1))
    env(root, "12.env", rendered_text(12))
    env(root, "scheduler.env", rendered_text(SCHEDULER))
    facts = read(root)
    sizes, scheduler = {"threads": PROFILE.threads, "db_pool": PROFILE.db_pool}, POLICY.scheduler
    default = RenderedSettings(profile="default-first", digest=instance_digest(PROFILE), **sizes)
    sizes = {"threads": scheduler.threads, "db_pool": scheduler.db_pool}
    assert facts.rendered == {
        1: default,
        12: default,
        SCHEDULER: RenderedSettings(profile="scheduler", digest=scheduler_digest(scheduler), **sizes),
    }
    assert rendered_keys(root) == {1, 12, SCHEDULER}


@pytest.mark.parametrize(
    "content",
    [
        "",
        b"\xff\xfe\x00",
        rendered_text(2),  # another number's settings under this name
        rendered_text(SCHEDULER),
        rendered_text(1).replace("FLEETD_PROFILE", "PROFILE"),
        rendered_text(1).replace("-g fleetd:", "-g other:"),
        rendered_text(1) + "#" * 70_000,
    ],
)
def test_a_file_that_fleetd_render_did_not_write_is_not_rendered(root: Path, content: str | bytes) -> None:
    env(root, "1.env", content)
    env(root, "2.env", rendered_text(2))
    assert set(read(root).rendered) == {2}


def test_names_that_are_no_instance_and_entries_that_are_no_file(root: Path) -> None:
    for name in ("01.env", "-1.env", "12345.env", "1.env.bak", "x.env", "1", "²..env"):
        env(root, name, rendered_text(1))
    directory = root / "var/lib/mastodon-sidekiq"
    (directory / "3.env").mkdir()
    os.mkfifo(directory / "4.env")
    (directory / "5.env").symlink_to(directory / "nowhere")
    assert read(root).rendered == {}


def test_scheduler_settings_of_an_instance_are_not_the_schedulers(root: Path) -> None:
    env(root, "scheduler.env", rendered_text(1))
    assert read(root).rendered == {}


def test_a_host_where_nothing_is_rendered(root: Path) -> None:
    (root / "var/lib/mastodon-sidekiq").rmdir()
    assert read(root).rendered == {}


def test_number_of_rendered_instances_is_bounded(root: Path) -> None:
    env(root, "scheduler.env", rendered_text(SCHEDULER))
    for number in range(1, 601):
        env(root, f"{number}.env", rendered_text(number))
    rendered = read(root).rendered
    assert len(rendered) == 512
    assert SCHEDULER in rendered, "which is started even where there are too many others"


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(content=st.binary(max_size=300))
def test_no_file_content_raises(root: Path, content: bytes) -> None:
    env(root, "1.env", content)
    env(root, "scheduler.env", content)
    env(root, "code.json", content)
    (root / "proc/vmstat").write_bytes(content)
    (root / "proc/pressure").mkdir(exist_ok=True)
    for name in ("memory", "cpu"):
        (root / "proc/pressure" / name).write_bytes(content)
    facts = read(root)
    assert (facts.rendered, facts.pressure, facts.code) == ({}, None, None)


def test_this_real_machine_can_be_read() -> None:
    facts = asyncio.run(LinuxHost().read(None))
    assert 0 < facts.memory_available_bytes <= facts.memory_total_bytes
    assert facts.oom_kills_total is not None
    if Path("/proc/pressure/memory").exists():
        assert facts.pressure is not None
