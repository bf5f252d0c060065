"""Which files are read beside `.env.production`, and what the workers' unit adds."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fleetd.adapters.host.worker_account import WorkersUnit, unit_of
from fleetd.adapters.mastodon.env import read_env
from fleetd.adapters.mastodon.env_file import ENV_FILE_BYTES_MAX, EnvFile, read_env_file

NOBODY = 65534
UNIT = WorkersUnit(user="masto", environment='RAILS_ENV=production "DB_PASS=p 1"')


@pytest.fixture
def live(tmp_path: Path) -> Path:
    (tmp_path / ".env.production").write_text("DB_HOST=a\nDB_PASS=file\n")
    return tmp_path


def read(
    live: Path, monkeypatch: pytest.MonkeyPatch, unit: WorkersUnit = UNIT, name: str = ".env.production"
) -> EnvFile:
    monkeypatch.setattr("fleetd.adapters.mastodon.env_file.workers_unit", lambda *_: unit)
    return read_env_file(str(live / name))


def known(env: EnvFile) -> dict[str, str]:
    variables = read_env(env)
    assert variables is not None
    return variables.known()


def test_all_of_rails_files_and_the_units_own(live: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (live / ".env.production.local").write_text("DB_NAME=first\n")
    (live / ".env.local").write_text("DB_NAME=second\nDB_USER=second\n")
    (live / ".env").write_text("DB_HOST=last\nDB_PORT=1\n")
    env = read(live, monkeypatch)
    assert (env.user, env.problem, env.unit_problem) == ("masto", "", "")
    assert [name for name, _ in env.files or ()] == [".env.production.local", ".env.local", ".env.production", ".env"]
    assert known(env) == {
        "RAILS_ENV": "production",
        "RACK_ENV": "production",
        "DB_PASS": "p 1",
        "DB_NAME": "first",
        "DB_USER": "second",
        "DB_HOST": "a",
        "DB_PORT": "1",
    }


def test_a_file_of_another_name_stands_alone(live: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (live / "mine").write_text("DB_HOST=mine\n")
    (live / ".env").write_text("DB_PORT=1\n")
    assert known(read(live, monkeypatch, WorkersUnit(), "mine"))["DB_HOST"] == "mine"
    assert "DB_PORT" not in known(read(live, monkeypatch, WorkersUnit(), "mine"))


@pytest.mark.parametrize("plant", [lambda path: path.mkdir(), lambda path: path.write_bytes(b"DB_PASS=\xe9\n")])
def test_one_that_cannot_be_read_fails_all_as_it_fails_mastodon(
    live: Path, monkeypatch: pytest.MonkeyPatch, plant: object
) -> None:
    plant(live / ".env.local")  # type: ignore[operator]
    env = read(live, monkeypatch)
    assert env.files is None
    assert ".env.local beside it, which Mastodon loads too, can't be: it is" in env.problem
    earlier = EnvFile(path=env.path, text="DB_HOST=b\n", beside=((".env", "DB_PORT=2\n"),))
    kept = env.or_kept(earlier)
    assert kept.kept
    assert known(kept)["DB_PORT"] == "2"


def test_all_files_together_are_bounded(live: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (live / ".env").write_text("#" * (ENV_FILE_BYTES_MAX - 10))
    assert "bytes" in read(live, monkeypatch).problem


def test_environment_files_come_after_environment(live: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (live / "unit.env").write_text("DB_PASS=p#2\nDB_USER='u v'\n")
    files = (f"{live}/unit.env (ignore_errors=no)", f"{live}/none (ignore_errors=yes)")
    own = "/var/lib/mastodon-sidekiq/0.env (ignore_errors=no)"
    unit = WorkersUnit(environment=UNIT.environment, environment_files=(own, *files))
    env = read(live, monkeypatch, unit)
    assert env.unit_problem == ""
    assert {name: known(env)[name] for name in ("DB_PASS", "DB_USER")} == {"DB_PASS": "p#2", "DB_USER": "u v"}


def test_an_environment_file_that_is_missing_is_said(live: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unit = WorkersUnit(environment_files=(f"{live}/none (ignore_errors=no)",))
    assert f"EnvironmentFile={live}/none of mastodon-sidekiq@.service can't be read" in (
        read(live, monkeypatch, unit).unit_problem
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root takes on somebody's rights")
def test_who_the_workers_will_be_counts_before_that_is_rendered(live: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`fleetctl check-config` and doctor come before the first rendering: mastodon.user is in fleetd.toml only."""
    for folder in (live, *live.parents[:-1]):
        folder.chmod(folder.stat().st_mode | 0o011)
    (live / ".env.production").chmod(0o600)
    os.chown(live / ".env.production", NOBODY, NOBODY)
    shown = "LoadState=loaded\nUser=daemon\n"
    monkeypatch.setattr("fleetd.adapters.mastodon.env_file.workers_unit", lambda _, user=None: unit_of(shown, user))
    path = str(live / ".env.production")
    assert read_env_file(path).forbidden
    found = read_env_file(path, user="nobody")
    assert (found.user, known(found)["DB_HOST"]) == ("nobody", "a")
