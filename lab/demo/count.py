"""The count at the end of the story, taken directly from job records, Redis, systemd and Postgres."""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lab.demo.samples import Sample
from lab.demo.summary import Figures
from lab.errors import LabError
from lab.jobs import load, records
from lab.jobs.resp import RedisError
from lab.topologies import TwoHosts
from lab.waiting import wait_until

CRON_SECONDS = 10.0
"""The interval of each cron job on a single scheduler."""
_SETTLE_SECONDS = 60.0
_LIMIT = (
    "SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int"
    " - coalesce(current_setting('reserved_connections', true)::int, 0)"
)
_REFUSALS = ("too many clients already", "too many connections for", "remaining connection slots are reserved")


@dataclass(frozen=True)
class Watched:
    """What was seen only while the story ran."""

    samples: Sequence[Sample]
    stopped_by_budget: str
    overdue_phases: Sequence[str]


def figures(hosts: TwoHosts, watched: Watched) -> Figures:
    """Count everything. Raises LabError if job records or Redis can't be read: without them there is no result."""
    try:
        tally = _settled(hosts)
        processed, failed = _sidekiqs_count(hosts, tally.done)
    except (OSError, RedisError, ValueError) as error:
        raise LabError(f"The jobs can't be counted: {error}") from error
    worker, main = hosts.worker, hosts.main
    failed_units = [f"{host.name}: {unit}" for host in (main, worker) for unit in host.failed_units()]
    return Figures(
        tally=tally,
        redis_processed_jobs=processed,
        redis_failed_jobs=failed,
        samples=watched.samples,
        connections_limit=int(main.run(["psql", "-Atqc", _LIMIT], user="postgres").stdout),
        refusals=_refusals(hosts),
        restarts=_restarts(hosts),
        failed_units=failed_units,
        cron_doubles=doubles(((at, name) for at, name, *_ in records.cron_pushes([main, worker])), CRON_SECONDS),
        stopped_by_budget=watched.stopped_by_budget,
        overdue_phases=watched.overdue_phases,
    )


def _settled(hosts: TwoHosts) -> records.Tally:
    """Cron jobs go on every few seconds. Count at a moment at which none is under way, if there is one."""
    deadline = time.monotonic() + _SETTLE_SECONDS
    tally = records.tally(hosts.main)
    while not tally.settled and time.monotonic() < deadline:
        time.sleep(0.3)
        tally = records.tally(hosts.main)
    return tally


def _sidekiqs_count(hosts: TwoHosts, done: int) -> tuple[int, int]:
    """`stat:processed` and `stat:failed`. Processes add to them with each heartbeat, so wait for the last ones."""
    with load.connect(hosts.main) as redis:

        def read(name: str) -> int:
            return int(str(redis.command("GET", f"stat:{name}") or 0))

        with contextlib.suppress(LabError):  # the figures show it
            wait_until("Sidekiq's counters", lambda: read("processed") >= done, _SETTLE_SECONDS, every=0.5)
        return read("processed"), read("failed")


def _refusals(hosts: TwoHosts) -> int | None:
    logs = [path.read_text(errors="replace") for path in hosts.main.path("/var/log/postgresql").glob("*.log")]
    if not any("ready to accept connections" in log for log in logs):
        return None  # not the right log: that it has no refusals proves nothing
    return sum(any(words in line for words in _REFUSALS) for log in logs for line in log.splitlines())


def _restarts(hosts: TwoHosts) -> int:
    said = hosts.worker.journalctl("-o", "cat", "-u", "mastodon-sidekiq*")
    return sum("Scheduled restart job" in line for line in said.splitlines())


def doubles(pushes: Iterable[tuple[float, str]], every_seconds: float) -> int:
    """How many cron jobs (time, class) were enqueued again before two thirds of their interval had passed."""
    last: dict[str, float] = defaultdict(lambda: float("-inf"))
    found = 0
    for at, name in sorted(pushes):
        found += at - last[name] < every_seconds * 2 / 3
        last[name] = at
    return found
