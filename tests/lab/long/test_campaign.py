"""The full campaign: 100,000 jobs, with drains, restarts, new settings and surges at random."""

from __future__ import annotations

import pytest

from lab.campaign import run, schedule

pytestmark = [pytest.mark.lab, pytest.mark.long]

JOBS = 100_000
SEED = 1


def test_with_fleetd_every_job_runs() -> None:
    outcome = run.play(schedule.draw(SEED, JOBS), stock=False, boot_seconds=1.0)
    print(run.sentence(outcome))
    assert (outcome.tally.enqueued, outcome.tally.done) == (JOBS, JOBS)
    assert (outcome.tally.lost, outcome.tally.repeated) == ((), ())
    assert (outcome.died, outcome.killed) == (0, 0)
    assert outcome.too_soon == [], "only a drain past its deadline makes a job start over"


def test_with_stock_settings_some_are_lost() -> None:
    outcome = run.play(schedule.draw(SEED, JOBS), stock=True, boot_seconds=1.0)
    print(run.sentence(outcome))
    assert outcome.tally.enqueued == JOBS
    assert outcome.tally.lost, "else the campaign could not find a loss"
