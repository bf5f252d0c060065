from __future__ import annotations

import pytest
from click.shell_completion import ShellComplete
from fleetd.core.model.commands import ORDER_SECONDS_MAX
from hypothesis import given
from hypothesis import strategies as st

from fleetd.cli.client import Reach
from fleetd.cli.commands.arguments import number_of, past_seconds_of, seconds_of
from fleetd.cli.main import cli
from fleetd.errors import SourceUnavailableError
from tests.support.builders import status_bad_nights as statuses
from tests.support.fleetctl import answering, gone

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
        ("0s", "no time at all"),
        ("0h0m", "no time at all"),
        ("8d", "more than 7d"),
        ("7d1s", "more than 7d"),
        ("999999d", "more than 7d"),
        ("9" * 5000 + "h", "no length of time"),
        ("\x1b[2J", "\\x1b"),
    ],
)
def test_what_is_no_length_of_time_gets_a_sentence(text: str, words: str) -> None:
    with pytest.raises(ValueError) as refused:
        seconds_of(text)
    assert words in str(refused.value)
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 200


@given(st.text() | st.from_regex(r"([0-9]{1,7}[dhms] ?){1,4}", fullmatch=True))
def test_any_text_is_a_length_within_a_week_or_a_sentence(text: str) -> None:
    try:
        seconds = seconds_of(text)
    except ValueError as refused:
        said = str(refused)
    else:
        said = "Fine."
        assert 1 <= seconds <= ORDER_SECONDS_MAX
    assert said.isprintable()
    assert said.endswith(".")


@given(st.integers(1, int(ORDER_SECONDS_MAX)))
def test_every_length_can_be_written(seconds: int) -> None:
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    assert seconds_of(f"{days}d{hours}h{minutes}m{rest}s") == seconds


@pytest.mark.parametrize(
    "text", ["3", "@3", "mastodon-sidekiq@3", "mastodon-sidekiq@3.service", " 3 ", "@3.service"]
)
def test_names_of_an_instance(text: str) -> None:
    assert number_of(text) == 3


@pytest.mark.parametrize(
    "text", ["scheduler", "mastodon-sidekiq-scheduler", "mastodon-sidekiq-scheduler.service", "@scheduler"]
)
def test_names_of_the_scheduler(text: str) -> None:
    assert number_of(text) == "scheduler"


@pytest.mark.parametrize(
    "text",
    ["", "0", "03", "-3", "3x", "x@3", "12345", "mastodon-sidekiq3", "mastodon-sidekiq", "³", "3 4", "\x1b3"],
)
def test_what_is_no_instance_gets_a_sentence(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no instance\. Write 3, @3 or") as refused:
        number_of(text)
    assert str(refused.value).isprintable()


@given(st.text())
def test_any_text_is_an_instance_or_a_sentence(text: str) -> None:
    try:
        number = number_of(text)
    except ValueError as refused:
        assert str(refused).isprintable()  # noqa: PT017 (most texts are none)
    else:
        assert number == "scheduler" or 1 <= number <= 9999


def suggested(*words: str, reach: Reach | None = None) -> list[str]:
    """What the shell offers for the last word."""
    reach = reach or Reach(fetch=answering(statuses.draining()))
    completion = ShellComplete(cli, {"obj": reach}, "fleetctl", "_FLEETCTL_COMPLETE")
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


def test_completion_is_silent_without_a_daemon_or_with_a_strange_one() -> None:
    def broken(_timeout_seconds: float) -> str:
        raise SourceUnavailableError("no bus")

    for fetch in (gone, broken, answering("{"), answering("nonsense")):
        assert suggested("pin", "", reach=Reach(fetch=fetch)) == []


def test_the_past_reaches_from_a_minute_to_a_month() -> None:
    assert [past_seconds_of(text) for text in ("1m", "2h", "1d", "31d")] == [60, 7200, 86_400, 31 * 86_400]
    for text in ("0s", "59s", "32d", "2", "yesterday", ""):
        with pytest.raises(ValueError):
            past_seconds_of(text)
