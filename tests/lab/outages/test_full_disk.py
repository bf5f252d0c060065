"""A full disk under /var/lib/fleetd: orders are obeyed, who gives one is told, and they are written once there is room.

Real tmpfs of a few pages, below the real daemon in its real sandbox.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fleetd.core.model.status import Status
from lab import Host
from tests.support.lab.fleet import Fleet, booted

pytestmark = pytest.mark.lab

STATE, RUN = "/var/lib/fleetd", "/run/fleetd"
FLEETCTL = "/opt/fleetd/bin/fleetctl"
TICK_SECONDS = 1.0
CONFIG = f"""
[scheduler]
place = "elsewhere"
[profiles.local]
threads = 2
instances = "1-3"
min = 2
[memory]
instance = "100 MiB"
[pace]
tick_seconds = {TICK_SECONDS:g}
"""


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with booted(CONFIG) as fleet:
        for directory in (STATE, RUN):
            fleet.worker.run(["mkdir", "-p", directory])
            fleet.worker.run(["mount", "-t", "tmpfs", "-o", "size=256k,mode=0751", "tmpfs", directory])
            fleet.worker.run(["chown", "fleetd:fleetd", directory])
        fleet.start()
        fleet.wait("both serve", lambda s: s.profiles[0].serving_instances == 2)
        yield fleet
        for directory in (STATE, RUN):
            free(fleet.worker, directory)


def fill(host: Host, directory: str) -> None:
    host.run(["sh", "-c", f"head -c 1M /dev/zero > {directory}/filler"], check=False)


def free(host: Host, directory: str) -> None:
    host.remove(f"{directory}/filler")


def order(fleet: Fleet, *words: str) -> str:
    return fleet.worker.run([FLEETCTL, *words]).stdout.strip()


def pinned(status: Status) -> set[str]:
    return {f"{override.what} {override.sentence}" for override in status.overrides}


def restart(fleet: Fleet) -> Status:
    """A new process, and its first status."""
    old = fleet.status().uptime_seconds
    fleet.worker.restart("fleetd")
    return fleet.wait("the new process has ticked", lambda s: s.uptime_seconds < old and s.ticks_total > 0)


def memory_problems(status: Status) -> list[str]:
    return [problem for problem in status.problems if "memory" in problem]


def test_a_drain_on_a_full_disk_outlives_a_restart_and_is_written_once_there_is_room(fleet: Fleet) -> None:
    worker = fleet.worker
    fill(worker, STATE)
    said = order(fleet, "drain", "2", "--for", "1h")
    assert f"It is kept in {RUN}/host.json" in said
    assert f"{STATE}/host.json can't be written (No space left on device)" in said
    status = fleet.wait("the problem stands there", lambda s: bool(memory_problems(s)))
    assert "No space left on device" in memory_problems(status)[0]
    metrics = worker.run(["curl", "-sf", "http://127.0.0.1:9849/metrics"]).stdout
    assert f"fleetd_problems {len(status.problems):.1f}" in metrics
    fleet.wait("it is drained", lambda s: {i.number: i.state for i in s.instances}[2] == "pinned")

    after = restart(fleet)
    assert pinned(after) == {"@2 kept stopped by root"}, "its own stop is no person's"
    assert memory_problems(after)
    assert '"pins":{"2"' not in worker.read(f"{STATE}/host.json")

    free(worker, STATE)
    ticks = fleet.status().ticks_total
    freed = fleet.wait("it is written", lambda s: not memory_problems(s))
    assert freed.ticks_total <= ticks + 2, "by the first tick that begins after there was room"
    assert not worker.path(f"{RUN}/host.json").exists()
    assert '"pins":{"2"' in worker.read(f"{STATE}/host.json")
    assert pinned(restart(fleet)) == {"@2 kept stopped by root"}
    said_once = [line.message for line in fleet.said() if "fleetd's memory" in line.message]
    assert [("can be saved again" in message) for message in said_once] == [False, False, True], (
        "at its begin, by the restarted fleetd, and at its end"
    )
    order(fleet, "release", "2")


def test_where_nothing_has_room_the_answer_says_that_a_restart_forgets(fleet: Fleet) -> None:
    for directory in (STATE, RUN):
        fill(fleet.worker, directory)
    said = order(fleet, "pause", "--for", "1h", "--reason", "night shift")
    assert said.startswith("Paused for 60 min")
    assert "It is obeyed now, but a restart of fleetd would forget it: /var/lib/fleetd/host.json" in said
    status = fleet.wait("it holds, and it is a problem", lambda s: bool(s.holds) and bool(memory_problems(s)))
    assert "a restart of fleetd would forget orders" in memory_problems(status)[0]
    free(fleet.worker, STATE)
    fleet.wait("it is written", lambda s: not memory_problems(s))
    free(fleet.worker, RUN)
    assert [hold.sentence for hold in restart(fleet).holds if "night shift" in hold.sentence]
    order(fleet, "resume")


def test_a_restart_right_after_there_is_room_keeps_the_order(fleet: Fleet) -> None:
    """No tick comes between: the fleetd that stops writes it."""
    for directory in (STATE, RUN):
        fill(fleet.worker, directory)
    order(fleet, "pin", "1", "--for", "1h")
    fleet.worker.run(["sh", "-c", f"rm {STATE}/filler; systemctl restart fleetd"])
    fleet.wait("it is pinned", lambda s: s.uptime_seconds < 60.0 and pinned(s) == {"@1 kept running by root"})
    free(fleet.worker, RUN)
    order(fleet, "release", "1")


def test_the_history_goes_on_once_there_is_room(fleet: Fleet) -> None:
    fill(fleet.worker, STATE)
    order(fleet, "set", "local", "2")
    fleet.wait("it says so", lambda s: any("the history is not kept: the disk of" in p for p in s.problems))
    free(fleet.worker, STATE)
    order(fleet, "set", "local", "auto")
    fleet.wait("it is kept again", lambda s: not s.problems)
    assert "local is set to 2" in order(fleet, "history", "--since", "1h")
