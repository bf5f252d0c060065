"""A restart of several hosts, watched from one of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, repeat
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result

from fleetd.cli.client import Client
from fleetd.cli.main import cli
from fleetd.core.model.hosts import FleetHosts, RestartEnd, RestartOfFleet, RestartOnHost
from fleetd.core.model.reasons import ReplaceCause
from fleetd.core.model.status import RolloutStatus
from fleetd.errors import SourceUnavailableError
from tests.support.builders.fleet_hosts import of_several, three


def on(host: str, phase: Any, done: int = 0, total: int = 3, at: int | None = None) -> RestartOnHost:
    return RestartOnHost(host=host, phase=phase, done_instances=done, total_instances=total, at_key=at)


def fleet(*hosts: RestartOnHost, ended: RestartEnd = "", host: str = "") -> FleetHosts:
    return three(restarts=(RestartOfFleet(host=host, profile="", hosts=hosts, ended=ended),))


def followed(*arguments: str, answers: Sequence[FleetHosts | None], interrupt_after: int = 10_000) -> Result:
    """fleetctl with an answer for each poll. None: no answer. The last one is repeated for ever."""
    left: Iterator[FleetHosts | None] = chain(answers, repeat(answers[-1]))
    polls = iter(range(interrupt_after))

    def hosts(_timeout_seconds: float) -> str:
        told = next(left)
        if told is None:
            raise SourceUnavailableError("fleetd is not on the bus")
        return msgspec.json.encode(told).decode()

    def sleep(_seconds: float) -> None:
        if next(polls, None) is None:
            raise KeyboardInterrupt

    def fetch(_timeout_seconds: float) -> str:
        raise AssertionError("the status of this host says nothing of others")

    client = Client(fetch=fetch, order=lambda _: "As you say.", hosts=hosts, sleep=sleep)
    return CliRunner().invoke(cli, list(arguments), obj=client, prog_name="fleetctl")


WAITS, LOST = on("w2", "waits", total=0), on("w3", "lost", total=0)


def test_it_is_shown_host_by_host_to_its_end() -> None:
    answers = [
        fleet(on("w1", "waits", total=0), WAITS, LOST),  # when it looks whether there are other hosts
        fleet(on("w1", "waits", total=0), WAITS, LOST),
        fleet(on("w1", "under_way", 1, at=3), WAITS, LOST),
        fleet(on("w1", "done", 3), on("w2", "under_way", 0, 2, at=0), LOST),
        fleet(on("w1", "done", 3), on("w2", "done", 2, 2), LOST, ended="done"),
    ]
    result = followed("restart", answers=answers)
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "As you say.",
        "restart: 1 of 3 instances, on w1; w1 1 of 3 (at @3), w2 waits, w3 lost, not waited for.",
        "restart: 3 of 5 instances, on w2; w1 done (3), w2 0 of 2 (at the scheduler), w3 lost, not waited for.",
        "restart: 5 of 5 instances; w1 done (3), w2 done (2), w3 lost, not waited for.",
    ]


def test_one_that_is_given_up_on_a_host_is_an_error_that_says_where_to_look() -> None:
    over = fleet(on("w1", "given_up", 1), on("w2", "stopped", 0), ended="given_up")
    result = followed("restart", answers=[over, over, over])
    assert result.exit_code == 1
    assert result.stdout.splitlines()[-1] == (
        "restart: 1 of 6 instances; given up: w1 gave up after 1 of 3, w2 ended, as it was given up elsewhere. "
        "fleetctl status on w1 says why."
    )


def test_of_another_host_its_own_restart_is_shown() -> None:
    own = RestartOfFleet(host="w3", profile="", hosts=(on("w3", "done", 2, 2),), ended="done")
    both = three(restarts=(*fleet(WAITS).restarts, own))
    result = followed("restart", "--host", "w3", answers=[both, both, both])
    assert (result.exit_code, result.stdout.splitlines()[-1]) == (0, "restart: 2 of 2 instances; w3 done (2).")


def test_ctrl_c_only_ends_the_watching() -> None:
    result = followed("restart", answers=[fleet(on("w1", "under_way", at=1), WAITS)], interrupt_after=5)
    assert result.exit_code == 130
    said = " ".join(result.stdout.split())
    assert "The restart goes on; fleetctl hosts shows how far it is." in said
    assert "fleetctl pause holds it" in said


def test_an_answer_that_is_missing_now_and_then_ends_nothing() -> None:
    moves, over = fleet(on("w1", "under_way", 1, at=3), WAITS), fleet(on("w1", "done", 3), ended="done")
    unknown = three(problem="Redis can't be reached", restarts=())
    assert followed("restart", answers=[moves, moves, None, unknown, moves, over]).exit_code == 0


@pytest.mark.parametrize(
    ("answer", "words"),
    [(None, "fleetd is not on the bus"), (three(), "fleetctl hosts shows what it does")],
    ids=["gone", "forgotten"],
)
def test_without_news_it_does_not_wait_for_ever(answer: FleetHosts | None, words: str) -> None:
    result = followed("restart", answers=[fleet(WAITS), fleet(WAITS), answer])
    assert result.exit_code == 1
    assert words in " ".join(result.stdout.split())


def test_this_host_alone_is_shown_by_its_own_status() -> None:
    over = RolloutStatus(
        cause=ReplaceCause.RESTART, total_instances=2, done_instances=2, current="", sentence="", ended="done"
    )
    ticks = iter(range(100, 200))

    def fetch(_timeout_seconds: float) -> str:
        return msgspec.json.encode(
            msgspec.structs.replace(of_several(), ticks_total=next(ticks), rollout=over)
        ).decode()

    def hosts(_timeout_seconds: float) -> str:
        return msgspec.json.encode(fleet(WAITS)).decode()

    client = Client(fetch=fetch, order=lambda _: "As you say.", hosts=hosts, sleep=lambda _: None)
    result = CliRunner().invoke(cli, ["restart", "--host", "w2"], obj=client, prog_name="fleetctl")
    assert (result.exit_code, result.stdout.splitlines()[-1]) == (
        0,
        "restart: 2 of 2 instances; all of them are replaced.",
    )
