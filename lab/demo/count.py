"""The count at the end of the story, taken directly from job records, Redis, systemd and Postgres."""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from lab.demo.samples import Sample
from lab.demo.summary import Figures
from lab.errors import LabError
from lab.hosts.host import Host
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
    worker, main = hosts.worker, hosts.main
    tally = settled(main)
    processed, failed = sidekiqs_count(main, tally.done)
    return Figures(
        tally=tally,
        redis_processed_jobs=processed,
        redis_failed_jobs=failed,
        samples=watched.samples,
        connections_limit=connections_limit(main),
        refusals=refusals(main),
        restarts=restarts([worker]),
        failed_units=failed_units([main, worker]),
        cron_doubles=cron_doubles([main, worker]),
        stopped_by_budget=watched.stopped_by_budget,
        overdue_phases=watched.overdue_phases,
    )


def settled(redis: Host) -> records.Tally:
    """The count of jobs. Cron jobs go on every few seconds: count when none is under way, if there is such a moment."""
    deadline = time.monotonic() + _SETTLE_SECONDS
    with _counting():
        tally = records.tally(redis)
        while not tally.settled and time.monotonic() < deadline:
            time.sleep(0.3)
            tally = records.tally(redis)
    return tally


def sidekiqs_count(redis_host: Host, done: int = 0) -> tuple[int, int]:
    """`stat:processed` and `stat:failed`. Processes add to them with each heartbeat, so wait for `done` jobs."""
    with _counting(), load.connect(redis_host) as redis:

        def read(name: str) -> int:
            return int(str(redis.command("GET", f"stat:{name}") or 0))

        with contextlib.suppress(LabError):  # the figures show it
            wait_until("Sidekiq's counters", lambda: read("processed") >= done, _SETTLE_SECONDS, every=0.5)
        return read("processed"), read("failed")


@contextlib.contextmanager
def _counting() -> Iterator[None]:
    try:
        yield
    except (OSError, RedisError, ValueError) as error:
        raise LabError(f"The jobs can't be counted: {error}") from error


def connections_limit(postgres: Host) -> int:
    """How many connections Postgres has for ordinary roles."""
    return int(postgres.run(["psql", "-Atqc", _LIMIT], user="postgres").stdout)


def refusals(postgres: Host) -> int | None:
    """How often Postgres refused a client for want of connections; None: its log can't be found."""
    logs = [path.read_text(errors="replace") for path in postgres.path("/var/log/postgresql").glob("*.log")]
    if not any("ready to accept connections" in log for log in logs):
        return None  # not the right log: that it has no refusals proves nothing
    return sum(any(words in line for words in _REFUSALS) for log in logs for line in log.splitlines())


def restarts(workers: Iterable[Host]) -> int:
    """How often systemd restarted a worker that had died."""
    said = [host.journalctl("-o", "cat", "-u", "mastodon-sidekiq*") for host in workers]
    return sum("Scheduled restart job" in line for journal in said for line in journal.splitlines())


def failed_units(hosts: Iterable[Host]) -> list[str]:
    """`host: unit` for each unit in state failed."""
    return [f"{host.name}: {unit}" for host in hosts for unit in host.failed_units()]


def cron_doubles(hosts: Iterable[Host]) -> int:
    """How many cron jobs were enqueued again too early, as two schedulers would do."""
    return doubles(((at, name) for at, name, *_ in records.cron_pushes(hosts)), CRON_SECONDS)


def doubles(pushes: Iterable[tuple[float, str]], every_seconds: float) -> int:
    """How many cron jobs (time, class) were enqueued again before two thirds of their interval had passed."""
    last: dict[str, float] = defaultdict(lambda: float("-inf"))
    found = 0
    for at, name in sorted(pushes):
        found += at - last[name] < every_seconds * 2 / 3
        last[name] = at
    return found
