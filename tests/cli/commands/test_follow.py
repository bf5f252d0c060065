"""Watching a restart or a drain: what is printed to a log and to a terminal, how it ends, what Ctrl-C does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, repeat

import msgspec
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from fleetd.cli.client import Client
from fleetd.cli.commands import follow
from fleetd.cli.commands.follow import SILENT_POLLS_MAX, Ended, Progress, progress_lines
from fleetd.cli.main import cli
from fleetd.cli.terminal.lines import Page
from fleetd.cli.terminal.symbols import ASCII, UNICODE, Symbols
from fleetd.core.model.reasons.units import ReplaceCause
from fleetd.core.model.status import InstanceStatus, RolloutStatus, Status
from fleetd.errors import SourceUnavailableError
from tests.support.builders.status_healthy import healthy, instance
from tests.support.fleetctl import gone


def under_way(done: int, sentence: str = "", *, current: str = "@3", total: int = 3) -> RolloutStatus:
    return RolloutStatus(
        cause=ReplaceCause.RESTART,
        total_instances=total,
        done_instances=done,
        current=current,
        sentence=sentence,
    )


def ended_restart(done: int, sentence: str, how: str = "done") -> RolloutStatus:
    return msgspec.convert({**msgspec.to_builtins(under_way(done, sentence, current="")), "ended": how}, RolloutStatus)


def restart_ticks(*rolls: RolloutStatus | None) -> list[Status | None]:
    """A status for each tick. The first tick is from before the order."""
    return [replace(healthy(), ticks_total=n, rollout=roll) for n, roll in enumerate(rolls, 100)]


def followed(*arguments: str, answers: Sequence[Status | None], interrupt_after: int | None = None) -> Result:
    """fleetctl with an answer for each poll. None: no answer. The last one is repeated for ever."""
    left: Iterator[Status | None] = chain(answers, repeat(answers[-1]))
    polls = iter(range(interrupt_after or 10_000))

    def fetch(_timeout_seconds: float) -> str:
        status = next(left)
        if status is None:
            raise SourceUnavailableError("fleetd is not on the bus")
        return msgspec.json.encode(status).decode()

    def sleep(_seconds: float) -> None:
        if next(polls, None) is None:
            raise KeyboardInterrupt

    client = Client(fetch=fetch, order=lambda _: "Restarts 3 instances.", hosts=gone, sleep=sleep)
    return CliRunner().invoke(cli, list(arguments), obj=client, prog_name="fleetctl")


def test_a_restart_is_reported_line_by_line_to_its_end() -> None:
    result = followed(
        "restart",
        answers=restart_ticks(
            None,
            under_way(0, "drains, 2 jobs left"),
            under_way(0, "drains, 1 job left"),
            under_way(1, "boots", current="@4"),
            ended_restart(3, "all 3 run the new code"),
        ),
    )
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "Restarts 3 instances.",
        "restart: 0 of 3 instances, at @3; drains, 2 jobs left.",
        "restart: 1 of 3 instances, at @4; boots.",
        "restart: 3 of 3 instances; all 3 run the new code.",
    ]


def test_numbers_that_count_down_do_not_fill_a_log() -> None:
    rolls = [under_way(0, f"drains, stopped in {n} s") for n in range(500, 0, -1)]
    result = followed("restart", answers=restart_ticks(None, *rolls, ended_restart(3, "done")))
    assert len(result.stdout.splitlines()) == 3


def test_a_stage_that_takes_long_is_reported_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "PLAIN_LINE_SECONDS", 0.0)
    rolls = [under_way(0, f"drains, {n} jobs left") for n in (3, 2, 2)]
    result = followed("restart", answers=restart_ticks(None, *rolls, ended_restart(3, "all 3")))
    assert [line.partition("; ")[2] for line in result.stdout.splitlines()[1:]] == [
        "drains, 3 jobs left.",
        "drains, 2 jobs left.",
        "all 3.",
    ]


def test_a_restart_that_was_given_up_is_an_error_with_its_reason() -> None:
    result = followed(
        "restart",
        answers=restart_ticks(None, under_way(1), ended_restart(1, "@4 failed three times", "given_up")),
    )
    assert result.exit_code == 1
    assert result.stdout.splitlines()[-1] == "restart: 1 of 3 instances; given up: @4 failed three times."


def test_the_end_of_an_earlier_restart_is_not_taken_for_this_one() -> None:
    earlier, now = ended_restart(8, "all 8 run the new code"), under_way(0, "drains")
    result = followed(
        "restart",
        answers=[*restart_ticks(earlier, now)[:1], *restart_ticks(earlier, now, ended_restart(3, "all 3"))],
    )
    assert "8" not in result.stdout
    assert result.stdout.splitlines()[-1].endswith("all 3.")


def test_without_a_sentence_from_fleetd_there_is_still_a_line() -> None:
    result = followed("restart", answers=restart_ticks(None, under_way(1, ""), ended_restart(3, "")))
    assert result.stdout.splitlines()[1:] == [
        "restart: 1 of 3 instances, at @3; being replaced.",
        "restart: 3 of 3 instances; all of them are replaced.",
    ]


def test_ctrl_c_only_ends_the_watching_and_says_how_to_stop_the_restart() -> None:
    result = followed("restart", answers=restart_ticks(None, under_way(1, "drains")), interrupt_after=5)
    assert result.exit_code == 130
    said = " ".join(result.stdout.split())
    assert "The restart goes on" in said
    assert "fleetctl pause holds it" in said
    assert "fleetctl resume lets it go on" in said


def test_watching_survives_a_restart_of_fleetd() -> None:
    answers = [*restart_ticks(None, under_way(1)), None, None, None]
    answers += [
        replace(healthy(), ticks_total=1, rollout=under_way(2)),
        *restart_ticks(ended_restart(3, "all")),
    ]
    assert followed("restart", answers=answers).exit_code == 0


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ([*restart_ticks(None, under_way(1)), None], "nothing new for 3 min (fleetd is not on the bus)"),
        (restart_ticks(None, under_way(1)), "nothing new for 3 min (no tick of it ended)"),
        (restart_ticks(None, None, None, None), "fleetd knows of no restart any more"),
    ],
    ids=["gone", "stuck", "forgotten"],
)
def test_without_news_watching_does_not_wait_for_ever(answers: Sequence[Status | None], words: str) -> None:
    result = followed("restart", answers=answers, interrupt_after=2 * SILENT_POLLS_MAX)
    assert result.exit_code == 1
    assert words in " ".join(result.stdout.split())
    assert "fleetctl status" in result.stdout


def in_state(number: int, busy: int | None, state: str, note: str = "", megabytes: int | None = 700) -> InstanceStatus:
    return instance(number, "default-first", busy, state=state, note=note, megabytes=megabytes)


def drain_ticks(*of: InstanceStatus) -> list[Status | None]:
    return [replace(healthy(), ticks_total=n, instances=(i,)) for n, i in enumerate(of, 100)]


def test_a_drain_is_reported_to_its_end() -> None:
    result = followed(
        "drain",
        "3",
        "--wait",
        answers=drain_ticks(
            in_state(3, 30, "serving"),
            in_state(3, 30, "quieting"),
            in_state(3, 2, "draining", "2 jobs left, stop at the latest in 590 s"),
            in_state(3, None, "stopping"),
            in_state(3, None, "pinned", "drained by order", megabytes=None),
        ),
    )
    assert result.exit_code == 0
    assert result.stdout.splitlines()[1:] == [
        "drain of @3: 0 of 30 jobs, quieting; 30 jobs left.",
        "drain of @3: 28 of 30 jobs, draining; 2 jobs left, stop at the latest in 590 s.",
        "drain of @3: 28 of 30 jobs, stopping; ? jobs left.",
        "drain of @3: 30 of 30 jobs; mastodon-sidekiq@3 is stopped.",
    ]


def test_a_drain_of_an_idle_instance_counts_nothing() -> None:
    idle = [
        in_state(3, 0, "quieting"),
        in_state(3, 0, "draining"),
        in_state(3, None, "stopped", megabytes=None),
    ]
    assert followed("drain", "3", "--wait", answers=drain_ticks(*idle)).stdout.splitlines()[1:] == [
        "drain of @3: draining; 0 jobs left.",
        "drain of @3: mastodon-sidekiq@3 is stopped.",
    ]


def test_a_drain_that_is_stuck_is_an_error() -> None:
    stuck = in_state(3, 2, "undrainable", "it took no notice of three orders to quiet")
    result = followed("drain", "3", "--wait", answers=drain_ticks(in_state(3, 2, "quieting"), stuck))
    assert result.exit_code == 1
    assert "mastodon-sidekiq@3 is undrainable: it took no notice" in result.stdout


def test_a_drain_of_an_instance_that_is_no_longer_configured() -> None:
    result = followed("drain", "7", "--wait", answers=drain_ticks(*[in_state(3, 2, "serving")] * 5))
    assert result.exit_code == 1
    assert "no instance 7" in result.stdout


@given(
    done=st.integers(0, 50),
    total=st.integers(0, 50),
    sentence=st.text(st.characters(categories=["L", "N", "Zs"]), max_size=300),
    width=st.integers(20, 200),
    symbols=st.sampled_from([UNICODE, ASCII]),
)
def test_the_bar_fits_any_terminal(done: int, total: int, sentence: str, width: int, symbols: Symbols) -> None:
    endings: tuple[Ended | None, ...] = (None, "done", "given_up")
    for how in endings:
        progress = Progress(
            what="restart",
            done=min(done, total),
            total=total,
            unit="instance",
            stage="at @4",
            sentence=sentence,
            ended=how,
        )
        for line in progress_lines(progress, "2 min", Page(width, symbols)):
            assert line.cell_len <= width


def test_the_bar_shows_the_progress_and_what_it_waits_for() -> None:
    progress = Progress(
        what="restart", done=3, total=8, unit="instance", stage="at @4", sentence="drains, 2 jobs left."
    )
    head, below = progress_lines(progress, "2 min", Page(80, UNICODE))
    assert head.plain.startswith("» restart  ━━━━")
    assert head.plain.endswith("─  3 of 8 instances, at @4  2 min")
    assert below.plain == "  drains, 2 jobs left."
