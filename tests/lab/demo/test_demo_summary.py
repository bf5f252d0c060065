"""The demo's verdict: every broken promise is named, and what is unknown does not count as kept."""

from dataclasses import replace

import pytest

from fleetd.cli.terminal.symbols import ASCII, UNICODE
from lab.demo.samples import Sample
from lab.demo.summary import Figures, broken, judge, summary_lines, verdict
from lab.jobs.records import Tally, Waits


def sample(instances: int | None, *, connections: int | None = 40, schedulers: int | None = 1) -> Sample:
    return Sample(
        at_seconds=0.0,
        serving_instances=instances,
        starting_instances=0,
        stopping_instances=0,
        schedulers=schedulers,
        connections=connections,
    )


SAMPLES = (sample(2), sample(4), sample(6, connections=72), sample(3), sample(2))
TALLY = Tally(
    enqueued=8895,
    done=8895,
    waiting=0,
    running=0,
    lost=(),
    repeated=(),
    waits={"default": Waits(2849, 0.01, 0.2, 0.5), "pull": Waits(457, 42.0, 60.0, 65.0)},
    done_by_unit={},
)
GOOD = Figures(
    tally=TALLY,
    redis_processed_jobs=8895,
    redis_failed_jobs=0,
    samples=SAMPLES,
    connections_limit=97,
    refusals=0,
    restarts=0,
    failed_units=(),
    cron_doubles=0,
    stopped_by_budget="one more needs 10 connections, 6 are left",
)


def labels(figures: Figures) -> list[str]:
    return [sentence.split(":")[0] for sentence in broken(judge(figures))]


def test_all_promises_kept() -> None:
    assert broken(judge(GOOD)) == []
    assert verdict(judge(GOOD)).startswith("As promised")


@pytest.mark.parametrize(
    ("figures", "named"),
    [
        (replace(GOOD, tally=replace(TALLY, lost=("a1b2",), done=8894)), ["jobs lost"]),
        (replace(GOOD, tally=replace(TALLY, repeated=("a1b2",))), ["jobs run twice"]),
        (replace(GOOD, tally=replace(TALLY, done=8000, waiting=895)), ["jobs processed"]),
        (replace(GOOD, tally=replace(TALLY, done=8894, running=1)), ["jobs processed"]),
        (replace(GOOD, tally=replace(TALLY, enqueued=0, done=0)), ["jobs enqueued", "jobs processed"]),
        (replace(GOOD, redis_failed_jobs=3), ["Sidekiq's own count"]),
        (replace(GOOD, redis_failed_jobs=None), ["Sidekiq's own count"]),
        (replace(GOOD, refusals=1), ["'too many clients'"]),
        (replace(GOOD, refusals=None), ["'too many clients'"]),
        (replace(GOOD, connections_limit=70), ["most connections"]),
        (replace(GOOD, connections_limit=None), ["most connections"]),
        (replace(GOOD, restarts=1), ["died and restarted"]),
        (replace(GOOD, failed_units=("worker1: x.service",)), ["failed units"]),
        (replace(GOOD, failed_units=None), ["failed units"]),
        (replace(GOOD, cron_doubles=2), ["cron jobs doubled"]),
        (replace(GOOD, stopped_by_budget=""), ["what stopped growth"]),
        (replace(GOOD, overdue_phases=("recovery",)), ["after the surge"]),
        (replace(GOOD, samples=(sample(2),) * 5), ["instances"]),  # never grew
        (replace(GOOD, samples=(*SAMPLES, sample(3))), ["instances"]),  # never came down
        (replace(GOOD, samples=(*SAMPLES, sample(2, schedulers=2))), ["schedulers"]),
        (replace(GOOD, samples=(*SAMPLES, sample(2, schedulers=0))), ["schedulers"]),
        (replace(GOOD, samples=()), ["schedulers", "instances", "most connections"]),
    ],
)
def test_a_broken_promise_is_named(figures: Figures, named: list[str]) -> None:
    assert labels(figures) == named
    assert verdict(judge(figures)).startswith(f"Not as promised: {named[0]}")


def test_one_failed_look_is_no_broken_promise() -> None:
    blind = Sample(at_seconds=0.0)
    assert broken(judge(replace(GOOD, samples=(SAMPLES[0], blind, *SAMPLES[1:])))) == []


def test_the_summary_fits_and_has_the_figures() -> None:
    groups = judge(GOOD)
    for width, symbols in ((80, UNICODE), (120, UNICODE), (60, ASCII)):
        lines = summary_lines(groups, SAMPLES, width=width, symbols=symbols)
        assert all(line.cell_len <= width for line in lines)
        shown = "\n".join(line.plain for line in lines)
        assert "8,895" in shown
        assert "2 at first, 6 at most, 2 in the end" in shown
        assert "72 of 97" in shown
        assert "default 0.5 s, pull 65 s" in shown
        assert symbols is UNICODE or shown.isascii()
