"""Which unit a Sidekiq process is of, by the control groups."""

from __future__ import annotations

from pathlib import Path

from fleetd.adapters.host.unit_processes import sidekiq_units


def test_the_units_of_sidekiq_processes_by_pid(tmp_path: Path) -> None:
    groups = {
        "mastodon-sidekiq.service": "4242\n4250\n",
        r"system-mastodon\x2dsidekiq.slice/mastodon-sidekiq@3.service": "77\n",
        "postgresql.service": "99\n",
        "sidekiq-empty.service": "",
        "sidekiq-odd.service": "x\n0\n-1\n",
    }
    for name, pids in groups.items():
        group = tmp_path / "sys/fs/cgroup/system.slice" / name
        group.mkdir(parents=True)
        (group / "cgroup.procs").write_text(pids)
    assert sidekiq_units(tmp_path) == {
        4242: "mastodon-sidekiq.service",
        4250: "mastodon-sidekiq.service",
        77: "mastodon-sidekiq@3.service",
    }


def test_without_control_groups_none_is_known(tmp_path: Path) -> None:
    assert sidekiq_units(tmp_path) == {}
