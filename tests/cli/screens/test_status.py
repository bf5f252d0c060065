"""The screen as a person gets it: text at several widths, and nothing that a name could do to it."""

from __future__ import annotations

import re
from io import StringIO

import pytest
from msgspec.structs import replace
from rich.console import Console

from fleetd.cli.advice.last_words import LastWords
from fleetd.cli.screens.status import cropped, status_lines, status_screen
from fleetd.cli.terminal.output import show
from fleetd.cli.terminal.symbols import ASCII, UNICODE, Symbols
from fleetd.core.model.status import HoldStatus, OverrideStatus, RolloutStatus, Status
from tests.support.builders import status_bad_nights as statuses
from tests.support.builders import status_connections as databases
from tests.support.builders import status_instances as lives
from tests.support.builders.status_calm import calm


def drawn(
    status: Status,
    width: int = 80,
    height: int | None = None,
    symbols: Symbols = UNICODE,
    color: bool = False,
    words: dict[str, LastWords] | None = None,
) -> str:
    stream = StringIO()
    console = Console(
        file=stream,
        width=width,
        height=height or 1000,
        force_terminal=color,
        color_system="truecolor" if color else None,
        markup=False,
        highlight=False,
        emoji=False,
    )
    lines = status_lines(status, width=width, height=height, symbols=symbols, last_words=words)
    show(console, lines)
    return stream.getvalue()


@pytest.mark.parametrize("symbols", [UNICODE, ASCII], ids=["unicode", "ascii"])
@pytest.mark.parametrize("width", [20, 33, 40, 60, 79, 80, 120, 150, 200, 400])
@pytest.mark.parametrize("name", list(statuses.ALL))
def test_no_line_is_wider_than_the_terminal(name: str, width: int, symbols: Symbols) -> None:
    for height in (24, 60, None):
        lines = status_lines(statuses.ALL[name](), width=width, height=height, symbols=symbols)
        assert max(line.cell_len for line in lines) <= width
        if symbols is ASCII:
            assert "".join(line.plain for line in lines).isascii()


@pytest.mark.parametrize(
    "name",
    [
        *(
            "calm",
            "surge",
            "redis_down",
            "scheduler_held",
            "draining",
            "paused",
            "upgrade",
            "rolling",
            "rolled",
        ),
        *databases.ALL,
    ],
)
def test_a_typical_instance_fits_a_classic_screen_below_its_prompt(name: str) -> None:
    assert len(status_lines(statuses.ALL[name](), width=80, height=23, symbols=UNICODE)) <= 23


def test_a_classic_screen_tells_every_number_that_matters() -> None:
    text = drawn(statuses.surge(), 80, 23)
    assert text.splitlines()[0].startswith("✖ 3 queues wait too long: default 94 s (target 15 s)")
    assert re.search(r"✖ default +94 s +15 s +━+┃━+ ×6.3 +18,240 +212 +402", text)
    assert re.search(r"▲ ingress +26 s +30 s", text)
    assert re.search(r"✔ mailers +0.4 s +60 s", text)
    assert "default-first  6 of 6 running  9 needed, 5 serving, min 2 max 6" in text
    assert "9→6 connections: an instance claims 62 connections and 37 are left of 700" in text
    assert "4→2 max: max is 2 for this profile." in text
    assert re.search(r"✔ 3 59/60 +✔ 4 60/60 +✔ 5 60/60 +» 6 starting", text)
    assert "others 224  ▓ claims 426  ░ headroom 37  ▒ reserve 13" in text
    assert "of 700 ▲" in text
    assert "17.0 GB available of 32.0 GB" in text
    assert "one process serves it, on main." in text
    assert re.search(r"Last +18 s ago +Started mastodon-sidekiq@6", text)
    assert "waits for mastodon-sidekiq@6 to serve" in text


def test_a_higher_screen_tells_memory_of_each_instance_and_more_of_the_past() -> None:
    text = drawn(statuses.surge(), 100, 50)
    assert re.search(r"3 serving +━+╸ 59/60 +1.2 GB", text)
    assert "6 starting for 18 s" in text
    assert text.index("Started mastodon-sidekiq@6") < text.index("Started mastodon-sidekiq@4")


def test_a_wide_screen_has_two_panes() -> None:
    line = next(line for line in drawn(statuses.surge(), 200, 50).splitlines() if "QUEUE" in line)
    assert "default-first" in line


def test_unknown_is_a_question_mark_with_a_reason_and_never_a_zero() -> None:
    text = drawn(statuses.everything_down(), 100)
    queues = [line for line in text.splitlines() if line.startswith(("? default ", "? pull "))]
    assert len(queues) == 2
    for line in queues:
        assert re.search(r"\? +(15 s|5 min) +Redis can't be read +\? +\? +\?$", line)
    assert "? of ? running  need unknown" in text
    assert "of ?: postgres gave no answer in 2 s." in text
    assert re.search(r"others \? +▓ claims \? +░ headroom \? +▒ reserve \?", text)
    assert re.search(r"Memory +\? unknown: host gave no answer in 2 s\.", text)
    assert "1 unknown" in text
    assert " 0 s" not in text


def test_a_source_that_is_lost_says_since_when() -> None:
    assert "redis last read 94 s ago  ✔ the other 3 read 1.8 s ago" in drawn(statuses.redis_down())


def test_notes_of_instances_stand_beside_them() -> None:
    text = drawn(statuses.draining())
    assert re.search(r"» 3 draining .*2/60 .*draining: 2 jobs left, stops in 9 min", text)
    assert "pinned by hand until 07:12 (fleetctl release 4)" in re.sub(r"\s+", " ", text)


def test_a_hold_is_the_first_thing_on_every_screen_with_what_ends_it() -> None:
    for width, height in ((120, 40), (80, 23), (40, 20), (200, 50)):
        first = " ".join(drawn(lives.paused(), width, height).split())
        assert first.startswith("▲ PAUSE, 1.8 h left paused by fleetctl: moving the database;")
        assert "`fleetctl resume` ends it" in first
        words = " ".join(drawn(lives.upgrade(), width, height).split())
        assert words.startswith("▲ UPGRADE Mastodon's code on disk (4.5.3) is not what runs")
        assert "`fleetctl restart` (one at a time) or `fleetctl resume`" in words
        assert words.index("UPGRADE") < words.index("✖ 1 queue waits too long")


def test_the_connections_line_names_what_binds_where_that_is_not_postgres() -> None:
    assert "of 697 ✔" in drawn(databases.direct(), 100)
    text = drawn(databases.behind_pgbouncer(), 100)
    assert re.search(r"Connections +█+▚+▓+▒+ of PgBouncer's 600 ▲", text)
    assert "█ others 71  ▚ perhaps others' 147  ▓ claims 372  ░ headroom 0  ▒ reserve 10" in text
    assert "✔ all 6 read 1.8 s ago" in text


def test_a_count_that_is_an_upper_bound_says_quietly_how_to_make_it_exact() -> None:
    status = databases.connected(calm(), replace(databases.REPLICA, binds=True))
    text = drawn(status, 100)
    assert "of the replica's 497 ✔" in text
    assert "others ≤ 40" in text
    assert "≤: GRANT pg_monitor would tell" in " ".join(text.split())
    assert "All is well" in text.splitlines()[0]
    assert "GRANT" not in drawn(databases.direct(), 100)


def test_what_is_said_at_the_top_is_not_said_again_below() -> None:
    for status in (databases.behind_pgbouncer(), databases.saturation()):
        text = " ".join(drawn(status, 100).split())
        sentence = status.connections.unattributable or status.connections.saturation
        assert text.lower().count(sentence.lower()) == 1
        assert re.search("▲ 6→4 (others unattributable|database saturated) ✔ 1", text)


def test_a_hold_is_loud_in_colour_too() -> None:
    assert "\x1b[1;7;33m PAUSE, 1.8 h left " in drawn(lives.paused(), color=True)


def test_orders_are_listed_with_what_why_and_time_left() -> None:
    text = drawn(lives.paused(), 100, 50)
    assert re.search(r"Orders +pull-first +2 instances, 42 min left +fleetctl set pull-first auto", text)
    assert re.search(r"@3 +started by hand, 3.2 h left +fleetctl release 3", text)
    assert re.search(r"@6 +stopped by hand, 3.9 h left +fleetctl release 6", text)
    assert text.count("moving the database") == 1, "the pause stands at the top"
    dense = drawn(lives.paused(), 80, 23)
    assert "Orders       pull-first 2 instances, 42 min left" in dense
    assert re.search(r"◆ 6 pinned +(for 5 min +)?stopped by hand, kept 3.9 h more", dense)


def test_a_replacement_shows_how_far_it_is_and_what_it_waits_for() -> None:
    text = drawn(lives.rolling(), 100, 50)
    assert re.search(
        r"Restart +━+╸?─+ 2 of 5  @2: drains, 3 jobs left; stopped in 9 min at the latest\.", text
    )
    assert re.search(r"» 1 outdated ━+─+ 34/60 +1.8 GB +runs older settings", text)
    assert "fleetd 0.1.0 · Mastodon 4.5.3 · up 12 d" in text
    assert "Restart      ✔ 5 of 5 replaced. all run Mastodon 4.5.3." in drawn(lives.rolled(), 100, 50)


WORDS = {
    "mastodon-sidekiq@4.service": LastWords(lines=("one", "two", "cannot load such file -- rails\x1b[2J")),
}


def test_what_is_sick_shows_its_state_its_sentence_and_its_last_words() -> None:
    text = drawn(lives.sick(), 120, 50, words=WORDS)
    assert re.search(r"▲ 2 undrainable +31/60 +780 MB +it was told to quiet", text)
    assert re.search(r"✖ 3 unresponsive +for 7 min +no heartbeat for 7 min", text)
    assert re.search(r"✖ 4 failed +for 70 s +exit status 1, 3 times in a row", text)
    below = text.split("✖ 4 failed")[1].splitlines()[1:4]
    assert [line.strip() for line in below] == ["│ one", "│ two", "│ cannot load such file -- rails\\x1b[2J"]
    assert "32.0 GB, stalled 14%, CPU short 66%" in text
    assert "▲ given up at 1 of 5" in text
    dense = drawn(lives.sick(), 80, 20, words=WORDS)
    assert "│ one" not in dense
    assert "│ cannot load such file" in dense


def test_a_journal_that_may_not_be_read_says_what_would_help() -> None:
    words = {"mastodon-sidekiq@4.service": LastWords(why="the journal is not readable for you: use sudo")}
    assert "│ the journal is not readable for you: use sudo" in drawn(lives.sick(), words=words)


def test_a_failed_scheduler_shows_its_last_words() -> None:
    base = calm()
    status = replace(base, scheduler=replace(base.scheduler, processes=0, unit_state="failed"))
    text = drawn(status, words={"mastodon-sidekiq-scheduler.service": LastWords(lines=("no such table",))})
    assert re.search(r"Unit here: failed\.\n +│ no such table", text)


def test_forty_instances_are_all_there_on_a_small_and_on_a_big_screen() -> None:
    for width, height in ((80, 23), (200, 50), (80, None)):
        text = drawn(statuses.crowd(), width, height)
        for number in range(1, 41):
            busy = number % 61
            assert re.search(rf"✔ +{number} (serving .*?)? *{busy}/60", text), number


def test_what_fits_no_screen_says_how_much_is_missing() -> None:
    lines = status_lines(statuses.crowd(), width=80, height=24, symbols=UNICODE)
    short = cropped(lines, 20, UNICODE)
    assert len(short) == 20
    assert short[-1].plain.startswith(f"… {len(lines) - 19} more lines")


def test_names_and_sentences_can_steer_neither_rich_nor_the_terminal() -> None:
    evil = "[red]x[/red]\x1b]0;owned\x07\x1b[2J\u202e:smile:[link=http://evil]"
    base = statuses.surge()
    status = replace(
        base,
        host=evil,
        queues=(replace(base.queues[0], name=evil), *base.queues[1:]),
        profiles=(replace(base.profiles[0], name=evil, clamps=(replace(base.clamps[0], sentence=evil),)),),
        instances=(replace(base.instances[0], profile=evil, note=evil, state=evil), base.instances[7]),
        scheduler=replace(base.scheduler, sentence=evil, where=(evil,)),
        problems=(evil,),
        next_sentence=evil,
        holds=(HoldStatus(kind="pause", sentence=evil, seconds_left=1.0),),
        overrides=(OverrideStatus(kind="pin", what=evil, sentence=evil, seconds_left=1.0),),
        rollout=RolloutStatus(
            cause="restart", total_instances=2, done_instances=1, current=evil, sentence=evil
        ),
        mastodon_version=evil,
        last_events=(replace(base.last_events[0], sentence=evil),),
    )
    for width in (80, 200):
        text = drawn(status, width)
        assert "[red]x[/red]\\x1b]0;" in text
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", text)
        colored = drawn(status, width, color=True)
        assert set(re.findall(r"\x1b.", colored)) == {"\x1b["}
        assert not re.search(r"\x1b\[[0-9;]*[^0-9;m]", colored)
        assert "of no profile" in text


def test_signs_tell_without_any_colour_what_the_colours_tell() -> None:
    plain = re.sub(r"\x1b\[[0-9;]*m", "", drawn(statuses.surge(), color=True))
    assert plain == drawn(statuses.surge())
    assert {line[0] for line in plain.splitlines() if re.match(r". (default|ingress|mailers) ", line)} == set(
        "✖▲✔"
    )


def test_the_screen_is_one_renderable() -> None:
    console = Console(file=StringIO(), width=80)
    console.print(status_screen(calm(), width=80, height=23, symbols=UNICODE))
    assert isinstance(console.file, StringIO)
    assert "All is well" in console.file.getvalue()


def test_an_empty_status_is_no_error() -> None:
    empty = replace(
        calm(), queues=(), profiles=(), instances=(), last_events=(), sources=(), next_sentence=""
    )
    text = drawn(empty)
    assert "no queue is known yet" in text
    assert "nothing since it started" in text
