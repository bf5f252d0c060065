"""Law 1 with place = "auto": a restarting stock unit gets its time, one that is gone for good is replaced."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from fleetd.core.model.identity import SCHEDULER
from fleetd.core.model.reasons.base import ClampCode
from lab.jobs import records
from lab.setup import mastodon
from lab.waiting import PATIENCE_SECONDS
from tests.support.lab import ticks
from tests.support.lab.fleet import Fleet, booted
from tests.support.lab.scheduler_watch import Watch, watching

pytestmark = pytest.mark.lab

TAKEOVER_SECONDS = 60.0  # the least that can be configured
SLOW_BOOT_SECONDS = 25.0  # longer than a host with place = "here" would wait
TICK_SECONDS = 1.0
OURS = "mastodon-sidekiq-scheduler.service"
CONFIG = f"""
[scheduler]
place = "auto"
takeover_seconds = {TAKEOVER_SECONDS:g}
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
    with booted(CONFIG, stock_unit_on_main=True, cron_seconds=2) as fleet:
        yield fleet


@pytest.fixture(scope="module")
def watch(fleet: Fleet) -> Iterator[Watch]:
    with watching(fleet.main) as watch:
        yield watch


def starts(fleet: Fleet) -> list[float]:
    return [at for at, number in fleet.steps("start") if number == "scheduler"]


def test_no_takeover_while_the_stock_unit_restarts_slowly(fleet: Fleet, watch: Watch) -> None:
    fleet.main.wait_until("the stock unit's heartbeat", lambda: watch.live == ["main"])
    fleet.start()
    fleet.wait("fleetd sees it", lambda s: s.scheduler.where == ("main",))
    slow = mastodon.environment("main", boot_seconds=SLOW_BOOT_SECONDS, cron_seconds=2)
    mastodon.write_settings(fleet.main, slow)
    restarted = time.time()
    fleet.main.run(["systemctl", "restart", "--no-block", mastodon.STOCK_UNIT])
    status = fleet.wait("fleetd counts", lambda s: ClampCode.SCHEDULER_TAKEOVER in {c.code for c in s.clamps})
    assert status.scheduler.processes == 0
    assert f"after {TAKEOVER_SECONDS:.0f} s without one" in status.scheduler.sentence
    fleet.main.wait_until("its heartbeat is gone", lambda: watch.live == [])
    fleet.main.wait_until("it serves again", lambda: watch.live == ["main"])
    assert watch.none_seconds(since=restarted) > 20  # long enough for a takeover that does not wait
    fleet.wait("fleetd sees it again", lambda s: s.scheduler.where == ("main",))
    assert starts(fleet) == []
    assert watch.most == 1


def test_takeover_when_the_stock_unit_is_gone_for_good(fleet: Fleet, watch: Watch) -> None:
    fleet.main.stop(mastodon.STOCK_UNIT)
    with ticks.watching(fleet) as seen:
        fleet.main.wait_until("its heartbeat is gone", lambda: watch.live == [])
        last, due = watch.last_live, time.time() + TAKEOVER_SECONDS
        status = fleet.wait(
            "ours runs",
            lambda s: s.scheduler.unit_state == "serving",
            timeout=TAKEOVER_SECONDS + PATIENCE_SECONDS,
        )
        started = seen.wait("ours is started", ticks.did("start", SCHEDULER))
    assert (status.scheduler.processes, status.scheduler.where) == (1, ("worker1",))
    [begun] = starts(fleet)
    assert begun - last >= TAKEOVER_SECONDS
    assert seen.since(due, started) <= 5
    fleet.main.wait_until("its heartbeat", lambda: watch.live == ["worker1"])
    fleet.worker.wait_until(
        "its cron jobs run",
        lambda: any(run.unit == OURS and run.result == "done" for run in records.runs([fleet.worker])),
    )
    assert watch.most == 1
    owners = [unit for _, _, _, unit in records.cron_pushes([fleet.main, fleet.worker])]
    assert owners == sorted(owners, key=[mastodon.STOCK_UNIT, OURS].index)  # first all of one, then all of the other
