"""Law 5, and capacity: fleetd is killed in the middle of what it does; workers are killed under its eyes."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Iterator

import pytest

from fleetd.core.status import Status
from lab import load, records
from lab.campaign import life
from tests.lab import kills
from tests.lab.fleet import Fleet

pytestmark = pytest.mark.lab

RESTART_SECONDS = 5.0
"""RestartSec of the template unit."""
BOOT_SECONDS = 5.0
"""More than the stand-in takes, also on a busy machine."""
BEAT_SECONDS = 5.0


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with kills.fleet_of_few() as fleet:
        yield fleet


def test_a_fleetd_killed_at_random_comes_to_the_same(fleet: Fleet) -> None:
    rounds = [kills.START, kills.RESTART, kills.DRAIN]
    assert kills.play(fleet, rounds, random.Random(1)) == 6
    tally = kills.count(fleet)
    assert (tally.done, tally.lost, tally.repeated) == (tally.enqueued, (), ())
    assert not [r for r in records.runs([fleet.worker]) if r.result != "done"]
    assert not [s.message for s in fleet.said() if "by hand" in s.message], "its own orders are no person's"


def test_a_killed_worker_is_back_and_counted_right_all_along(fleet: Fleet) -> None:
    kills.START.give(fleet)
    fleet.wait("all serve", lambda s: s.profiles[0].serving_instances == kills.MANY)
    load.enqueue(fleet.main, "default", [60.0] * (kills.MANY * kills.THREADS))
    fleet.wait("all are at work", lambda s: sum(i.busy_threads or 0 for i in s.instances) >= 4 * 4)
    orders = [fleet.steps(verb) for verb in ("start", "quiet", "stop")]
    victim = random.Random(2).choice(sorted(fleet.up()))
    pid = fleet.worker.unit(f"mastodon-sidekiq@{victim}").main_pid

    watch_from = time.time()
    fleet.worker.kill(f"mastodon-sidekiq@{victim}", signal.SIGKILL)
    samples = []

    def back(status: Status) -> bool:
        samples.append((time.time(), status.profiles[0].serving_instances))
        told = life.processes(fleet.worker)
        return status.profiles[0].serving_instances == kills.MANY and told[-1].up_at > watch_from

    fleet.wait("it serves again", back)
    told = life.processes(fleet.worker)
    died = next(p for p in told if p.pid == pid)
    fresh = told[-1]
    assert died.killed
    assert died.ended_at is not None
    assert fresh.unit == died.unit
    assert fresh.up_at - died.ended_at < RESTART_SECONDS + BOOT_SECONDS
    wrong = [s for s in samples if not counted_right(told, *s)]
    assert not wrong, (wrong, died, fresh)
    assert [fleet.steps(verb) for verb in ("start", "quiet", "stop")] == orders, "no order of fleetd's"

    lost = {r.jid for r in records.runs([fleet.worker]) if r.pid == pid and r.result is None}
    assert len(lost) == kills.THREADS, "SIGKILL loses what was running, whoever sends it"


def counted_right(told: list[life.Process], at: float, serving: int | None) -> bool:
    """A death is seen within two ticks, a newcomer with its first heartbeat."""
    if serving is None:
        return False
    seen = [life.least_serving(told, moment, moment) for moment in (at - 2.5, at - 1.5, at - 0.5, at)]
    before = life.least_serving(told, at - BEAT_SECONDS - 2.5, at)
    return before <= serving <= max(seen)
