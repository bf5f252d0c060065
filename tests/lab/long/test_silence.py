"""If one worker falls silent, it is replaced. If all fall silent, none is touched (law 3)."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator

import pytest

from fleetd.core.model.status import Status
from lab.campaign import life
from lab.jobs import load, records
from tests.support.lab.fleet import Fleet, started

pytestmark = [pytest.mark.lab, pytest.mark.long]

INSTANCES, THREADS = 3, 4
#: Heartbeats stay in Redis for 60 s, and silence is tolerated for another 60 s.
SILENT_SECONDS = 150.0
CONFIG = f"""
[scheduler]
place = "elsewhere"
[profiles.only]
order = "default-first"
threads = {THREADS}
instances = "1-{INSTANCES}"
min = {INSTANCES}
[memory]
instance = "100 MiB"
[pace]
tick_seconds = 1
"""


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with started(CONFIG) as fleet:
        yield fleet


def stop_where_it_is(fleet: Fleet, number: int) -> int:
    """Send SIGSTOP to the main process, and return its pid."""
    unit = f"mastodon-sidekiq@{number}"
    pid = fleet.worker.unit(unit).main_pid
    fleet.worker.kill(unit, signal.SIGSTOP)
    return pid


def test_if_all_are_silent_the_reading_is_unknown(fleet: Fleet) -> None:
    before = life.processes(fleet.worker)
    steps = [len(fleet.steps(verb)) for verb in ("start", "quiet", "stop")]
    with load.connect(fleet.main) as redis:
        redis.command("CONFIG", "SET", "maxmemory", "1")  # reads still work, but every write is refused
    began = time.monotonic()
    while time.monotonic() - began < SILENT_SECONDS:
        assert [len(fleet.steps(verb)) for verb in ("start", "quiet", "stop")] == steps
        time.sleep(2)
    silent = fleet.status()
    with load.connect(fleet.main) as redis:
        redis.command("CONFIG", "SET", "maxmemory", "0")
    fleet.wait("they beat again", lambda s: s.profiles[0].serving_instances == INSTANCES)
    assert life.processes(fleet.worker) == before, "nobody was touched"
    assert "unresponsive" not in [i.state for i in silent.instances]
    print(f"all silent for {SILENT_SECONDS:.0f} s: 0 steps by fleetd")


def test_a_silent_instance_is_stopped_and_replaced(fleet: Fleet) -> None:
    victim = 2
    threads = INSTANCES * THREADS
    load.enqueue(fleet.main, "default", [300.0] * threads)
    fleet.wait("all are at work", lambda s: sum(i.busy_threads or 0 for i in s.instances) == threads)
    others = {n: fleet.worker.unit(f"mastodon-sidekiq@{n}").main_pid for n in fleet.up() - {victim}}
    pid = stop_where_it_is(fleet, victim)
    stopped_at = time.time()
    fleet.wait(
        "it is said",
        lambda s: "unresponsive" in [i.state for i in s.instances] or pid != _pid(fleet, victim),
        SILENT_SECONDS,
    )
    fleet.wait("its number serves again", lambda s: _pid(fleet, victim) not in (0, pid) and _all(s), 150)
    replaced = life.processes(fleet.worker)[-1]
    assert replaced.unit == f"mastodon-sidekiq@{victim}.service"
    assert {n: _pid(fleet, n) for n in others} == others, "the others were left alone"
    assert any("mastodon-sidekiq@2" in s.message and "heartbeat" in s.message for s in fleet.said()), "and why"
    ends = [r.result for r in records.runs([fleet.worker]) if r.pid == pid]
    print(
        f"one silent: replaced {replaced.up_at - stopped_at:.0f} s after it fell silent; of its {len(ends)} jobs "
        f"{ends.count('pushed_back')} were pushed back, {ends.count(None)} died with it"
    )
    # systemd's stop wakes it (SIGCONT), so it has time to push its jobs back.
    assert ends == ["pushed_back"] * THREADS
    memory = fleet.worker.read("/var/lib/fleetd/host.json").partition("\n")[2]  # below its checksum
    remembered = json.loads(memory)["pushed_back"]
    assert {r.jid for r in records.runs([fleet.worker]) if r.pid == pid} <= set(remembered), (
        "so that no drain makes them start over once more"
    )


def _pid(fleet: Fleet, number: int) -> int:
    return fleet.worker.unit(f"mastodon-sidekiq@{number}").main_pid


def _all(status: Status) -> bool:
    return status.profiles[0].serving_instances == INSTANCES
