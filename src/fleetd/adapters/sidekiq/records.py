"""The records that reading.lua sends, made into facts; no I/O.

Laws 1 and 3 could break here: a heartbeat that was not understood must not be taken for an absent one, and a queue that
was not understood must not be taken for an empty one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from fleetd.adapters.redis.failures import code_of
from fleetd.adapters.sidekiq.formats import (
    ProcessInfo,
    WireError,
    count,
    heartbeat,
    job_age_seconds,
    newest_push_seconds,
    process_info,
    text,
    work_entry,
)
from fleetd.adapters.sidekiq.job_classes import JobClasses
from fleetd.adapters.sidekiq.memory import (
    HUGE_JOB_BYTES,
    PROCESSES_MAX,
    HugeJob,
    KnownProcess,
    Memory,
    RunningJobs,
    UnreadWork,
)
from fleetd.core.model.bounds import whole
from fleetd.core.model.facts import KeyFault, QueueFacts, SidekiqFacts

FAULTS_MAX = 100
#: Members of `processes` without a heartbeat that are worth a word.
DEAD_MEMBERS_MAX = 100
_KEY_SHOWN_MAX = 160
_WHY = {
    "WRONGTYPE": "holds another type of value than Sidekiq writes",
    "NOPERM": "may not be read by this Redis user",
    "UNKNOWN": "needs a command that this Redis does not know: it is renamed or disabled (rename-command)",
    "LONGNAME": "has a member that is too long for a name",
    "MANYFIELDS": "holds more than Sidekiq writes in a minute, and is not read",
    "LONGCOUNT": "has a value that is too long for a count",
    "LONGINFO": "has a heartbeat that is too long to be Sidekiq's",
}
UNREAD = "is not read this time: there is too much to read at once"


class Reading:
    """Takes the script's records one by one; `facts` is what they say together.

    `named`: the processes that were named to the script, in their order. `loop_seconds`: the event loop's clock.
    `without_jobs_of`: identities of processes whose running jobs are not asked for.
    """

    def __init__(
        self,
        key_prefix: str,
        memory: Memory | None = None,
        *,
        loop_seconds: float = 0.0,
        without_jobs_of: frozenset[bytes] = frozenset(),
    ) -> None:
        self._prefix = key_prefix
        self._without_jobs_of = without_jobs_of
        self._memory = memory if memory is not None else Memory()
        self._loop_seconds = loop_seconds
        self._now_seconds: float | None = None
        self._queues: dict[str, QueueFacts] = {}
        self._processes: dict[bytes, KnownProcess] = {}  # by identity
        self._lost_work: dict[bytes, list[tuple[str, str]]] = {}
        self._complete = True
        self._counters: dict[str, int] = {}
        self._waiting: dict[str, int] = {}  # jobs by sorted set
        self.job_classes: JobClasses | None = self._memory.job_classes  # replaced by the minute that is to be read now
        self._scheduled_seconds: float | None = None
        self._faults: dict[KeyFault, None] = {}
        self._dead = 0
        self._sets_absent = False  # neither `queues` nor `processes` exists
        self.named: Sequence[bytes] = ()
        self.left: dict[str, list[bytes]] = {"queue": [], "process": []}
        self.members_unread = 0  # the size of `processes`, if it is too large for the first script

    @property
    def now_seconds(self) -> float:
        return self._now_seconds or 0.0

    @property
    def empty(self) -> bool:
        """Nothing of Sidekiq's is there."""
        return self._sets_absent and not any(queue.length_jobs for queue in self._queues.values())

    def take(self, record: list[Any]) -> None:
        kind, rest = record[0], record[1:]
        takes: dict[bytes, Callable[..., None]] = {
            b"time": self._take_time,
            b"queue": self._take_queue,
            b"same": self._take_same,
            b"beats": self._take_beats,
            b"process": self._take_process,
            b"left": self._take_left,
            b"members": self._take_members,
            b"empty": self._take_empty,
            b"counter": self._take_counter,
            b"waiting": self._take_waiting,
            b"classes": self._take_classes,
            b"scheduled": self._take_scheduled,
            b"fault": self._take_fault,
            b"cut": self._take_cut,
        }
        takes[kind](*rest)

    def fault(self, key: str, why: str) -> None:
        self._faults[KeyFault(key=key, why=why)] = None

    def incomplete(self, why: str) -> None:
        """Not every process was read."""
        self._complete = False
        self.fault(f"{self._prefix}processes", why)

    def asks_for_jobs_of(self, identity: bytes) -> bool:
        return identity not in self._without_jobs_of

    def is_new(self, identity: bytes) -> bool:
        return identity not in self._processes

    def knows_all_from_before(self) -> bool:
        """Whether every process of the reading before is there again."""
        return self._memory.processes.keys() <= self._processes.keys()

    def dead_members(self, dead: int) -> None:
        """Members of `processes` without a heartbeat."""
        self._dead += dead

    def unread_work(self) -> list[tuple[KnownProcess, UnreadWork]]:
        """Processes whose running jobs are still to be read: those left over from the reading before come first."""
        waited = {identity for identity, known in self._memory.processes.items() if known.unread is not None}
        unread = [
            (identity not in waited, known.unread.size_bytes, identity, known, known.unread)
            for identity, known in self._processes.items()
            if known.unread is not None
        ]
        return [(known, work) for *_, known, work in sorted(unread, key=lambda one: one[:3])]

    def facts(self, *, redis_run_id: str, writable: bool | None) -> SidekiqFacts:
        """Everything that was taken. It is remembered for the next reading."""
        if self.left["queue"]:
            self.fault(f"{self._prefix}queue:*", UNREAD)
        if self.left["process"]:
            self.incomplete(UNREAD)
        if self._dead > DEAD_MEMBERS_MAX:
            self.fault(
                f"{self._prefix}processes",
                f"has more than {DEAD_MEMBERS_MAX} members that have no heartbeat, which each reading must check; "
                "Sidekiq::ProcessSet.new.cleanup in Mastodon's console removes them",
            )
        processes = []
        for _, known in sorted(self._processes.items()):
            for key, why in (*known.faults, *known.work.faults):
                self.fault(key, why)
            if known.unread is not None:  # one sentence for all: others are unread each time
                self.fault(f"{self._prefix}*:work", UNREAD)
            process = known.facts(self.now_seconds)
            if process is None:
                self._complete = False
            else:
                processes.append(process)
        for key, why in self.job_classes.faults if self.job_classes is not None else ():
            self.fault(key, why)
        self._memory.job_classes = self.job_classes
        self._memory.clocks = (self.now_seconds, self._loop_seconds)
        self._memory.processes = self._processes
        self._memory.huge_jobs = {name: job for name, job in self._memory.huge_jobs.items() if name in self._queues}
        pushed = self._scheduled_seconds
        return SidekiqFacts(
            now_seconds=self.now_seconds,
            queues=self._queues,
            processes=tuple(processes),
            processed_jobs_total=self._counters.get("processed"),
            failed_jobs_total=self._counters.get("failed"),
            processes_complete=self._complete,
            faults=self._bounded_faults(),
            redis_run_id=redis_run_id,
            writable=writable,
            scheduled_age_seconds=None if pushed is None else self.now_seconds - pushed,
            retry_jobs=self._waiting.get("retry"),
            dead_jobs=self._waiting.get("dead"),
            scheduled_jobs=self._waiting.get("schedule"),
            failing_classes=self.job_classes.failing() if self.job_classes is not None else None,
        )

    def _bounded_faults(self) -> tuple[KeyFault, ...]:
        faults = sorted(self._faults, key=lambda fault: (fault.key, fault.why))
        if len(faults) > FAULTS_MAX:
            faults[FAULTS_MAX:] = [KeyFault(key="…", why="and more keys that could not be understood")]
        return tuple(faults)

    def _take_time(self, seconds: bytes, microseconds: bytes) -> None:
        if self._now_seconds is None:  # of the first script: the heartbeats that were known are read in it
            self._now_seconds = int(seconds) + int(microseconds) / 1e6

    def _take_queue(self, name: bytes, length: int, size_bytes: int, job: bytes | None, head: bytes) -> None:
        key = f"{self._prefix}queue:{shown_key(name)}"
        try:
            queue = text(name)
        except WireError as error:
            return self.fault(key, str(error))
        age: float | None = 0.0
        if job is not None:
            try:
                cut = size_bytes > len(job)
                age = job_age_seconds(job, cut=cut, head=head, now_seconds=self.now_seconds)
            except WireError as error:
                age = None
                self.fault(key, str(error))
        elif size_bytes == -2:
            age = None
            self.left["queue"].append(name)
        elif size_bytes < 0:
            age = self._age_of_huge(queue, key, length)
        self._queues[queue] = QueueFacts(name=queue, length_jobs=length, latency_seconds=age)
        if size_bytes > HUGE_JOB_BYTES:
            enqueued = None if age is None else self.now_seconds - age
            self._memory.huge_jobs[queue] = HugeJob(length, size_bytes, enqueued, self._loop_seconds)
        elif size_bytes >= 0:
            self._memory.huge_jobs.pop(queue, None)
        return None

    def _age_of_huge(self, queue: str, key: str, length: int) -> float | None:
        """The age of an oldest job that was not read again, if it is still the same."""
        huge = self._memory.huge_jobs.get(queue)
        if huge is None or huge.length_jobs != length:
            self.fault(key, "has an oldest job of more than 1 MB, which is not read at each reading")
            return None
        if huge.enqueued_seconds is None:
            self.fault(key, "the oldest job has no time of its own near its end")
            return None
        return self.now_seconds - huge.enqueued_seconds

    def _take_same(self, *places: int) -> None:
        for place in places:
            identity = self.named[place - 1]
            self._add(identity, self._memory.processes[identity])

    def _take_process(self, identity: bytes, info_json: bytes | None, *rest: Any) -> None:
        fields, (key, jobs, size_bytes, entries) = list(rest[:5]), rest[5:]
        before = self._memory.processes.get(identity)
        known = KnownProcess(beat=fields[1] or b"", read_at_seconds=self.now_seconds)
        shown = self._prefix + shown_key(identity)
        try:
            known.info_bytes, known.info = _info(info_json, before)
            known.process, problems = heartbeat(text(identity), known.info, fields, self.now_seconds)
            known.faults += [(shown, problem) for problem in problems]
        except WireError as error:
            known.faults.append((shown, str(error)))
        known.work.faults.update(self._lost_work.pop(identity, ()))
        if entries:
            take_entries(known.work, shown_key(key), entries, known.beat_seconds)
        elif jobs:
            known.unread = UnreadWork(key, jobs, size_bytes)
        self._add(identity, known)

    def _take_beats(self, *flat: Any) -> None:
        for at in range(0, len(flat), 4):
            self._take_beat(self.named[flat[at] - 1], *flat[at + 1 : at + 4])

    def _take_beat(self, identity: bytes, busy: bytes | None, beat: bytes | None, quiet: bytes | None) -> None:
        """The beat of a known process whose running jobs are not asked for. Its other fields are as they were."""
        before = self._memory.processes[identity]
        known = KnownProcess(beat=beat or b"", read_at_seconds=self.now_seconds)
        fields = [busy, beat, quiet, None, str(before.process.threads).encode() if before.process else None]
        try:
            known.info_bytes, known.info = _info(None, before)
            known.process, problems = heartbeat(text(identity), known.info, fields, self.now_seconds)
        except WireError as error:
            problems = (str(error),)
        known.faults += [(self._prefix + shown_key(identity), problem) for problem in problems]
        known.left_out = known.process is not None and known.process.busy_threads > 0
        self._add(identity, known)

    def _add(self, identity: bytes, known: KnownProcess) -> None:
        if len(self._processes) >= PROCESSES_MAX and identity not in self._processes:
            self.incomplete(f"has more than {PROCESSES_MAX} members with a heartbeat; the rest is not read")
        else:
            self._processes[identity] = known
        if known.unread is not None and not self.asks_for_jobs_of(identity):
            known.unread, known.left_out = None, True

    def _take_left(self, identity: bytes) -> None:
        self.left["process"].append(identity)

    def _take_members(self, size: int, dead: int) -> None:
        if dead < 0:
            self.members_unread = size
        else:
            self._dead += dead

    def _take_empty(self) -> None:
        self._sets_absent = True

    def _take_counter(self, name: bytes, value: bytes | None) -> None:
        counter = name.decode()
        try:
            # Absent is zero here: INCRBY creates the key with the first job that ends.
            self._counters[counter] = 0 if value is None else count(value)
        except WireError as error:
            self.fault(f"{self._prefix}stat:{counter}", str(error))

    def _take_waiting(self, name: bytes, jobs: int) -> None:
        found = whole(jobs, "jobs")
        if found is not None:
            self._waiting[name.decode()] = found

    def _take_classes(self, key: bytes, fields: Sequence[Any]) -> None:
        if self.job_classes is not None:
            self.job_classes.take(self._prefix + shown_key(key), fields)

    def _take_scheduled(self, lines: bytes) -> None:
        if lines != self._memory.scheduled[0]:
            self._memory.scheduled = (lines, newest_push_seconds(lines))
        self._scheduled_seconds = self._memory.scheduled[1]

    def _take_fault(self, about: bytes, owner: bytes, key: bytes, why: bytes) -> None:
        self._lost(about, owner, key, why_unreadable(code_of(why.decode("ascii", "replace"))))

    def _take_cut(self, about: bytes, owner: bytes, key: bytes, limit: int) -> None:
        self._lost(about, owner, key, f"has more than {limit} members; the rest is not read")

    def _lost(self, about: bytes, owner: bytes, key: bytes, why: str) -> None:
        if about == b"work":  # of a process whose record follows
            self._lost_work.setdefault(owner, []).append((shown_key(key), why))
            return
        if about == b"classes":
            if self.job_classes is not None:
                self.job_classes.faults.append((shown_key(key), why))
            return
        self._complete = self._complete and about != b"processes"
        self.fault(shown_key(key), why)


def _info(json: bytes | None, before: KnownProcess | None) -> tuple[int, ProcessInfo]:
    """What a process says of itself, and its size; it is parsed only if the script sent it, because it has changed."""
    if json is not None:
        return len(json), process_info(json)
    if before is None or before.info is None:
        raise WireError("the heartbeat lacks a field")
    return before.info_bytes, before.info


def take_entries(work: RunningJobs, key: str, entries: Sequence[Any], beat_seconds: float) -> None:
    """Take running jobs, each as its JSON or as running_jobs.lua sends it; None: it has ended meanwhile."""
    for entry in entries:
        if entry is None:
            continue
        try:
            work.take(work_entry(entry), beat_seconds)
        except WireError as error:
            work.faults.add((key, str(error)))


def why_unreadable(code: str) -> str:
    """What an error reply's code means for the key that was asked for."""
    return _WHY.get(code, f"can't be read: Redis answers {code}")


def shown_key(key: bytes) -> str:
    """A key for a sentence: bounded, and readable whatever its bytes are."""
    shown = key.decode("utf-8", "backslashreplace")
    return shown if len(shown) <= _KEY_SHOWN_MAX else shown[: _KEY_SHOWN_MAX - 1] + "…"
