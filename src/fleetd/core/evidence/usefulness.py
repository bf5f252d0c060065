"""Processes that live and beat but finish nothing: all threads in endless jobs, or none at work beside a full queue.

Such a process is no capacity, and its busy threads are no reason to start more.
"""

from __future__ import annotations

from collections import Counter

from fleetd.core.model.facts import ProcessFacts, QueueFacts, Value

#: If the youngest of a process's jobs has run for this long, none of its threads has finished anything meanwhile.
STALLED_SECONDS = 2400.0
#: How long a process may have no thread at work while a queue that it serves is late by the second figure. An idle
#: thread fetches within two seconds.
IDLE_SECONDS = 300.0
IDLE_LATE_SECONDS = 30.0


class Stalled(Value, frozen=True, kw_only=True):
    """A process that finishes nothing. `queue`: the one that it does not fetch from; None: its threads are in jobs."""

    seconds: float
    threads: int = 0
    job_class: str = ""  # of most of its jobs; "": could not be read
    queue: str | None = None


def find_stalled(
    processes: tuple[ProcessFacts, ...],
    queues: dict[str, QueueFacts],
    idle_seconds: dict[str, float],
    elapsed_seconds: float | None,
) -> tuple[dict[str, Stalled], dict[str, float]]:
    """The processes that finish nothing, by identity, and for how long each has been idle beside a late queue.

    `elapsed_seconds`: since the last reading; None: nobody watched meanwhile, so the count begins anew.
    """
    late = {name for name, queue in queues.items() if (queue.latency_seconds or 0.0) > IDLE_LATE_SECONDS}
    found: dict[str, Stalled] = {}
    idle: dict[str, float] = {}
    for process in processes:
        if process.quiet or process.threads <= 0:
            continue
        if process.busy_threads == 0:
            left = min(late & process.queues, default=None)
            if left is None:
                continue
            before = idle_seconds.get(process.identity)
            seconds = before + elapsed_seconds if before is not None and elapsed_seconds is not None else 0.0
            idle[process.identity] = seconds
            if seconds >= IDLE_SECONDS:
                found[process.identity] = Stalled(seconds=seconds, queue=left)
        elif process.busy_threads >= process.threads and len(process.jobs) >= process.threads:
            youngest = process.jobs[-1].run_age_seconds
            if youngest >= STALLED_SECONDS:
                found[process.identity] = _in_jobs(process, youngest)
    return found, idle


def _in_jobs(process: ProcessFacts, youngest_seconds: float) -> Stalled:
    classes = Counter(job.job_class for job in process.jobs)
    job_class, threads = classes.most_common(1)[0]
    return Stalled(seconds=youngest_seconds, threads=threads, job_class=job_class)
