"""The commands: what they print, where, and their exit status."""

from __future__ import annotations

import json

import msgspec
import pytest

from fleetd import __version__
from fleetd.cli.advice.postmortem import Run
from fleetd.cli.main import cli
from fleetd.core.model.status import Status
from fleetd.daemon.tell_failure import status_of_failure
from fleetd.errors import FleetdError
from tests.support.builders import status_examples
from tests.support.builders.status_healthy import healthy
from tests.support.builders.systemd_answers import Systemd, no_systemd, with_facts
from tests.support.fleetctl import NOBODY, answering, fleetctl, gone
from tests.support.world.ports import policy


def test_status_of_a_running_daemon() -> None:
    result = fleetctl("status", fetch=answering(status_examples.surge()))
    assert result.exit_code == 0
    assert "3 queues wait too long" in result.stdout
    assert "\x1b" not in result.stdout


@pytest.mark.parametrize("last", [None, healthy()], ids=["the first tick", "a later one"])
def test_status_says_that_ticks_fail(last: Status | None) -> None:
    bug = "a tick failed because of a bug in fleetd (KeyError, plan.py line 9): please report it"
    failed = status_of_failure(
        last,
        policy(),
        sources=(),
        events=(),
        problems=(bug,),
        uptime_seconds=50.0,
        tick_age_seconds=40.0,
        tick_failures_total=8,
    )
    result = fleetctl("status", fetch=answering(failed))
    said = " ".join(result.stdout.split())
    assert result.exit_code == 0
    assert f"{bug}." in said
    assert "its last tick ended 40 s ago" in said
    assert "Next nothing: a bug in fleetd ended its last tick" in said
    assert fleetctl("connections", fetch=answering(failed)).exit_code == 0
    assert fleetctl("explain", fetch=answering(failed)).exit_code == 0


def test_json_is_the_daemons_answer_including_unknown_fields() -> None:
    said = json.loads(msgspec.json.encode(healthy())) | {"invented_later": {"a": [1]}}
    said["queues"][0]["also_new"] = 1
    result = fleetctl("status", "--json", fetch=answering(json.dumps(said)))
    assert result.exit_code == 0
    assert json.loads(result.stdout) == said
    assert fleetctl("status", fetch=answering(json.dumps(said))).exit_code == 0


def test_json_has_no_character_that_controls_a_terminal() -> None:
    status = msgspec.structs.replace(healthy(), host="a\x9b2J\x7f\u202eb\x1b[")
    result = fleetctl("status", "--json", fetch=answering(status))
    assert json.loads(result.stdout)["host"] == "a\x9b2J\x7f\u202eb\x1b["
    assert not set(result.stdout) & set("\x1b\x9b\x7f\u202e")


@pytest.mark.parametrize(
    ("run", "code"),
    [(Systemd(), 3), (no_systemd, 3), (Systemd(with_facts(ActiveState="active", SubState="running")), 1)],
)
def test_a_daemon_that_does_not_answer(run: Run, code: int) -> None:
    shown = fleetctl("status", run=run)
    assert shown.exit_code == code
    told = fleetctl("status", "--json", run=run)
    assert told.exit_code == code
    document = json.loads(told.stdout)
    assert document["error"] == NOBODY
    assert (document["unit"] is None) == (run is no_systemd)


def test_json_of_a_daemon_that_is_down_has_unit_journal_and_workers() -> None:
    document = json.loads(fleetctl("status", "--json", run=Systemd()).stdout)
    assert document["unit"]["active_state"] == "failed"
    assert document["unit"]["restarts"] == 5
    assert len(document["journal"]) == 2
    assert [w["unit"] for w in document["workers"]][:4] == [
        "mastodon-sidekiq-scheduler",
        "mastodon-sidekiq@1",
        "mastodon-sidekiq@2",
        "mastodon-sidekiq@3",
    ]


@pytest.mark.parametrize("answer", ["", "{", "[]", "nonsense", "\x1b[2J", '"x"', "[" * 100_000])
def test_a_nonsense_answer_gives_a_sentence(answer: str) -> None:
    shown = fleetctl("status", fetch=answering(answer))
    assert isinstance(shown.exception, FleetdError)
    told = fleetctl("status", "--json", fetch=answering(answer))
    assert told.exit_code == 1
    assert json.loads(told.stdout)["error"]


def test_an_older_daemon_is_named_and_its_summary_passed_on() -> None:
    said = json.loads(msgspec.json.encode(healthy())) | {"version": "0.0.9"}
    del said["scheduler"]
    result = fleetctl("status", "--json", fetch=answering(json.dumps(said)))
    assert result.exit_code == 1
    error = json.loads(result.stdout)["error"]
    assert "fleetd 0.0.9 answers in a form" in error
    assert "missing required field `scheduler`" in error
    assert "systemctl restart fleetd" in error
    assert error.endswith("Its summary: 6 queues within target; 5 instances")


def test_watch_redraws_goes_on_while_the_daemon_is_away_and_ends_cleanly() -> None:
    answers = iter([answering(healthy()), gone, answering("{"), answering(status_examples.surge())])

    def fetch(timeout_seconds: float) -> str:
        return next(answers)(timeout_seconds)

    result = fleetctl("status", "--watch", fetch=fetch, frames=4)
    assert result.exit_code == 0
    order = ["All is well", "fleetd does not answer", "did not send JSON", "3 queues wait too long"]
    places = [result.stdout.index(words) for words in order]
    assert places == sorted(places)
    assert "\x1b" not in result.stdout


def test_json_and_watch_together_are_a_usage_error() -> None:
    result = fleetctl("status", "--json", "--watch")
    assert result.exit_code == 2
    assert "one document" in result.stderr


def test_an_unknown_command_names_the_nearest() -> None:
    result = fleetctl("stauts")
    assert result.exit_code == 2
    assert "Did you mean status?" in result.stderr
    assert f"There are: {', '.join(sorted(cli.commands))}." in fleetctl("zzz").stderr
    assert "\x1b" not in fleetctl("\x1b[2Jx").stderr


def test_help_and_version() -> None:
    assert fleetctl("--version").stdout == f"fleetctl {__version__}\n"
    general = fleetctl("--help").stdout
    assert "fleetctl status --watch" in general
    assert "_FLEETCTL_COMPLETE=bash_source" in general
    exits = fleetctl("status", "--help").stdout
    assert "3  fleetd is not running" in exits
