"""Sidekiq's bookkeeping, read from Redis in one round trip a tick (docs/decisions/0002-one-round-trip-reading.md).

reading.lua collects records inside Redis; `Reading` makes facts of them, without any I/O.

Laws 1 and 3 could break here: a heartbeat that was not understood must not be taken for an absent one, and a queue that
was not understood must not be taken for an empty one.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
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

    async def read(self, *, check_writes: bool) -> SidekiqFacts:
        """One reading. Raises SourceUnavailableError when there is none; the next call then connects anew."""
        try:
            async with asyncio.timeout(self._deadline_seconds):
                records, info, probe = await self._round_trip(self._connection.client(), check_writes)
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

    async def _round_trip(self, client: Redis, check_writes: bool) -> tuple[list[Any], Any, Any]:
        records, info, probe = await self._send(client, check_writes, "EVALSHA", _SHA)
        if isinstance(records, exceptions.NoScriptError):  # a new Redis, a failover or SCRIPT FLUSH
            records, info, probe = await self._send(client, check_writes, "EVAL", _SCRIPT)
        if isinstance(records, Exception):
            raise records
        return records, info, probe

    async def _send(self, client: Redis, check_writes: bool, command: str, script: str) -> tuple[Any, Any, Any]:
        pipeline = client.pipeline(transaction=False)
        pipeline.execute_command(command, script, 0, *self._arguments)
        pipeline.execute_command("INFO", "server")
        if check_writes:
            # Sidekiq pushes unfinished jobs back with a write, so only a write shows whether that would work.
            pipeline.execute_command("SET", self._settings.key_prefix + PROBE_KEY, "1", "EX", PROBE_SECONDS)
        replies = await pipeline.execute(raise_on_error=False)
        return replies[0], replies[1], replies[2] if check_writes else None

    def _facts(self, records: list[Any], info: Any, probe: Any) -> SidekiqFacts:
        reading = Reading(self._settings.key_prefix)
        for record in records:
            reading.take(record)
        run_id = info.get("run_id", "") if isinstance(info, dict) else ""
        if not run_id:
            reading.fault("INFO", "does not give Redis's run_id, so a failover can't be noticed")
        if isinstance(probe, Exception):
            reading.fault(self._settings.key_prefix + PROBE_KEY, f"can't be written: Redis answers {error_code(probe)}")
        writable = None if probe is None else not isinstance(probe, Exception)
        return reading.facts(redis_run_id=str(run_id), writable=writable)


class Reading:
    """Takes the script's records one by one; `facts` is what they say together."""

    def __init__(self, key_prefix: str) -> None:
        self._prefix = key_prefix
        self._now_seconds = 0.0
        self._lengths: dict[str, tuple[int, float]] = {}  # queue to length and oldest age
        self._processes: dict[bytes, ProcessFacts] = {}  # by identity
        self._complete = True
        self._busy: Counter[str] = Counter()  # by queue
        self._young: Counter[str] = Counter()  # by queue
        self._jobs: dict[bytes, list[RunningJob]] = {}  # by identity
        self._unattributed: set[bytes] = set()  # identities whose running jobs are not all understood
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
        for queue in self._unknown_busy():
            if self._lengths.pop(queue, None) is not None:
                self.fault(
                    f"{self._prefix}queue:{queue}", "has running jobs that could not be read: busy threads unknown"
                )
        faults = sorted(self._faults, key=lambda fault: (fault.key, fault.why))
        if len(faults) > FAULTS_MAX:
            faults[FAULTS_MAX:] = [KeyFault(key="…", why="and more keys that could not be understood")]
        return SidekiqFacts(
            queues={
                name: QueueFacts(
                    name=name,
                    length_jobs=length,
                    latency_seconds=age,
                    busy_threads=self._busy[name],
                    young_threads=self._young[name],
                )
                for name, (length, age) in self._lengths.items()
            },
            processes=tuple(
                _with_jobs(process, self._jobs.get(identity, []))
                for identity, process in sorted(self._processes.items())
            ),
            processed_jobs_total=self._counters.get("processed"),
            failed_jobs_total=self._counters.get("failed"),
            processes_complete=self._complete,
            faults=tuple(faults),
            redis_run_id=redis_run_id,
            writable=writable,
        )

    def _unknown_busy(self) -> set[str]:
        """Queues on which a thread may be busy that was counted nowhere."""
        owners = (self._processes.get(identity) for identity in self._unattributed)
        return {queue for owner in owners if owner for queue in owner.queues}

    def _take_time(self, seconds: bytes, microseconds: bytes) -> None:
        self._now_seconds = int(seconds) + int(microseconds) / 1e6

    def _take_queue(self, name: bytes, length: int, job: bytes | None, cut: int) -> None:
        try:
            age = 0.0
            if job is not None:
                age = job_age_seconds(job, cut=bool(cut), now_seconds=self._now_seconds)
            self._lengths[text(name)] = (length, age)
        except WireError as error:
            self.fault(f"{self._prefix}queue:{_shown(name)}", str(error))

    def _take_process(self, identity: bytes, *fields: bytes | None) -> None:
        try:
            self._processes[identity] = heartbeat(text(identity), list(fields), self._now_seconds)
        except WireError as error:
            self._complete = False
            self.fault(self._prefix + _shown(identity), str(error))

    def _take_work(self, identity: bytes, key: bytes, entries: list[Any]) -> None:
        process = self._processes.get(identity)
        young_seconds = YOUNG_SECONDS + RUN_AT_SECONDS + (process.beat_age_seconds if process else 0.0)
        for entry in entries:
            try:
                queue, run_at, jid = work_entry(entry)
                age = age_seconds(run_at, self._now_seconds)
            except WireError as error:
                self._unattributed.add(identity)
                self.fault(_shown(key), str(error))
                continue
            self._busy[queue] += 1
            self._young[queue] += age < young_seconds
            self._jobs.setdefault(identity, []).append(RunningJob(jid=jid, run_age_seconds=age))

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
            self._unattributed.add(owner)


def _with_jobs(process: ProcessFacts, jobs: list[RunningJob]) -> ProcessFacts:
    oldest_first = tuple(sorted(jobs, key=lambda job: (-job.run_age_seconds, job.jid)))
    oldest = oldest_first[0].run_age_seconds if oldest_first else None
    return msgspec.structs.replace(process, oldest_run_age_seconds=oldest, jobs=oldest_first)


def _shown(key: bytes) -> str:
    shown = key.decode("utf-8", "backslashreplace")
    return shown if len(shown) <= _KEY_SHOWN_MAX else shown[: _KEY_SHOWN_MAX - 1] + "…"
