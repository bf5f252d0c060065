"""The boot of a worker VM starts instances by importance, a bounded number at a time, with or without fleetd."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lab import Host
from tests.support.lab.fleet import Fleet, booted

pytestmark = pytest.mark.lab

SCHEDULER = "mastodon-sidekiq-scheduler.service"
TARGET = "mastodon-sidekiq.target"
AT_ONCE = 2
CONFIG = f"""
[scheduler]
place = "here"
threads = 2
[profiles.local]
threads = 2
instances = "11-15"
min = 3
[profiles.even]
order = "weighted"
threads = 2
instances = "1-3"
min = 2
[memory]
instance = "100 MiB"
[pace]
tick_seconds = 1
booting_max = {AT_ONCE}
"""
IN_ORDER = [SCHEDULER, *(f"mastodon-sidekiq@{number}.service" for number in (11, 12, 13, 1, 2))]
#: The second part makes it a unit that a boot starts: one that passes the settings on.
HANGS = "exec sleep infinity; exec true $SIDEKIQ_ARGS"
SCRIPT = "/usr/local/lib/mastodon-workers/boot.sh"
DROPIN = "/run/systemd/system/{}.d/99-test.conf"


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with booted(CONFIG, boot_seconds=1.0) as fleet:
        fleet.worker.start("fleetd-render")
        fleet.worker.enable(TARGET)
        yield fleet


@pytest.fixture
def worker(fleet: Fleet) -> Iterator[Host]:
    """The worker VM with no worker running. After the test, what a boot starts is as configured again."""
    host = fleet.worker
    down(host)
    script = host.read(SCRIPT)
    yield host
    host.write(SCRIPT, script)
    for unit in IN_ORDER:
        host.remove(DROPIN.format(unit))
    host.on_disk("systemctl", "--quiet", "unmask", *IN_ORDER)
    host.on_disk("systemctl", "--quiet", "enable", *IN_ORDER)
    host.reload_systemd()


def down(host: Host) -> None:
    host.stop("fleetd")
    host.run(["systemctl", "stop", TARGET, "mastodon-sidekiq*.service"])
    host.run(["systemctl", "reset-failed"])


def up(host: Host) -> set[str]:
    """The workers that are READY."""
    return {name for name in host.units("mastodon-sidekiq*.service") if host.unit(name).active}


def boots(host: Host, units: list[str]) -> list[tuple[int, int, str]]:
    """(began, READY, unit) of each worker's start, by systemd's own clock in microseconds, in the order they began."""
    found = []
    for name in units:
        told = host.unit(name).properties
        began, ready = told["InactiveExitTimestampMonotonic"], told["ActiveEnterTimestampMonotonic"]
        found.append((int(began), int(ready), name))
    return sorted(found)


def most_at_once(found: list[tuple[int, int, str]]) -> int:
    return max(sum(began <= moment < ready for began, ready, _ in found) for moment, _, _ in found)


def in_order(found: list[tuple[int, int, str]]) -> bool:
    """Whether the boots began in order. Those that began at the same time may change places."""
    return all(abs(IN_ORDER.index(name) - place) < AT_ONCE for place, (_, _, name) in enumerate(found))


def test_a_boot_without_fleetd_is_bounded_and_in_order(worker: Host) -> None:
    """Law 5. fleetd is not enabled, and its programs are gone."""
    worker.run(["mv", "/opt/fleetd", "/opt/away"])
    try:
        worker.reboot()
    finally:
        worker.run(["mv", "/opt/away", "/opt/fleetd"])
    assert up(worker) == set(IN_ORDER)
    found = boots(worker, IN_ORDER)
    assert most_at_once(found) == AT_ONCE
    assert in_order(found), found
    multi_user = worker.unit("multi-user.target").properties["ActiveEnterTimestampMonotonic"]
    assert int(multi_user) < found[0][1], "the machine does not wait for its workers"


def test_a_boot_with_fleetd_is_bounded_and_pins_nothing(fleet: Fleet, worker: Host) -> None:
    worker.enable("fleetd")
    try:
        worker.reboot()
        assert up(worker) == set(IN_ORDER)
        status = fleet.wait("fleetd has looked around", lambda s: s.ticks_total > 3)
    finally:
        worker.on_disk("systemctl", "--quiet", "disable", "fleetd")
    assert most_at_once(boots(worker, IN_ORDER)) == AT_ONCE
    assert not [i.note for i in status.instances if "by hand" in i.note], fleet.story()


def test_an_instance_that_is_disabled_or_masked_stays_down(worker: Host) -> None:
    """Law 6, also after rendering again."""
    worker.run(["systemctl", "disable", "mastodon-sidekiq@12"])
    worker.run(["systemctl", "mask", "mastodon-sidekiq@1"])
    worker.start("fleetd-render")
    worker.start(TARGET)
    assert up(worker) == set(IN_ORDER) - {"mastodon-sidekiq@12.service", "mastodon-sidekiq@1.service"}
    assert "mastodon-sidekiq@12" in worker.journal("fleetd-render")
    assert worker.failed_units() == []


def test_an_instance_that_hangs_in_its_boot_does_not_delay_the_rest(worker: Host) -> None:
    worker.write(SCRIPT, worker.read(SCRIPT).replace("seconds=120", "seconds=3"))
    for unit in IN_ORDER[1:3]:
        worker.write(DROPIN.format(unit), f"[Service]\nExecStart=\nExecStart=/bin/sh -c '{HANGS}'\n")
    worker.reload_systemd()
    worker.start(TARGET)
    hung = set(IN_ORDER[1:3])
    # On a busy machine the others may take longer than 3 s too, and go on booting after the target is up.
    worker.wait_until("the rest are up", lambda: up(worker) == set(IN_ORDER) - hung)
    assert {name for name in hung if worker.unit(name).active_state == "activating"} == hung
    said = worker.journal("mastodon-workers-boot")
    assert all(f"{name} is not up after 3 s and continues to boot" in said for name in hung), said


def test_an_instance_that_fails_does_not_delay_the_rest(worker: Host) -> None:
    unit = IN_ORDER[1]
    worker.write(DROPIN.format(unit), "[Service]\nExecStart=\nExecStart=/bin/false $SIDEKIQ_ARGS\nRestart=no\n")
    worker.reload_systemd()
    worker.start(TARGET)
    assert up(worker) == set(IN_ORDER) - {unit}
    assert worker.failed_units() == [unit]


def test_starting_the_target_again_starts_missing_instances(worker: Host) -> None:
    worker.start(TARGET)
    before = {name: worker.unit(name).main_pid for name in up(worker)}
    worker.stop(IN_ORDER[2])
    worker.start(TARGET)
    assert up(worker) == set(IN_ORDER)
    stayed = {name: pid for name, pid in before.items() if name != IN_ORDER[2]}
    assert {name: worker.unit(name).main_pid for name in stayed} == stayed


def test_a_restart_of_the_target_reaches_all(worker: Host) -> None:
    worker.start(TARGET)
    worker.start("mastodon-sidekiq@15")
    every = [*IN_ORDER, "mastodon-sidekiq@15.service"]
    before = {name: worker.unit(name).main_pid for name in every}
    worker.restart(TARGET)
    assert up(worker) == set(every)
    assert not [name for name in every if worker.unit(name).main_pid == before[name]]


@pytest.mark.parametrize("moment", [0, 2])
def test_a_stop_in_the_middle_of_a_boot_leaves_nothing(worker: Host, moment: int) -> None:
    # No Ruby here: it loses a TERM in its first milliseconds, which is when this stop comes (docs/decisions/0006).
    boots = f"ExecStart=/bin/sh -c 'sleep 1; systemd-notify --ready; {HANGS}'"
    for unit in IN_ORDER:
        worker.write(DROPIN.format(unit), f"[Service]\nExecStart=\n{boots}\n")
    worker.reload_systemd()
    worker.run(["systemctl", "start", "--no-block", TARGET])
    worker.wait_until(f"{moment} are up", lambda: len(up(worker)) >= moment)
    worker.stop(TARGET)
    worker.wait_until("the boot has ended", lambda: not worker.units("mastodon-workers-boot.service"))
    worker.wait_until("all are down", lambda: not worker.units("mastodon-sidekiq*.service"))
    assert not worker.run(["systemctl", "list-jobs", "--no-legend", "mastodon*"]).stdout
    assert worker.failed_units() == []


@pytest.mark.parametrize(
    ("state", "program"),
    [
        ("start-pre", "ExecStartPre=/bin/sh -c 'echo it boots; sleep 30'"),
        ("start", "ExecStart=/bin/sh -c 'trap \"exit 1\" TERM; echo it boots; sleep 30 & wait'"),
    ],
)
def test_a_stop_in_mid_boot_leaves_no_failed_unit(worker: Host, state: str, program: str) -> None:
    """It would alarm the admin who ordered the stop. TERM kills a check, and a booting Ruby may exit 1 on it."""
    unit = IN_ORDER[1]
    worker.write(DROPIN.format(unit), f"[Service]\n{program.partition('=')[0]}=\n{program}\n")
    worker.reload_systemd()
    worker.run(["systemctl", "start", "--no-block", unit])
    worker.wait_until("it boots", lambda: "it boots" in worker.journal(unit, lines=1))
    assert worker.unit(unit).sub_state == state
    worker.stop(unit)
    assert (worker.unit(unit).active_state, worker.unit(unit).result) == ("inactive", "success")
