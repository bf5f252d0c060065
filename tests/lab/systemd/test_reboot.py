"""Law 5: workers outlive fleetd, and a host boots its workers whether fleetd can run or not."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.support.lab.fleet import Fleet, booted
from tests.support.lab.outages import Runs, runs
from tests.support.lab.scheduler_watch import Watch, watching

pytestmark = pytest.mark.lab

SCHEDULER = "mastodon-sidekiq-scheduler.service"
CONFIG = """
[scheduler]
place = "here"
threads = 2
[profiles.local]
threads = 3
instances = "1-5"
min = 2
[profiles.even]
order = "weighted"
threads = 3
instances = "7-8"
min = 1
[pace]
tick_seconds = 1
"""
# Three mistakes, each of another kind.
BROKEN = CONFIG.replace("min = 2", "min = 9").replace('place = "here"', 'place = "hier"') + "tick_secs = 2\n"
AT_BOOT = {
    "mastodon-sidekiq@1.service",
    "mastodon-sidekiq@2.service",
    "mastodon-sidekiq@7.service",
    SCHEDULER,
}


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with booted(CONFIG) as fleet:
        # The pause before systemd starts fleetd again does not matter here.
        fleet.worker.write("/etc/systemd/system/fleetd.service.d/test.conf", "[Service]\nRestartSec=1\n")
        fleet.worker.reload_systemd()
        fleet.worker.start("fleetd-render")
        fleet.start()
        all_up(fleet)
        yield fleet


@pytest.fixture(scope="module")
def watch(fleet: Fleet) -> Iterator[Watch]:
    with watching(fleet.main) as watch:
        yield watch


def workers(fleet: Fleet) -> set[str]:
    """The worker units that are up. All of them are READY."""
    names = fleet.worker.units("mastodon-sidekiq*.service")
    return {name for name in names if fleet.worker.unit(name).active}


def all_up(fleet: Fleet) -> None:
    fleet.worker.wait_until("min and the scheduler are up", lambda: workers(fleet) >= AT_BOOT)


def of_workers(found: Runs) -> Runs:
    return {name: run for name, run in found.items() if name != "fleetd.service"}


def said_since_boot(fleet: Fleet, unit: str) -> list[tuple[str, str]]:
    """(priority, message) of each line that a unit's own programs have logged since the host booted."""
    shown = fleet.worker.journalctl("-b", "-u", unit, "-o", "json")
    entries = [json.loads(line) for line in shown.splitlines()]
    return [(e["PRIORITY"], e["MESSAGE"]) for e in entries if e.get("_COMM") != "systemd"]


def test_a_reboot_brings_the_fleet_back_and_forgets_orders(fleet: Fleet, watch: Watch) -> None:
    fleet.worker.start("mastodon-sidekiq@4")
    fleet.worker.stop("mastodon-sidekiq@2")
    fleet.wait("both are kept", lambda s: sum("by hand" in i.note for i in s.instances) == 2)
    fleet.worker.restart("fleetd")
    status = fleet.wait("fleetd runs", lambda s: s.ticks_total > 2)
    assert {i.number for i in status.instances if "by hand" in i.note} == {2, 4}
    fleet.worker.reboot()
    all_up(fleet)
    status = fleet.wait("fleetd runs", lambda s: s.ticks_total > 5 and s.scheduler.processes == 1)
    assert workers(fleet) == AT_BOOT
    assert not [i.note for i in status.instances if i.note], fleet.story()
    assert status.scheduler.where == ("worker1",)
    assert not any("by hand" in message for _, message in said_since_boot(fleet, "fleetd"))
    assert watch.most == 1


def test_a_reboot_with_a_broken_configuration(fleet: Fleet, watch: Watch) -> None:
    fleet.configure(BROKEN)
    fleet.worker.reboot()
    all_up(fleet)
    assert workers(fleet) == AT_BOOT
    unit = fleet.worker.unit("fleetd")
    assert (unit.active_state, unit.properties["ExecMainStatus"], unit.restarts) == ("failed", "78", 0)
    for program in ("fleetd", "fleetd-render"):
        errors = "\n".join(message for priority, message in said_since_boot(fleet, program) if priority == "3")
        for key in ("profiles.local.min", "scheduler.place", "pace.tick_secs"):
            assert key in errors, f"{program} does not name {key}: {errors}"
        assert "Traceback" not in errors
    down = fleet.worker.run(["/opt/fleetd/bin/fleetctl", "status"], check=False)
    assert down.returncode == 3
    assert "scheduler.place" in down.stdout + down.stderr
    assert watch.most == 1


def test_the_repaired_fleetd_adopts_what_runs(fleet: Fleet) -> None:
    before = runs(fleet)
    fleet.configure(CONFIG)
    fleet.worker.start("fleetd")
    fleet.wait("fleetd has looked around", lambda s: s.ticks_total > 8 and s.scheduler.processes == 1)
    assert of_workers(runs(fleet)) == of_workers(before)
    assert of_workers(before).keys() == AT_BOOT


def test_workers_serve_after_a_boot_without_postgres(fleet: Fleet, watch: Watch) -> None:
    fleet.main.stop("postgresql")
    fleet.worker.reboot()
    all_up(fleet)
    status = fleet.wait("fleetd runs", lambda s: s.ticks_total > 5)
    assert {s.name for s in status.sources if not s.ok} == {"postgres"}
    assert workers(fleet) == AT_BOOT
    fleet.main.start("postgresql")
    fleet.wait("all can be read", lambda s: all(source.ok for source in s.sources))
    assert watch.most == 1


@pytest.mark.parametrize("how", ["killed", "stopped", "purged"])
def test_workers_outlive_fleetd(fleet: Fleet, how: str) -> None:
    worker, before = fleet.worker, runs(fleet)
    if how == "killed":
        worker.kill("fleetd")
        fleet.wait("systemd starts it again", lambda s: s.ticks_total > 5)
        assert worker.unit("fleetd").restarts == 1
    elif how == "stopped":
        worker.stop("fleetd")
    else:
        worker.start("fleetd")
        purge(fleet)
        assert not worker.path("/opt/fleetd").exists()
    assert of_workers(runs(fleet)) == of_workers(before)
    assert of_workers(before).keys() == AT_BOOT


def purge(fleet: Fleet) -> None:
    """Remove fleetd as an admin would: programs, state, configuration and its own units."""
    fleet.worker.run(["systemctl", "disable", "--now", "fleetd"])
    for path in ("/opt/fleetd", "/var/lib/fleetd", "/etc/fleetd"):
        fleet.worker.remove(path)
    for unit in (
        "fleetd.service",
        "fleetd-render.service",
        "fleetd-stamp.service",
        "fleetd-stamp-again.service",
        "fleetd-stamp.path",
        "fleetd-stamp-git.path",
        "fleetd-stamp.timer",
    ):
        fleet.worker.remove(f"/usr/local/lib/systemd/system/{unit}")
    fleet.worker.reload_systemd()


def test_a_boot_without_any_fleetd(fleet: Fleet, watch: Watch) -> None:
    fleet.worker.reboot()
    all_up(fleet)
    assert workers(fleet) == AT_BOOT
    assert watch.most == 1
