"""Orders as people type them: what fleetd gets, what is printed, the exit status."""

from __future__ import annotations

import pytest
from click.testing import CliRunner, Result

from fleetd.cli.client import Client
from fleetd.cli.main import cli
from fleetd.core.instances.orders import (
    DrainInstance,
    Order,
    Pause,
    PinInstance,
    ReleaseInstance,
    Restart,
    Resume,
    SetInstances,
)
from fleetd.core.model.identity import SCHEDULER, InstanceKey
from fleetd.errors import FleetdError, SourceUnavailableError
from tests.support.fleetctl import gone


class Daemon:
    """Takes orders, or refuses them."""

    def __init__(self, refusal: BaseException | None = None, answer: str = "As you say.") -> None:
        self.orders: list[Order] = []
        self.refusal = refusal
        self.answer = answer

    def order(self, order: Order) -> str:
        if self.refusal is not None:
            raise self.refusal
        self.orders.append(order)
        return self.answer


def typed(value: object) -> str | None:
    """The id of a case: its command line."""
    return " ".join(value) if isinstance(value, list) else ""


def ordered(*arguments: str, daemon: Daemon | None = None) -> Result:
    client = Client(fetch=gone, order=(daemon or Daemon()).order)
    return CliRunner().invoke(cli, list(arguments), obj=client, prog_name="fleetctl")


@pytest.mark.parametrize(
    ("arguments", "order"),
    [
        (["pause"], Pause()),
        (["pause", "--for", "2h", "--reason", "disk swap"], Pause(for_seconds=7200.0, reason="disk swap")),
        (["pause", "--for", "8d"], Pause(for_seconds=691_200.0)),  # too long, so fleetd refuses it
        (["resume"], Resume()),
        (["set", "default-first", "4"], SetInstances(profile="default-first", instances=4)),
        (
            ["set", "pull", "0", "--for", "1h30m"],
            SetInstances(profile="pull", instances=0, for_seconds=5400.0),
        ),
        (["set", "pull", "auto"], SetInstances(profile="pull", instances=None)),
        (["pin", "3", "--for=1d"], PinInstance(key=InstanceKey(3), for_seconds=86400.0)),
        (["pin", "scheduler"], PinInstance(key=SCHEDULER)),
        (["release", "mastodon-sidekiq@12.service"], ReleaseInstance(key=InstanceKey(12))),
        (["drain", "@3"], DrainInstance(key=InstanceKey(3))),
        (["drain", "--for", "90s", "3"], DrainInstance(key=InstanceKey(3), for_seconds=90.0)),
        (["drain", "scheduler"], DrainInstance(key=SCHEDULER)),  # fleetd refuses this
        (["restart", "--no-wait"], Restart()),
        (["restart", "--no-wait", "pull-first"], Restart(profile="pull-first")),
    ],
    ids=typed,
)
def test_fleetd_gets_what_was_typed(arguments: list[str], order: Order) -> None:
    daemon = Daemon()
    result = ordered(*arguments, daemon=daemon)
    assert (result.exit_code, result.stdout, result.stderr) == (0, "As you say.\n", "")
    assert daemon.orders == [order]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["pause", "--for", "2"], "'2' is no length of time without a unit"),
        (["pause", "--for", ""], "is no length of time"),
        (["set", "default-first"], "Missing argument 'N|auto'"),
        (["set", "default-first", "many"], "'many' is no count. Write 0 to 9999, or auto."),
        (["set", "default-first", "10000"], "'10000' is no count"),
        (["set", "default-first", "²"], "is no count"),
        (["pin", "three"], "'three' is no instance"),
        (["release"], "Missing argument 'N'"),
        (["resume", "now"], "unexpected extra argument"),
    ],
    ids=typed,
)
def test_an_invalid_command_line_gives_no_order(arguments: list[str], words: str) -> None:
    daemon = Daemon()
    result = ordered(*arguments, daemon=daemon)
    assert result.exit_code == 2
    assert words in result.stderr
    assert daemon.orders == []


@pytest.mark.parametrize("arguments", [["pause"], ["pin", "3"], ["drain", "3", "--wait"], ["restart"]], ids=typed)
def test_a_refusal_is_an_error_with_its_reason(arguments: list[str]) -> None:
    for refusal in (
        FleetdError("no profile is called x"),
        SourceUnavailableError("fleetd is not on the bus"),
    ):
        result = ordered(*arguments, daemon=Daemon(refusal))
        assert result.exception is refusal, "main() prints it and exits with 1"
        assert result.stdout == ""


def test_ctrl_c_before_the_answer_says_that_the_outcome_is_unknown() -> None:
    result = ordered("pause", daemon=Daemon(KeyboardInterrupt()))
    assert result.exit_code == 130
    assert "fleetctl status shows if it obeys" in result.stderr


def test_an_answer_cannot_control_the_terminal() -> None:
    assert ordered("resume", daemon=Daemon(answer="x\x1b[2J\u202ey")).stdout == "x\\x1b[2J\\u202ey\n"


@pytest.mark.parametrize("name", ["pause", "resume", "set", "pin", "release", "drain", "restart"])
def test_help_has_examples_and_exit_statuses(name: str) -> None:
    text = ordered(name, "--help").stdout
    assert f"  fleetctl {name}" in text.split("Examples:")[1]
    assert "  1    " in text.split("Exit status:")[1]
    assert max(map(len, text.splitlines())) <= 110
    assert f"  {name} " in ordered("--help").stdout
