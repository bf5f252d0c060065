"""`fleetctl history`, `trace` and `replay` on a history file: output for people and for scripts, and errors."""

from __future__ import annotations

import json
import re
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from msgspec import structs

from fleetd.adapters.history.writer import SqliteHistory
from fleetd.cli.main import cli
from fleetd.core.model.history import Batch
from fleetd.simulate.replay.replay import FleetError
from tests.support.builders.history import entry
from tests.support.builders.recordings import recorded
from tests.support.builders.traces import queue_toml, small_trace
from tests.support.rig.history_file import settle

SECONDS = 900


@pytest.fixture(autouse=True)
def noon() -> Iterator[None]:
    """Make it about noon here, so that what is listed by hour and under one date does not span midnight."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", f"HERE{time.gmtime().tm_hour - 12:+d}")
        time.tzset()
        yield
    time.tzset()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of a quarter of an hour with a surge that has just ended."""
    body = "[targets]\n" + queue_toml("default", "[[0, 20], [300, 20], [330, 120], [500, 120], [520, 20]]", 0.2)
    history, _ = recorded(small_trace(body, seconds=SECONDS))
    shift = time.time() - 2.0 - history.samples[-1].at_seconds
    path = tmp_path_factory.mktemp("state") / "history.sqlite"
    writer = SqliteHistory(path, days=14, bytes_max=64 * 1024 * 1024)
    moved = [structs.replace(s, at_seconds=s.at_seconds + shift) for s in history.samples]
    writer.append(
        Batch(
            policies=tuple(structs.replace(c, at_seconds=c.at_seconds + shift) for c in history.policies),
            entries=tuple(structs.replace(e, at_seconds=e.at_seconds + shift) for e in history.entries),
        )
    )
    for begin in range(0, len(moved), 12):
        writer.append(Batch(samples=tuple(moved[begin : begin + 12])))
        settle(writer)
    writer.close()
    return path


def fleetctl(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, [*map(str, arguments)])


def words(result: Result) -> str:
    return " ".join(result.stdout.split())


def test_history_lists_steps_with_their_reasons_in_order_of_time(file: Path) -> None:
    result = fleetctl("history", "--file", file)
    assert result.exit_code == 0, result.output
    assert "» start mastodon-sidekiq@2.service: local has 1 of" in result.stdout
    assert "local has 1 of" in words(result)
    lines = result.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].startswith(time.strftime("%a %d %b %Y", time.localtime(time.time() - SECONDS)))
    times = [line[:8] for line in lines[1:] if line[:2].isdigit()]
    assert times == sorted(times)


def test_history_as_json(file: Path) -> None:
    told = json.loads(fleetctl("history", "--file", file, "--json").stdout)
    steps = [e for e in told["entries"] if e["kind"] == "step"]
    assert steps[0]["sentence"].startswith("start mastodon-sidekiq@2.service: local has 1 of")
    assert steps[0]["warning"] is False
    assert told["gaps"] == []
    assert told["since"] < told["entries"][0]["at"] < told["until"]


def test_a_time_after_the_last_record_says_where_that_is(tmp_path: Path) -> None:
    old = tmp_path / "history.sqlite"
    writer = SqliteHistory(old, days=14, bytes_max=64 * 1024 * 1024)
    writer.append(Batch(entries=(entry(time.time() - 9000, "start"),)))
    writer.close()
    said = words(fleetctl("history", "--file", old, "--since", "1h"))
    assert "The last record is of" in said
    assert "Nothing was recorded until now (60 min)" in said


@pytest.mark.parametrize("command", ["history", "trace", "replay"])
def test_without_a_history_there_is_a_sentence(command: str, tmp_path: Path) -> None:
    missing = tmp_path / "history.sqlite"
    result = fleetctl(command, "--file", missing)
    assert result.exit_code != 0
    assert "There is no history at" in str(result.exception)
    damaged = tmp_path / "damaged"
    damaged.write_bytes(b"\0" * 5000)
    assert "is damaged or no history" in str(fleetctl(command, "--file", damaged).exception)
    if command != "trace":
        told = json.loads(fleetctl(command, "--file", missing, "--json").stdout)
        assert "There is no history" in told["error"]


@pytest.mark.parametrize("typed", ["5", "0s", "40d", "yesterday"])
def test_since_is_a_length_of_time(typed: str, file: Path) -> None:
    result = fleetctl("history", "--file", file, "--since", typed)
    assert result.exit_code == 2
    assert "--since" in result.stderr


def test_trace_prints_a_trace_that_simulate_takes(file: Path, tmp_path: Path) -> None:
    result = fleetctl("trace", "--file", file)
    assert result.exit_code == 0, result.output
    assert tomllib.loads(result.stdout)["profiles"]["local"]["instances"] == 6
    mine = tmp_path / "mine.toml"
    mine.write_text(result.stdout)
    told = json.loads(fleetctl("simulate", mine, "--json").stdout)
    assert told["policies"]["fleetd"]["queues"]["default"]["jobs"] == pytest.approx(900 * 20 + 190 * 100, rel=0.1)


NEW = '[profiles.local]\nqueues = ["default", "push", "pull"]\nthreads = 10\ninstances = "1-2"\nmin = 2\n'


def test_replay_compares_with_another_configuration(file: Path, tmp_path: Path) -> None:
    new = tmp_path / "new.toml"
    new.write_text(NEW + "[targets]\ndefault = 60\n")
    result = fleetctl("replay", "--file", file, "--config", new)
    assert result.exit_code == 0, result.output
    rows = [line for line in result.stdout.splitlines() if line.startswith("  ")]
    places = [
        next(i for i, line in enumerate(rows) if line[3:].strip().startswith(f"{row} "))
        for row in ("recorded", "as recorded, rebuilt", "current", "new.toml")
    ]
    assert places == sorted(places), "what truly ran comes first"
    said = words(result)
    assert "new.toml instead of the current configuration: " in said
    assert "the instance-hours it truly used" in said
    assert "late: jobs that waited longer than their queue's target" in said
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_replay_as_json(file: Path, tmp_path: Path) -> None:
    new = tmp_path / "new.toml"
    new.write_text(NEW)
    told = json.loads(fleetctl("replay", "--file", file, "--config", new, "--json").stdout)
    assert list(told["runs"]) == ["as recorded", "current", str(new)]
    assert told["runs"][str(new)]["starts"] <= 1
    assert told["runs"]["current"]["starts"] >= 1
    assert told["trusted"] is all(error["trusted"] for error in told["reconstruction"].values())
    assert told["reconstruction"]["default"]["trusted"] is True
    assert told["recorded"]["instance_seconds"] == pytest.approx(
        told["runs"]["as recorded"]["instance_seconds"], rel=0.05
    )
    assert told["recorded"]["starts"] >= 1
    assert abs(told["fleet_error"]["instance_seconds_share"]) < 0.3
    assert set(told["reconstruction"]["default"]["recorded"]) >= {"mean_seconds", "p95_seconds"}


def test_every_problem_of_the_new_configuration_is_listed(file: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.toml"
    bad.write_text('[profiles.a]\nqueues = ["default"]\ninstances = "1-2"\nthreds = 5\nmin = 7\n')
    result = fleetctl("replay", "--file", file, "--config", bad)
    assert result.exit_code == 1
    assert "2 problems" in result.stderr
    assert "Did you mean profiles.a.threads?" in result.stderr
    assert "error" in json.loads(fleetctl("replay", "--file", file, "--config", bad, "--json").stdout)
    bad.write_text('[profiles.a]\nqueues = ["push"]\ninstances = "1-2"\n')
    unserved = fleetctl("replay", "--file", file, "--config", bad)
    assert unserved.exit_code == 1
    assert unserved.stderr.startswith(str(bad))
    assert "queues.default: no profile serves this queue" in unserved.stderr


def test_a_user_who_may_not_read_the_file_is_told_to_use_sudo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    others = tmp_path / "history.sqlite"
    others.touch(mode=0o600)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError

    monkeypatch.setattr(Path, "open", refuse)
    monkeypatch.setattr("os.access", lambda *_, **__: False)
    for command in ("history", "trace", "replay"):
        result = fleetctl(command, "--file", others)
        assert "use sudo" in str(result.exception), command


def test_the_reason_for_the_count_comes_before_the_steps(file: Path) -> None:
    told = json.loads(fleetctl("history", "--file", file, "--json").stdout)["entries"]
    kinds = [e["kind"] for e in told]
    before = told[kinds.index("step") - 1]
    assert before["kind"] == "want"
    assert re.fullmatch(r"local: \d+ wanted, 1 runs: .*default.*", before["sentence"])


def test_differences_within_fleetds_own_error_are_marked(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = tmp_path / "new.toml"
    new.write_text(NEW)
    coarse = FleetError(instance_seconds_share=-0.9, starts=-40)
    monkeypatch.setattr("fleetd.simulate.replay.replay.fleet_error", lambda *_: coarse)
    said = words(fleetctl("replay", "--file", file, "--config", new))
    assert "comes out 90% below the instance-hours it truly used, with 40 fewer starts" in said
    assert "(means nothing)" in said
    assert " ~" in said
    monkeypatch.setattr("fleetd.simulate.replay.replay.fleet_error", lambda *_: None)
    assert "The configuration changed in that time" in words(fleetctl("replay", "--file", file))
