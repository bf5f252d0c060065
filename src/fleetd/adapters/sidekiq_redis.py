"""Sidekiq's bookkeeping, read from Redis in one round trip a tick (docs/decisions/0002-one-round-trip-reading.md).

Laws 1 and 3 could break here: a heartbeat that was not understood must not pass for an absent one, and a queue
that was not understood must not pass for an empty one.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from redis import exceptions
from redis.asyncio import Redis

from fleetd.adapters.redis_connection import RedisConnection, refusal_code, sentence
from fleetd.adapters.sidekiq_records import Reading
from fleetd.config.connections import RedisSettings
from fleetd.core.model.facts import SidekiqFacts
from fleetd.errors import SourceUnavailableError

_SCRIPT = Path(__file__).with_name("sidekiq_reading.lua").read_text(encoding="utf-8")
_SHA = hashlib.sha1(_SCRIPT.encode(), usedforsecurity=False).hexdigest()  # Redis's name for it

#: Bounds of one reading (law 7); beyond them it says that it was cut.
QUEUES_MAX = 200
PROCESSES_MAX = 500
RUNNING_JOBS_MAX = 1000  # of one process
RUNNING_BYTES_MAX = 64 * 1024 * 1024  # payloads of all running jobs, copied inside Redis: 500 × 60 of 2 kB
JOB_CLASS_FIELDS_MAX = 5000

PROBE_KEY = "fleetd:probe"
PROBE_SECONDS = 60


class SidekiqRedis:
    """Sidekiq's queues, processes and counters (ports.SidekiqSource)."""

    def __init__(
        self,
        settings: RedisSettings,
        *,
        queues: Iterable[str],
        connect_timeout_seconds: float = 3.0,
        read_timeout_seconds: float = 3.0,
    ) -> None:
        """`queues`: the configured ones, read even while Redis does not know them yet.

        `read_timeout_seconds` bounds one whole reading, connecting included.
        """
        self._settings = settings
        self._deadline_seconds = read_timeout_seconds
        self._connection = RedisConnection(
            settings,
            connect_timeout_seconds=min(connect_timeout_seconds, read_timeout_seconds),
            timeout_seconds=read_timeout_seconds,
        )
        limits = (QUEUES_MAX, PROCESSES_MAX, RUNNING_JOBS_MAX, RUNNING_BYTES_MAX, JOB_CLASS_FIELDS_MAX)
        self._arguments = (settings.key_prefix, *limits, *dict.fromkeys(queues))

    async def read(self, *, check_writes: bool) -> SidekiqFacts:
        """One reading; raises SourceUnavailableError when there is none, and the next call connects anew."""
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

    async def _send(
        self, client: Redis, check_writes: bool, command: str, script: str
    ) -> tuple[Any, Any, Any]:
        pipeline = client.pipeline(transaction=False)
        pipeline.execute_command(command, script, 0, *self._arguments)
        pipeline.execute_command("INFO", "server")
        if check_writes:
            # Sidekiq pushes unfinished jobs back with a write, so only a write tells whether that would work.
            pipeline.execute_command("SET", self._settings.key_prefix + PROBE_KEY, "1", "EX", PROBE_SECONDS)
        replies = await pipeline.execute(raise_on_error=False)
        return replies[0], replies[1], replies[2] if check_writes else None

    def _facts(self, records: list[Any], info: Any, probe: Any) -> SidekiqFacts:
        reading = Reading(self._settings.key_prefix)
        for record in records:
            reading.take(record)
        run_id = info.get("run_id", "") if isinstance(info, dict) else ""
        if not run_id:
            reading.fault("INFO", "does not tell Redis's run_id, so a failover can't be noticed")
        if isinstance(probe, Exception):
            reading.fault(
                self._settings.key_prefix + PROBE_KEY,
                f"can't be written: Redis answers {refusal_code(probe)}",
            )
        writable = None if probe is None else not isinstance(probe, Exception)
        return reading.facts(redis_run_id=str(run_id), writable=writable)
