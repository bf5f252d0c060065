"""Reads the running jobs of the processes that have beaten, as cheaply for Redis as the link allows.

Sent whole (HVALS, HMGET) they cost Redis the least, but the link their payloads; cut inside Redis (running_jobs.lua)
they cost Redis three times as much and the link next to nothing. So what is sent whole is bounded by how fast the link
was.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from redis import exceptions

from fleetd.adapters.redis.failures import code_of, error_code
from fleetd.adapters.redis.rounds import Rounds, Script
from fleetd.adapters.sidekiq.memory import KnownProcess, RunningJobs, UnreadWork
from fleetd.adapters.sidekiq.records import Reading, shown_key, take_entries, why_unreadable

_SCRIPT = Script(Path(__file__).with_name("running_jobs.lua"))

#: Bounds of one reading; what is beyond them is unknown, and comes first at the next reading.
RUNNING_JOBS_MAX = 20_000
CUT_BYTES_MAX = 32 * 1024 * 1024
#: A larger job is not read at all: a field of a hash can't be read in part.
JOB_BYTES_MAX = 4 * 1024 * 1024
PROCESS_JOBS_MAX = 2000  # of one process

#: What one round trip sends whole, and what one script cuts: 1 to 2 ms of Redis.
_SENT_BYTES_A_ROUND = 2 * 1024 * 1024
_CUT_BYTES_A_SCRIPT = 512 * 1024
_JOBS_A_SCRIPT = 500
#: What may be sent whole before the link was measured, and after that.
SENT_BYTES_FIRST = 512 * 1024
SENT_BYTES_MIN, SENT_BYTES_MAX = SENT_BYTES_FIRST, 32 * 1024 * 1024
_SENT_SECONDS = 0.4  # of the link, at one reading
_MEASURED_BYTES_MIN = 64 * 1024  # less says nothing of the link


class _Part(NamedTuple):
    """Some running jobs of one process, read by one command; `tids` empty: all of them."""

    of: _Collected
    tids: tuple[bytes, ...]
    size_bytes: int


class _Collected:
    """The running jobs of one process, which count once all of their parts were read."""

    def __init__(self, known: KnownProcess, unread: UnreadWork) -> None:
        self.known = known
        self.unread = unread
        self._work = RunningJobs()
        self._work.faults |= known.work.faults
        self.parts_left = 0

    def take(self, entries: Sequence[Any] | Exception) -> None:
        """The reply to one part."""
        if isinstance(entries, Exception):
            self.lose(why_unreadable(error_code(entries)))
        else:
            take_entries(self._work, shown_key(self.unread.key), entries, self.known.beat_seconds)
        self.parts_left -= 1
        if self.parts_left == 0:
            self.close()

    def lose(self, why: str) -> None:
        """Some running jobs can't be read."""
        self._work.faults.add((shown_key(self.unread.key), why))

    def close(self) -> None:
        """Everything that can be read was read."""
        self.known.work, self.known.unread = self._work, None


class RunningJobsReader:
    """Reads running jobs; remembers how fast the link is."""

    def __init__(self) -> None:
        self._sent_bytes_max = SENT_BYTES_FIRST

    async def read(self, reading: Reading, rounds: Rounds) -> None:
        """Read what is unread, as far as the bounds of this reading go."""
        sent_left, cut_left = self._sent_bytes_max, CUT_BYTES_MAX
        sent: list[_Part] = []
        cut: list[_Part] = []
        large: list[_Collected] = []
        for work in _chosen(reading.unread_work()):
            size = work.unread.size_bytes
            if 0 <= size <= min(sent_left, _SENT_BYTES_A_ROUND):
                sent_left -= size
                work.parts_left = 1
                sent.append(_Part(work, (), size))
            else:
                large.append(work)
        async for work, sizes in _sizes(large, rounds):
            whole: list[tuple[bytes, int]] = []
            while sizes and sizes[-1][1] <= sent_left:
                whole.append(sizes.pop())
                sent_left -= whole[-1][1]
            needed = sum(size for _, size in sizes)
            if needed <= cut_left:
                cut_left -= needed
                sent += _parts(work, whole, _SENT_BYTES_A_ROUND)
                cut += _parts(work, sizes, _CUT_BYTES_A_SCRIPT)
        link = _Link()
        for batch in _batches(sent, _SENT_BYTES_A_ROUND):
            if rounds.any_left():
                await _send(batch, rounds, link)
        self._sent_bytes_max = link.affordable_bytes(self._sent_bytes_max)
        for part in cut:
            if rounds.any_left():
                await _cut(part, rounds)


class _Link:
    """How fast the link was at one reading."""

    def __init__(self) -> None:
        self.received_bytes = 0
        self.seconds = 0.0

    def affordable_bytes(self, before_bytes: int) -> int:
        """What may be sent at the next reading. It follows a link that becomes slow at once, and others smoothly."""
        if self.received_bytes < _MEASURED_BYTES_MIN:
            return before_bytes
        now_bytes = self.received_bytes / max(self.seconds, 1e-6) * _SENT_SECONDS
        affordable = min((before_bytes + now_bytes) / 2, 2 * now_bytes)
        return int(min(max(affordable, SENT_BYTES_MIN), SENT_BYTES_MAX))


async def _send(parts: list[_Part], rounds: Rounds, link: _Link) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    replies = await rounds.ask(
        *(("HMGET", part.of.unread.key, *part.tids) if part.tids else ("HVALS", part.of.unread.key) for part in parts)
    )
    link.seconds += loop.time() - began
    link.received_bytes += sum(len(entry or b"") for reply in replies if isinstance(reply, list) for entry in reply)
    for part, reply in zip(parts, replies, strict=True):
        part.of.take(reply)


async def _cut(part: _Part, rounds: Rounds) -> None:
    try:
        (entries,) = await rounds.run(_SCRIPT, "jobs", JOB_BYTES_MAX, part.of.unread.key, *part.tids)
    except exceptions.ResponseError as error:
        part.of.take(error)
    else:
        part.of.take(entries)


def _chosen(unread: Iterable[tuple[KnownProcess, UnreadWork]]) -> Iterator[_Collected]:
    """As many processes as one reading may read the running jobs of."""
    jobs = 0
    for known, of in unread:
        work = _Collected(known, of)
        if work.unread.jobs > PROCESS_JOBS_MAX:
            work.lose(f"has more than {PROCESS_JOBS_MAX} members; they are not read")
            work.close()
        elif jobs + work.unread.jobs <= RUNNING_JOBS_MAX:
            jobs += work.unread.jobs
            yield work


async def _sizes(
    works: Iterable[_Collected], rounds: Rounds
) -> AsyncIterator[tuple[_Collected, list[tuple[bytes, int]]]]:
    """The sizes of all running jobs of these processes, without those that are too large."""
    for group in _groups(works):
        if not rounds.any_left():
            return
        (replies,) = await rounds.run(_SCRIPT, "sizes", *(work.unread.key for work in group))
        for work, reply in zip(group, replies, strict=True):
            if isinstance(reply, bytes):
                work.lose(why_unreadable(code_of(reply.decode("ascii", "replace"))))
                work.close()
                continue
            sizes = [(reply[at], reply[at + 1]) for at in range(0, len(reply), 2)]
            fitting = [(tid, size) for tid, size in sizes if 0 <= size <= JOB_BYTES_MAX]
            if len(fitting) < len(sizes):
                work.lose(f"has a running job of more than {JOB_BYTES_MAX // 1024 // 1024} MB, which is not read")
            if fitting:
                yield work, fitting
            else:
                work.close()


def _groups(works: Iterable[_Collected]) -> Iterator[list[_Collected]]:
    """Processes whose running jobs one script may ask the sizes of."""
    group: list[_Collected] = []
    for work in works:
        if group and sum(one.unread.jobs for one in group) + work.unread.jobs > _JOBS_A_SCRIPT:
            yield group
            group = []
        group.append(work)
    if group:
        yield group


def _parts(work: _Collected, sizes: list[tuple[bytes, int]], bytes_max: int) -> list[_Part]:
    """The running jobs in parts of at most so many bytes, unless a single one is larger."""
    parts: list[_Part] = []
    tids: list[bytes] = []
    size_bytes = 0
    for tid, size in sizes:
        if tids and (size_bytes + size > bytes_max or len(tids) >= _JOBS_A_SCRIPT):
            parts.append(_Part(work, tuple(tids), size_bytes))
            tids, size_bytes = [], 0
        tids.append(tid)
        size_bytes += size
    if tids:
        parts.append(_Part(work, tuple(tids), size_bytes))
    work.parts_left += len(parts)
    return parts


def _batches(parts: Iterable[_Part], bytes_max: int) -> Iterator[list[_Part]]:
    batch: list[_Part] = []
    size_bytes = 0
    for part in parts:
        if batch and size_bytes + part.size_bytes > bytes_max:
            yield batch
            batch, size_bytes = [], 0
        batch.append(part)
        size_bytes += part.size_bytes
    if batch:
        yield batch
