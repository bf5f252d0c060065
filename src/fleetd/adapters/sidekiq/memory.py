"""What is kept of one reading for the next, so that only what has changed is read and parsed again.

A process writes its whole heartbeat and its running jobs only when it beats, and its `info` never changes. So while the
beat is the same, so is everything else.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from fleetd.adapters.sidekiq.formats import ProcessInfo, RunningEntry
from fleetd.adapters.sidekiq.job_classes import JobClasses
from fleetd.core.model.facts import YOUNG_SECONDS, ProcessFacts, RunningJob

#: Heartbeats read and remembered; what is beyond them makes a reading incomplete.
PROCESSES_MAX = 2000
#: Sidekiq writes the begin of a job in whole seconds, rounded down: half a second too early on average.
RUN_AT_SECONDS = 0.5
#: An oldest job above this size is remembered, and not read again while the length of its queue stays the same.
HUGE_JOB_BYTES = 1024 * 1024
#: Nor sooner than this for each MB, whatever the length: it costs Redis about 3 ms a MB, so 1 % of its time.
HUGE_JOB_SECONDS = 0.3


@dataclass(frozen=True)
class UnreadWork:
    """The running jobs of a process that are still to be read: their key, how many, and their bytes (-1: unknown)."""

    key: bytes
    jobs: int
    size_bytes: int


class RunningJobs:
    """The running jobs of one process as of one beat."""

    def __init__(self) -> None:
        self.busy: dict[str, int] = {}  # by queue
        self.young: dict[str, int] = {}  # by queue
        self.jobs: list[RunningEntry] = []
        self.faults: set[tuple[str, str]] = set()  # key and why; not empty: some could not be read

    def take(self, entry: RunningEntry, beat_seconds: float) -> None:
        self.jobs.append(entry)
        young = entry.run_at_seconds > beat_seconds - YOUNG_SECONDS - RUN_AT_SECONDS
        self.busy[entry.queue] = self.busy.get(entry.queue, 0) + 1
        self.young[entry.queue] = self.young.get(entry.queue, 0) + young


@dataclass
class KnownProcess:
    """One heartbeat, with the ages that it had when it was read."""

    beat: bytes
    read_at_seconds: float  # Redis's clock
    info_bytes: int = 0
    info: ProcessInfo | None = None  # None: not understood
    process: ProcessFacts | None = None  # None: not understood
    faults: list[tuple[str, str]] = field(default_factory=list)  # key and why
    unread: UnreadWork | None = None  # running jobs of this beat that are still to be read
    left_out: bool = False  # the running jobs of this beat were not asked for
    work: RunningJobs = field(default_factory=RunningJobs)

    @property
    def beat_seconds(self) -> float:
        """Unix time, by the process's clock."""
        return self.read_at_seconds - (self.process.beat_age_seconds if self.process else 0.0)

    @property
    def _is_read(self) -> bool:
        return not self.work.faults and self.unread is None and not self.left_out

    def facts(self, now_seconds: float) -> ProcessFacts | None:
        """The process as of now, its running jobs oldest first; None: its heartbeat was not understood."""
        if self.process is None:
            return None
        jobs = [
            RunningJob(jid=job.jid, run_age_seconds=now_seconds - job.run_at_seconds, job_class=job.job_class)
            for job in sorted(self.work.jobs, key=lambda job: (job.run_at_seconds, job.jid))
        ]
        elapsed = now_seconds - self.read_at_seconds
        return msgspec.structs.replace(
            self.process,
            beat_age_seconds=self.process.beat_age_seconds + elapsed,
            started_age_seconds=self.process.started_age_seconds + elapsed,
            jobs=tuple(jobs),
            busy_by_queue=self.work.busy if self._is_read else None,
            young_by_queue=self.work.young,
            without_jobs=self.left_out,
        )


@dataclass(frozen=True)
class HugeJob:
    """The oldest job of a queue, if it is too large to be read at each reading."""

    length_jobs: int  # of the queue when it was read
    size_bytes: int
    enqueued_seconds: float | None  # Unix time; None: not understood
    read_at_seconds: float  # of the event loop's clock

    def rests(self, loop_seconds: float) -> bool:
        """Whether it was read too recently to be read again."""
        return loop_seconds < self.read_at_seconds + self.size_bytes / 1e6 * HUGE_JOB_SECONDS


class Memory:
    """All that is kept."""

    def __init__(self) -> None:
        self.processes: dict[bytes, KnownProcess] = {}  # by identity
        self.huge_jobs: dict[str, HugeJob] = {}  # by queue
        self.scheduled: tuple[bytes, float | None] = (b"", None)  # the times as written, and the newest of them
        self.job_classes: JobClasses | None = None  # of the last minute that was read
        self.clocks: tuple[float, float] | None = None  # Redis's (Unix time) and the event loop's at the last reading
        self.redis_run_id = ""
