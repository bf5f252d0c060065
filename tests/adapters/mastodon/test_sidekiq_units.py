"""Which units run this Mastodon's Sidekiq, another's, or none."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleetd.adapters.mastodon.sidekiq_units import booted_schedulers, other_sidekiqs, own_sidekiqs, sidekiq_units

LIVE = "/home/mastodon/live"
UNIT = "etc/systemd/system/jobs.service"
RUNS = "ExecStart=/usr/bin/bundle exec sidekiq -c 25"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write(tmp_path, UNIT, f"[Service]\nWorkingDirectory={LIVE}\n{RUNS}\n")
    return tmp_path


def write(root: Path, path: str, content: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(content)


def test_a_unit_of_any_name_is_found_by_what_it_runs_and_where(root: Path) -> None:
    assert own_sidekiqs(LIVE, root) == ("jobs.service",)
    assert other_sidekiqs("/srv/other", root) == {"jobs.service": LIVE}


def test_a_template_serves_the_queue_of_its_instance(root: Path) -> None:
    write(root, "etc/systemd/system/jobs@.service", f"[Service]\nWorkingDirectory={LIVE}\n{RUNS} -q %i\n")
    wants = root / "etc/systemd/system/multi-user.target.wants"
    wants.mkdir()
    for instance in ("push", "scheduler"):
        (wants / f"jobs@{instance}.service").symlink_to("/etc/systemd/system/jobs@.service")
    assert sidekiq_units(root) == ("jobs.service", "jobs@.service")
    assert booted_schedulers(LIVE, (), root) == ("jobs@scheduler.service",)


def test_a_drop_in_says_last_where_it_runs(root: Path) -> None:
    write(root, f"{UNIT}.d/move.conf", "[Service]\nWorkingDirectory=/srv/other\n")
    assert own_sidekiqs(LIVE, root) == ()
    assert own_sidekiqs("/srv/other", root) == ("jobs.service",)


def test_a_drop_in_says_last_what_it_runs(root: Path) -> None:
    write(root, f"{UNIT}.d/web.conf", "[Service]\nExecStart=\nExecStart=/usr/bin/bundle exec puma\n")
    assert own_sidekiqs(LIVE, root) == ()


def test_a_masked_unit_runs_nothing(root: Path) -> None:
    (root / UNIT).unlink()
    (root / UNIT).symlink_to("/dev/null")
    write(root, "usr/lib/systemd/system/jobs.service", f"[Service]\nWorkingDirectory={LIVE}\n{RUNS}\n")
    assert own_sidekiqs(LIVE, root) == ()


@pytest.mark.parametrize(
    ("queues", "schedules"),
    [
        ("", True),
        ("-q scheduler", True),
        ("--queue=scheduler,3", True),
        ("-q push -q pull", False),
        ("-qpush,2 --queue pull", False),
        ("-q $QUEUES", True),
        ("-q push $MORE", True),
        ("-q ${QUEUES:-push}", True),
        ("-q %p", True),
        ("-C /etc/other.yml", True),
    ],
)
def test_a_boot_starts_a_scheduler_with_it(root: Path, queues: str, schedules: bool) -> None:
    write(root, f"{UNIT}.d/queues.conf", f"[Service]\nExecStart=\n{RUNS} {queues}\n")
    wants = root / "etc/systemd/system/multi-user.target.wants"
    wants.mkdir()
    (wants / "jobs.service").symlink_to(f"/{UNIT}")
    (wants.parent / "a-file.wants").touch()
    assert booted_schedulers(LIVE, (), root) == (("jobs.service",) if schedules else ())


def test_a_boot_starts_what_is_required_too_and_what_a_package_enabled(root: Path) -> None:
    for place in ("etc/systemd/system/x.target.requires", "usr/lib/systemd/system/multi-user.target.wants"):
        (root / place).mkdir(parents=True)
        (root / place / "jobs.service").symlink_to(f"/{UNIT}")
        assert booted_schedulers(LIVE, (), root) == ("jobs.service",)
        (root / place / "jobs.service").unlink()
