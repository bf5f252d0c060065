"""Law 1, beside a stock unit on another VM and alone: ours is started, never doubled, and ended as a surplus."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Iterator

import pytest

from fleetd.core.model.identity import SCHEDULER
from fleetd.core.model.reasons.base import ClampCode
from lab.jobs import records
from lab.setup import mastodon
from tests.support.lab import ticks
from tests.support.lab.fleet import Fleet, booted
from tests.support.lab.scheduler_watch import Watch, watching

pytestmark = pytest.mark.lab

TICK_SECONDS = 1.0
BEAT_SECONDS = 5.0  # Sidekiq 6's heartbeat
SETTLE_SECONDS = 20.0  # how long the host named in the configuration waits
CRON_SECONDS = 3.0
OURS = "mastodon-sidekiq-scheduler.service"
STOCK = mastodon.STOCK_UNIT
CONFIG = f"""
[scheduler]
place = "here"
threads = 2
[profiles.local]
threads = 3
instances = "1-2"
min = 1
[pace]
tick_seconds = {TICK_SECONDS:g}
"""


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with booted(CONFIG, stock_unit_on_main=True, cron_seconds=CRON_SECONDS) as fleet:
        yield fleet


@pytest.fixture(scope="module")
def watch(fleet: Fleet) -> Iterator[Watch]:
    with watching(fleet.main) as watch:
        yield watch


def pushes_by_unit(fleet: Fleet, since: float) -> dict[str, list[float]]:
    """When each unit enqueued a certain cron job."""
    found: dict[str, list[float]] = defaultdict(list)
    for at, name, _, unit in records.cron_pushes([fleet.main, fleet.worker]):
        if at >= since and name == "Scheduler::IndexingScheduler":
            found[unit].append(at)
    return found


def scheduler_steps(fleet: Fleet, verb: str) -> list[float]:
    """When fleetd carried out this step on the scheduler."""
    return [at for at, number in fleet.steps(verb) if number == "scheduler"]


def obeyed(fleet: Fleet) -> float:
    """When our scheduler last obeyed a quiet, as it reports itself: on a busy machine the signal arrives late."""
    entries = map(json.loads, fleet.worker.read(mastodon.LIFE).splitlines())
    return max(float(e["at"]) for e in entries if (e["unit"], e["event"]) == (OURS, "quiet"))


def stays_ended(fleet: Fleet) -> None:
    status = fleet.wait("only the stock unit's is left", lambda s: s.scheduler.where == ("main",))
    assert status.scheduler.processes == 1
    fleet.wait("ten ticks later", lambda s: s.ticks_total > status.ticks_total + 10)
    assert fleet.worker.unit(OURS).active_state == "inactive"
    assert fleet.main.unit(STOCK).active


def test_ours_is_not_started_beside_a_stock_unit(fleet: Fleet, watch: Watch) -> None:
    fleet.main.wait_until("the stock unit's heartbeat", lambda: watch.live == ["main"])
    begun = time.time()
    fleet.start()
    fleet.wait("min serves", lambda s: s.instances[0].state == "serving")
    status = fleet.wait(
        "well past the time after which a lone host would start its own",
        lambda s: s.uptime_seconds > SETTLE_SECONDS + 10 * TICK_SECONDS,
    )
    [clamp] = [c for c in status.clamps if c.code == ClampCode.SCHEDULER_LIVE]
    assert "main" in clamp.sentence
    assert (status.scheduler.processes, status.scheduler.where) == (1, ("main",))
    assert status.scheduler.unit_state == "stopped"
    assert watch.most == 1
    assert set(pushes_by_unit(fleet, begun)) == {STOCK}
    assert scheduler_steps(fleet, "start") == []


@pytest.fixture
def does_not_ask(fleet: Fleet) -> Iterator[None]:
    """Our scheduler's unit starts without asking Redis, as an admin's own does."""
    drop_in = f"/etc/systemd/system/{OURS}.d/test.conf"
    fleet.worker.write(drop_in, "[Service]\nExecCondition=\n")
    fleet.worker.reload_systemd()
    yield
    fleet.worker.remove(drop_in)
    fleet.worker.reload_systemd()


@pytest.mark.usefixtures("does_not_ask")
def test_ours_started_by_hand_beside_a_stock_unit_is_ended_and_stays_down(fleet: Fleet, watch: Watch) -> None:
    with ticks.watching(fleet) as seen:
        fleet.worker.run(["systemctl", "start", "--no-block", OURS])
        begun = time.time()
        ended = seen.wait("fleetd ends it", ticks.did("stop", SCHEDULER))
    # It is noticed while it boots, so it never serves.
    assert seen.since(begun, ended) <= 2
    fleet.worker.wait_until("it is down", lambda: fleet.worker.unit(OURS).active_state == "inactive")
    stays_ended(fleet)
    assert watch.live == ["main"]
    assert watch.most == 1


def test_when_no_scheduler_is_left_ours_starts_and_cron_jobs_run_once(fleet: Fleet, watch: Watch) -> None:
    fleet.main.stop(STOCK)
    fleet.main.wait_until("its heartbeat is gone", lambda: watch.live == [])
    gone = watch.last_live
    status = fleet.wait("ours runs", lambda s: s.scheduler.unit_state == "serving")
    assert (status.scheduler.processes, status.scheduler.where) == (1, ("worker1",))
    fleet.main.wait_until("its heartbeat", lambda: watch.live == ["worker1"])
    [begun] = scheduler_steps(fleet, "start")
    assert begun - gone >= SETTLE_SECONDS
    fleet.worker.wait_until("it enqueued five times", lambda: len(pushes_by_unit(fleet, begun)[OURS]) >= 5)
    by_unit = pushes_by_unit(fleet, begun)
    assert set(by_unit) == {OURS}
    # Two schedulers would halve the interval. A single job may come late; the next is on time again.
    mean_gap = (by_unit[OURS][-1] - by_unit[OURS][0]) / (len(by_unit[OURS]) - 1)
    assert mean_gap > 0.7 * CRON_SECONDS
    tally = fleet.settled()
    assert (tally.lost, tally.repeated) == ((), ())
    assert watch.most == 1


def test_ours_yields_to_a_stock_unit_that_somebody_starts(fleet: Fleet, watch: Watch) -> None:
    """Ours serves by then. So it is quieted, which ends its scheduling at once, and stopped once idle."""
    with ticks.watching(fleet) as seen:
        fleet.main.start(STOCK)
        fleet.main.wait_until("two are live", lambda: watch.live == ["main", "worker1"])
        both = time.time()
        quieted = seen.wait("fleetd quiets it", ticks.did("quiet", SCHEDULER))
        stopped = seen.wait("fleetd stops it", ticks.did("stop", SCHEDULER))
    assert seen.since(both, quieted) <= 2
    # One heartbeat says that it is quiet, a later one that it is idle.
    assert stopped.number - quieted.number <= 2 + 2 * BEAT_SECONDS / TICK_SECONDS
    fleet.worker.wait_until("it is down", lambda: fleet.worker.unit(OURS).active_state == "inactive")
    assert scheduler_steps(fleet, "stop")[-1] > scheduler_steps(fleet, "quiet")[0]
    stays_ended(fleet)
    assert watch.live == ["main"]
    assert set(pushes_by_unit(fleet, obeyed(fleet) + 1)) <= {STOCK}
