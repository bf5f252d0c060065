"""`fleetctl init`: what it writes where, and what it says."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from fleetd.config import load
from tests.support.builders.findings import stock
from tests.support.fleetctl import fleetctl


@pytest.fixture(autouse=True)
def found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stock VM."""
    monkeypatch.setattr("fleetd.app.init.look.look_around", stock)


def test_on_standard_output_the_file_alone() -> None:
    done = fleetctl("init", "--stdout")
    assert done.exit_code == 0
    assert list(tomllib.loads(done.stdout)["profiles"]) == ["weighted"]
    assert "Found: Sidekiq now run by mastodon-sidekiq.service" in done.stderr
    assert "Next:" not in done.stderr


def test_to_a_file_and_what_comes_next(tmp_path: Path) -> None:
    path = tmp_path / "new.toml"
    done = fleetctl("init", "--output", str(path))
    assert done.exit_code == 0
    assert load(path).policy.profiles[0].name == "weighted"
    lines = done.stdout.splitlines()
    assert lines[0] == "Found: Mastodon in /home/mastodon/live, run as mastodon"
    assert "Above min, 1 instance of weighted can be added." in lines
    assert lines[-5:] == [
        "Next:",
        f"  sudo fleetctl check-config {path}",
        f"  sudo fleetctl doctor {path}",
        f"  sudo install -o root -g fleetd -m 640 {path} /etc/fleetd/fleetd.toml",
        "  sudo fleetctl migrate",
    ]


def test_what_is_there_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("mine")
    done = fleetctl("init", "--output", str(path))
    assert (done.exit_code, path.read_text()) == (1, "mine")
    assert done.exception is not None
    assert "nothing was written" in str(done.exception)


def test_two_places_at_once_are_refused(tmp_path: Path) -> None:
    assert fleetctl("init", "--stdout", "--output", str(tmp_path / "x")).exit_code == 2


def test_the_help_says_how_it_ends() -> None:
    shown = fleetctl("init", "--help").stdout
    assert "0  the configuration was written" in shown
    assert "1  it was not" in shown
