"""Sidekiq's bookkeeping, read from Redis in one round trip a tick (docs/decisions/0002-one-round-trip-reading.md).

reading.lua collects records inside Redis; `Reading` makes facts of them, without any I/O.

Laws 1 and 3 could break here: a heartbeat that was not understood must not be taken for an absent one, and a queue that
was not understood must not be taken for an empty one.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec
from redis import exceptions
from redis.asyncio import Redis

from fleetd.adapters.sidekiq.connection import RedisConnection, error_code, scripts_lack_rights, sentence
from fleetd.adapters.sidekiq.formats import WireError, age_seconds, count, heartbeat, job_age_seconds, text, work_entry
from fleetd.config.connections import RedisSettings
from fleetd.core.model.facts import YOUNG_SECONDS, KeyFault, ProcessFacts, QueueFacts, RunningJob, SidekiqFacts
from fleetd.errors import SourceUnavailableError

_SCRIPT = Path(__file__).with_name("reading.lua").read_text(encoding="utf-8")
_SHA = hashlib.sha1(_SCRIPT.encode(), usedforsecurity=False).hexdigest()  # Redis's name for it

#: Bounds of one reading (law 7); what is beyond them is a fault of the reading.
QUEUES_MAX = 200
PROCESSES_MAX = 500
RUNNING_JOBS_MAX = 1000  # of one process
RUNNING_BYTES_MAX = 64 * 1024 * 1024  # payloads of all running jobs, copied inside Redis: 500 × 60 of 2 kB

PROBE_KEY = "fleetd:probe"
PROBE_SECONDS = 60
#: Sidekiq writes the begin of a job in whole seconds, rounded down: half a second too early on average.
RUN_AT_SECONDS = 0.5
FAULTS_MAX = 100
_KEY_SHOWN_MAX = 160
_WHY = {
    "WRONGTYPE": "holds another type of value than Sidekiq writes",
    "NOPERM": "may not be read by this Redis user",
    "LONGNAME": "has a member that is too long for a name",
    "LONGINFO": "has a heartbeat that is too long to be Sidekiq's",
}


class SidekiqRedis:
    """Sidekiq's queues, processes and counters (ports.SidekiqSource)."""

    def __init__(self, settings: RedisSettings, *, queues: Iterable[str], read_timeout_seconds: float = 3.0) -> None:
        """`queues`: the configured ones, read even while Redis does not know them yet.

        `read_timeout_seconds` bounds one whole reading, connecting included.
        """
        self._settings = settings
        self._deadline_seconds = read_timeout_seconds
        self._connection = RedisConnection(settings, timeout_seconds=read_timeout_seconds)
        limits = (QUEUES_MAX, PROCESSES_MAX, RUNNING_JOBS_MAX, RUNNING_BYTES_MAX)
        self._arguments = (settings.key_prefix, *limits, *dict.fromkeys(queues))

    async def read(self) -> SidekiqFacts:
        """One reading. Raises SourceUnavailableError when there is none; the next call then connects anew."""
        try:
            async with asyncio.timeout(self._deadline_seconds):
                records, info, probe = await self._round_trip(self._connection.client())
        except (exceptions.RedisError, OSError, TimeoutError) as error:
            await self._connection.drop()
            why = sentence(error, self._settings, self._deadline_seconds)
            raise SourceUnavailableError(why) from None  # the cause's text may quote what was sent
        except BaseException:
            await self._connection.drop()
            raise
        return self._facts(records, info, probe)

    async def close(self) -> None:
        await self._connection.drop()

    async def _round_trip(self, client: Redis) -> tuple[list[Any], Any, Any]:
        records, info, probe = await self._send(client, "EVALSHA", _SHA)
        if isinstance(records, exceptions.NoScriptError):  # a new Redis, a failover or SCRIPT FLUSH
            records, info, probe = await self._send(client, "EVAL", _SCRIPT)
        if isinstance(records, Exception):
            raise records
        return records, info, probe

    async def _send(self, client: Redis, command: str, script: str) -> tuple[Any, Any, Any]:
        pipeline = client.pipeline(transaction=False)
        pipeline.execute_command(command, script, 0, *self._arguments)
        pipeline.execute_command("INFO", "server")
        # Only a write shows whether others can write now: heartbeats, and jobs that are pushed back.
        pipeline.execute_command("SET", self._settings.key_prefix + PROBE_KEY, "1", "EX", PROBE_SECONDS)
        records, info, probe = await pipeline.execute(raise_on_error=False)
        return records, info, probe

    def _facts(self, records: list[Any], info: Any, probe: Any) -> SidekiqFacts:
        reading = Reading(self._settings.key_prefix)
        for record in records:
            reading.take(record)
        run_id = info.get("run_id", "") if isinstance(info, dict) else ""
        if not run_id:
            reading.fault("INFO", "does not give Redis's run_id, so a failover can't be noticed")
        if isinstance(probe, Exception):
            reading.fault(self._settings.key_prefix + PROBE_KEY, f"can't be written: Redis answers {error_code(probe)}")
        # A user without the right to write learns nothing of Redis itself.
        refused = isinstance(probe, Exception)
        writable = None if refused and error_code(probe) == "NOPERM" else not refused
        return reading.facts(redis_run_id=str(run_id), writable=writable)


class _Work:
    """The running jobs of one process."""

    def __init__(self) -> None:
        self.busy: dict[str, int] = {}  # by queue
        self.young: dict[str, int] = {}  # by queue
        self.jobs: list[RunningJob] = []
        self.complete = True  # False: some could not be read

    def of(self, process: ProcessFacts) -> ProcessFacts:
        """The process with its running jobs, oldest first."""
        return msgspec.structs.replace(
            process,
            jobs=tuple(sorted(self.jobs, key=lambda job: (-job.run_age_seconds, job.jid))),
            busy_by_queue=self.busy if self.complete else None,
            young_by_queue=self.young,
        )


class Reading:
    """Takes the script's records one by one; `facts` is what they say together."""

    def __init__(self, key_prefix: str) -> None:
        self._prefix = key_prefix
        self._now_seconds = 0.0
        self._queues: dict[str, QueueFacts] = {}
        self._processes: dict[bytes, ProcessFacts] = {}  # by identity
        self._complete = True
        self._work: dict[bytes, _Work] = {}  # by identity
        self._counters: dict[str, int] = {}
        self._faults: dict[KeyFault, None] = {}

    def take(self, record: list[Any]) -> None:
        kind, rest = record[0], record[1:]
        takes: dict[bytes, Callable[..., None]] = {
            b"time": self._take_time,
            b"queue": self._take_queue,
            b"process": self._take_process,
            b"work": self._take_work,
            b"counter": self._take_counter,
            b"fault": self._take_fault,
            b"cut": self._take_cut,
        }
        takes[kind](*rest)

    def fault(self, key: str, why: str) -> None:
        self._faults[KeyFault(key=key, why=why)] = None

    def facts(self, *, redis_run_id: str, writable: bool | None) -> SidekiqFacts:
        faults = sorted(self._faults, key=lambda fault: (fault.key, fault.why))
        if len(faults) > FAULTS_MAX:
            faults[FAULTS_MAX:] = [KeyFault(key="…", why="and more keys that could not be understood")]
        idle = _Work()
        return SidekiqFacts(
            now_seconds=self._now_seconds,
            queues=self._queues,
            processes=tuple(
                self._work.get(identity, idle).of(process) for identity, process in sorted(self._processes.items())
            ),
            processed_jobs_total=self._counters.get("processed"),
            failed_jobs_total=self._counters.get("failed"),
            processes_complete=self._complete,
            faults=tuple(faults),
            redis_run_id=redis_run_id,
            writable=writable,
        )

    def _take_time(self, seconds: bytes, microseconds: bytes) -> None:
        self._now_seconds = int(seconds) + int(microseconds) / 1e6

    def _take_queue(self, name: bytes, length: int, job: bytes | None, cut: int) -> None:
        age: float | None = 0.0
        try:
            queue = text(name)
        except WireError as error:
            self.fault(f"{self._prefix}queue:{_shown(name)}", str(error))
            return
        try:
            if job is not None:
                age = job_age_seconds(job, cut=bool(cut), now_seconds=self._now_seconds)
        except WireError as error:
            age = None
            self.fault(f"{self._prefix}queue:{_shown(name)}", str(error))
        self._queues[queue] = QueueFacts(name=queue, length_jobs=length, latency_seconds=age)

    def _take_process(self, identity: bytes, *fields: bytes | None) -> None:
        try:
            self._processes[identity] = heartbeat(text(identity), list(fields), self._now_seconds)
        except WireError as error:
            self._complete = False
            self.fault(self._prefix + _shown(identity), str(error))

    def _take_work(self, identity: bytes, key: bytes, entries: list[Any]) -> None:
        process = self._processes.get(identity)
        young_seconds = YOUNG_SECONDS + RUN_AT_SECONDS + (process.beat_age_seconds if process else 0.0)
        work = self._work.setdefault(identity, _Work())
        for entry in entries:
            try:
                queue, run_at, jid = work_entry(entry)
                age = age_seconds(run_at, self._now_seconds)
            except WireError as error:
                work.complete = False
                self.fault(_shown(key), str(error))
                continue
            work.busy[queue] = work.busy.get(queue, 0) + 1
            work.young[queue] = work.young.get(queue, 0) + (age < young_seconds)
            work.jobs.append(RunningJob(jid=jid, run_age_seconds=age))

    def _take_counter(self, name: bytes, value: bytes | None) -> None:
        counter = name.decode()
        try:
            # Absent is zero here: INCRBY creates the key with the first job that ends.
            self._counters[counter] = 0 if value is None else count(value)
        except WireError as error:
            self.fault(f"{self._prefix}stat:{counter}", str(error))

    def _take_fault(self, about: bytes, owner: bytes, key: bytes, why: bytes) -> None:
        self._lost(about, owner)
        words = why.decode("ascii", "replace")
        code = "NOPERM" if scripts_lack_rights(words) else words.split(" ", 1)[0]
        self.fault(_shown(key), _WHY.get(code, f"can't be read: {code[:32]}"))

    def _take_cut(self, about: bytes, owner: bytes, key: bytes, limit: int) -> None:
        self._lost(about, owner)
        self.fault(_shown(key), f"has more than {limit} members; the rest is not read")

    def _lost(self, about: bytes, owner: bytes) -> None:
        if about == b"processes":
            self._complete = False
        elif about == b"work":
            self._work.setdefault(owner, _Work()).complete = False


def _shown(key: bytes) -> str:
    shown = key.decode("utf-8", "backslashreplace")
    return shown if len(shown) <= _KEY_SHOWN_MAX else shown[: _KEY_SHOWN_MAX - 1] + "…"
