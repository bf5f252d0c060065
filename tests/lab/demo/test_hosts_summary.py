"""The verdict on three hosts: every broken promise is named, and what went with the power is told and not hidden."""

from dataclasses import replace
from typing import Any

import pytest

from fleetd.cli.terminal.symbols import ASCII, UNICODE
from lab.demo.hosts.count import most, takeover
from lab.demo.hosts.judge import FleetFigures, judge, promised
from lab.demo.hosts.tell import PowerCut
from lab.demo.samples import Sample
from lab.demo.summary import broken, summary_lines, verdict
from lab.jobs.power import InHand
from lab.jobs.records import Tally, Waits
from lab.observers.timeline import Alive, Look, Timeline
from tests.support.builders.fleet_hosts import host, three

HAND = InHand(running=("a1", "a2"), fetched=("b1",))
TALLY = Tally(
    enqueued=6003,
    done=6000,
    waiting=0,
    running=0,
    lost=("a1", "a2", "b1"),
    repeated=(),
    waits={"default": Waits(2849, 0.01, 0.2, 4.5)},
    done_by_unit={},
)
FLEET = three(
    leader="w2",
    scheduler_host="w2",
    hosts=(host("w1"), host("w2", leads=True, scheduler=True), host("w3")),
    orders=(),
)
GOOD = FleetFigures(
    cut_host="w1",
    tally=TALLY,
    in_hand=HAND,
    redis_failed_jobs=0,
    two_schedulers=(),
    looks=2000,
    longest_gap_seconds=0.3,
    taken_over_by="w2",
    takeover_seconds=124.0,
    scheduler_starts=2,
    cron_doubles=0,
    at_cut={"w1": 2, "w2": 3, "w3": 2},
    most_after={"w2": 4, "w3": 4},
    at_end={"w1": 1, "w2": 2, "w3": 2},
    fleet=FLEET,
    connections_limit=97,
    most_open=61,
    most_claimed=80,
    most_others=4,
    refusals=0,
    unit_said="Not started: the scheduler runs on w2 (mastodon-sidekiq-scheduler, process 474). Two would double.",
    restarts=0,
    failed_units=(),
)
CUT = PowerCut("w1", (1000.0, 1000.2), (50.0, 50.2), {"w1": 2, "w2": 3, "w3": 2})


def labels(figures: FleetFigures) -> list[str]:
    return [said.split(":")[0] for said in broken(judge(figures))]


def test_all_promises_kept_and_what_went_with_the_power_is_told() -> None:
    assert broken(judge(GOOD)) == []
    said = verdict(judge(GOOD), promised(GOOD))
    assert said.startswith("As promised: ")
    assert "w2 took the scheduler over from w1" in said
    assert "nothing but 3 jobs that went with its power was lost" in said
    assert "nothing was lost" in promised(replace(GOOD, in_hand=InHand()))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"in_hand": replace(HAND, elsewhere=("c1",))}, ["other jobs lost"]),
        ({"tally": replace(TALLY, repeated=("a1b2",))}, ["jobs run twice"]),
        ({"tally": replace(TALLY, done=5999, waiting=1)}, ["jobs processed"]),
        ({"tally": replace(TALLY, done=5999)}, ["jobs processed"]),
        ({"redis_failed_jobs": None}, ["failed jobs"]),
        ({"redis_failed_jobs": 1}, ["failed jobs"]),
        ({"two_schedulers": (("w1", "w2"),)}, ["two schedulers"]),
        ({"looks": 0}, ["two schedulers"]),
        ({"takeover_seconds": None}, ["scheduler taken over"]),
        ({"takeover_seconds": 40.0}, ["scheduler taken over"]),
        ({"takeover_seconds": 200.0}, ["scheduler taken over"]),
        ({"scheduler_starts": 3}, ["scheduler starts"]),
        ({"cron_doubles": 1}, ["cron jobs doubled"]),
        ({"at_cut": {"w1": 2, "w2": 4, "w3": 2}}, ["in the surge"]),
        ({"at_cut": {"w1": 1, "w2": 2, "w3": 2}}, ["in the surge"]),
        ({"at_cut": {}}, ["in the surge"]),
        ({"most_after": {"w2": 3, "w3": 2}}, ["without w1"]),
        ({"at_end": {"w1": 0, "w2": 2, "w3": 2}}, ["in the end"]),
        ({"fleet": None}, ["hosts heard of"]),
        ({"fleet": three(problem="Redis can't be read")}, ["hosts heard of"]),
        ({"fleet": three(leader="w2", scheduler_host="w2", orders=())}, ["hosts heard of"]),  # w3 is lost
        ({"connections_limit": 60}, ["most connections", "could have been open"]),
        ({"connections_limit": None}, ["most connections", "could have been open"]),
        ({"most_claimed": 94}, ["could have been open"]),
        ({"most_claimed": 0}, ["could have been open"]),
        ({"most_open": None}, ["most connections"]),
        ({"refusals": None}, ["'too many clients'"]),
        ({"unit_said": ""}, ["w1's scheduler"]),
        ({"restarts": 1}, ["died and restarted"]),
        ({"failed_units": ("w1: x.service",)}, ["failed units"]),
        ({"overdue_phases": ("recovery",)}, ["after the surge"]),
    ],
)
def test_a_broken_promise_is_named(changes: dict[str, Any], named: list[str]) -> None:
    figures = replace(GOOD, **changes)
    assert labels(figures) == named
    assert verdict(judge(figures), promised(figures)).startswith(f"Not as promised: {named[0]}")


def test_the_summary_fits_and_has_the_figures() -> None:
    samples = tuple(Sample(at_seconds=at, instances_by_host={"w1": at, "w2": 2}) for at in range(3))
    for width, symbols in ((80, UNICODE), (120, UNICODE), (60, ASCII)):
        lines = summary_lines(judge(GOOD), samples, width=width, symbols=symbols, counted_by="observers")
        assert all(line.cell_len <= width for line in lines)
        shown = " ".join("\n".join(line.plain for line in lines).split())
        assert "6,003" in shown
        assert "3: 2 ran in processes of w1 and 1 had just been taken from Redis by them" in shown
        assert "by w2, after 124 s (its heartbeat outlives it by 60 s)" in shown
        assert "84 of 97: 80 by workers, 4 by others" in shown
        assert symbols is UNICODE or shown.isascii()


def scheduler(name: str, pid: int) -> Alive:
    return Alive(name, "mastodon-sidekiq-scheduler.service", pid, frozen=False)


def test_the_takeover_counts_from_the_power_cut() -> None:
    looks = [
        Look(49.0, 49.1, frozenset({scheduler("w1", 7)})),
        Look(60.0, 60.1, frozenset()),
        Look(112.0, 112.1, frozenset({scheduler("w3", 9)})),
    ]
    where, seconds = takeover(Timeline(looks, []), CUT)
    assert (where, round(seconds or 0, 1)) == ("w3", 62.1)
    assert takeover(Timeline(looks[:2], []), CUT) == ("", None)


def test_the_most_instances_without_the_host_that_lost_its_power() -> None:
    seen = [{"w1": 4, "w2": 6}, {"w2": 3, "w3": 1}, {"w2": 2, "w3": 2}, None, {"w1": 1, "w2": 9}]
    samples = [Sample(at_seconds=at, instances_by_host=one) for at, one in enumerate(seen)]
    assert most(samples, CUT, ("w1", "w2", "w3")) == {"w2": 3, "w3": 2}
