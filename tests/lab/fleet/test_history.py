"""What a real fleet records of a surge: listed, turned into a trace, replayed. Also a file damaged under fleetd."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from lab import LabError
from lab.jobs import load
from lab.jobs.load import Load, Phase
from lab.waiting import PATIENCE_SECONDS, wait_until
from tests.support.lab.fleet import CONFIG, Fleet, started

pytestmark = pytest.mark.lab

FLEETCTL = "/opt/fleetd/bin/fleetctl"
HISTORY = "/var/lib/fleetd/history.sqlite"
#: Far more work than the two instances of min can do. Six do it within a minute.
SURGE = Phase(30, {"default": 300, "push": 100})


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with started(CONFIG) as fleet:
        load.start(fleet.main, Load([SURGE], "seconds", job_scale=1.0, limit=3000, seed=1))
        fleet.wait("it grows", lambda s: sum(p.serving_instances or 0 for p in s.profiles) > 2)
        yield fleet


def fleetctl(fleet: Fleet, *arguments: str, user: str = "nobody") -> str:
    return fleet.worker.run([FLEETCTL, *arguments], user=user).stdout


def entries(fleet: Fleet) -> list[dict[str, str]]:
    told = json.loads(fleetctl(fleet, "history", "--json"))
    return list(told["entries"])


def write_soon(fleet: Fleet) -> None:
    """Give an order, whose sentence is written at once; samples are written once a minute. @1 always serves."""
    fleet.worker.run([FLEETCTL, "pin", "1", "--for", "10m"])


def test_everybody_can_read_what_fleetd_did_and_why(fleet: Fleet) -> None:
    wait_until(
        "the start is in the history",
        lambda: any(e["kind"] == "step" and e["sentence"].startswith("start ") for e in entries(fleet)),
        every=1.0,
    )
    shown = fleetctl(fleet, "history", "--since", "10m")
    assert "start mastodon-sidekiq@" in shown
    assert " wanted" in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_a_file_that_cannot_be_written_is_reported_until_it_can(fleet: Fleet) -> None:
    fleet.worker.run(["sh", "-c", f"mv {HISTORY} {HISTORY}.away; mkdir {HISTORY}"])
    write_soon(fleet)
    fleet.wait("it says so", lambda s: any("the history is not kept" in p for p in s.problems))
    assert "the history is not kept" in " ".join(fleet.worker.run([FLEETCTL, "status"]).stdout.split())
    fleet.worker.run(["sh", "-c", f"rmdir {HISTORY}; mv {HISTORY}.away {HISTORY}"])
    write_soon(fleet)
    fleet.wait("it is over", lambda s: not any("not kept" in p for p in s.problems))
    written = [e["sentence"] for e in entries(fleet) if e["kind"] == "order"]
    assert len(written) == 2, "what could not be written was kept"


def test_the_surge_is_a_trace_and_can_be_replayed(fleet: Fleet) -> None:
    def traced() -> bool:
        write_soon(fleet)
        try:
            fleet.worker.run(["sh", "-c", f"{FLEETCTL} trace --since 10m > /tmp/mine.toml"])
        except LabError:  # less than a minute has been written
            return False
        return True

    wait_until("a minute is recorded", traced, 60 + PATIENCE_SECONDS, every=3.0)
    told = json.loads(fleet.worker.run([FLEETCTL, "simulate", "/tmp/mine.toml", "--json"]).stdout)
    jobs = told["policies"]["fleetd"]["queues"]
    assert sum(queue["jobs"] for queue in jobs.values()) > 500
    fleet.worker.write("/tmp/new.toml", CONFIG.replace('instances = "1-4"', 'instances = "1-2"'))
    told = json.loads(fleetctl(fleet, "replay", "--since", "10m", "--config", "/tmp/new.toml", "--json"))
    assert list(told["runs"]) == ["as recorded", "current", "/tmp/new.toml"]
    shown = fleetctl(fleet, "replay", "--since", "10m", "--config", "/tmp/new.toml")
    assert "as recorded, rebuilt" in shown
    assert "fleetd itself (current) comes out" in shown


def test_a_damaged_file_is_put_aside_under_a_running_daemon(fleet: Fleet) -> None:
    before = fleet.status().ticks_total
    fleet.worker.run(["sh", "-c", f"head -c 20000 /dev/urandom > {HISTORY}"])
    write_soon(fleet)
    begun = "a new history has begun"
    status = fleet.wait("it says so", lambda s: any(begun in p for p in s.problems), timeout=30)
    assert status.ticks_total > before
    assert begun in entries(fleet)[0]["sentence"]
    assert fleet.worker.unit("fleetd").restarts == 0
    fleet.worker.run(["test", "-s", f"{HISTORY}.damaged"])
    assert sum(begun in line.message for line in fleet.said()) == 1


def test_the_history_can_be_read_while_fleetd_is_down(fleet: Fleet) -> None:
    fleet.worker.run(["systemctl", "stop", "fleetd"])
    assert entries(fleet)[-1]["sentence"].startswith("fleetd stopped")
    assert "fleetd stopped" in fleetctl(fleet, "history")
