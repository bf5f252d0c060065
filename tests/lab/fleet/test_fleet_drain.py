"""Laws 4 and 5: if fleetd dies during a drain, workers don't notice, and the drain ends as it would have."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fleetd.core.model.status import Status
from lab.jobs import load, records
from lab.setup import mastodon
from tests.support.lab.fleet import Fleet, started

pytestmark = pytest.mark.lab

THREADS = 3
JOB_SECONDS = 600.0  # or until `let_go` ends them
SIDEKIQ_QUIET = "Received TSTP"
SIDEKIQ_STOP = "Shutting down"


def configuration(instances: int) -> str:
    return f"""
[scheduler]
place = "elsewhere"

[profiles.only]
order = "default-first"
threads = {THREADS}
instances = "1-3"
min = {instances}
max = {instances}

[memory]
instance = "100 MiB"

[pace]
tick_seconds = 1
hold_down_seconds = 1
"""


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with started(configuration(3), settings={"RAILS_LOG_LEVEL": "info"}) as fleet:
        # The pause before systemd starts fleetd again does not matter here.
        fleet.worker.write("/etc/systemd/system/fleetd.service.d/test.conf", "[Service]\nRestartSec=1\n")
        fleet.worker.reload_systemd()
        yield fleet


def begin_a_drain(fleet: Fleet) -> int:
    """Begin to drain one of three instances that work on long jobs, and return its number."""
    mastodon.hold(fleet.worker)
    fleet.configure(configuration(3))
    fleet.worker.run(["systemctl", "reload", "fleetd"])
    fleet.wait("three serve", lambda s: s.profiles[0].serving_instances == 3)
    jobs = 3 * THREADS
    load.enqueue(fleet.main, "default", [JOB_SECONDS] * jobs)
    fleet.wait("all are at work", lambda s: sum(i.busy_threads or 0 for i in s.instances) == jobs)
    quiets = len(fleet.steps("quiet"))
    fleet.configure(configuration(2))
    fleet.worker.run(["systemctl", "reload", "fleetd"])
    fleet.worker.wait_until("a drain begins", lambda: len(fleet.steps("quiet")) > quiets)
    _, victim = fleet.steps("quiet")[-1]
    assert isinstance(victim, int)
    return victim


def processes(fleet: Fleet) -> dict[int, tuple[int, int]]:
    """By number: the main process, and how often systemd restarted it."""
    units = {number: fleet.worker.unit(f"mastodon-sidekiq@{number}") for number in fleet.up()}
    return {number: (unit.main_pid, unit.restarts) for number, unit in units.items()}


def see_the_drain_end(fleet: Fleet, victim: int, before: dict[int, tuple[int, int]]) -> None:
    """Only the victim stops, after its jobs, and no job is lost or repeated."""
    assert processes(fleet) == before, "fleetd is gone or new, the workers are the same"
    working = {r.jid for r in records.runs([fleet.worker]) if r.result is None}
    assert len(working) == 3 * THREADS, "the drain is in its middle: every job still runs"

    quiets = len(fleet.steps("quiet"))
    mastodon.let_go(fleet.worker)
    fleet.wait("the drain ends", lambda s: drained(s, victim))
    stayed = {number: process for number, process in before.items() if number != victim}
    assert processes(fleet) == stayed
    runs = [r for r in records.runs([fleet.worker]) if r.jid in working]
    assert [r.result for r in runs] == ["done"] * len(working), "each job ran once, to its end"
    tally = fleet.tally()
    assert (tally.done, tally.lost, tally.repeated) == (tally.enqueued, (), ())
    assert {number for _, number in fleet.steps("quiet")[quiets:]} <= {victim}, "no second victim"

    said = fleet.said(f"mastodon-sidekiq@{victim}")
    pid = before[victim][0]
    own = [line for line in said if f"pid={pid} " in line.message]
    quieted = next(line.at for line in own if SIDEKIQ_QUIET in line.message)
    stopped = next(line.at for line in own if SIDEKIQ_STOP in line.message)
    last_job = max(r.ended_at or 0 for r in runs if r.pid == pid)
    assert quieted < last_job < stopped
    assert not [line.message for line in own if "Pushed" in line.message]
    for number, (pid, _) in stayed.items():
        told = [line.message for line in fleet.said(f"mastodon-sidekiq@{number}") if f"pid={pid} " in line.message]
        assert not [m for m in told if SIDEKIQ_QUIET in m or SIDEKIQ_STOP in m]


def drained(status: Status, victim: int) -> bool:
    states = {i.number: i.state for i in status.instances}
    return states.pop(victim) == "stopped" and set(states.values()) == {"serving"}


def test_a_killed_fleetd_goes_on_with_its_drain(fleet: Fleet) -> None:
    victim = begin_a_drain(fleet)
    before = processes(fleet)
    old = fleet.worker.unit("fleetd").main_pid
    fleet.worker.kill("fleetd")
    fleet.worker.wait_until(
        "systemd starts fleetd again",
        lambda: fleet.worker.unit("fleetd").active and fleet.worker.unit("fleetd").main_pid != old,
    )
    see_the_drain_end(fleet, victim, before)
    assert not [s.message for s in fleet.said() if "by hand" in s.message], "its own orders are no person's"


def test_a_fleetd_without_memory_adopts_the_quiet_instance_and_stops_it(fleet: Fleet) -> None:
    victim = begin_a_drain(fleet)
    before = processes(fleet)
    fleet.worker.kill("fleetd")
    fleet.worker.stop("fleetd")
    fleet.worker.remove("/var/lib/fleetd/host.json")
    fleet.worker.start("fleetd")
    see_the_drain_end(fleet, victim, before)
