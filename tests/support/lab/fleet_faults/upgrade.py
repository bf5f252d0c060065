"""The only host of a fleet goes from the release before to this one by `make install`, and a second host joins."""

from __future__ import annotations

import random
import time

from fleetd.core.model.status import Status
from lab.setup import install
from lab.waiting import PATIENCE_SECONDS
from tests.support.lab.fleet import FLEETCTL
from tests.support.lab.fleet_faults import laws
from tests.support.lab.fleet_faults.played import Figures
from tests.support.lab.fleet_faults.setups import BEFORE
from tests.support.lab.fleet_faults.stage import CALM_SECONDS, MAX_CONNECTIONS, PHASE_SECONDS, SIZES
from tests.support.lab.many_hosts import MIN, Many, booted, counts, jobs_for

WHEELS, NEW = "/srv/wheels", "/srv/new"
FLOW_JOBS_PER_SECOND = 8.0


def upgraded_and_joined(chance: random.Random) -> Figures:
    """Workers are untouched by the upgrade; the second host shares the work; one scheduler, and no job is lost."""
    with booted(("here", "auto"), workers=2, releases={"w1": install.release(BEFORE)}, **SIZES) as many:
        first, second = many.workers
        install.place_source(first, NEW)
        (first.disk / WHEELS.lstrip("/")).symlink_to(install.wheels())
        begun = time.monotonic()
        many.on("w1").start()
        many.see("it serves and schedules", lambda seen: seen.scheduler_hosts() == ["w1"] and "w1" in seen.alive())
        loader = many.flow(3600, {"default": FLOW_JOBS_PER_SECOND})
        many.enqueue("default", jobs_for(instances=3, seconds=60.0))
        many.see("it grows", lambda seen: counts(seen, many)[0] > MIN)
        time.sleep(chance.uniform(0.0, PHASE_SECONDS))
        _upgrade(many)
        first.run([FLEETCTL, "resume"])
        joined = time.monotonic()
        many.on("w2").start()
        many.wait("both are one fleet", lambda told: len(told) == 2 and all(map(_shares, told.values())), CALM_SECONDS)
        one_fleet = time.monotonic()
        many.see("the second has its min", lambda seen: counts(seen, many)[1] >= MIN, CALM_SECONDS)
        many.enqueue("default", jobs_for(instances=6, seconds=20.0))
        many.see("the second shares the work", lambda seen: counts(seen, many)[1] > MIN, CALM_SECONDS)
        loader.stop()
        laws.no_job_lost(many.settled(timeout=2 * PATIENCE_SECONDS))
        seen = many.observer.timeline().since(begun)
        laws.within_budget(seen, many, MAX_CONNECTIONS)
        assert [start.process.host for start in seen.scheduler_starts()] == ["w1"]
        assert seen.together(frozen=True) == []
        assert second.name in many.statuses()
        return {"one fleet after s": one_fleet - joined}


def _upgrade(many: Many) -> None:
    first = many.workers[0]
    before = {one.pid for one in many.observer.timeline().looks[-1].alive}
    command = f"cd {NEW} && PIP_NO_INDEX=1 PIP_FIND_LINKS={WHEELS} make install 2>&1"
    first.run(["sh", "-c", command], timeout=300)
    told = many.wait("the new one has looked around", lambda told: "w1" in told and _looked_around(told["w1"]))
    assert "upgrade" in [hold.kind for hold in told["w1"].holds], "the scheduler's unit is another one"
    after = {one.pid for one in many.observer.timeline().looks[-1].alive}
    assert before <= after, "no worker noticed"


def _looked_around(status: Status) -> bool:
    return status.fleet is not None and status.ticks_total > 3


def _shares(status: Status) -> bool:
    fleet = status.fleet
    return fleet is not None and fleet.problem == "" and fleet.gathering is None and len(fleet.hosts) == 2
