"""The screen of `fleetctl status`: what it shows at each size, and that no name can break it."""

from __future__ import annotations

import re
from io import StringIO

import pytest
from msgspec.structs import replace
from rich.console import Console

from fleetd.cli.advice.findings import findings
from fleetd.cli.advice.last_words import LastWords
from fleetd.cli.advice.verdict import HOLD_CODES
from fleetd.cli.screens.status import cropped, status_screen
from fleetd.cli.terminal.lines import Page
from fleetd.cli.terminal.output import show
from fleetd.cli.terminal.symbols import ASCII, UNICODE, Symbols
from fleetd.core.model.identity import SCHEDULER, InstanceKey
from fleetd.core.model.reasons.base import ClampCode
from fleetd.core.model.reasons.units import ReplaceCause
from fleetd.core.model.status import ON_ALL, ClampStatus, HoldStatus, OverrideStatus, RolloutStatus, Status, WouldStatus
from tests.support.builders import status_connections, status_examples, status_instances
from tests.support.builders.fleet_hosts import of_several
from tests.support.builders.status_healthy import healthy

#: Typical of a single machine with a small Mastodon. The other examples are big hosts and bad deployments.
ORDINARY = (
    *("healthy", "surge", "redis_down", "scheduler_held", "draining"),
    *("observing", "paused", "upgrade", "rolling", "rolled", *status_connections.ALL),
)


def printed(
    status: Status,
    width: int = 80,
    height: int | None = None,
    symbols: Symbols = UNICODE,
    color: bool = False,
    words: dict[str, LastWords] | None = None,
) -> str:
    """What a terminal gets, including escape sequences."""
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
    show(console, status_screen(status, Page(width, symbols), height=height, last_words=words))
    return stream.getvalue()


def unwrapped(text: str) -> str:
    """The words of a screen, however its lines are wrapped."""
    return " ".join(text.split())


def required(status: Status) -> list[str]:
    """The texts that must be on the screen, whatever its size."""
    texts = [finding.sentence for finding in findings(status)] + [hold.sentence for hold in status.holds]
    texts += [queue.name for queue in status.queues] + [status.next_sentence, status.scheduler.sentence]
    for profile in status.profiles:
        texts.append(f"{profile.name} ")
        texts += [clamp.code.value.replace("_", " ") for clamp in profile.clamps]
    elsewhere = (
        ClampCode.ROLLING,
        ClampCode.SCHEDULER_LIVE,
    )  # shown in the lines of the rollout and the scheduler
    texts += [c.sentence for c in status.clamps if not c.profile and c.code not in elsewhere]
    texts += [f" {i.number} " for i in status.instances if i.state != "stopped"]
    texts += [i.note for i in status.instances]
    texts += [order.sentence for order in status.overrides if order.kind != "pause"]  # a pause is shown as a hold
    texts += [wish.why for wish in status.would]
    if status.rollout is not None and status.rollout.ended != "given_up":  # otherwise it is a finding
        texts.append(status.rollout.sentence)
    return texts


@pytest.mark.parametrize("symbols", [UNICODE, ASCII], ids=["unicode", "ascii"])
@pytest.mark.parametrize("width", [20, 33, 40, 60, 79, 80, 120, 150, 200, 400])
@pytest.mark.parametrize("name", list(status_examples.ALL))
def test_no_line_is_wider_than_the_terminal(name: str, width: int, symbols: Symbols) -> None:
    for height in (24, 60, None):
        page = Page(width, symbols)
        lines = status_screen(status_examples.ALL[name](), page, height=height)
        assert max(line.cell_len for line in lines) <= width
        if symbols is ASCII:
            assert "".join(line.plain for line in lines).isascii()


@pytest.mark.parametrize("height", [10, 23, 29, 50, None])
@pytest.mark.parametrize("width", [60, 80, 100, 120, 149])
@pytest.mark.parametrize("name", list(status_examples.ALL))
def test_nothing_is_cut_off_or_left_out_at_any_size(name: str, width: int, height: int | None) -> None:
    status = status_examples.ALL[name]()
    screen = printed(status, width, height)
    assert UNICODE.ellipsis not in screen.replace("connections = …", "")  # fleetd's own sentence has an ellipsis
    words = unwrapped(screen).lower()
    assert [text for text in required(status) if unwrapped(text).rstrip(".").lower() not in f" {words} "] == []


@pytest.mark.parametrize("name", list(status_examples.ALL))
def test_a_roomy_screen_has_the_reason_of_every_clamp(name: str) -> None:
    status = status_examples.ALL[name]()
    words = unwrapped(printed(status)).lower()
    clamps = [clamp for profile in status.profiles for clamp in profile.clamps]
    assert [clamp.code for clamp in clamps if clamp.sentence.lower() not in words] == []


@pytest.mark.parametrize("name", list(status_examples.ALL))
def test_two_panes_leave_nothing_out(name: str) -> None:
    status = status_examples.ALL[name]()
    words = printed(status, 220, 50)
    names = [*(q.name for q in status.queues), *(p.name for p in status.profiles)]
    codes = [c.code.value.replace("_", " ") for p in status.profiles for c in p.clamps]
    assert [text for text in names + codes if text not in words] == []


@pytest.mark.parametrize(("width", "height"), [(80, 24), (100, 30)])
@pytest.mark.parametrize("name", ORDINARY)
def test_an_ordinary_host_fits_a_classic_terminal(name: str, width: int, height: int) -> None:
    below_prompt = height - 1
    lines = status_screen(status_examples.ALL[name](), Page(width, UNICODE), height=below_prompt)
    assert len(lines) <= below_prompt
    watched = status_screen(status_examples.ALL[name](), Page(width, UNICODE), height=height, clock="03:12:44")
    assert len(watched) <= height
    assert "03:12:44" in "\n".join(line.plain for line in watched)


def test_a_classic_terminal_shows_every_number_that_matters() -> None:
    text = printed(status_examples.surge(), 80, 23)
    assert text.splitlines()[0].startswith("✖ 3 queues wait too long: default 94 s (target 15 s)")
    assert re.search(r"✖ default +94 s +15 s +━+┃━+ ×6.3 +18,240 +212 +402", text)
    assert re.search(r"▲ ingress +26 s +30 s", text)
    assert re.search(r"✔ mailers +0.4 s +60 s", text)
    assert "default-first  6 of 6 instances, 9 needed, 5 serving, min 2 max 6" in text
    assert "9→6 connections: an instance claims 62 connections and 37 are left of 700" in text
    assert "4→2 max: max is 2 for this profile." in text
    assert re.search(r"✔ 3 59/60 +✔ 4 60/60 +✔ 5 60/60 +» 6 starting", text)
    assert "others 224  ▓ claims 426  ░ headroom 37  ▒ reserve 13" in text
    assert "of 700 (703 − 3 reserved for superusers) ▲" in text
    assert "17.0 GB available of 32.0 GB" in text
    assert "one process serves it, on main." in text
    assert re.search(r"Last +18 s ago +Started mastodon-sidekiq@6", text)
    assert "waits for mastodon-sidekiq@6 to serve" in text


def test_a_taller_terminal_shows_each_instances_memory_and_more_events() -> None:
    text = printed(status_examples.surge(), 100, 50)
    assert re.search(r"3 serving +━+╸ 59/60 +1.2 GB", text)
    assert "6 starting for 18 s" in text
    assert text.index("Started mastodon-sidekiq@6") < text.index("Started mastodon-sidekiq@4")


def test_a_wide_terminal_has_two_panes() -> None:
    line = next(line for line in printed(status_examples.surge(), 200, 50).splitlines() if "QUEUE" in line)
    assert "default-first" in line


def test_unknown_is_a_question_mark_with_a_reason_and_never_zero() -> None:
    text = printed(status_examples.everything_down(), 100)
    queues = [line for line in text.splitlines() if line.startswith(("? default ", "? pull "))]
    assert len(queues) == 2
    for line in queues:
        assert re.search(r"\? +(15 s|5 min) +Redis can't be read +\? +\? +\?$", line)
    assert "? of ? instances, need unknown" in text
    assert re.search(r"Connections +\? unknown: postgres gave no answer in 2 s\. Our instances claim \?\.", text)
    assert re.search(r"Memory +\? unknown: host gave no answer in 2 s\.", text)
    assert "1 unknown" in text
    assert " 0 s" not in text


def test_a_queue_that_may_wait_for_ever_has_no_target_and_no_bar() -> None:
    base = healthy()
    pull = replace(base.queues[4], target_seconds=None, latency_seconds=9e5, length_jobs=5_000_000)
    status = replace(base, queues=(*base.queues[:4], pull, *base.queues[5:]))
    for width in (60, 80, 160):
        line = next(line for line in printed(status, width).splitlines() if line[2:7] == "pull ")
        assert "10 d" in line
        assert " none " in f"{line} "
        assert "█" not in line.partition("none")[2][:60]
    assert findings(status) == ()


def test_a_lost_source_says_since_when() -> None:
    text = printed(status_examples.redis_down())
    assert "redis last read 94 s ago  ✔ the other 3 read 1.8 s ago" in text


def test_notes_of_instances_stand_beside_them() -> None:
    text = printed(status_examples.draining())
    assert re.search(r"» 3 draining .*2/60 .*draining: 2 jobs left, stops in 9 min", text)
    assert "pinned by hand until 07:12 (fleetctl release 4)" in unwrapped(text)


def test_a_hold_comes_first_on_every_screen_with_what_ends_it() -> None:
    for width, height in ((120, 40), (80, 23), (40, 20), (200, 50)):
        first = unwrapped(printed(status_instances.paused(), width, height))
        assert first.startswith("▲ PAUSE, 1.8 h left paused by root (sudo alice): moving the database;")
        assert "`fleetctl resume` ends it" in first
        words = unwrapped(printed(status_instances.upgrade(), width, height))
        assert words.startswith("▲ UPGRADE Mastodon's code on disk (4.5.3) is not what runs")
        assert "`fleetctl restart` (one at a time) or `fleetctl resume`" in words
        assert words.index("UPGRADE") < words.index("✖ 1 queue waits too long")


def test_the_connections_line_names_what_binds_if_not_postgres() -> None:
    assert "of 697 (700 − 3 reserved for superusers) ✔" in printed(status_connections.direct(), 100)
    text = printed(status_connections.behind_pgbouncer(), 100)
    assert re.search(r"Connections +█+▚+▓+▒+ of PgBouncer's 600 ▲", text)
    assert "█ others 71  ▚ perhaps others' 147  ▓ claims 372  ░ headroom 0  ▒ reserve 10" in text
    assert "✔ all 6 read 1.8 s ago" in text


def test_an_upper_bound_says_in_passing_how_to_make_it_exact() -> None:
    status = status_connections.connected(healthy(), replace(status_connections.REPLICA, binds=True))
    text = printed(status, 100)
    assert "of the replica's 497 ✔" in text
    assert "others at most 40" in text
    assert "GRANT pg_monitor TO fleetd's role for an exact count" in unwrapped(text)
    assert "All is well" in text.splitlines()[0]
    assert "GRANT" not in printed(status_connections.direct(), 100)


def test_nothing_from_the_top_is_repeated_below() -> None:
    for status in (status_connections.behind_pgbouncer(), status_connections.saturation()):
        text = unwrapped(printed(status, 100))
        sentence = status.connections.unattributable or status.connections.saturation
        assert text.lower().count(sentence.lower()) == 1
        assert re.search("6 needed, 4 allowed: (others unattributable|database saturated), min 2", text)
    for status in (status_instances.paused(), status_instances.upgrade()):
        text = unwrapped(printed(status, 100))
        assert text.count(status.holds[0].sentence) == 1
        assert f"3 allowed: {HOLD_CODES[status.holds[0].kind].value}, min 2" in text


def test_a_hold_is_highlighted_in_colour() -> None:
    assert "\x1b[1;7;33m PAUSE, 1.8 h left " in printed(status_instances.paused(), color=True)


def test_orders_are_listed_with_their_time_left_and_what_ends_them() -> None:
    text = printed(status_instances.paused(), 100, 50)
    assert re.search(r"Orders +pull-first 2 instances, 42 min left +fleetctl set pull-first auto", text)
    assert re.search(r"@3 +started by hand, 3.2 h left +fleetctl release 3", text)
    assert re.search(r"@6 +stopped by hand, 3.9 h left +fleetctl release 6", text)
    assert text.count("moving the database") == 1, "the pause stands at the top"
    dense = printed(status_instances.paused(), 80, 23)
    assert "Orders       pull-first 2 instances, 42 min left" in dense
    assert re.search(r"◆ 6 pinned +(for 5 min +)?stopped by hand, kept 3.9 h more", dense)


def test_a_rollout_shows_its_progress_and_what_it_waits_for() -> None:
    text = printed(status_instances.rolling(), 100, 50)
    waits = r"drains, 3 jobs left; stopped in 9 min at the latest\."
    assert re.search(rf"Restart +━+╸?─+ 2 of 5, at @2: {waits}", unwrapped(text))
    assert re.search(r"» 1 outdated ━+─+ 34/60 +1.8 GB +runs older settings", text)
    assert "fleetd 0.1.0 · Mastodon 4.5.3 · up 12 d" in text
    assert "Restart      ✔ 5 of 5 replaced: all run Mastodon 4.5.3." in printed(status_instances.rolled(), 100, 50)


WORDS = {
    "mastodon-sidekiq@4.service": LastWords(lines=("one", "two", "cannot load such file -- rails\x1b[2J")),
}


def test_a_sick_instance_shows_its_state_its_note_and_its_last_words() -> None:
    text = printed(status_instances.sick(), 120, 50, words=WORDS)
    assert re.search(r"▲ 2 undrainable +31/60 +780 MB +it was told to quiet", text)
    assert re.search(r"✖ 3 unresponsive +for 7 min +no heartbeat for 7 min", text)
    assert re.search(r"✖ 4 failed +for 70 s +exit status 1, 3 times in a row", text)
    below = text.split("✖ 4 failed")[1].splitlines()[1:4]
    assert [line.strip() for line in below] == ["┃ one", "┃ two", "┃ cannot load such file -- rails\\x1b[2J"]
    assert "32.0 GB, memory pressure 14%, CPU pressure 66%" in text
    assert text.count("given up at 1 of 5") == 1
    dense = printed(status_instances.sick(), 80, 20, words=WORDS)
    assert "┃ one" not in dense
    assert "┃ cannot load such file" in dense


@pytest.mark.parametrize("height", [None, 10])
def test_a_journal_that_may_not_be_read_says_what_would_help(height: int | None) -> None:
    words = {"mastodon-sidekiq@4.service": LastWords(why="the journal is not readable for you: use sudo")}
    text = printed(status_instances.sick(), height=height, words=words)
    assert "┃ the journal is not readable for you: use sudo" in text


def test_a_failed_scheduler_shows_its_last_words() -> None:
    base = healthy()
    status = replace(base, scheduler=replace(base.scheduler, processes=0, unit_state="failed"))
    text = printed(status, words={"mastodon-sidekiq-scheduler.service": LastWords(lines=("no such table",))})
    assert re.search(r"Unit here: failed\.\n +┃ no such table", text)


def test_two_schedulers_are_named_with_their_hosts() -> None:
    base = healthy()
    scheduler = replace(base.scheduler, processes=2, where=("main", "worker1"))
    text = printed(replace(base, scheduler=scheduler), 100)
    assert re.search(r"Scheduler +✖ 2 processes, on main, worker1: one process serves it", text)


def test_forty_instances_are_all_there_on_a_small_and_on_a_big_terminal() -> None:
    for width, height in ((80, 23), (200, 50), (80, None)):
        text = printed(status_examples.crowd(), width, height)
        for number in range(1, 41):
            busy = number % 61
            assert re.search(rf"✔ +{number} (serving .*?)? *{busy}/60", text), number


def test_a_screen_that_is_too_small_says_how_much_is_missing() -> None:
    lines = status_screen(status_examples.crowd(), Page(80, UNICODE), height=24)
    short = cropped(lines, 20, UNICODE)
    assert len(short) == 20
    assert short[-1].plain.startswith(f"… {len(lines) - 19} more lines")


def test_names_and_sentences_can_control_neither_rich_nor_the_terminal() -> None:
    evil = "[red]x[/red]\x1b]0;owned\x07\x1b[2J\u202e:smile:[link=http://evil]"
    base = status_examples.surge()
    status = replace(
        base,
        host=evil,
        queues=(replace(base.queues[0], name=evil), *base.queues[1:]),
        profiles=(replace(base.profiles[0], name=evil, clamps=(replace(base.clamps[0], sentence=evil),)),),
        instances=(replace(base.instances[0], profile=evil, note=evil, state=evil), base.instances[7]),
        scheduler=replace(base.scheduler, processes=2, sentence=evil, where=(evil,)),
        problems=(evil,),
        next_sentence=evil,
        holds=(HoldStatus(kind="pause", sentence=evil, seconds_left=1.0),),
        overrides=(OverrideStatus(kind="pin", what=evil, sentence=evil, seconds_left=1.0),),
        rollout=RolloutStatus(
            cause=ReplaceCause.RESTART, total_instances=2, done_instances=1, current=evil, sentence=evil
        ),
        mastodon_version=evil,
        last_events=(replace(base.last_events[0], sentence=evil),),
    )
    for width in (80, 200):
        text = printed(status, width)
        assert "[red]x[/red]\\x1b]0;" in text
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", text)
        colored = printed(status, width, color=True)
        assert set(re.findall(r"\x1b.", colored)) == {"\x1b["}
        assert not re.search(r"\x1b\[[0-9;]*[^0-9;m]", colored)
        assert "of no profile" in text


def test_signs_say_the_same_as_colours() -> None:
    plain = re.sub(r"\x1b\[[0-9;]*m", "", printed(status_examples.surge(), color=True))
    assert plain == printed(status_examples.surge())
    queues = [line for line in plain.splitlines() if re.match(r"\S (default|ingress|mailers) ", line)]
    assert {line[0] for line in queues} == set("✖▲✔")


def test_an_empty_status_is_no_error() -> None:
    empty = replace(healthy(), queues=(), profiles=(), instances=(), last_events=(), sources=(), next_sentence="")
    text = printed(empty)
    assert "no queue is known yet" in text
    assert "nothing since it started" in text


def test_what_it_would_do_is_shown_while_it_only_observes() -> None:
    wishes = (
        WouldStatus(
            verb="start", keys=(InstanceKey(2), InstanceKey(3)), why="local has 1 of 3 wanted", profile="local"
        ),
        WouldStatus(verb="start", keys=(SCHEDULER,), why="none is live: started on w1"),
    )
    text = unwrapped(printed(replace(healthy(), mode="observe", would=wishes)))
    assert " OBSERVES ONLY fleetd only observes: it starts and stops nothing but what you order" in text
    assert "Would start mastodon-sidekiq@2, @3: local has 1 of 3 wanted." in text
    assert "start mastodon-sidekiq-scheduler: none is live: started on w1." in text
    assert "Would" not in printed(healthy())


def test_what_the_schedulers_line_says_is_not_said_again_below_it() -> None:
    why = "NO SCHEDULER RUNS, and none is started: all workers of this host were stopped 9 s ago"
    base = healthy()
    clamp = ClampStatus(code=ClampCode.STOPPED, sentence=why)
    status = replace(base, scheduler=replace(base.scheduler, processes=0, sentence=why), clamps=(clamp,))
    _, _, below = printed(status).partition("\nScheduler ")
    assert unwrapped(below).count(why) == 1


def test_the_command_that_ends_an_order_stays_on_one_line_with_nothing_of_the_order() -> None:
    order = OverrideStatus(kind="set", what="default", sentence="4 instances, by root", seconds_left=290.0)
    lines = printed(replace(healthy(), overrides=(order,))).splitlines()
    assert "Orders       default 4 instances, by root, 4.8 min left" in [line.rstrip() for line in lines]
    assert "fleetctl set default auto" in [line.strip().replace("\N{NO-BREAK SPACE}", " ") for line in lines]


def test_with_several_hosts_a_count_is_ended_where_it_holds() -> None:
    own = OverrideStatus(kind="set", what="default", sentence="2 instances, by root", seconds_left=290.0)
    orders = (own, replace(own, what=f"default{ON_ALL}", sentence="6 instances, by root"))
    text = printed(replace(of_several(), overrides=orders), 120, 50).replace("\N{NO-BREAK SPACE}", " ")
    assert re.search(r"default 2 instances, by root, 4.8 min left +fleetctl set default auto --host \S+\n", text)
    assert re.search(r"default on all hosts 6 instances, by root, 4.8 min left +fleetctl set default auto\n", text)
