from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fleetd.adapters.host.worker_account import Account, WorkersUnit
from fleetd.app.daemons_view import hidden_from_daemon
from fleetd.cli.commands.check_config import unit_lines
from fleetd.cli.main import cli
from fleetd.config import parse
from tests.support.project import PROJECT

REDIS = '[redis]\nhost = "main"\n'
POSTGRES = '[postgres]\nhost = "database"\n'
GOOD = """
[fleet]
host = "worker1"

[profiles.default-first]
order = "default-first"
instances = "1-6"
threads = 60
min = 2
max = 6

[profiles.pull-first]
queues = ["pull", "default"]
instances = "7-8"
threads = 25
min = 1
max = 2

[scheduler]
place = "auto"

[connections]
limit = 700
"""


@pytest.fixture(autouse=True)
def own_rights(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests' files are their own, also where they run as root on a machine without a user mastodon."""
    monkeypatch.setattr("fleetd.adapters.mastodon.env_file.workers_unit", lambda *_: WorkersUnit())


def check(file: Path) -> Result:
    return CliRunner().invoke(cli, ["check-config", str(file)], prog_name="fleetctl")


def test_a_valid_file_is_summed_up(tmp_path: Path) -> None:
    file = tmp_path / "fleetd.toml"
    file.write_text(GOOD + REDIS + POSTGRES)
    result = check(file)
    assert result.exit_code == 0, result.stdout
    assert f"{file}: fleetd takes this configuration" in result.stdout
    assert "2 to 6 instances of 1-6, 60 threads, pool 62, claims 62 connections each" in result.stdout
    assert "at min: 3 instances, 2 × 62 + 1 × 27 + 12 = 163 connections" in result.stdout
    assert "at max: 8 instances, 6 × 62 + 2 × 27 + 12 = 438 connections" in result.stdout
    assert "limit 700, less reserve 10" in result.stdout


def test_queues_that_nobody_serves_are_named(tmp_path: Path) -> None:
    file = tmp_path / "fleetd.toml"
    profile = '[profiles.a]\nqueues = ["default"]\ninstances = [1]\nthreads = 5\nmin = 1\nmax = 1\n'
    file.write_text(profile + REDIS + POSTGRES)
    result = check(file)
    assert result.exit_code == 0, result.stdout
    assert "look: No profile here serves the queue push" in result.stdout


def test_every_problem_of_an_invalid_file_is_listed_with_its_cure(tmp_path: Path) -> None:
    file = tmp_path / "fleetd.toml"
    file.write_text(GOOD.replace("threads = 60", 'thraeds = "\\u001b[2J"').replace("min = 1", "min = -1"))
    result = check(file)
    assert result.exit_code == 1
    assert "2 problems" in result.stdout
    assert "thraeds" in result.stdout
    assert "threads" in result.stdout
    assert "profiles.pull-first.min" in result.stdout
    assert "\x1b" not in result.stdout


def test_a_missing_file_gives_a_sentence(tmp_path: Path) -> None:
    result = check(tmp_path / "none.toml")
    assert result.exit_code == 1
    assert "No such file or directory" in result.stdout


def with_env(tmp_path: Path, env: str | None) -> Result:
    name = tmp_path / ".env.production"
    if env is not None:
        name.write_text(env)
    file = tmp_path / "fleetd.toml"
    file.write_text(f'{GOOD}\n[mastodon]\nenv_file = "{name}"\n')
    return check(file)


def test_the_sources_that_would_be_read_are_listed(tmp_path: Path) -> None:
    result = with_env(tmp_path, "DB_HOST=10.0.0.2\nDB_PORT=6432\nDB_PASS=Geheim7\n")
    assert result.exit_code == 0, result.stdout
    assert "watched at: PgBouncer at 10.0.0.2:6432, because .env.production names port 6432" in result.stdout
    assert "look: Postgres behind PgBouncer is not watched: name it under [postgres]." in result.stdout
    assert "Geheim7" not in result.stdout


def test_where_redis_and_the_databases_were_found_is_shown_and_no_secret(tmp_path: Path) -> None:
    (tmp_path / ".env.local").write_text("REDIS_URL=redis://:Geheim8@10.0.0.9:6380/2\n")
    database = "postgresql:///m?host=10.0.0.2,10.0.0.3&username=u&password=Geheim7&pool=5&target_session_attrs=any"
    result = with_env(tmp_path, f"DATABASE_URL={database}\nREPLICA_DB_HOST=10.0.0.4\n")
    assert result.exit_code == 0, result.stdout
    source = "as .env.production and .env.local say"
    assert f"Redis is read at 10.0.0.9:6380, database 2, {source}." in result.stdout
    assert f", at 10.0.0.2,10.0.0.3:5432, {source}; the replica at 10.0.0.4:5432" in result.stdout
    assert "look: pool=5 in the address of Mastodon's database beats db_pool" in result.stdout
    assert "Geheim" not in result.stdout


def test_problems_in_mastodons_own_settings_are_listed(tmp_path: Path) -> None:
    result = with_env(tmp_path, "DB_PORT=Geheim7\n")
    assert result.exit_code == 1
    assert "DB_PORT: in .env.production, line 1: must be a whole number" in result.stdout
    assert "Geheim7" not in result.stdout


def write(directory: Path, env: str | None, more: str = "") -> Path:
    """Write a valid fleetd.toml. What `more` does not say comes from .env.production."""
    env_file = directory / "live" / ".env.production"
    env_file.parent.mkdir()
    if env is not None:
        env_file.write_text(env)
    file = directory / "fleetd.toml"
    file.write_text(f'{GOOD}{more}[mastodon]\nenv_file = "{env_file}"\n')
    return file


@pytest.mark.parametrize(
    ("env", "more", "named"),
    [
        (None, "", ["redis: not configured", "postgres: not configured"]),
        (None, REDIS, ["postgres: not configured"]),
        ("REDIS_PORT=hunter2\nDB_SSLMODE=hunter2\n", "", ["REDIS_PORT", "DB_SSLMODE"]),
    ],
    ids=["missing", "missing for one", "bad"],
)
def test_mastodons_settings_that_fleetd_would_refuse_are_refused(
    tmp_path: Path, env: str | None, more: str, named: list[str]
) -> None:
    result = check(write(tmp_path, env, more))
    assert result.exit_code == 1, result.stdout
    assert f"{tmp_path}/live/.env.production: {len(named)} problem" in result.stdout
    assert [line for line in named if line not in result.stdout] == []
    assert "takes this" not in result.stdout
    assert "hunter2" not in result.stdout


@contextmanager
def nobody() -> Iterator[None]:
    """Run as a user other than root."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


@pytest.mark.parametrize("hidden", ["live/.env.production", "live"])
def test_an_unreadable_file_is_reported_as_not_checked(hidden: str) -> None:
    """Either the file or, as is usual, its directory may not be read."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o755)
        file = write(directory, "REDIS_PORT=x\n")
        (directory / hidden).chmod(0)
        try:
            with nobody():
                result = check(file)
        finally:
            (directory / hidden).chmod(0o700)
    assert result.exit_code == 0, result.stdout
    (line,) = [line for line in result.stdout.splitlines() if "not checked" in line]
    assert f"{directory}/live/.env.production" in line
    assert "sudo fleetctl check-config" in line


def test_units_that_are_somebody_elses_are_named_with_the_way_over(tmp_path: Path) -> None:
    units = tmp_path / "etc/systemd/system"
    units.mkdir(parents=True)
    template = "mastodon-sidekiq@.service"
    (units / template).write_text("[Service]\nType=simple\nUser=mastodon\nExecStart=/bin/sidekiq -q %i\n")
    said = unit_lines(parse(GOOD), tmp_path)
    assert said[0].startswith(f"  look: /etc/systemd/system/{template} is not fleetd's {template} but somebody else's")
    assert any("no EnvironmentFile=" in line and "every queue" in line for line in said)
    assert any("Type=simple" in line and "write Type=notify" in line for line in said)
    assert said[-5:] == [
        f"      find /etc/systemd/system -lname '/etc/systemd/system/{template}' "
        "-not -path '*/mastodon-workers-boot.target.wants/*' -delete",
        f"      mv /etc/systemd/system/{template} /root/",
        "      systemctl daemon-reload",
        "      systemctl restart fleetd-render",
        "      systemctl try-restart 'mastodon-sidekiq@*'",
    ]


@pytest.mark.parametrize(
    ("directory", "again"),
    [("usr/local/lib", "sudo make install"), ("usr/lib", "sudo apt-get install --reinstall fleetd")],
)
def test_our_own_unit_that_was_overwritten_is_installed_again(tmp_path: Path, directory: str, again: str) -> None:
    units = tmp_path / directory / "systemd/system"
    units.mkdir(parents=True)
    (units / "mastodon-sidekiq@.service").write_text("[Service]\nType=simple\nUser=mastodon\nExecStart=/bin/sidekiq\n")
    assert unit_lines(parse(GOOD), tmp_path)[-1].strip().startswith(again)


def test_a_changed_unit_is_named_with_the_line_that_mends_it(tmp_path: Path) -> None:
    unit = "mastodon-sidekiq-scheduler.service"
    units = tmp_path / "etc/systemd/system"
    (units / f"{unit}.d").mkdir(parents=True)
    (units / unit).write_text((PROJECT / "units" / unit).read_text())
    (units / f"{unit}.d/override.conf").write_text("[Service]\nTimeoutStopSec=10\n")
    said = unit_lines(parse(GOOD), tmp_path)
    assert said[0].startswith(f"  look: {unit} was changed")
    assert said[1].startswith(f"    TimeoutStopSec=10 in /etc/systemd/system/{unit}.d/override.conf: ")
    assert said[1].endswith("write TimeoutStopSec=60")
    assert said[2:] == ["    once it is mended, run:", "      systemctl daemon-reload"]


def test_the_file_may_be_named_as_an_option_too(tmp_path: Path) -> None:
    file = tmp_path / "fleetd.toml"
    file.write_text(GOOD + REDIS + POSTGRES)
    named = CliRunner().invoke(cli, ["check-config", "--config", str(file)], prog_name="fleetctl")
    assert (named.exit_code, named.stdout) == (0, check(file).stdout)
    twice = CliRunner().invoke(cli, ["check-config", "--config", str(file), str(file)], prog_name="fleetctl")
    assert twice.exit_code == 2


@pytest.mark.parametrize("command", ["check-config", "doctor", "grants", "migrate"])
def test_every_command_that_reads_a_configuration_takes_it_so(command: str) -> None:
    assert "--config FILE" in CliRunner().invoke(cli, [command, "--help"], prog_name="fleetctl").stdout


def test_a_file_that_fleetds_user_may_not_read_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "fleetd.toml"
    file.write_text(GOOD + REDIS + POSTGRES)
    monkeypatch.setattr("fleetd.app.daemons_view.hidden_from_daemon", lambda _file: True)
    elsewhere = check(file)
    assert elsewhere.exit_code == 0
    assert f"sudo install -o root -g fleetd -m 640 {file} /etc/fleetd/fleetd.toml" in elsewhere.stdout
    monkeypatch.setattr("fleetd.cli.commands.check_config.DEFAULT_FILE", str(file))
    there = check(file)
    assert there.exit_code == 1
    assert "user fleetd may not read it" in there.stdout
    assert f"Run: sudo chgrp fleetd {file} && sudo chmod 0640 {file}" in there.stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can take on another account")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_root_looks_whether_fleetds_user_may_read_it(monkeypatch: pytest.MonkeyPatch) -> None:
    nobody = Account(name="nobody", uid=65534, gid=65534, groups=(65534,))
    monkeypatch.setattr("fleetd.app.daemons_view.daemons_account", lambda: nobody)
    with tempfile.TemporaryDirectory(dir="/var/tmp") as directory:
        Path(directory).chmod(0o755)
        file = Path(directory) / "fleetd.toml"
        file.write_text("")
        file.chmod(0o600)
        assert hidden_from_daemon(file)
        file.chmod(0o644)
        assert not hidden_from_daemon(file)
