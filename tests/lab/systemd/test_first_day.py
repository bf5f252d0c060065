"""A bare host with stock Mastodon under load, as an admin with the Debian package goes: in, an upgrade, and out again.

Nothing of fleetd is there before the first command, and nothing after the last. All the time jobs come.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from itertools import groupby

import pytest

from fleetd import __version__
from lab import Lab
from lab.jobs import load, records
from lab.jobs.load import Load, Phase
from lab.setup import mastodon
from lab.topologies import two_hosts
from tests.support.lab.fleet import Fleet
from tests.support.lab.outages import runs, worker_runs
from tests.support.lab.package import of_another_version, package
from tests.support.lab.scheduler_watch import Watch, watching

pytestmark = pytest.mark.lab

BOOT_SECONDS = 2.0
#: Longer than Sidekiq's 25 s and the stock unit's 15 s: whoever stops the unit while they run makes them start over.
LONG_SECONDS, LONG_JOBS = 32.0, 4
#: Of the queue default.
TARGET_SECONDS = 5.0
SCHEDULER_UNIT = "mastodon-sidekiq-scheduler.service"
NEEDS_STOCK = """printf '[Unit]\\nRequires=mastodon-sidekiq.service\\n[Service]\\nExecStart=/bin/sleep 600\\n' \\
  > /run/systemd/system/web.service && systemctl daemon-reload && systemctl start web"""
NEXT = "9.9.9"
ON_DISK = ("/root/fleetd.deb", "/root/next.deb")
SITE = f"usr/lib/fleetd/lib/python3.{sys.version_info.minor}/site-packages"


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """The stock unit runs, and there is nothing of fleetd."""
    changed = {
        f"{SITE}/fleetd/__init__.py": (f'"{__version__}"', f'"{NEXT}"'),
        "usr/lib/systemd/system/mastodon-sidekiq@.service": ("[Service]", "[Service]\nOOMScoreAdjust=1"),
    }
    following = of_another_version(package(), NEXT, changed, tmp_path_factory.mktemp("next"))
    with Lab() as lab:
        fleet = Fleet(two_hosts(lab, fleetd=None, boot_seconds=BOOT_SECONDS, cron_seconds=2))
        for deb, name in zip((package(), following), ON_DISK, strict=True):
            shutil.copy(deb, fleet.worker.disk / name.lstrip("/"))
        mastodon.install_stock_unit(fleet.worker)
        lab.boot()
        for quicker in ("/usr/sbin/policy-rc.d", "/var/lib/man-db/auto-update"):
            fleet.worker.remove(quicker)
        fleet.worker.wait_until("stock runs", lambda: fleet.worker.unit(mastodon.STOCK_UNIT).active)
        yield fleet


@pytest.fixture(scope="module")
def watch(fleet: Fleet) -> Iterator[Watch]:
    with watching(fleet.main) as watch:
        fleet.worker.wait_until("the stock unit schedules", lambda: watch.live == ["worker1"])
        yield watch


def run(fleet: Fleet, command: str) -> str:
    return fleet.worker.run(["sh", "-c", command], timeout=240, env={"DEBIAN_FRONTEND": "noninteractive"}).stdout


def busy_with_long_jobs(fleet: Fleet) -> None:
    load.enqueue(fleet.main, "pull", [LONG_SECONDS] * LONG_JOBS)
    fleet.worker.wait_until("the long ones run", lambda: fleet.tally().running >= LONG_JOBS)


def of_fleetd(fleet: Fleet) -> str:
    """Every file of its names, but for apt's own notes, the two packages and the stock unit."""
    names = "-name '*fleetd*' -o -name 'mastodon-sidekiq?*' -o -name 'mastodon-workers*'"
    where = "find /etc /usr /opt /run /var -xdev"
    apart = "/var/lib/dpkg|/var/log|/var/cache|/run/systemd|/run/lock|mastodon-sidekiq.service"
    return run(fleet, f"{where} \\( {names} \\) | grep -Ev '{apart}|/50-lab.conf|service.d$' || true")


def test_two_commands_install_and_configure_it(fleet: Fleet, watch: Watch) -> None:
    assert of_fleetd(fleet) == ""
    load.start(fleet.main, Load([Phase(900, {"default": 3, "push": 2})], job_scale=0.2, limit=4000))
    stock = worker_runs(fleet)
    run(fleet, f"apt-get install --yes {ON_DISK[0]}")
    run(fleet, "fleetctl init")
    assert worker_runs(fleet) == stock
    assert not fleet.worker.unit("fleetd").active


@pytest.mark.parametrize(
    ("prepare", "clean", "says"),
    [
        (f"systemctl mask {SCHEDULER_UNIT}", f"systemctl unmask {SCHEDULER_UNIT}", f"would not start {SCHEDULER_UNIT}"),
        (NEEDS_STOCK, "systemctl stop web; rm /run/systemd/system/web.service", "would stop web.service"),
    ],
)
def test_what_could_not_be_replaced_is_not_touched(fleet: Fleet, prepare: str, clean: str, says: str) -> None:
    stock = worker_runs(fleet)
    run(fleet, prepare)
    done = fleet.worker.run(["fleetctl", "migrate", "--yes"], check=False)
    run(fleet, f"{clean}; systemctl daemon-reload")
    assert done.returncode == 1
    assert says in done.stdout
    assert worker_runs(fleet) == stock
    assert not fleet.worker.unit("fleetd").active


def test_and_two_more_make_fleetd_run_it(fleet: Fleet, watch: Watch) -> None:
    busy_with_long_jobs(fleet)
    assert "until `fleetctl migrate` has taken over" in run(fleet, "fleetctl doctor")
    plan = run(fleet, "fleetctl migrate --dry-run")
    assert "systemctl kill --kill-who=main --signal=TSTP mastodon-sidekiq.service" in plan
    assert fleet.worker.unit(mastodon.STOCK_UNIT).active, "a plan does nothing"
    assert "✔ fleetd runs Mastodon's Sidekiq" in run(fleet, "fleetctl migrate --yes")
    assert "✔" in run(fleet, "fleetctl migrate --yes"), "again there is nothing to do"

    assert fleet.wait("one scheduler", lambda s: s.scheduler.processes == 1).problems == ()
    stock = fleet.worker.unit(mastodon.STOCK_UNIT)
    assert (stock.active, stock.properties["UnitFileState"]) == (False, "disabled")
    assert {unit for unit in worker_runs(fleet) if "@" in unit} == {"mastodon-sidekiq@1.service"}
    assert watch.most == 1
    assert watch.none_seconds(since=0.0) <= 20 + BOOT_SECONDS + 10 + 5  # and a heartbeat, and a tick


def test_an_upgrade_touches_no_worker_and_keeps_its_orders(fleet: Fleet) -> None:
    run(fleet, "fleetctl set weighted 2 --for 1h")
    fleet.wait("two serve", lambda s: s.profiles[0].serving_instances == 2)
    before, daemon = worker_runs(fleet), runs(fleet)["fleetd.service"]
    run(fleet, f"apt-get install --yes {ON_DISK[1]}")
    status = fleet.wait("it looks around", lambda s: s.version == NEXT and s.ticks_total > 2)
    assert runs(fleet)["fleetd.service"] != daemon
    assert worker_runs(fleet) == before
    assert [hold.kind for hold in status.holds] == ["upgrade"]
    assert [order.what for order in status.overrides] == ["weighted"]
    run(fleet, "fleetctl resume")
    fleet.wait("nothing holds it", lambda s: not s.holds)
    assert worker_runs(fleet) == before


def test_back_to_the_stock_unit_and_purged_nothing_is_left_and_nothing_lost(fleet: Fleet, watch: Watch) -> None:
    busy_with_long_jobs(fleet)
    assert "✔ the units of before run Mastodon's Sidekiq" in run(fleet, "fleetctl migrate --undo --yes")
    run(fleet, "apt-get purge --yes fleetd")
    assert worker_runs(fleet).keys() == {mastodon.STOCK_UNIT}
    assert fleet.worker.unit(mastodon.STOCK_UNIT).active
    assert of_fleetd(fleet) == ""
    fleet.worker.wait_until("it schedules", lambda: watch.live == ["worker1"])
    assert watch.most == 1
    turns = [unit for unit, _ in groupby(unit for _, _, _, unit in records.cron_pushes([fleet.worker]))]
    assert turns == [mastodon.STOCK_UNIT, SCHEDULER_UNIT, mastodon.STOCK_UNIT]
    tally = fleet.settled(timeout=LONG_SECONDS + 60)
    assert (tally.lost, tally.repeated) == ((), ())
    assert tally.waits["default"].longest <= TARGET_SECONDS
