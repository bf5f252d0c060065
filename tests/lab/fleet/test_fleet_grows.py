"""Everything on real parts: in a surge of 20,000 jobs the fleet grows, shrinks afterwards, and loses no job."""

from __future__ import annotations

from collections import defaultdict

import pytest

from fleetd.core.model.status import Status
from lab.jobs import load, records
from lab.jobs.load import Load, Phase
from lab.waiting import PATIENCE_SECONDS
from tests.support.lab.fleet import started

pytestmark = pytest.mark.lab

JOBS = 20_000

CONFIG = """
[scheduler]
place = "here"
threads = 2

[profiles.default-first]
order = "default-first"
threads = 8
instances = "1-3"
min = 1

[profiles.weighted]
weights = { ingress = 8, pull = 6, push = 1, default = 1, mailers = 1, fasp = 1 }
threads = 8
instances = "4-6"
min = 1

[targets]
push = 10
ingress = 10
pull = 15

[memory]
instance = "100 MiB"

[pace]
tick_seconds = 1
hold_down_seconds = 5
"""

#: Two of these at a time, with jobs of 60 ms on average, are more work than max has threads, even if a busy machine
#: enqueues at half the rate. min has 16 threads.
SURGE = Phase(60, {"default": 250, "push": 60, "ingress": 125, "mailers": 10, "pull": 35, "fasp": 20})
JOB_SCALE = 0.3


def test_a_surge_comes_and_goes_and_no_job_is_lost() -> None:
    with started(CONFIG) as fleet:
        # Both forms of timestamps side by side, as in an upgrade from Mastodon 4.4 to 4.5.
        half = JOBS // 2
        loaders = [
            load.start(fleet.main, Load([SURGE], "seconds", job_scale=JOB_SCALE, limit=half, seed=1)),
            load.start(fleet.main, Load([SURGE], "milliseconds", job_scale=JOB_SCALE, limit=half, seed=2)),
        ]
        most: dict[str, int] = defaultdict(int)

        def through(status: Status) -> bool:
            for profile in status.profiles:
                most[profile.name] = max(most[profile.name], profile.serving_instances or 0)
            return not any(loader.running for loader in loaders) and idle(status)

        fleet.wait("every job is done", through, timeout=6 * PATIENCE_SECONDS)
        assert sum(loader.wait() for loader in loaders) == JOBS
        assert min(most.values()) > 1, f"each profile grew, both strict and weighted: {dict(most)}"

        fleet.wait("back to min", at_min, timeout=2 * PATIENCE_SECONDS)
        assert len(fleet.up()) == 2

        tally = fleet.settled()
        assert tally.done == tally.enqueued >= JOBS
        assert (tally.lost, tally.repeated) == ((), ())
        assert len(tally.done_by_unit) > 2

        runs = records.runs([fleet.worker])
        assert {run.result for run in runs} == {"done"}, "no job was pushed back: each drain was waited for"
        quiets, stops = fleet.steps("quiet"), fleet.steps("stop")
        ended = [number for _, number in stops]
        assert len(ended) >= 2
        for stopped_at, number in stops:
            begun = max((at for at, n in fleet.steps("start") if n == number and at < stopped_at), default=0)
            quieted = [at for at, n in quiets if n == number and begun < at < stopped_at]
            of_it = [r for r in runs if r.unit.endswith(f"@{number}.service") and r.started_at > begun]
            assert quieted or not of_it, f"@{number} served and was stopped without having been quieted"
            after = [r for r in of_it if begun < stopped_at < (r.ended_at or 0) and r.started_at < stopped_at]
            assert not after, f"@{number} was stopped while it worked"


def idle(status: Status) -> bool:
    return all(queue.length_jobs == 0 and queue.busy_threads == 0 for queue in status.queues)


def at_min(status: Status) -> bool:
    there = [i for i in status.instances if i.state not in {"stopped", "failed"}]
    return len(there) == sum(profile.min_instances for profile in status.profiles)
