"""`fleetctl migrate` under load, from the stock unit and back: nothing is lost, and there is one scheduler at most."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

import pytest

from lab.jobs import load, records
from lab.jobs.load import Load, Phase
from lab.setup import mastodon
from tests.support.lab.fleet import FLEETCTL, Fleet, booted
from tests.support.lab.scheduler_watch import Watch, watching

pytestmark = pytest.mark.lab

BOOT_SECONDS = 2.0
#: Longer than Sidekiq's 25 s and the stock unit's 15 s: whoever stops the unit while they run makes them start over.
LONG_SECONDS, LONG_JOBS = 32.0, 4
#: Far below what the old unit or the new instances can do alone.
STEADY = Phase(150, {"default": 3, "push": 2})
#: Of the default queue; push has 30 s.
TARGET_SECONDS = 5.0
SCHEDULER_UNIT = "mastodon-sidekiq-scheduler.service"
NEEDS_STOCK = """printf '[Unit]\\nRequires=mastodon-sidekiq.service\\n[Service]\\nExecStart=/bin/sleep 600\\n' \\
  > /run/systemd/system/web.service && systemctl daemon-reload && systemctl start web"""
CONFIG = """
[scheduler]
place = "here"
threads = 2
[profiles.all]
threads = 5
instances = "1-4"
min = 2
[memory]
instance = "100 MiB"
[pace]
tick_seconds = 1
"""


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with booted(CONFIG, boot_seconds=BOOT_SECONDS, cron_seconds=2) as fleet:
        mastodon.install_stock_unit(fleet.worker)
        fleet.worker.reload_systemd()
        fleet.worker.start(mastodon.STOCK_UNIT)
        yield fleet


@pytest.fixture(scope="module")
def watch(fleet: Fleet) -> Iterator[Watch]:
    with watching(fleet.main) as watch:
        yield watch


def busy_with_long_jobs(fleet: Fleet) -> None:
    """As many as are there run; short ones come all the time."""
    load.enqueue(fleet.main, "pull", [LONG_SECONDS] * LONG_JOBS)
    fleet.worker.wait_until("the long ones run", lambda: fleet.tally().running >= LONG_JOBS)


def migrate(fleet: Fleet, *options: str) -> str:
    return fleet.worker.run([FLEETCTL, "migrate", "--yes", *options], timeout=200).stdout


@pytest.mark.parametrize(
    ("prepare", "clean", "says"),
    [
        (f"systemctl mask {SCHEDULER_UNIT}", f"systemctl unmask {SCHEDULER_UNIT}", f"would not start {SCHEDULER_UNIT}"),
        (NEEDS_STOCK, "systemctl stop web; rm /run/systemd/system/web.service", "would stop web.service"),
    ],
)
def test_what_could_not_be_replaced_is_not_touched(fleet: Fleet, prepare: str, clean: str, says: str) -> None:
    fleet.worker.wait_until("the stock unit runs", lambda: fleet.worker.unit(mastodon.STOCK_UNIT).active)
    fleet.worker.run(["sh", "-c", prepare])
    done = fleet.worker.run([FLEETCTL, "migrate", "--yes"], check=False)
    fleet.worker.run(["sh", "-c", f"{clean}; systemctl daemon-reload"])
    assert done.returncode == 1
    assert says in done.stdout
    assert fleet.worker.unit(mastodon.STOCK_UNIT).active
    assert not fleet.worker.unit("fleetd").active


def test_from_the_stock_unit_to_fleetd(fleet: Fleet, watch: Watch) -> None:
    fleet.worker.wait_until("the stock unit schedules", lambda: watch.live == ["worker1"])
    plan = fleet.worker.run([FLEETCTL, "migrate", "--dry-run"]).stdout
    assert "systemctl kill --kill-who=main --signal=TSTP mastodon-sidekiq.service" in plan
    assert fleet.worker.unit(mastodon.STOCK_UNIT).active, "a plan does nothing"
    loader = load.start(fleet.main, Load([STEADY], "seconds", job_scale=0.2, limit=2000, seed=3))
    busy_with_long_jobs(fleet)
    said = migrate(fleet)
    assert "✔ fleetd runs Mastodon's Sidekiq" in said
    status = fleet.status()
    assert status.scheduler.processes == 1
    assert fleet.up() >= {1, 2}
    assert not fleet.worker.unit(mastodon.STOCK_UNIT).active
    assert fleet.worker.run(["systemctl", "is-enabled", mastodon.STOCK_UNIT], check=False).stdout == "disabled\n"
    assert watch.most == 1
    assert watch.none_seconds(since=0.0) <= 20 + BOOT_SECONDS + 10  # and a heartbeat
    loader.stop()
    tally = fleet.settled(timeout=LONG_SECONDS + 60)
    assert tally.lost == ()
    assert tally.repeated == (), "no long job was pushed back"
    assert tally.waits["default"].longest <= TARGET_SECONDS
    assert "✔" in migrate(fleet), "again there is nothing to do"


def test_and_back(fleet: Fleet, watch: Watch) -> None:
    busy_with_long_jobs(fleet)
    said = migrate(fleet, "--undo")
    assert "✔ the units of before run Mastodon's Sidekiq" in said
    assert fleet.up() == set()
    assert not fleet.worker.unit("fleetd").active
    stock = fleet.worker.unit(mastodon.STOCK_UNIT)
    assert stock.active
    fleet.worker.wait_until("it schedules", lambda: watch.live == ["worker1"])
    assert watch.most == 1
    tally = fleet.settled(timeout=LONG_SECONDS + 60)
    assert (tally.lost, tally.repeated) == ((), ())
    owners = [unit for _, _, _, unit in records.cron_pushes([fleet.worker])]
    turns = [unit for unit, _ in groupby(owners)]
    assert turns == [mastodon.STOCK_UNIT, "mastodon-sidekiq-scheduler.service", mastodon.STOCK_UNIT]
