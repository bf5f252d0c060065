"""Kills fleetd at fifty random moments of starts, drains, restarts and surges, and eight workers in turn."""

from __future__ import annotations

import random

import pytest

from lab.jobs import load, records
from tests.support.lab import fleetd_kills as kills

pytestmark = [pytest.mark.lab, pytest.mark.long]

KILLS = 50
SEED = 1
#: RestartSec of the template unit.
RESTART_SECONDS = 5.0
CHECKS_SECONDS = 5.0


def test_a_fleetd_killed_fifty_times_reaches_the_same_result() -> None:
    chance = random.Random(SEED)
    with kills.fleet_of_few() as fleet:
        happened = 0
        rounds = 0
        while happened < KILLS:
            cycle = [kills.SURGE, kills.START, kills.RESTART, kills.DRAIN]
            happened += kills.play(fleet, cycle, chance)
            rounds += len(cycle)
        tally = kills.count(fleet)
        cut_off = [r for r in records.runs([fleet.worker]) if r.result != "done"]
        print(
            f"fleetd killed {happened} times in {rounds} orders: each order came to its end, {tally.done} of "
            f"{tally.enqueued} jobs done, {len(tally.lost)} lost, {len(tally.repeated)} done twice, "
            f"{len(cut_off)} cut off"
        )
        assert (tally.done, tally.lost, tally.repeated, cut_off) == (tally.enqueued, (), (), [])
        assert not [s.message for s in fleet.said() if "by hand" in s.message]


def test_eight_deaths_of_workers_are_counted_right() -> None:
    chance = random.Random(SEED)
    with kills.fleet_of_few() as fleet:
        kills.START.give(fleet)
        fleet.wait("all serve", lambda s: s.profiles[0].serving_instances == kills.MANY)
        busy = kills.MANY * kills.THREADS
        load.enqueue(fleet.main, "default", [600.0] * (busy - kills.THREADS))
        deaths = []
        for _ in range(8):
            load.enqueue(fleet.main, "default", [600.0] * kills.THREADS)  # replaces the jobs lost with the last one
            fleet.wait("all are at work", lambda s: sum(i.busy_threads or 0 for i in s.instances) == busy)
            deaths.append(kills.kill_worker(fleet, chance.choice(sorted(fleet.up()))))
        slowest = max(death.back_seconds for death in deaths)
        samples = sum(death.samples for death in deaths)
        wrong = sum(len(death.wrong) for death in deaths)
        print(
            f"workers killed: {len(deaths)}, back within {slowest:.1f} s (RestartSec=5 and a boot); "
            f"capacity as fleetd told it was wrong in {wrong} of {samples} looks; "
            f"{sum(death.lost_jobs for death in deaths)} running jobs died with them"
        )
        assert wrong == 0, [death for death in deaths if death.wrong]
        assert not fleet.steps("quiet")
        assert max(death.pause_seconds for death in deaths) < RESTART_SECONDS + CHECKS_SECONDS
