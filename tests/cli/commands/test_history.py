"""`fleetctl history`, `trace` and `replay` on a history file: what people read, what scripts get, what can be wrong."""

from __future__ import annotations

import json
import re
import time
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from msgspec import structs

from fleetd.adapters.history.writer import SqliteHistory
from fleetd.cli.main import cli
from fleetd.cli.screens.history import collapsed, gaps_of, history_lines
from fleetd.cli.screens.replay import error_sentence
from fleetd.cli.terminal.symbols import UNICODE
from fleetd.core.model.history import Batch, Entry, Recording, TimeSpan
from fleetd.simulate.replay.replay import Doubt, FleetError, QueueError, Waits
from tests.support.builders.history import entry
from tests.support.builders.recordings import recorded
from tests.support.builders.traces import queue_toml, small_trace
from tests.support.rig.history_file import settle

SECONDS = 900


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A quarter of an hour with a surge, that ended just now."""
    body = "[targets]\n" + queue_toml(
        "default", "[[0, 20], [300, 20], [330, 120], [500, 120], [520, 20]]", 0.2
    )
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


def plain(result: Result) -> str:
    return " ".join(result.stdout.split())


def test_history_lists_steps_with_their_reasons_newest_last(file: Path) -> None:
    result = fleetctl("history", "--file", file)
    assert result.exit_code == 0, result.output
    assert "» start @2" in result.stdout
    assert "local has 1 of" in plain(result)
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


def test_a_time_in_which_nothing_happened_is_told_apart_from_one_in_which_nobody_watched(
    file: Path, tmp_path: Path
) -> None:
    watched = Recording(watched_spans=(TimeSpan(from_seconds=0.0, to_seconds=100.0),), newest_seconds=100.0)
    lines = history_lines(watched, 0.0, 100.0, width=80, symbols=UNICODE)
    assert "fleetd watched, and had nothing to do" in " ".join(line.plain for line in lines)
    old = tmp_path / "history.sqlite"
    writer = SqliteHistory(old, days=14, bytes_max=64 * 1024 * 1024)
    writer.append(Batch(entries=(entry(time.time() - 9000, "start"),)))
    writer.close()
    said = plain(fleetctl("history", "--file", old, "--since", "1h"))
    assert "The last record is of" in said
    assert "Nothing was recorded until now (60 min)" in said


@pytest.mark.parametrize("command", ["history", "trace", "replay"])
def test_no_history_is_a_sentence(command: str, tmp_path: Path) -> None:
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


def test_trace_is_one_that_simulate_takes(file: Path, tmp_path: Path) -> None:
    result = fleetctl("trace", "--file", file)
    assert result.exit_code == 0, result.output
    assert tomllib.loads(result.stdout)["profiles"]["local"]["instances"] == 6
    mine = tmp_path / "mine.toml"
    mine.write_text(result.stdout)
    told = json.loads(fleetctl("simulate", mine, "--json").stdout)
    assert told["policies"]["fleetd"]["queues"]["default"]["jobs"] == pytest.approx(
        900 * 20 + 190 * 100, rel=0.1
    )


NEW = '[profiles.local]\nqueues = ["default", "push", "pull"]\nthreads = 10\ninstances = "1-2"\nmin = 2\n'


def test_replay_compares_with_another_configuration(file: Path, tmp_path: Path) -> None:
    new = tmp_path / "new.toml"
    new.write_text(NEW + "[targets]\ndefault = 60\n")
    result = fleetctl("replay", "--file", file, "--config", new)
    assert result.exit_code == 0, result.output
    rows = [line for line in result.stdout.splitlines() if line[:2] in ("  ", " ✔", " ✖")]
    places = [
        next(i for i, line in enumerate(rows) if line[2:].strip().startswith(f"{row} "))
        for row in ("recorded", "as recorded, rebuilt", "current", "new.toml")
    ]
    assert places == sorted(places), "what truly ran comes first"
    said = plain(result)
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


def test_everything_wrong_with_the_new_configuration_is_said(file: Path, tmp_path: Path) -> None:
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


def listed(*entries: Entry, width: int = 80, everything: bool = False) -> list[str]:
    recording = Recording(entries=entries, watched_spans=(TimeSpan(from_seconds=0.0, to_seconds=10_000.0),))
    lines = history_lines(recording, 0.0, 10_000.0, width=width, symbols=UNICODE, everything=everything)
    return [line.plain for line in lines]


def test_steps_of_one_tick_are_one_line() -> None:
    steps = [entry(100.0, f"start mastodon-sidekiq@{n}.service: push needs 90 threads") for n in (2, 3, 4, 7)]
    lines = collapsed(tuple(steps))
    assert [line.sentence for line in lines] == ["start @2-4, 7: push needs 90 threads"]
    apart = [structs.replace(step, at_seconds=100.0 + 5 * i) for i, step in enumerate(steps)]
    assert len(collapsed(tuple(apart))) == 4


def test_repeats_with_other_numbers_are_drawn_together_and_failures_are_not_hidden() -> None:
    flapping = [entry(60.0 * i, f"local 1{i}/12 ({'pace' if i % 2 else 'max'})", "reason") for i in range(10)]
    assert [(line.count, line.last_seconds) for line in collapsed(tuple(flapping))] == [
        (5, 480.0),
        (5, 540.0),
    ]
    assert "(5 times, last" in "\n".join(listed(*flapping, everything=True))
    failed = [
        entry(60.0 * i, f"start mastodon-sidekiq@{i + 1}.service: x — failed: y", warning=True)
        for i in range(3)
    ]
    assert len(collapsed(tuple(failed))) == 3
    late = [entry(0.0, "a 1", "reason"), entry(7200.0, "a 2", "reason")]
    assert len(collapsed(tuple(late))) == 2


def test_reasons_that_led_to_nothing_are_counted_and_shown_when_asked_for() -> None:
    entries = (
        entry(5.0, "queues within target; local 1/1 (min)", "reason"),
        entry(10.0, "local: 2 wanted, 1 run: threads kept busy: push 30", "want"),
        entry(10.01, "start mastodon-sidekiq@2.service: local has 1 of 2 wanted"),
        entry(10.02, "queues within target; local 1/2 (pace)", "reason"),
        entry(15.0, "queues within target; local 2/2 (hold_window)", "reason"),
        entry(20.0, "redis can't be read", "reading", warning=True),
    )
    said = "\n".join(listed(*entries))
    assert "(min)" not in said
    assert "(hold_window)" not in said
    for shown in ("2 wanted, 1 run", "start @2", "(pace)", "redis can't", "2 other reasons", "--all"):
        assert shown in said
    everything = "\n".join(listed(*entries, everything=True))
    assert "(min)" in everything
    assert "(hold_window)" in everything
    assert "--all" not in everything


def test_what_was_written_while_the_clock_was_ahead_hides_no_gap() -> None:
    watched_spans = tuple(
        TimeSpan(from_seconds=a, to_seconds=b)
        for a, b in ((0.0, 100.0), (4e6, 4e6 + 60), (160.0, 220.0), (500, 900))
    )
    found = gaps_of(Recording(watched_spans=watched_spans, newest_seconds=4e6 + 60), 0.0, 950.0)
    assert [(gap.from_seconds, gap.to_seconds) for gap in found] == [(100, 160), (220, 500)]


def test_who_may_not_read_it_is_told_to_use_sudo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    others = tmp_path / "history.sqlite"
    others.touch(mode=0o600)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError

    monkeypatch.setattr(Path, "open", refuse)
    monkeypatch.setattr("os.access", lambda *_, **__: False)
    for command in ("history", "trace", "replay"):
        result = fleetctl(command, "--file", others)
        assert "use sudo" in str(result.exception), command


def test_why_so_many_were_wanted_is_told_before_the_steps(file: Path) -> None:
    told = json.loads(fleetctl("history", "--file", file, "--json").stdout)["entries"]
    kinds = [e["kind"] for e in told]
    before = told[kinds.index("step") - 1]
    assert before["kind"] == "want"
    assert re.fullmatch(r"local: \d+ wanted, 1 run: .*default.*", before["sentence"])


def test_what_others_wrote_steers_no_terminal() -> None:
    lines = listed(entry(1.0, "paused: \x1b[2J\u202egnp", "order"))
    assert not any("\x1b" in line or "\u202e" in line for line in lines)
    assert "◆" in "".join(lines)


@pytest.mark.parametrize("width", [40, 80, 200])
def test_it_fits(width: int) -> None:
    lines = listed(*[entry(i, "word " * 60, "noticed", warning=True) for i in range(3)], width=width)
    assert max(map(len, lines)) <= width


def test_gaps_are_between_spells_and_up_to_now() -> None:
    watched_spans = tuple(TimeSpan(from_seconds=a, to_seconds=b) for a, b in ((0.0, 100.0), (500.0, 900.0)))
    recording = Recording(watched_spans=watched_spans, newest_seconds=900.0)
    assert [(g.from_seconds, g.to_seconds) for g in gaps_of(recording, 0.0, 2000.0)] == [
        (100, 500),
        (900, 2000),
    ]
    assert [(g.from_seconds, g.to_seconds) for g in gaps_of(recording, 0.0, 950.0)] == [(100, 500)]
    assert gaps_of(Recording(), 0.0, 950.0) == []


def test_what_can_not_be_trusted_is_said() -> None:
    waits = Waits(mean_seconds=1.0, p95_seconds=3.0, longest_seconds=3.0, late_share=0.0, late_seconds=0.0)

    def error(*doubts: Doubt) -> QueueError:
        return QueueError(
            recorded=waits, reconstructed=waits, jobs_factor=1.1, doubts=doubts, trusted=not doubts
        )

    said = error_sentence({"default": error(), "pull": error("longest"), "push": error("jobs")})
    assert "waits of pull are far from" in said
    assert "How many jobs push had is not known well" in said
    assert "default" not in said
    assert "are close to the recorded ones" in error_sentence({"default": error()})


def test_differences_within_fleetds_own_error_are_marked(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = tmp_path / "new.toml"
    new.write_text(NEW)
    coarse = FleetError(instance_seconds_share=-0.9, starts=-40)
    monkeypatch.setattr("fleetd.simulate.replay.replay.fleet_error", lambda *_: coarse)
    said = plain(fleetctl("replay", "--file", file, "--config", new))
    assert "comes out 90% below the instance-hours it truly used, with 40 starts fewer" in said
    assert "(means nothing)" in said
    assert " ~" in said
    monkeypatch.setattr("fleetd.simulate.replay.replay.fleet_error", lambda *_: None)
    assert "The configuration changed in that time" in plain(fleetctl("replay", "--file", file))
