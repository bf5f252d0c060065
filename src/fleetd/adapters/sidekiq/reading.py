"""Sidekiq's bookkeeping, read from Redis (docs/decisions/0002, docs/decisions/0013).

One script reads what changes all the time, in one round trip. What has changed since the last reading and is larger is
read after it, in several round trips that each block Redis for a few milliseconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import structs
from redis import exceptions
from redis.asyncio import Redis

from fleetd.adapters.redis.connection import RedisConnection
from fleetd.adapters.redis.failures import cluster_sentence, error_code, sentence, write_refusal
from fleetd.adapters.redis.rider import BugTaker, Ride, Rider
from fleetd.adapters.redis.rounds import Rounds, Script
from fleetd.adapters.redis.sentinels import SentinelView
from fleetd.adapters.sidekiq.formats import minute_keys
from fleetd.adapters.sidekiq.job_classes import JobClasses, last_whole_minute
from fleetd.adapters.sidekiq.members import MembersReader
from fleetd.adapters.sidekiq.memory import Memory
from fleetd.adapters.sidekiq.records import Reading
from fleetd.adapters.sidekiq.running_jobs import RunningJobsReader
from fleetd.config.connections import RedisSettings
from fleetd.core.model.facts import SidekiqFacts
from fleetd.errors import SourceUnavailableError

_SCRIPT = Script(Path(__file__).with_name("reading.lua"))

#: Bounds of one reading (law 7); what is beyond them is a fault of the reading.
QUEUES_MAX = 200
_NAMES_A_SCRIPT = 200
#: The share of the deadline after which a reading asks for nothing more.
_ASKING_SHARE = 0.5

#: The key that each reading writes, and how long it stays.
PROBE_KEY = "fleetd:probe"
PROBE_SECONDS = 60
_PROBE_WITHOUT_RIGHT = (
    "this user has no right to write it, so fleetd can't tell whether Redis takes writes; allow it with "
    f"ACL SETUSER USER +set %RW~{PROBE_KEY}"
)


class SidekiqRedis:
    """Sidekiq's queues, processes and counters (ports.SidekiqSource)."""

    def __init__(
        self,
        settings: RedisSettings,
        *,
        queues: Iterable[str],
        read_timeout_seconds: float = 3.0,
        workers_place: str = "",
        rider: Rider | None = None,
        rider_bug: BugTaker | None = None,
    ) -> None:
        """`queues`: the configured ones, read even while Redis does not know them yet.

        `read_timeout_seconds` bounds one whole reading, connecting included. `workers_place`: see
        SidekiqFacts.workers_endpoint. `rider`: whose commands travel with each reading; `rider_bug`: see Ride.
        """
        self._rider, self._rider_bug = rider, rider_bug
        self._workers_place = workers_place
        self._settings = settings
        self._deadline_seconds = read_timeout_seconds
        self._connection = RedisConnection(settings, timeout_seconds=read_timeout_seconds)
        self._queues = tuple(dict.fromkeys(queues))
        self._memory = Memory()
        self._members = MembersReader()
        self._running_jobs = RunningJobsReader()

    async def read(self, *, without_jobs_of: frozenset[str] = frozenset()) -> SidekiqFacts:
        """One reading. Raises SourceUnavailableError when there is none; the next call then connects anew."""
        ride = Ride(self._rider, self._rider_bug)
        try:
            async with asyncio.timeout(self._deadline_seconds):
                return await self._read(self._connection.client(), ride, without_jobs_of)
        except (exceptions.RedisError, OSError, TimeoutError) as error:
            await self._connection.drop()
            why = sentence(error, self._settings, self._deadline_seconds)
            raise SourceUnavailableError(why) from None  # the cause's text may quote what was sent
        except BaseException:
            await self._connection.drop()
            raise
        finally:
            ride.end()

    async def sentinels_agree(self) -> SentinelView | None:
        """What the Sentinels say of the Redis that is read; None: none are configured. See RedisConnection."""
        return await self._connection.sentinels_agree()

    async def close(self) -> None:
        await self._connection.drop()

    async def _read(self, client: Redis, ride: Ride, without_jobs_of: frozenset[str]) -> SidekiqFacts:
        now = asyncio.get_running_loop().time()
        self._connection.allowance.begin_reading()
        rounds = Rounds(client, self._connection.allowance, until_seconds=now + self._deadline_seconds * _ASKING_SHARE)
        without = frozenset(identity.encode() for identity in without_jobs_of)
        reading = Reading(self._settings.key_prefix, self._memory, loop_seconds=now, without_jobs_of=without)
        probe = await self._read_everything(reading, rounds, now, ride)
        await self._read_left(reading, rounds)
        await self._members.read(reading, rounds, self._settings.key_prefix)
        await self._read_left(reading, rounds)
        await self._running_jobs.read(reading, rounds)
        return self._facts(reading, probe)

    async def _read_everything(self, reading: Reading, rounds: Rounds, now_seconds: float, ride: Ride) -> Any:
        """The first round trip. Returns the reply to the write probe."""
        known = self._memory.processes
        queues = [(name, self._unless(name, now_seconds)) for name in self._queues]
        for name in self._memory.huge_jobs:
            if name not in self._queues:
                queues.append((name, self._unless(name, now_seconds)))
        # Only a write shows whether others can write now: heartbeats, and jobs that are pushed back.
        probe = ("SET", self._settings.key_prefix + PROBE_KEY, "1", "EX", PROBE_SECONDS)
        minute = self._minute_due(now_seconds)
        if minute is not None:
            reading.job_classes = JobClasses(minute)
        arguments = self._arguments(reading, queues, tuple(known), everything=True, minute=minute)
        beside = (("INFO", "server"), probe)
        records, info, written = await rounds.run(_SCRIPT, *arguments, beside=beside, ride=ride)
        server = info if isinstance(info, dict) else {}
        if is_cluster(server):
            raise SourceUnavailableError(cluster_sentence(self._settings))
        run_id = str(server.get("run_id", ""))
        if run_id != self._memory.redis_run_id:  # another Redis: its queues may be others of the same length
            self._memory.huge_jobs.clear()
            self._memory.redis_run_id = run_id
            if minute is None:
                reading.job_classes = None
        for record in records:
            reading.take(record)
        return written

    def _minute_due(self, now_seconds: float) -> int | None:
        """The minute whose job classes are to be read now; None: they were, or Redis's clock is not known yet."""
        if self._memory.clocks is None:
            return None
        redis_seconds, loop_seconds = self._memory.clocks
        minute, known = last_whole_minute(redis_seconds + now_seconds - loop_seconds), self._memory.job_classes
        return None if known is not None and known.unix_minutes == minute else minute

    def _unless(self, queue: str, now_seconds: float) -> str:
        """The length with which this queue's oldest job is not read again; "*": with any, "": with none."""
        huge = self._memory.huge_jobs.get(queue)
        if huge is None:
            return ""
        return "*" if huge.rests(now_seconds) else str(huge.length_jobs)

    def _arguments(
        self,
        reading: Reading,
        queues: Sequence[tuple[Any, str]],
        processes: Sequence[bytes],
        *,
        everything: bool,
        minute: int | None = None,
    ) -> list[Any]:
        """What the script is told. `reading` then knows in which order the processes were named."""
        classes = "" if minute is None else " ".join(minute_keys(minute))
        whole: list[Any] = []
        beats: list[Any] = []
        for identity in processes:
            known = self._memory.processes.get(identity)
            if known is None:
                whole += (identity, "", "")
            elif known.process is not None and not reading.asks_for_jobs_of(identity):
                beats += (identity, known.beat)
            else:
                beat = "" if known.left_out else known.beat  # as if it had beaten since
                whole += (identity, beat, known.info_bytes if known.info is not None else "")
        reading.named = (*whole[::3], *beats[::2])
        counts = (len(queues), len(whole) // 3)
        arguments = [self._settings.key_prefix, int(everything), QUEUES_MAX, classes, *counts]
        for name, unless in queues:
            arguments += (name, unless)
        return [*arguments, *whole, *beats]

    async def _read_some(
        self, reading: Reading, rounds: Rounds, queues: Sequence[bytes], processes: Sequence[bytes]
    ) -> None:
        (records,) = await rounds.run(
            _SCRIPT, *self._arguments(reading, [(name, "") for name in queues], processes, everything=False)
        )
        for record in records:
            reading.take(record)

    async def _read_left(self, reading: Reading, rounds: Rounds) -> None:
        """What the first script left because it had done enough. Each script leaves less."""
        left = reading.left
        while (left["process"] or left["queue"]) and rounds.any_left():
            processes, left["process"] = left["process"][:_NAMES_A_SCRIPT], left["process"][_NAMES_A_SCRIPT:]
            queues, left["queue"] = left["queue"], []
            await self._read_some(reading, rounds, queues, processes)

    def _facts(self, reading: Reading, probe: Any) -> SidekiqFacts:
        run_id = self._memory.redis_run_id
        if not run_id:
            reading.fault("INFO", "does not give Redis's run_id, so a failover can't be noticed")
        if reading.empty:
            reading.fault(*self._empty())
        refused = isinstance(probe, Exception)
        if refused:
            why = write_refusal(probe, without_right=_PROBE_WITHOUT_RIGHT)
            reading.fault(self._settings.key_prefix + PROBE_KEY, f"can't be written: {why}")
        # A user without the right to write learns nothing of Redis itself.
        writable = None if refused and error_code(probe) == "NOPERM" else not refused
        facts = reading.facts(redis_run_id=run_id, writable=writable)
        return structs.replace(facts, endpoint=self._settings.place, workers_endpoint=self._workers_place)

    def _empty(self) -> tuple[str, str]:
        namespace = self._settings.namespace
        where = f"database {self._settings.db}" + (f", namespace '{namespace}'," if namespace else "")
        return (
            f"{self._settings.key_prefix}processes",
            f"{where} has neither queues nor processes of Sidekiq's: if workers run, they use another database, "
            "namespace or Redis",
        )


def is_cluster(server: Mapping[str, object]) -> bool:
    """By the section "server" of INFO: Valkey calls Redis's redis_mode server_mode."""
    return "cluster" in (server.get("redis_mode"), server.get("server_mode"))
