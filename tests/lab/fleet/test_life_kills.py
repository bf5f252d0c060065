"""Law 5 and capacity: fleetd is killed in the middle of its steps, and workers are killed while it watches."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from lab.jobs import load, records
from tests.support.lab import fleetd_kills as kills
from tests.support.lab.fleet import Fleet

pytestmark = pytest.mark.lab

RESTART_SECONDS = 5.0
"""RestartSec of the template unit."""
CHECKS_SECONDS = 5.0
"""More than the checks before a start take, even on a busy machine."""


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with kills.fleet_of_few() as fleet:
        yield fleet


def test_a_fleetd_killed_at_random_reaches_the_same_result(fleet: Fleet) -> None:
    rounds = [kills.START, kills.RESTART, kills.DRAIN]
    assert kills.play(fleet, rounds, random.Random(1)) == 6
    tally = kills.count(fleet)
    assert (tally.done, tally.lost, tally.repeated) == (tally.enqueued, (), ())
    assert not [r for r in records.runs([fleet.worker]) if r.result != "done"]
    assert not [s.message for s in fleet.said() if "by hand" in s.message], "its own orders are no person's"


def test_a_killed_worker_comes_back_and_is_always_counted_right(fleet: Fleet) -> None:
    kills.START.give(fleet)
    fleet.wait("all serve", lambda s: s.profiles[0].serving_instances == kills.MANY)
    busy = kills.MANY * kills.THREADS
    load.enqueue(fleet.main, "default", [60.0] * busy)
    fleet.wait("all are at work", lambda s: sum(i.busy_threads or 0 for i in s.instances) == busy)
    orders = [fleet.steps(verb) for verb in ("start", "quiet", "stop")]
    death = kills.kill_worker(fleet, random.Random(2).choice(sorted(fleet.up())))
    assert RESTART_SECONDS <= death.pause_seconds < RESTART_SECONDS + CHECKS_SECONDS
    assert death.wrong == ()
    assert [fleet.steps(verb) for verb in ("start", "quiet", "stop")] == orders, "no order of fleetd's"
    assert death.lost_jobs == kills.THREADS, "SIGKILL loses what was running, whoever sends it"
