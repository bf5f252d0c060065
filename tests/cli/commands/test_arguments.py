from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.shell_completion import ShellComplete
from hypothesis import given
from hypothesis import strategies as st

from fleetd.cli.client import Client
from fleetd.cli.commands.arguments import key_typed, seconds_of
from fleetd.cli.main import cli
from fleetd.core.model.identity import SCHEDULER
from fleetd.errors import SourceUnavailableError
from tests.support.builders import status_examples
from tests.support.fleetctl import answering, fleetctl, gone

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90.0),
        ("30m", 30 * MINUTE),
        ("30min", 30 * MINUTE),
        ("30 min", 30 * MINUTE),
        ("2h", 2 * HOUR),
        ("2H", 2 * HOUR),
        ("1h30m", 1.5 * HOUR),
        (" 1h 30m ", 1.5 * HOUR),
        ("1d", DAY),
        ("1d2h3m4s", DAY + 2 * HOUR + 3 * MINUTE + 4),
        ("7d", 7 * DAY),
        ("168h", 7 * DAY),
    ],
)
def test_lengths_of_time(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "'' is no length of time. Write it as 90s, 30m, 2h, 1h30m or 1d."),
        ("2", "'2' is no length of time without a unit"),
        ("h", "'h' is no length of time."),
        ("2x", "no length of time"),
        ("-2h", "no length of time"),
        ("1.5h", "no length of time"),
        ("30m1h", "no length of time"),
        ("1h1h", "no length of time"),
        ("²h", "no length of time"),
        ("٣h", "no length of time"),
        ("nan", "no length of time"),
        ("inf", "no length of time"),
        ("0s", "no length of time"),
        ("0h0m", "no length of time"),
        ("9" * 5000 + "h", "no length of time"),
        ("\x1b[2J", "\\x1b"),
    ],
)
def test_an_invalid_length_of_time_gets_a_sentence(text: str, words: str) -> None:
    with pytest.raises(click.BadParameter) as refused:
        seconds_of(text)
    assert words in refused.value.message
    assert refused.value.message.isprintable()
    assert len(refused.value.message) < 200


@given(st.text() | st.from_regex(r"([0-9]{1,7}[dhms] ?){1,4}", fullmatch=True))
def test_any_text_is_a_length_of_time_or_a_sentence(text: str) -> None:
    try:
        seconds = seconds_of(text)
    except click.BadParameter as refused:
        said = refused.message
    else:
        said = "Fine."
        assert seconds >= 1
    assert said.isprintable()
    assert said.endswith(".")


@given(st.integers(1, int(7 * DAY)))
def test_every_length_can_be_written(seconds: int) -> None:
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    assert seconds_of(f"{days}d{hours}h{minutes}m{rest}s") == seconds


@pytest.mark.parametrize("text", ["3", "@3", "mastodon-sidekiq@3", "mastodon-sidekiq@3.service", " 3 ", "@3.service"])
def test_names_of_an_instance(text: str) -> None:
    assert key_typed(text) == 3


@pytest.mark.parametrize(
    "text", ["scheduler", "mastodon-sidekiq-scheduler", "mastodon-sidekiq-scheduler.service", "@scheduler"]
)
def test_names_of_the_scheduler(text: str) -> None:
    assert key_typed(text) == SCHEDULER


@pytest.mark.parametrize(
    "text",
    ["", "0", "03", "-3", "3x", "x@3", "12345", "mastodon-sidekiq3", "mastodon-sidekiq", "³", "3 4", "\x1b3"],
)
def test_an_invalid_instance_gets_a_sentence(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no instance\. Write 3, @3 or") as refused:
        key_typed(text)
    assert str(refused.value).isprintable()


@given(st.text())
def test_any_text_is_an_instance_or_a_sentence(text: str) -> None:
    try:
        key = key_typed(text)
    except ValueError as refused:
        assert str(refused).isprintable()  # noqa: PT017 (most texts are refused)
    else:
        assert 0 <= key <= 9999


def suggested(*words: str, client: Client | None = None) -> list[str]:
    """What the shell suggests for the last word."""
    client = client or Client(fetch=answering(status_examples.draining()))
    completion = ShellComplete(cli, {"obj": client}, "fleetctl", "_FLEETCTL_COMPLETE")
    return [item.value for item in completion.get_completions(list(words[:-1]), words[-1])]


def test_completion_knows_orders_instances_and_profiles() -> None:
    assert suggested("pa") == ["pause"]
    assert suggested("pin", "") == ["1", "2", "3", "4", "5", "6", "7", "8", "scheduler"]
    assert suggested("pin", "@3") == ["@3"]
    assert suggested("drain", "mastodon-sidekiq@")[:2] == ["mastodon-sidekiq@1", "mastodon-sidekiq@2"]
    assert suggested("release", "s") == ["scheduler"]
    assert suggested("set", "pu") == ["pull-first"]
    assert suggested("restart", "") == ["default-first", "pull-first"]
    assert suggested("explain", "d") == ["default-first"]


def test_completion_is_silent_without_a_daemon_or_a_valid_answer() -> None:
    def broken(_timeout_seconds: float) -> str:
        raise SourceUnavailableError("no bus")

    for fetch in (gone, broken, answering("{"), answering("nonsense")):
        assert suggested("pin", "", client=Client(fetch=fetch)) == []


@pytest.mark.parametrize("typed", ["0s", "32d", "2", "yesterday", ""])
def test_since_takes_any_length_of_time_up_to_31_days(typed: str, tmp_path: Path) -> None:
    missing = str(tmp_path / "history.sqlite")
    for good in ("1s", "30s", "90s", "5m", "2h", "1d", "31d"):
        assert fleetctl("history", "--file", missing, "--since", good).exit_code != 2
    assert fleetctl("history", "--file", missing, "--since", typed).exit_code == 2
