"""Shared by the tests of outages: a fleet above its minimum, and checks that nothing moved.

Long jobs keep `local` busy: four of the five threads of each instance, as planned. The hold window is shorter than any
outage, so a missing reading that was taken for zero would begin a drain. Short jobs on another queue keep flowing
meanwhile. A surge of four more long jobs makes the fleet grow by one instance, for good.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from fleetd.core.model.status import Status
from lab.jobs import load
from lab.jobs.load import Load, Phase
from lab.jobs.resp import strings
from lab.setup import services
from tests.support.lab.fleet import Fleet, booted

THREADS = 5
JOBS = 4  # per instance: threads times utilisation
HOLD_SECONDS = 4.0
OUTAGE_SECONDS = HOLD_SECONDS + 4.0
TICKS = 4  # an outage lasts at least this many, however slow the machine is
CONFIG = f"""
[scheduler]
place = "here"
threads = 2
[profiles.local]
queues = ["default"]
threads = {THREADS}
instances = "1-9"
min = 1
[profiles.stream]
queues = ["push"]
threads = {THREADS}
instances = [20]
min = 1
[memory]
instance = "100 MiB"
[pace]
tick_seconds = 1
hold_down_seconds = {HOLD_SECONDS:g}
tolerance = 0
utilisation = 0.8
[postgres]
host = "main"
user = "fleetd"
password = "{services.MONITOR_PASSWORD}"
dbname = "{services.DATABASE}"
"""
_LONG_SECONDS = 900.0
Runs = dict[str, tuple[str, str, str]]


@contextmanager
def fleet_with_work() -> Iterator[Fleet]:
    """A fleet with two busy instances of `local` (the minimum is one), the scheduler, and a steady flow of jobs."""
    with booted(CONFIG.replace("min = 1", "min = 2", 1), max_connections=200) as fleet:
        # All of it runs before fleetd starts, so that fleetd sees the load in its first reading.
        for unit in ("fleetd-render", "mastodon-sidekiq.target"):
            fleet.worker.start(unit)
        load.start(fleet.main, Load([Phase(_LONG_SECONDS, {"push": 20.0})], job_scale=0.05))
        load.enqueue(fleet.main, "default", [_LONG_SECONDS] * (2 * JOBS))
        fleet.main.wait_until("heartbeats tell of all the work", lambda: at_work(fleet) >= 2 * JOBS)
        fleet.configure(CONFIG)
        fleet.start()
        fleet.wait("the scheduler runs", lambda s: s.scheduler.unit_state == "serving")
        wait_for_local(fleet, 2)
        yield fleet


def at_work(fleet: Fleet) -> int:
    """Busy threads on the queue default, as Sidekiq reports in Redis."""
    with load.connect(fleet.main) as redis:
        members = strings(redis.command("SMEMBERS", "processes"))
        found = [strings(redis.command("HVALS", f"{member}:workers")) for member in members]
    return sum(json.loads(work)["queue"] == "default" for works in found for work in works)


def local(fleet: Fleet) -> int:
    """How many instances of `local` run."""
    return next(p.running_instances or 0 for p in fleet.status().profiles if p.name == "local")


def surge(fleet: Fleet) -> None:
    """Add work for one more instance."""
    load.enqueue(fleet.main, "default", [_LONG_SECONDS] * JOBS)


def wait_for_local(fleet: Fleet, count: int) -> None:
    """Wait until this many instances of `local` serve and all of their work is running."""

    def there(status: Status) -> bool:
        busy = [i.busy_threads or 0 for i in status.instances if i.profile == "local" and i.state == "serving"]
        return len(busy) == count and sum(busy) == count * JOBS

    fleet.wait(f"{count} busy instances of local", there)


def runs(fleet: Fleet) -> Runs:
    """Which run of each unit is under way. A restart makes it another one."""
    units = ["fleetd.service", *fleet.worker.units("mastodon-sidekiq*.service")]
    found: Runs = {}
    for name in units:
        unit = fleet.worker.unit(name)
        properties = unit.properties
        found[name] = (properties["InvocationID"], properties["ActiveEnterTimestampMonotonic"], str(unit.main_pid))
    return found


def worker_runs(fleet: Fleet) -> Runs:
    """The same of the workers alone."""
    return {name: run for name, run in runs(fleet).items() if name != "fleetd.service"}


def metrics(fleet: Fleet) -> dict[str, float]:
    """The samples of /metrics: series to value."""
    text = fleet.worker.run(["curl", "-sf", "http://127.0.0.1:9849/metrics"]).stdout
    lines = [line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#")]
    return {series: float(value) for series, _, value in lines}


def down(fleet: Fleet) -> set[str]:
    """The sources that can't be read, according to the metrics."""
    prefix = 'fleetd_source_up{source="'
    return {
        name[len(prefix) :].split('"')[0]
        for name, value in metrics(fleet).items()
        if name.startswith(prefix) and value == 0
    }


def ticks(fleet: Fleet) -> int:
    """How many ticks there were. Works without the bus."""
    return int(metrics(fleet)["fleetd_ticks_total"])


def moves(fleet: Fleet, since: float) -> list[tuple[str, float, int | str]]:
    """Every step that fleetd took since a Unix time."""
    return [
        (verb, at, number) for verb in ("start", "quiet", "stop") for at, number in fleet.steps(verb) if at >= since
    ]


def holds(
    fleet: Fleet,
    sources: set[str],
    begin: Callable[[], object],
    end: Callable[[], object],
    *,
    during: Callable[[], object] = lambda: None,
    seconds: float = OUTAGE_SECONDS,
) -> None:
    """Check that nothing moves while these sources are down, and that a surge makes the fleet grow afterwards.

    The outage is from `begin` to `end`. `during` is called once fleetd has noticed; from then on the outage lasts for
    `seconds` and a few ticks.
    """
    count, before, begun = local(fleet), runs(fleet), time.time()
    begin()
    try:
        fleet.worker.wait_until(f"{sources} can't be read", lambda: down(fleet) == sources)
        noticed, ticked = time.monotonic(), ticks(fleet)
        during()
        while time.monotonic() - noticed < seconds or ticks(fleet) < ticked + TICKS:
            health = fleet.worker.run(["curl", "-s", "http://127.0.0.1:9849/healthz"]).stdout
            assert health.startswith("ok"), health
            assert down(fleet) == sources
            no_invented_numbers(fleet, sources)
            time.sleep(0.5)
    finally:
        ended = time.time()
        end()
    fleet.worker.wait_until("all can be read again", lambda: down(fleet) == set())
    surge(fleet)
    wait_for_local(fleet, count + 1)
    moved = moves(fleet, begun)
    assert [(verb, at > ended) for verb, at, _ in moved] == [("start", True)], moved
    assert before.items() <= runs(fleet).items()
    assert fleet.worker.unit("fleetd").restarts == 0


def no_invented_numbers(fleet: Fleet, sources: set[str]) -> None:
    """What is unknown has no sample; in particular it is not 0."""
    found = metrics(fleet)
    of_redis = [name for name in found if name.startswith("fleetd_queue_") and "target" not in name]
    assert ([] if "redis" in sources else of_redis) == of_redis
    assert ("fleetd_connections_headroom" in found) == ("postgres" not in sources)
    assert ("fleetd_connections_open" in found) == ("postgres" not in sources)
    assert ("fleetd_scheduler_processes" in found) == (not sources & {"redis", "systemd"})
    assert ('fleetd_instances_admitted{profile="local"}' in found) == ("systemd" not in sources)


def says_why(fleet: Fleet, sources: set[str]) -> None:
    """The status names each source that is down, with the reason, and still shows the rest."""
    status = fleet.status()
    why = {s.name: s.why for s in status.sources if not s.ok}
    assert set(why) == sources
    assert all(len(sentence) > 20 and "Traceback" not in sentence for sentence in why.values()), why
    assert all(q.latency_seconds is None for q in status.queues) == ("redis" in sources)
    assert " unreadable: holding" in status.summary
    assert fleet.worker.run(["/opt/fleetd/bin/fleetctl", "status"]).stdout.count("\n") > 10
    systemds = fleet.worker.unit("fleetd").properties["StatusText"]
    assert " unreadable: holding" in systemds
