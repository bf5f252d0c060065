"""Law 6: what people do by hand is kept and shown. A restart by systemd is not taken for an order."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from fleetd.cli.advice.findings import findings
from fleetd.core.model.status import InstanceStatus, Status
from lab.jobs import load
from tests.support.lab.fleet import Fleet, started
from tests.support.lab.outages import metrics

pytestmark = pytest.mark.lab

CONFIG = """
[scheduler]
place = "elsewhere"

[profiles.only]
order = "default-first"
threads = 4
instances = "1-4"
min = 1

[memory]
instance = "100 MiB"

[pace]
tick_seconds = 1
hold_down_seconds = 2
"""


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with started(CONFIG) as fleet:
        yield fleet


def instance(status: Status, number: int) -> InstanceStatus:
    return next(i for i in status.instances if i.number == number)


def ticks_later(fleet: Fleet, ticks: int) -> Status:
    """The status this many ticks later."""
    target = fleet.status().ticks_total + ticks
    return fleet.wait(f"{ticks} more ticks", lambda s: s.ticks_total >= target)


def test_a_killed_worker_is_left_to_systemd(fleet: Fleet) -> None:
    orders = [fleet.steps(verb) for verb in ("start", "quiet", "stop")]
    old = fleet.worker.unit("mastodon-sidekiq@1").main_pid
    fleet.worker.kill("mastodon-sidekiq@1", signal.SIGKILL)
    gone = fleet.wait("fleetd sees that it serves no more", lambda s: s.profiles[0].serving_instances == 0)
    assert instance(gone, 1).state == "starting"
    assert gone.profiles[0].running_instances == 1, "it comes back, so it needs no substitute"

    back = fleet.wait("it serves again", lambda s: s.profiles[0].serving_instances == 1)
    unit = fleet.worker.unit("mastodon-sidekiq@1")
    assert (unit.active, unit.restarts) == (True, 1)
    assert unit.main_pid != old
    assert instance(back, 1).note.startswith("died once in the last hour, by SIGKILL, "), "no person's order"
    assert any(f"@1 {instance(back, 1).note}" in finding.sentence for finding in findings(back))
    assert metrics(fleet)['fleetd_instance_deaths_total{cause="signal",profile="only"}'] == 1
    [line] = [line.message for line in fleet.said() if "neither fleetd nor `systemctl stop`" in line.message]
    assert line.startswith("@1 died by SIGKILL")
    assert back.profiles[0].running_instances == 1
    assert fleet.up() == {1}
    assert [fleet.steps(verb) for verb in ("start", "quiet", "stop")] == orders, "fleetd did nothing extra"


def test_an_instance_that_a_person_starts_is_kept(fleet: Fleet) -> None:
    fleet.worker.start("mastodon-sidekiq@3")
    seen = fleet.wait("it is shown", lambda s: "started by hand" in instance(s, 3).note)
    assert instance(seen, 3).note == "started by hand, kept 4.0 h more"
    # Longer than the hold window and a drain take. The instance is not needed, but it was ordered.
    later = ticks_later(fleet, 8)
    assert fleet.up() == {1, 3}
    assert [c for c in later.profiles[0].clamps if c.code == "pinned"], "and why it runs is said"
    assert not fleet.steps("quiet")


def test_an_instance_that_a_person_stops_stays_down_even_in_a_surge(fleet: Fleet) -> None:
    starts = len(fleet.steps("start"))
    fleet.worker.stop("mastodon-sidekiq@1")
    seen = fleet.wait("it is down", lambda s: instance(s, 1).state == "pinned")
    assert instance(seen, 1).note.startswith("stopped by hand, kept 4.0 h more")

    load.enqueue(fleet.main, "default", [600.0] * 400)  # until the end of this file
    fleet.wait("the surge wants every number", lambda s: (s.profiles[0].needed_instances or 0) >= 4)
    later = ticks_later(fleet, 8)
    assert instance(later, 1).state == "pinned"
    clamps = [c for c in later.profiles[0].clamps if c.code == "pinned"]
    assert clamps
    assert "by people" in clamps[0].sentence
    assert 1 not in {number for _, number in fleet.steps("start")[starts:]}
    assert 1 not in fleet.up()


def test_a_restart_by_hand_is_no_order_to_stay_down(fleet: Fleet) -> None:
    fleet.worker.start("mastodon-sidekiq@1")
    back = fleet.wait("it serves", lambda s: instance(s, 1).state == "serving")
    assert "by hand" not in instance(back, 1).note
    assert metrics(fleet)['fleetd_instance_deaths_total{cause="signal",profile="only"}'] == 1, "a restart is no death"
    assert any("restarted by hand" in line.message for line in fleet.said())


def test_while_the_target_is_stopped_nothing_starts_and_its_start_ends_that(fleet: Fleet) -> None:
    starts = len(fleet.steps("start"))
    fleet.worker.run(["systemctl", "stop", "mastodon-sidekiq.target"])
    held = fleet.wait("it is a hold", lambda s: [hold.kind for hold in s.holds] == ["stopped"])
    assert "until `systemctl start mastodon-sidekiq.target`" in held.holds[0].sentence
    fleet.worker.run(["systemctl", "daemon-reload"])
    fleet.worker.run(["systemctl", "restart", "fleetd"])
    fleet.wait("fleetd is back, and the hold with it", lambda s: bool(s.holds))
    still = ticks_later(fleet, 5)
    assert [hold.kind for hold in still.holds] == ["stopped"]
    assert fleet.up() == set()
    assert len(fleet.steps("start")) == starts

    fleet.worker.run(["systemctl", "start", "--no-block", "mastodon-sidekiq.target"])
    back = fleet.wait("what a boot starts serves", lambda s: bool(s.profiles[0].serving_instances))
    assert back.holds == ()
    note = instance(back, 1).note  # it was killed in an earlier test
    assert note == "" or note.startswith("died "), "the start of the target is no person's order for one"
    assert ";" not in note
