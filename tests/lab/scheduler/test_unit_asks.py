"""Law 1 at the resource: the scheduler's unit refuses to start beside another host's scheduler, whoever starts it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lab.setup import mastodon
from tests.support.lab.fleet import Fleet, booted
from tests.support.lab.scheduler_watch import Watch, watching

pytestmark = pytest.mark.lab

OURS = "mastodon-sidekiq-scheduler.service"
CONFIG = """
[scheduler]
place = "here"
threads = 2
[profiles.local]
threads = 3
instances = "1-2"
min = 1
[pace]
tick_seconds = 1
"""


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with booted(CONFIG, stock_unit_on_main=True, cron_seconds=2) as fleet:
        fleet.worker.start("fleetd-render")
        fleet.worker.run(["systemctl", "enable", "mastodon-sidekiq.target"])
        yield fleet


@pytest.fixture
def watch(fleet: Fleet) -> Iterator[Watch]:
    """Another host's scheduler runs, and ours does not; nor does fleetd."""
    for unit in ("fleetd", OURS):
        fleet.worker.stop(unit)
    fleet.main.start("redis-server")
    fleet.main.run(["systemctl", "start", mastodon.STOCK_UNIT])
    with watching(fleet.main) as watch:
        fleet.main.wait_until("the stock unit's heartbeat", lambda: watch.live == ["main"])
        yield watch


def said(fleet: Fleet) -> list[str]:
    """What the unit's own programs have logged, not systemd."""
    return [line.message for line in fleet.said(OURS) if line.message.startswith("Not started: ")]


def test_a_start_by_hand_is_skipped_with_a_sentence_until_the_other_is_gone(fleet: Fleet, watch: Watch) -> None:
    before = len(said(fleet))
    done = fleet.worker.run(["systemctl", "start", OURS], check=False)
    assert done.returncode == 0  # to systemd, what was skipped has not failed
    assert fleet.worker.unit(OURS).active_state == "inactive"
    [sentence] = said(fleet)[before:]
    assert "the scheduler runs on main (process " in sentence
    fleet.main.stop(mastodon.STOCK_UNIT)
    fleet.main.wait_until("its heartbeat is gone", lambda: watch.live == [])
    fleet.worker.start(OURS)
    assert fleet.worker.unit(OURS).active
    fleet.worker.run(["systemctl", "restart", OURS])  # its own heartbeat of a moment ago is nobody else's
    assert fleet.worker.unit(OURS).active
    assert watch.most == 1


def test_one_that_dies_does_not_come_back_beside_another_hosts(fleet: Fleet, watch: Watch) -> None:
    fleet.main.stop(mastodon.STOCK_UNIT)
    fleet.main.wait_until("its heartbeat is gone", lambda: watch.live == [])
    fleet.worker.start(OURS)
    fleet.main.wait_until("ours serves", lambda: watch.live == ["worker1"])
    fleet.start()
    fleet.wait("fleetd sees it", lambda s: s.scheduler.where == ("worker1",))
    fleet.worker.freeze()
    forget_heartbeats(fleet)
    fleet.main.wait_until("it looks gone", lambda: watch.live == [])
    fleet.main.run(["systemctl", "start", mastodon.STOCK_UNIT])
    fleet.main.wait_until("another took over", lambda: watch.live == ["main"])
    fleet.worker.thaw()
    status = fleet.wait(
        "ours has ended", lambda s: s.scheduler.where == ("main",) and s.scheduler.unit_state == "stopped"
    )
    assert "served by process" in status.scheduler.sentence
    before = len(said(fleet))
    fleet.worker.run(["systemctl", "start", OURS])
    assert len(said(fleet)) == before + 1
    after = fleet.wait("ten ticks later", lambda s: s.ticks_total > status.ticks_total + 10)
    assert fleet.worker.unit(OURS).active_state == "inactive"
    assert "served by process" in after.scheduler.sentence
    assert [p for p in after.clamps if p.code == "pinned"] == []


def test_without_redis_it_starts(fleet: Fleet, watch: Watch) -> None:
    fleet.main.stop("redis-server")
    fleet.worker.run(["systemctl", "start", "--no-block", OURS])
    fleet.worker.wait_until(
        "it says that it can't ask", lambda: any("started all the same" in s.message for s in fleet.said(OURS))
    )
    fleet.worker.wait_until("it boots", lambda: fleet.worker.unit(OURS).sub_state != "condition")
    assert fleet.worker.unit(OURS).active_state in {"activating", "active"}


def test_a_boot_starts_none_beside_another_hosts_without_fleetd(fleet: Fleet, watch: Watch) -> None:
    fleet.worker.run(["systemctl", "disable", "fleetd"], check=False)
    fleet.worker.reboot()
    fleet.worker.wait_until("the boot has asked", lambda: said_since_boot(fleet) != [])
    fleet.worker.wait_until("a worker is up", lambda: fleet.worker.unit("mastodon-sidekiq@1.service").active)
    assert fleet.worker.unit(OURS).active_state == "inactive"
    fleet.main.stop(mastodon.STOCK_UNIT)
    fleet.main.wait_until("its heartbeat is gone", lambda: watch.live == [])
    fleet.worker.reboot()
    fleet.main.wait_until("ours serves", lambda: watch.live == ["worker1"])
    assert watch.most == 1


def forget_heartbeats(fleet: Fleet) -> None:
    """What a minute of silence does: Redis forgets every process that does not beat again."""
    for process in fleet.main.run(["redis-cli", "SMEMBERS", "processes"]).stdout.split():
        fleet.main.run(["redis-cli", "DEL", process])


def said_since_boot(fleet: Fleet) -> list[str]:
    lines = fleet.worker.journalctl("-b", "-u", OURS, "-o", "cat").splitlines()
    return [line for line in lines if line.startswith("Not started: ")]
