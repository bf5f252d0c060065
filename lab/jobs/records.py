"""What became of the jobs: compares every run on every host with what was enqueued."""

import contextlib
import json
import os
import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lab.hosts import holder
from lab.hosts.host import Host
from lab.jobs import load
from lab.jobs.resp import strings
from lab.lab import Lab
from lab.setup import mastodon

_TAKEN_SECONDS = 3.0
Window = tuple[float, float]
"""From one Unix time to another."""


@dataclass(frozen=True)
class Run:
    """One try at one job. `result` is done, failed or pushed_back. None: it still runs, or its process died."""

    jid: str
    job_class: str
    queue: str
    enqueued_at: float
    host: str
    unit: str
    pid: int
    started_at: float
    ended_at: float | None
    result: str | None


@dataclass(frozen=True)
class Waits:
    """How long a queue's jobs waited for their first run, in seconds."""

    count: int
    p50: float
    p95: float
    longest: float


@dataclass(frozen=True)
class Tally:
    """The count of all jobs that loaders and schedulers certainly enqueued.

    `enqueued` = done + waiting + running + lost + excused. `repeated` jobs were done more than once.
    """

    enqueued: int
    done: int
    waiting: int
    """In a queue, or in retry, schedule or dead."""
    running: int
    lost: tuple[str, ...]
    repeated: tuple[str, ...]
    waits: Mapping[str, Waits]
    done_by_unit: Mapping[tuple[str, str], int]
    """(host, unit) → jobs done."""
    excused: tuple[str, ...] = ()
    """Neither done nor there, but enqueued or begun in a time that is excused, or died with its host."""

    @property
    def settled(self) -> bool:
        """Whether nothing is waiting or running any more."""
        return self.waiting == 0 and self.running == 0


def runs(hosts: Iterable[Host]) -> list[Run]:
    """All runs recorded on these hosts, in order of their start."""
    found: list[Run] = []
    for host in hosts:
        begun: dict[tuple[str, int], dict[str, Any]] = {}
        for entry in _entries(host):
            if entry["event"] == "enqueue":
                continue
            key = (entry["jid"], entry["pid"])
            if entry["event"] == "start":
                if key in begun:  # the same pid again after a reboot
                    found.append(_run(host, begun[key], None))
                begun[key] = entry
            else:
                found.append(_run(host, begun.pop(key), entry))
        found += [_run(host, start, None) for start in begun.values()]
    return sorted(found, key=lambda run: run.started_at)


def cron_pushes(hosts: Iterable[Host]) -> list[tuple[float, str, str, str]]:
    """What schedulers enqueued: (Unix time, job class, host, unit), in order of time. Two schedulers cause doubles."""
    return sorted(
        (entry["at"], entry["class"], host.name, entry["unit"])
        for host in hosts
        for entry in _entries(host)
        if entry["event"] == "enqueue"
    )


def enqueued(lab: Lab) -> dict[str, dict[str, Any]]:
    """What loaders and cron jobs enqueued, by jid. `sure`: Redis confirmed it."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted((holder.STATE / lab.name / "enqueued").glob("*.jsonl")):
        found |= {entry["jid"]: entry for entry in _lines(path.read_text())}
    for host in lab.hosts.values():
        for entry in _entries(host):
            if entry["event"] == "enqueue":
                found[entry["jid"]] = {**entry, "sure": True}
    return found


def died_with(host: Host) -> set[str]:
    """The jobs that ran on a host when it lost power, the last time or before: they went with it."""
    return {run.jid for run in runs([host]) if run.result is None and not _alive(host, run)}


def tally(
    main: Host,
    *,
    password: str = "",
    namespace: str = "",
    excused: Sequence[Window] = (),
    died: Collection[str] = (),
) -> Tally:
    """Count what became of the jobs. Redis on `main` must answer. The count is exact once nothing is under way.

    `main` is any host with Redis; where there are several, the primary. `excused`: times in which Redis itself may have
    lost what it had confirmed, as in a failover. A job that was enqueued or begun then is neither lost nor repeated,
    and neither is one of `died` (`died_with`).
    """
    # A job that was just fetched is in no queue and has not begun. It is lost only if nobody begins it.
    deadline = time.monotonic() + _TAKEN_SECONDS
    while (counted := _count(main, password, namespace, excused, died)).lost and time.monotonic() < deadline:
        time.sleep(0.2)
    return counted


def _count(main: Host, password: str, namespace: str, excused: Sequence[Window], died: Collection[str]) -> Tally:
    lab = main.lab
    # Redis first: a job that moves on meanwhile is then counted where it went, and not as lost on the way.
    in_redis = _jids_in_redis(main, password, namespace)
    pushes = enqueued(lab)
    known = {jid for jid, entry in pushes.items() if entry["sure"]}
    all_runs = runs(lab.hosts.values())
    moments = [(jid, entry["at"]) for jid, entry in pushes.items()] + [(run.jid, run.started_at) for run in all_runs]
    pardoned = {jid for jid, at in moments if any(begin <= at <= end for begin, end in excused)} | set(died)
    done: dict[str, int] = defaultdict(int)
    by_unit: dict[tuple[str, str], int] = defaultdict(int)
    running: set[str] = set()
    for run in all_runs:
        if run.result == "done":
            done[run.jid] += 1
            by_unit[run.host, run.unit] += 1
        elif run.result is None and _alive(lab.hosts[run.host], run):
            running.add(run.jid)
    open_jobs = known - done.keys()
    running &= open_jobs
    waiting = open_jobs & (in_redis - running)
    if open_jobs - waiting - running:  # lost, or pushed back or failed meanwhile
        waiting |= (open_jobs - running) & _jids_in_redis(main, password, namespace)
    gone = open_jobs - waiting - running
    return Tally(
        enqueued=len(known),
        done=len(known & done.keys()),
        waiting=len(waiting),
        running=len(running),
        lost=tuple(sorted(gone - pardoned)),
        repeated=tuple(sorted(jid for jid, times in done.items() if times > 1 and jid not in pardoned)),
        waits=_waits(all_runs),
        done_by_unit=dict(by_unit),
        excused=tuple(sorted(gone & pardoned)),
    )


def forget(lab: Lab) -> None:
    """Start over: remove all records. No Sidekiq and no loader may run."""
    for path in (holder.STATE / lab.name / "enqueued").glob("*.jsonl"):
        path.unlink()
    for host in lab.hosts.values():
        host.remove(mastodon.RUNS)
        host.remove(mastodon.LIFE)


def _waits(all_runs: Iterable[Run]) -> dict[str, Waits]:
    first: dict[str, Run] = {}
    for run in all_runs:
        first.setdefault(run.jid, run)
    by_queue: dict[str, list[float]] = defaultdict(list)
    for run in first.values():
        by_queue[run.queue].append(max(run.started_at - run.enqueued_at, 0.0))
    result = {}
    for queue, waited in sorted(by_queue.items()):
        waited.sort()
        last = len(waited) - 1
        result[queue] = Waits(len(waited), waited[last // 2], waited[round(last * 0.95)], waited[last])
    return result


def _jids_in_redis(main: Host, password: str, namespace: str) -> set[str]:
    prefix = f"{namespace}:" if namespace else ""
    with load.connect(main, password) as redis:
        names = strings(redis.command("SMEMBERS", f"{prefix}queues"))
        commands = [("LRANGE", f"{prefix}queue:{name}", "0", "-1") for name in names]
        commands += [("ZRANGE", f"{prefix}{name}", "0", "-1") for name in ("retry", "schedule", "dead")]
        return {json.loads(job)["jid"] for jobs in redis.pipeline(commands) for job in strings(jobs)}


def _alive(host: Host, run: Run) -> bool:
    """Whether the process of an unfinished run still lives, and is not another one with the same pid."""
    try:
        stat = host.path(f"/proc/{run.pid}/stat").read_text()
    except OSError:
        return False
    booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    started = booted + int(stat.rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
    return host.running and started <= run.started_at + 1


def _run(host: Host, start: Mapping[str, Any], end: Mapping[str, Any] | None) -> Run:
    stamp = start["enqueued_at"]
    return Run(
        jid=start["jid"],
        job_class=start["class"],
        queue=start["queue"],
        enqueued_at=stamp / 1000 if isinstance(stamp, int) else stamp,
        host=host.name,
        unit=start["unit"],
        pid=start["pid"],
        started_at=start["at"],
        ended_at=None if end is None else end["at"],
        result=None if end is None else end["result"],
    )


def _entries(host: Host) -> list[dict[str, Any]]:
    with contextlib.suppress(FileNotFoundError):  # a host without Mastodon, or one that ran no job yet
        return _lines((host.disk / mastodon.RUNS.lstrip("/")).read_text())
    return []


def _lines(text: str) -> list[dict[str, Any]]:
    whole = text[: text.rfind("\n") + 1]  # the last line may be half written
    return [json.loads(line) for line in whole.splitlines()]
