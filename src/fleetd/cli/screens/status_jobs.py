"""The lines about jobs on the screen of `fleetctl status`: how many a second, what waits elsewhere, what fails."""

from __future__ import annotations

from fleetd.cli.terminal.lines import NBSP, Lines, Page
from fleetd.core.model.facts import FailingClass
from fleetd.core.model.status import JobsStatus
from fleetd.words.formatting import count, rate

#: Classes named, those with the most failures.
_NAMED_MAX = 3


def job_lines(jobs: JobsStatus, page: Page) -> Lines:
    """One line, and another one if jobs failed; none while nothing is known."""
    numbers = (jobs.processed_per_second, jobs.failed_per_second, jobs.retry_jobs, jobs.dead_jobs, jobs.scheduled_jobs)
    if all(number is None for number in numbers):
        return []
    parts = (
        f"{rate(jobs.processed_per_second)}, {rate(jobs.failed_per_second)} failed",
        f"{count(jobs.retry_jobs)} {'retry' if jobs.retry_jobs == 1 else 'retries'}",
        f"{count(jobs.dead_jobs)} dead",
        f"{count(jobs.scheduled_jobs)} scheduled",
    )
    lines = page.labelled("Jobs", f" {page.symbols.dot} ".join(part.replace(" ", NBSP) for part in parts))
    failing = jobs.failing_classes or ()
    if failing:
        named = ", ".join(map(_class, failing[:_NAMED_MAX])) + (" and others" if len(failing) > _NAMED_MAX else "")
        lines += page.labelled("Failing", f"{named} in the last whole minute")
    return lines


def _class(failing: FailingClass) -> str:
    of = "" if failing.processed_jobs is None else f"{NBSP}of{NBSP}{count(failing.processed_jobs)}"
    return f"{failing.name or 'unreadable class'} {count(failing.failed_jobs)}{of}"
