from __future__ import annotations

import re
import sys

import pytest

from fleetd.cli.advice import postmortem
from fleetd.cli.advice.postmortem import Output, Run, examine
from fleetd.cli.screens.down import down_screen
from fleetd.cli.terminal.lines import Page
from fleetd.cli.terminal.symbols import ASCII, UNICODE
from tests.support.builders.systemd_answers import Systemd, no_systemd, with_facts

NOBODY = "fleetd is not on the bus: nobody owns org.fleetd1"


def drawn(run: Run, width: int = 100) -> str:
    found = examine(NOBODY, run, monotonic_seconds=1000.0)
    lines = down_screen(found, Page(width, UNICODE))
    assert max(line.cell_len for line in lines) <= width
    return "\n".join(line.plain for line in lines)


def test_for_a_failed_daemon_cause_time_last_words_and_advice_are_shown() -> None:
    text = drawn(Systemd())
    assert text.startswith("✖ fleetd has failed (exit status 1), down for 4 min; systemd restarted it 5 times.")
    assert "workers go on, and so do their jobs" in text
    assert "pace.tick_seconds: 0 is not a number of 1 to 60" in text
    assert "✔ 5 active (running): mastodon-sidekiq@N for N = 1-3, 10, mastodon-sidekiq-scheduler" in text
    assert "✖ 1 failed (failed): mastodon-sidekiq@4" in text
    assert "@5" not in text
    assert re.search(r"systemctl reset-failed fleetd .*\n +systemctl restart fleetd +workers keep running", text)
    assert "fleetctl check-config" in text


@pytest.mark.parametrize(
    ("facts", "headline"),
    [
        (
            {"ActiveState": "inactive", "SubState": "dead", "NRestarts": "0"},
            "fleetd is not running: it was stopped 4 min ago.",
        ),
        (
            {
                "ActiveState": "activating",
                "SubState": "auto-restart",
                "ExecMainCode": "2",
                "ExecMainStatus": "9",
                "Result": "signal",
            },
            "fleetd keeps ending (killed by SIGKILL); systemd restarted it 5 times and tries again.",
        ),
        (
            {
                "ActiveState": "activating",
                "SubState": "auto-restart",
                "ExecMainCode": "2",
                "ExecMainStatus": "9",
                "Result": "signal",
                "NRestarts": "0",
            },
            "fleetd has ended (killed by SIGKILL), and systemd tries again.",
        ),
        (
            {"ActiveState": "failed", "Result": "oom-kill", "NRestarts": "1"},
            "fleetd has failed (out of memory), down for 4 min; systemd restarted it 1 time.",
        ),
        (
            {"ActiveState": "inactive", "StateChangeTimestampMonotonic": "0"},
            "fleetd is not running: it was stopped, or not started since boot.",
        ),
        (
            {"ActiveState": "failed", "Result": "start-limit-hit"},
            "fleetd has failed (too many starts in a row)",
        ),
        (
            {"ActiveState": "active", "SubState": "running"},
            "fleetd has been running for 4 min, but does not answer.",
        ),
        (
            {"LoadState": "not-found", "ActiveState": "inactive"},
            "fleetd is not installed as a service on this host",
        ),
        (
            {"ActiveState": "activating", "SubState": "start", "NRestarts": "0"},
            "fleetd has been starting for 4 min, and does not answer yet.",
        ),
        ({"ActiveState": "deactivating", "SubState": "stop-sigterm"}, "fleetd has been stopping for 4 min."),
    ],
)
def test_every_state_of_the_unit_has_its_sentence(facts: dict[str, str], headline: str) -> None:
    assert drawn(Systemd(with_facts(**facts))).startswith("✖ " + headline)


def test_a_service_that_never_ran_gets_systemds_messages_instead() -> None:
    def run(arguments: tuple[str, ...]) -> Output:
        if arguments[:2] == ("journalctl", "_SYSTEMD_UNIT=fleetd.service"):
            return Output(status=0, text="-- No entries --\n")
        return Systemd(with_facts(ExecMainStatus="203"), journal="Nov 23 systemd[1]: Failed at step EXEC\n")(arguments)

    text = drawn(run)
    assert "Failed at step EXEC" in text
    assert "(exit status 203: its program can't be run)" in text


def test_missing_systemd_is_reported() -> None:
    text = drawn(no_systemd)
    assert text.startswith("? fleetd does not answer, and systemd can't be asked about it: System has not been booted")
    assert NOBODY in text


def test_a_journal_that_may_not_be_read_says_how_to_read_it() -> None:
    hint = "Hint: You are currently not seeing messages from other users and the system."
    for refused in (
        Output(status=1, text="", error="No journal files were opened due to insufficient permissions."),
        Output(status=0, text="-- No entries --\n", error=hint),
    ):
        assert "not readable for you: use sudo, or join the group systemd-journal" in drawn(Systemd(journal=refused))
    assert "in the journal\n  none\n" in drawn(Systemd(journal="-- No entries --\n"))


def test_no_running_worker_is_highlighted() -> None:
    assert "✖ none runs: this host does no jobs" in drawn(Systemd(workers=""))


def test_foreign_text_is_harmless_and_every_width_works() -> None:
    evil = "\x1b[2J[red]" + "x" * 5000 + "\u202e"
    run = Systemd(with_facts(StatusText=evil, Result=evil), f"{evil}.service loaded active run {evil}", evil)
    for width in (20, 40, 80, 200):
        text = drawn(run, width)
        assert "\x1b" not in text
        assert "\u202e" not in text
        assert drawn(Systemd(), width)
    found = examine("…", Systemd(journal="naïve —\n"), monotonic_seconds=1000.0)
    assert "".join(line.plain for line in down_screen(found, Page(80, ASCII))).isascii()


def test_a_program_that_hangs_or_is_missing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postmortem, "COMMAND_SECONDS_MAX", 0.2)
    hung = postmortem.run((sys.executable, "-c", "input_never = __import__('threading').Event().wait()"))
    assert hung.status is None
    assert "gave no answer" in hung.error
    missing = postmortem.run(("fleetd-no-such-program",))
    assert missing == Output(
        status=None, text="", error="fleetd-no-such-program can't be run: No such file or directory"
    )
