"""`fleetctl explain`: the chain from needed to running, and what to do about each clamp (law 8)."""

from __future__ import annotations

import json
import re

import pytest
from msgspec.structs import replace

from fleetd.cli.advice.explanation import WHAT_TO_DO
from fleetd.cli.screens.explain import explain_screen
from fleetd.cli.terminal.lines import Page
from fleetd.cli.terminal.symbols import ASCII, UNICODE, Symbols
from fleetd.core.model.identity import InstanceKey
from fleetd.core.model.reasons.base import ClampCode
from fleetd.core.model.status import ClampStatus, Status, WouldStatus
from tests.support.builders import status_connections, status_examples, status_instances
from tests.support.builders.status_healthy import healthy, instance
from tests.support.fleetctl import answering, fleetctl
from tests.support.project import PROJECT

OPERATIONS = PROJECT / "docs" / "operations.md"
#: Their sentences already say what to do, or there is nothing to do.
SELF_EXPLAINING = {
    ClampCode.PLAN_EXPIRED,
    ClampCode.ROLLING,
    ClampCode.SCHEDULER_LIVE,
    ClampCode.SCHEDULER_SURPLUS,
    ClampCode.SCHEDULER_TAKEOVER,
    ClampCode.SCHEDULER_UNKNOWN,
}


def drawn(status: Status, profile: str | None = None, width: int = 100, symbols: Symbols = UNICODE) -> str:
    return "\n".join(line.plain for line in explain_screen(status, Page(width, symbols), profile=profile))


def words(status: Status, profile: str | None = None) -> str:
    return " ".join(drawn(status, profile).split())


@pytest.mark.parametrize("symbols", [UNICODE, ASCII], ids=["unicode", "ascii"])
@pytest.mark.parametrize("width", [20, 33, 60, 100, 400])
@pytest.mark.parametrize("name", list(status_examples.ALL))
def test_no_line_is_wider_than_the_terminal(name: str, width: int, symbols: Symbols) -> None:
    lines = explain_screen(status_examples.ALL[name](), Page(width, symbols))
    assert max(line.cell_len for line in lines) <= width
    if symbols is ASCII:
        assert "".join(line.plain for line in lines).isascii()


def test_the_chain_goes_from_needed_to_running() -> None:
    text = words(status_examples.surge(), "default-first")
    assert re.search(
        r"▲ default-first min 2 max 6 9 instances needed: default waits 94 s \(target 15 s\), .* ▲ 9→6 connections: "
        r"an instance claims 62 connections .* do: raise the limit that binds .* 6 instances admitted "
        r"6 instances running: 5 serving, 1 starting",
        text,
    )
    assert "pull-first" not in text
    assert text.endswith("Next waits for mastodon-sidekiq@6 to serve; nothing more fits into the connections.")


def test_every_profile_and_every_clamp_is_shown() -> None:
    for name, build in status_examples.ALL.items():
        status = build()
        text = drawn(status)
        for profile in status.profiles:
            assert re.search(rf"^\S {re.escape(profile.name)} ", text, re.MULTILINE), name
            for clamp in profile.clamps:
                assert f"{clamp.code.value.replace('_', ' ')}" in text, name


def test_what_keeps_admitted_instances_from_running_is_shown_below() -> None:
    base = healthy()
    clamps = tuple(
        ClampStatus(code=code, profile="default-first", before_instances=a, after_instances=b, sentence=code.value)
        for code, a, b in (
            (ClampCode.PINNED, 9, 8),
            (ClampCode.MAX, 8, 6),
            (ClampCode.PINNED, 6, 5),
            (ClampCode.PACE, 5, 4),
        )
    )
    profile = replace(
        base.profiles[0],
        needed_instances=9,
        admitted_instances=6,
        running_instances=4,
        clamps=clamps,
        clamps_before_admission=2,
    )
    text = words(replace(base, profiles=(profile,)))
    places = [
        text.index(part) for part in ("9→8 ", "8→6 ", "6 instances admitted", "6→5 ", "5→4 ", "4 instances running")
    ]
    assert places == sorted(places)


def test_an_instance_stopped_by_hand_is_not_shown_as_running() -> None:
    assert "3 instances running: 2 serving, 1 pinned" in words(status_instances.paused())
    base = healthy()
    failed = replace(base, instances=(*base.instances[:3], instance(4, "default-first", None, state="failed")))
    assert "3 instances running; 1 failed" in words(failed)


def test_clamps_of_the_whole_host_are_shown_once_after_the_profiles() -> None:
    for status, sentence in (
        (status_connections.saturation(), "More workers would not help: 14 clients wait"),
        (status_connections.behind_pgbouncer(), "others can't be told from our workers"),
        (status_instances.paused(), "paused by root (sudo alice): moving the database"),
        (status_instances.upgrade(), "Mastodon's code on disk (4.5.3) is not what runs"),
    ):
        text = words(status)
        assert text.lower().count(sentence.lower()) == 1
        assert text.index("The whole host") < text.lower().index(sentence.lower()) < text.index("Next ")
    assert "scheduler takeover: main's was seen 42 s ago" in words(status_examples.scheduler_held())
    assert "? latency unknown: redis can't be read: redis at 10.0.0.5:6379 refused" in words(
        status_examples.redis_down()
    )
    assert "The whole host" not in words(healthy())
    assert words(status_connections.replica_lost()).count("10.0.0.7:5432 refused the connection") == 1
    assert "replica can't be read: 10.0.0.7:5432 refused" in words(status_connections.replica_lost(), "pull-first")


def test_what_to_do_about_an_unknown_wait_depends_on_whether_redis_answers() -> None:
    down = words(status_examples.redis_down())
    assert "do: start Redis, or see that this host reaches it" in down
    assert "names the key" not in down
    status = status_examples.redis_down()
    answers = replace(status, sources=tuple(replace(s, ok=True, why="") for s in status.sources))
    assert "names the key" in words(answers)


def test_a_hold_is_told_in_words_where_it_changes_a_number_and_where_not() -> None:
    text = words(status_instances.paused())
    assert "4→3 paused: 3 instead of 4 (see below)" in text
    base = status_instances.paused()
    [clamp] = base.profiles[0].clamps
    same = replace(base.profiles[0], clamps=(replace(clamp, before_instances=3, after_instances=3),))
    text = words(replace(base, profiles=(same,)))
    assert "paused: stays at 3 (see below)" in text
    assert "3→3" not in text


def test_ordinary_clamps_come_without_advice() -> None:
    text = words(status_connections.saturation(), "pull-first")
    assert "· 2→1 yield: default-first is more important and late: one of pull-first gives way to it." in text
    assert WHAT_TO_DO[ClampCode.YIELD] not in text


def test_unknown_is_shown_as_a_question_mark() -> None:
    text = words(status_examples.everything_down())
    assert "? instances needed: how long jobs wait is unknown" in text
    assert "? instances running: systemd can't be read" in text
    assert not re.search(r"\b0 instances (needed|admitted|running)", text)


def test_an_outdated_status_is_called_old() -> None:
    assert drawn(replace(healthy(), tick_age_seconds=95.0)).startswith("✖ fleetd is stuck")


def test_json_has_the_chain_the_host_and_what_comes_next() -> None:
    result = fleetctl("explain", "--json", fetch=answering(status_connections.saturation()))
    assert result.exit_code == 0
    document = json.loads(result.stdout)
    assert set(document) == {"profiles", "host", "next", "observes", "would"}
    assert (document["observes"], document["would"]) == (None, [])
    first = document["profiles"]["default-first"]
    numbers = [first[f"{name}_instances"] for name in ("needed", "admitted", "running")]
    assert numbers == [6, 4, 4]
    [clamp] = first["clamps"]
    assert (clamp["code"], clamp["before_instances"], clamp["after_instances"]) == (
        "database_saturated",
        6,
        4,
    )
    assert [reason["code"] for reason in document["host"]] == ["database_saturated"]
    assert document["host"][0]["what_to_do"].startswith("look at Postgres and PgBouncer")
    assert document["next"] == "default-first: more workers would not help"


def test_a_single_profile_and_one_that_does_not_exist() -> None:
    fetch = answering(status_connections.saturation())
    one = fleetctl("explain", "pull-first", "--json", fetch=fetch)
    assert list(json.loads(one.stdout)["profiles"]) == ["pull-first"]
    assert "default-first  min" not in fleetctl("explain", "pull-first", fetch=fetch).stdout
    for arguments in (["explain", "pull-frist"], ["explain", "pull-frist", "--json"]):
        wrong = fleetctl(*arguments, fetch=fetch)
        assert wrong.exit_code == 2
        assert wrong.stdout == ""
        assert "There is no profile 'pull-frist'. Did you mean pull-first?" in wrong.stderr
    assert "There are: default-first, pull-first." in fleetctl("explain", "\x1b[2J", fetch=fetch).stderr


def rows_of_operations() -> dict[str, str]:
    """The advice in docs/operations.md, by code."""
    text = OPERATIONS.read_text(encoding="utf-8")
    ends = r"^## Why does it not (?:start more|stop some)\?$(.*?)(?=^## )"
    sections = re.findall(ends, text, re.MULTILINE | re.DOTALL)
    assert len(sections) == 2
    rows = re.findall(r"^\| `(\w+)` \| .+? \| (.*?) \|$", "".join(sections), re.MULTILINE)
    return {code: advice.replace("`", "") for code, advice in rows}


def test_every_code_is_in_the_operations_guide() -> None:
    known = set(rows_of_operations())
    assert {code.value for code in ClampCode} - known == {code.value for code in SELF_EXPLAINING}


def test_the_guide_and_explain_give_the_same_advice() -> None:
    rows = rows_of_operations()
    for code, advice in WHAT_TO_DO.items():
        assert rows[code.value] == advice, code


def test_what_it_would_do_is_explained_while_it_only_observes() -> None:
    wish = WouldStatus(verb="drain", keys=(InstanceKey(2),), why="too many", profile="default-first")
    watching = replace(status_connections.saturation(), mode="observe", would=(wish,))
    said = " ".join(fleetctl("explain", fetch=answering(watching)).stdout.split())
    assert "OBSERVES ONLY" in said
    assert "Would drain mastodon-sidekiq@2: too many." in said
    document = json.loads(fleetctl("explain", "--json", fetch=answering(watching)).stdout)
    assert "systemctl reload fleetd" in document["observes"]
    assert document["would"] == ["would drain mastodon-sidekiq@2: too many"]
    other = json.loads(fleetctl("explain", "pull-first", "--json", fetch=answering(watching)).stdout)
    assert other["would"] == []
