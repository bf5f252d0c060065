"""Upgraded from the release before, under load, by `make install`; and back to that release.

The new release has other units for the workers here, whatever the real one has.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from fleetd import __version__
from fleetd.core.model.status import Status
from lab.jobs import load
from lab.jobs.load import Load, Phase
from lab.setup import install
from tests.support.lab.fleet import FLEETCTL, Fleet, booted
from tests.support.lab.outages import runs, worker_runs

pytestmark = pytest.mark.lab

BEFORE = "0.1.0"
CONFIG = """
[scheduler]
place = "here"
threads = 2
[profiles.local]
threads = 4
instances = "1-4"
min = 1
[memory]
instance = "100 MiB"
[pace]
tick_seconds = 1
hold_down_seconds = 600
"""
WHEELS, NEW, OLD = "/srv/wheels", "/srv/new", "/srv/old"
FILE = "/etc/fleetd/fleetd.toml"
#: Longer than the installation takes.
LONG_SECONDS, LONG_JOBS = 12.0, 4


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    before = install.release(BEFORE)
    with booted(CONFIG, fleetd=before, boot_seconds=1.0) as fleet:
        install.place_source(fleet.worker, NEW)
        install.place_source(fleet.worker, OLD, before)
        (fleet.worker.disk / WHEELS.lstrip("/")).symlink_to(install.wheels())
        fleet.worker.run(
            ["sed", "-i", r"s/^\[Service\]/&\nOOMScoreAdjust=1/", f"{NEW}/units/mastodon-sidekiq@.service"]
        )
        fleet.start()
        yield fleet


def make_install(fleet: Fleet, source: str) -> str:
    command = f"cd {source} && PIP_NO_INDEX=1 PIP_FIND_LINKS={WHEELS} make install 2>&1"
    return fleet.worker.run(["sh", "-c", command], timeout=300).stdout


def said_before(fleet: Fleet) -> list[str]:
    """What the history has, by the fleetctl that is installed."""
    listed = fleet.worker.run([FLEETCTL, "history", "--since", "1h", "--all", "--json"]).stdout
    return [entry["sentence"] for entry in json.loads(listed)["entries"]]


def held(status: Status) -> bool:
    return "upgrade" in [hold.kind for hold in status.holds]


def both_serve(status: Status) -> bool:
    return status.profiles[0].serving_instances == 2 and status.scheduler.processes == 1


def test_no_worker_notices_and_everything_is_kept(fleet: Fleet) -> None:
    load.start(fleet.main, Load([Phase(900, {"default": 3, "push": 2})], job_scale=0.2, limit=1500))
    fleet.worker.run([FLEETCTL, "set", "local", "2", "--for", "1d"])
    fleet.worker.run([FLEETCTL, "pin", "1", "--for", "1d"])
    fleet.wait("what was ordered is there", both_serve)
    load.enqueue(fleet.main, "pull", [LONG_SECONDS] * LONG_JOBS)
    fleet.worker.wait_until("long jobs run", lambda: fleet.tally().running >= LONG_JOBS)
    before, config, history = worker_runs(fleet), fleet.worker.read(FILE), said_before(fleet)
    orders = [(order.kind, order.what) for order in fleet.status().overrides]
    assert (fleet.status().version, len(orders)) == (BEFORE, 2)

    assert f"restarted: fleetd, which is {__version__} now" in make_install(fleet, NEW)
    status = fleet.wait("it has looked around", lambda s: s.version == __version__ and s.ticks_total > 3)
    assert worker_runs(fleet) == before
    assert held(status)
    assert [(order.kind, order.what) for order in status.overrides] == orders
    assert fleet.worker.read(FILE) == config
    assert said_before(fleet)[: len(history)] == history
    assert not any("forgotten" in line.message for line in fleet.said())
    assert status.problems == ()


def test_the_new_units_come_when_a_person_says_so(fleet: Fleet) -> None:
    before = worker_runs(fleet)
    assert held(fleet.status())
    fleet.worker.run([FLEETCTL, "restart", "local"], timeout=200)
    after = worker_runs(fleet)
    kept = set(before.values()) & set(after.values())
    assert kept == {before["mastodon-sidekiq-scheduler.service"]}
    assert len(after) == len(before)
    fleet.wait("nothing holds it", lambda s: both_serve(s) and not s.holds)


def test_back_in_the_release_before_the_orders_hold_and_no_job_was_lost(fleet: Fleet) -> None:
    config, ended = fleet.worker.read(FILE), runs(fleet)["fleetd.service"]
    make_install(fleet, OLD)
    fleet.worker.run(["systemctl", "restart", "fleetd-render", "fleetd"])
    assert runs(fleet)["fleetd.service"] != ended
    status = fleet.wait("it has looked around", lambda s: s.version == BEFORE and s.ticks_total > 3)
    assert [order.kind for order in status.overrides] == ["set"], "the restart has ended the pin"
    assert fleet.worker.read(FILE) == config
    assert both_serve(fleet.wait("they serve", both_serve))
    assert fleet.settled(timeout=LONG_SECONDS + 60).lost == ()
    assert fleet.tally().repeated == ()
