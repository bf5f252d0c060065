"""Processes that live and beat but finish nothing: all threads in endless jobs, or none at work beside a full queue.

Such a process is no capacity, and its busy threads are no reason to start more.
"""

from __future__ import annotations

from collections import Counter

from msgspec import structs

from fleetd.core.model.facts import ProcessFacts, QueueFacts, Value

#: If the youngest of a process's jobs has run for this long, none of its threads has finished anything meanwhile.
STALLED_SECONDS = 2400.0
#: How long a process may have no thread at work while a queue that it serves is late by the second figure. An idle
#: thread fetches within two seconds.
IDLE_SECONDS = 300.0
IDLE_LATE_SECONDS = 30.0
#: How long readings must say that all jobs are that old: a clock that was just set makes them look so until two beats
#: have shown it.
CONFIRMED_SECONDS = 120.0


class Stalled(Value, frozen=True, kw_only=True):
    """A process that finishes nothing. `queue`: the one that it does not fetch from; None: its threads are in jobs."""

    seconds: float
    threads: int = 0
    job_class: str = ""  # of most of its jobs; "": could not be read
    queue: str | None = None


def find_stalled(
    processes: tuple[ProcessFacts, ...],
    queues: dict[str, QueueFacts],
    useless_seconds: dict[str, float],
    elapsed_seconds: float | None,
) -> tuple[dict[str, Stalled], dict[str, float]]:
    """The processes that finish nothing, by identity, and for how long each has looked so.

    `elapsed_seconds`: since the last reading; None: nobody watched meanwhile, so the count begins anew.
    """
    late = {name for name, queue in queues.items() if (queue.latency_seconds or 0.0) > IDLE_LATE_SECONDS}
    found: dict[str, Stalled] = {}
    useless: dict[str, float] = {}
    for process in processes:
        seen = None if process.quiet or process.threads <= 0 else _seen(process, late)
        if seen is None:
            continue
        before = useless_seconds.get(process.identity)
        seconds = before + elapsed_seconds if before is not None and elapsed_seconds is not None else 0.0
        useless[process.identity] = seconds
        if seen.queue is not None and seconds >= IDLE_SECONDS:
            found[process.identity] = structs.replace(seen, seconds=seconds)
        elif seen.queue is None and seconds >= CONFIRMED_SECONDS:
            found[process.identity] = seen
    return found, useless


def _seen(process: ProcessFacts, late: set[str]) -> Stalled | None:
    """What a process looks like in this reading; None: as if it worked, or could."""
    if process.busy_threads == 0:
        left = min(late & process.queues, default=None)
        return None if left is None else Stalled(seconds=0.0, queue=left)
    if process.busy_threads < process.threads or len(process.jobs) < process.threads:
        return None
    youngest = process.jobs[-1].run_age_seconds
    return _in_jobs(process, youngest) if youngest >= STALLED_SECONDS else None


def _in_jobs(process: ProcessFacts, youngest_seconds: float) -> Stalled:
    classes = Counter(job.job_class for job in process.jobs)
    job_class, threads = classes.most_common(1)[0]
    return Stalled(seconds=youngest_seconds, threads=threads, job_class=job_class)
