"""An upgrade in place while the fleet is in a surge: code first, gems broken for a while, then the migration."""

from __future__ import annotations

import time
from dataclasses import dataclass

from fleetd.core.model.status import Status
from lab.campaign import life
from lab.jobs import load, records
from lab.jobs.lengths import Lengths
from lab.jobs.load import Load, Phase
from lab.setup import mastodon
from lab.waiting import PATIENCE_SECONDS
from tests.support.lab.fleet import Fleet

FEW, MANY = 2, 4
THREADS = 4
OLD, NEW = "4.5.3", "4.6.0"
CONFIG = f"""
[scheduler]
place = "elsewhere"
[profiles.only]
order = "default-first"
threads = {THREADS}
instances = "1-{MANY}"
min = {FEW}
[targets]
default = 1
[memory]
instance = "100 MiB"
[pace]
tick_seconds = 1
hold_down_seconds = 600
"""
JOBS = Lengths(median_seconds=0.2, sigma=1.3, shortest_seconds=0.001, longest_seconds=5.0)
CALM_JOBS_PER_SECOND = FEW * THREADS * 0.4 / JOBS.mean_seconds
SURGE_JOBS_PER_SECOND = FEW * THREADS * 1.3 / JOBS.mean_seconds
"""A steady third more than the few instances can do."""


@dataclass(frozen=True)
class Upgrade:
    """The outcome of an upgrade."""

    noticed_seconds: float
    """From the first changed file to the hold in the status."""
    starts_meanwhile: int
    """The starts by fleetd between the first changed file and `fleetctl restart`."""
    failed_boots: int
    replaced_seconds: float
    least_serving: int
    tally: records.Tally
    cut_off: int
    """Job runs that did not finish."""


def upgrade(fleet: Fleet, broken_seconds: float) -> Upgrade:
    """Play it: hold, gems, migration, `fleetctl restart`, and finally growth."""
    fleet.wait("the code is known", lambda s: s.mastodon_version == OLD)
    # As much as the few can do. The surge comes once the hold is there: until then it would be right to grow.
    calm = load.start(fleet.main, Load([Phase(3600, {"default": CALM_JOBS_PER_SECOND})], lengths=JOBS))
    fleet.wait("they are at work", lambda s: sum(i.busy_threads or 0 for i in s.instances) > 0)
    began, began_at = time.monotonic(), time.time()
    mastodon.upgrade(fleet.worker, NEW)
    fleet.wait("it holds", _held)
    noticed = time.monotonic() - began
    rest = SURGE_JOBS_PER_SECOND - CALM_JOBS_PER_SECOND
    surge = load.start(fleet.main, Load([Phase(3600, {"default": rest})], lengths=JOBS, seed=2))
    fleet.wait("the surge is there", lambda s: any((q.latency_seconds or 0) > 2 for q in s.queues))
    while time.monotonic() - began < broken_seconds:
        assert _held(fleet.status())
        time.sleep(1)
    fleet.worker.restart("fleetd")  # restarting fleetd must not end the hold
    mastodon.install_gems(fleet.worker)
    schema = f"{mastodon.LIVE}/db/schema.rb"
    fleet.worker.write(schema, fleet.worker.read(schema).replace("2025", "2026"), owner="mastodon")
    assert _held(fleet.wait("it has decided some times", lambda s: s.ticks_total > 3))
    starts = [at for at, _ in fleet.steps("start") if at > began_at]
    old = life.processes(fleet.worker)
    assert {p.served_until for p in old} == {None}, "nobody was touched"

    ordered = time.monotonic()
    fleet.worker.run(["/opt/fleetd/bin/fleetctl", "restart"], timeout=4 * PATIENCE_SECONDS)
    replaced = time.monotonic() - ordered
    fleet.wait("it grows, the hold is over", lambda s: (s.profiles[0].serving_instances or 0) > FEW)
    calm.stop()
    surge.stop()
    tally = fleet.settled(4 * PATIENCE_SECONDS)
    processes = life.processes(fleet.worker)
    assert all(p.down_at is not None for p in processes if p in _same(processes, old)), "each old one is gone"
    return Upgrade(
        noticed_seconds=noticed,
        starts_meanwhile=len(starts),
        failed_boots=fleet.worker.journalctl("-o", "cat").count("locally installed gems"),
        replaced_seconds=replaced,
        least_serving=life.least_serving(processes, began_at, time.time()),
        tally=tally,
        cut_off=sum(r.result != "done" for r in records.runs([fleet.worker])),
    )


def _held(status: Status) -> bool:
    return "upgrade" in [hold.kind for hold in status.holds]


def _same(processes: list[life.Process], old: list[life.Process]) -> list[life.Process]:
    known = {(p.unit, p.pid) for p in old}
    return [p for p in processes if (p.unit, p.pid) in known]


def is_safe(done: Upgrade) -> None:
    """Nothing was started on half-installed code, no job was lost, and capacity was kept."""
    assert (done.starts_meanwhile, done.failed_boots) == (0, 0)
    assert (done.tally.done, done.tally.lost, done.tally.repeated) == (done.tally.enqueued, (), ())
    assert done.cut_off == 0
    assert done.least_serving >= FEW - 1
