"""Law 4: every job of 1 ms to 20 s runs, while instances are drained, restarted and reconfigured at random."""

from __future__ import annotations

import pytest

from lab.campaign import run, schedule

pytestmark = pytest.mark.lab

JOBS = 5000
SEED = 80


def test_every_job_runs_whatever_happens_to_instances() -> None:
    campaign = schedule.draw(SEED, JOBS, event_seconds=4.0)
    kinds = {event.kind for event in campaign.events}
    assert kinds == {"drain", "restart", "reconfigure", "surge", "calm"}, "the seed has all of them"
    outcome = run.play(campaign, stock=False, boot_seconds=0.5)
    assert (outcome.tally.enqueued, outcome.tally.done) == (JOBS, JOBS)
    assert (outcome.tally.lost, outcome.tally.repeated) == ((), ())
    assert (outcome.died, outcome.killed) == (0, 0)
    assert outcome.too_soon == [], "only a drain past its deadline makes a job start over"
    assert outcome.ended > 0
    assert outcome.least_serving > 0
