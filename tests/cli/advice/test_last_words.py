"""The last lines of failed units, from journalctl."""

from __future__ import annotations

import json
from io import StringIO

import msgspec
import pytest
from msgspec.structs import replace

from fleetd.cli.advice.last_words import LINES_MAX, UNITS_MAX, LastWords, failed_units, last_words
from fleetd.cli.advice.postmortem import Output, run
from fleetd.core.model.status import Status
from tests.support.builders import status_instances
from tests.support.builders.status_healthy import healthy, instance
from tests.support.fleetctl import answering, fleetctl

AT_4 = "mastodon-sidekiq@4.service"
# A worker that can't load a gem, from Debian 12's journal with --output=cat.
RUBY = """\
Starting mastodon-sidekiq@4.service - Mastodon Sidekiq 4...
bundler: failed to load command: sidekiq (/home/mastodon/.rbenv/versions/3.4.1/bin/sidekiq)
/home/mastodon/live/config/application.rb:3:in 'Kernel#require': cannot load such file -- rails/all (LoadError)
\tfrom /home/mastodon/live/config/application.rb:3:in '<top (required)>'
/home/mastodon/.rbenv/versions/3.4.1/lib/ruby/3.4.0/bundler/cli/exec.rb:58:in 'Kernel.load'
mastodon-sidekiq@4.service: Main process exited, code=exited, status=1/FAILURE
mastodon-sidekiq@4.service: Failed with result 'exit-code'.
Failed to start mastodon-sidekiq@4.service - Mastodon Sidekiq 4.
mastodon-sidekiq@4.service: Scheduled restart job, restart counter is at 3.
mastodon-sidekiq@4.service: Start request repeated too quickly.
"""
NO_FILE = """\
mastodon-sidekiq@4.service: Failed to load environment files: No such file or directory
mastodon-sidekiq@4.service: Failed to run 'start' task: No such file or directory
mastodon-sidekiq@4.service: Failed with result 'resources'.
"""
HINT = "Hint: You are currently not seeing messages from other users and the system."


class Journal:
    """journalctl, with the same answer for every unit."""

    def __init__(self, text: str = RUBY, *, status: int | None = 0, error: str = "") -> None:
        self.output = Output(status=status, text=text, error=error)
        self.asked: list[tuple[str, ...]] = []

    def __call__(self, arguments: tuple[str, ...]) -> Output:
        self.asked.append(arguments)
        return self.output


def words(journal: Journal, status: Status | None = None) -> LastWords:
    return last_words(status or status_instances.sick(), journal)[AT_4]


def test_the_error_is_found_among_backtraces_and_reports_of_systemd() -> None:
    assert words(Journal()).lines == (
        "bundler: failed to load command: sidekiq (/home/mastodon/.rbenv/versions/3.4.1/bin/sidekiq)",
        "/home/mastodon/live/config/application.rb:3:in 'Kernel#require': cannot load such file -- rails/all"
        " (LoadError)",
    )


def test_systemds_messages_are_used_if_the_program_never_ran() -> None:
    assert words(Journal(NO_FILE)).lines[0].endswith("Failed to load environment files: No such file or directory")
    only_noise = words(Journal("mastodon-sidekiq@4.service: Start request repeated too quickly.\n"))
    assert only_noise.lines == ("mastodon-sidekiq@4.service: Start request repeated too quickly.",)


def test_lines_that_each_try_repeats_are_shown_once() -> None:
    assert words(Journal("a\nb\nc\n" * 5 + "d\nc\n")).lines == ("b", "d", "c")


def test_secrets_are_taken_out_and_lines_are_bounded() -> None:
    said = words(Journal("connect postgres://mastodon:hunter2@db/x failed\npassword=hunter2\n" + "x" * 90_000))
    assert "hunter2" not in "".join(said.lines)
    assert "postgres://[hidden]@db/x failed" in said.lines[0]
    assert max(map(len, said.lines)) <= 400


@pytest.mark.parametrize(
    ("journal", "why"),
    [
        (Journal("-- No entries --\n", error=HINT), "use sudo"),
        (
            Journal("", status=1, error="No journal files were opened due to insufficient permissions."),
            "use sudo",
        ),
        (Journal("", status=None, error="journalctl gave no answer in 2 s"), "no answer in 2 s"),
        (Journal("-- No entries --\n"), "has nothing of it"),
    ],
)
def test_missing_rights_and_missing_answers_are_reported(journal: Journal, why: str) -> None:
    said = words(journal)
    assert said.lines == ()
    assert why in str(said.why)


def test_journalctl_is_called_only_for_failed_units_and_only_for_a_few() -> None:
    journal = Journal()
    last_words(healthy(), journal)
    assert journal.asked == []
    many = tuple(instance(n, "default-first", None, state="failed") for n in range(1, 9))
    base = healthy()
    worst = replace(base, instances=many, scheduler=replace(base.scheduler, unit_state="failed"))
    found = last_words(worst, journal)
    assert (
        list(found)
        == list(failed_units(worst))
        == [
            "mastodon-sidekiq-scheduler.service",
            "mastodon-sidekiq@1.service",
            "mastodon-sidekiq@2.service",
        ]
    )
    assert len(journal.asked) == UNITS_MAX
    assert all(len(said.lines) <= LINES_MAX for said in found.values())


def test_a_program_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fleetd.cli.advice.postmortem.COMMAND_SECONDS_MAX", 0.2)
    words = last_words(status_instances.sick(), lambda _: run(("sleep", "60")))
    assert "no answer" in str(words[AT_4].why)


def test_the_screen_shows_last_words() -> None:
    shown = fleetctl("status", fetch=answering(status_instances.sick()), run=Journal())
    assert shown.exit_code == 0
    assert "cannot load such file -- rails/all" in " ".join(shown.stdout.split())


def test_watching_does_not_read_the_journal_for_every_frame() -> None:
    journal = Journal()
    fleetctl("status", "--watch", fetch=answering(status_instances.sick()), run=journal, frames=5)
    assert len(journal.asked) == 1


def test_json_has_last_words_beside_fleetds_status() -> None:
    said = json.loads(msgspec.json.encode(status_instances.sick())) | {"invented_later": 1}
    told = fleetctl("status", "--json", fetch=answering(json.dumps(said)), run=Journal())
    assert told.exit_code == 0
    document = json.loads(told.stdout)
    assert document.pop("journal") == {AT_4: list(words(Journal()).lines)}
    assert document == said
    assert msgspec.json.decode(told.stdout, type=Status) == status_instances.sick()
    assert StringIO(told.stdout).readline() == told.stdout, "one line, as before"
