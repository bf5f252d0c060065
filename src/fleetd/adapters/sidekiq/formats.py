"""What Sidekiq 6.4 to 8.1 writes into Redis, from bytes to facts; no I/O.

Formats: Sidekiq's `launcher.rb` (heartbeats), `processor.rb` (running jobs) and `client.rb` (jobs) of 6.4.1, 6.5.12,
7.0, 7.3.9, 8.0.9 and 8.1.6. What can't be understood raises a WireError. Its words depend on the fault alone and not on
the content of the key, so that a log can say it once.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import msgspec

from fleetd.core.model.bounds import real, whole
from fleetd.core.model.facts import ProcessFacts

#: A time above this is in milliseconds (Sidekiq 8), below it in seconds (up to 7). It is the year 5138 in seconds and
#: 1973 in milliseconds.
_MILLISECONDS_FROM = 1e11
_TIME_KEYS = (b'"enqueued_at":', b'"created_at":')
_TRIES_MAX = 32  # nested objects with the same keys; each try reads at most the tail that the script sends
_JID = re.compile(r"[A-Za-z0-9_.:-]{1,64}")  # Sidekiq makes 24 hex digits, but people may set their own

#: Everything that decoding hostile JSON may raise; RecursionError is msgspec's for deep nesting.
_UNREADABLE = (msgspec.MsgspecError, RecursionError, ValueError, OverflowError)


class WireError(Exception):
    """A key does not hold what Sidekiq writes; the text says what is wrong, without its content."""


class _Times(msgspec.Struct):
    enqueued_at: float | None = None
    created_at: float | None = None


class RunningEntry(NamedTuple):
    """One running job: its queue, its begin (a Sidekiq time), and its id; "": the id could not be read."""

    queue: str
    run_at: float
    jid: str


class _Work(msgspec.Struct):
    queue: str
    run_at: float
    payload: msgspec.Raw = msgspec.Raw()


class _Job(msgspec.Struct):
    jid: str = ""


class _Capsule(msgspec.Struct):
    weights: dict[str, Any]
    concurrency: int = 0


class _Info(msgspec.Struct):
    """The `info` of a heartbeat: 6.x has queues and concurrency, 7.x weights, 8.0.9 capsules, 8.1.2 no concurrency."""

    hostname: str
    started_at: float
    pid: int
    tag: str | None = ""
    version: str = ""
    concurrency: int | None = None
    queues: list[str] | None = None
    weights: list[dict[str, Any]] | dict[str, Any] | None = None
    capsules: dict[str, _Capsule] | None = None


_TIMES = msgspec.json.Decoder(_Times)
_WORK = msgspec.json.Decoder(_Work)
_PAYLOAD = msgspec.json.Decoder(str | _Job)  # a job's JSON in a string; before Sidekiq 6 the job itself
_JOB = msgspec.json.Decoder(_Job)
_INFO = msgspec.json.Decoder(_Info)


def job_age_seconds(job: bytes, *, cut: bool, now_seconds: float) -> float:
    """How long the next job of a queue has waited; 0.0 when it has no time, as in Sidekiq's own latency.

    `cut`: only the end of the job is there, from the first key that is named like one of its times. That key is the
    job's own, and not one of a nested object, exactly if what follows it closes one object and nothing more.
    """
    times = _times_of_tail(job) if cut else _decode(_TIMES, job)
    value = times.enqueued_at if times.enqueued_at is not None else times.created_at
    return 0.0 if value is None else age_seconds(value, now_seconds)


def _times_of_tail(tail: bytes) -> _Times:
    position = 0
    for _ in range(_TRIES_MAX):
        found = [at for at in (tail.find(key, position) for key in _TIME_KEYS) if at >= 0]
        if not found:
            break
        try:
            return _TIMES.decode(b"{" + tail[min(found) :])
        except _UNREADABLE:
            position = min(found) + 1
    raise WireError("the oldest job has no time of its own near its end")


def age_seconds(time: float, now_seconds: float) -> float:
    """Age of a Sidekiq time in seconds or milliseconds; below 0 where another machine's clock runs ahead."""
    if real(time, "time") is None:
        raise WireError("a time is not a time")
    age = real(now_seconds - (time / 1000.0 if time >= _MILLISECONDS_FROM else time), "seconds")
    if age is None:
        raise WireError("a time is more than a hundred years away")
    return age


def work_entry(entry: list[Any] | bytes) -> RunningEntry:
    """A running job, from what the script extracted, or from its JSON where that did not look as usual.

    An id that can't be read is no error: the thread is busy either way.
    """
    if isinstance(entry, list):
        queue, run_at, jid = text(entry[0]), _number(entry[1]), _plain_jid(entry[2].decode(errors="replace"))
        if not jid and len(entry) > 3:
            jid = _jid_of_work(entry[3])
    elif not entry:
        raise WireError("a running job is too large to be read, or is not what Sidekiq writes")
    else:
        work = _decode(_WORK, entry)
        queue, run_at, jid = work.queue, work.run_at, _jid_of_work(entry)
    return RunningEntry(queue.removeprefix("queue:"), run_at, jid)


def _jid_of_work(json: bytes) -> str:
    """The id of the job itself, whatever its arguments hold."""
    try:
        payload = _PAYLOAD.decode(_WORK.decode(json).payload)
        job = _JOB.decode(payload) if isinstance(payload, str) else payload
    except _UNREADABLE:
        return ""
    return _plain_jid(job.jid)


def _plain_jid(jid: str) -> str:
    return jid if _JID.fullmatch(jid) else ""


def heartbeat(identity: str, fields: list[bytes | None], now_seconds: float) -> ProcessFacts:
    """A process from the fields of its hash: info, busy, beat, quiet, rss, concurrency, in this order."""
    info_json, busy, beat, quiet, rss, concurrency = fields
    if info_json is None or busy is None or beat is None or quiet is None:
        raise WireError("the heartbeat lacks a field")
    info = _decode(_INFO, info_json)
    if quiet not in (b"true", b"false", b""):
        raise WireError("the heartbeat's quiet is neither true nor false")
    threads = whole(concurrency if concurrency is not None else info.concurrency, "threads")
    if concurrency is None and info.concurrency is None and info.capsules:
        threads = whole(sum(capsule.concurrency for capsule in info.capsules.values()), "threads")
    if threads is None:
        raise WireError("the heartbeat does not say how many threads there are")
    busy_threads, pid = whole(busy, "threads"), whole(info.pid, "pid")
    if busy_threads is None or pid is None:
        raise WireError("the heartbeat has a number that can't be")
    kibibytes = whole(rss, "bytes")
    return ProcessFacts(
        identity=identity,
        hostname=info.hostname,
        pid=pid,
        tag=info.tag or "",
        version=info.version,
        threads=threads,
        busy_threads=busy_threads,
        quiet=quiet == b"true",
        queues=_queues(info),
        beat_age_seconds=age_seconds(_number(beat), now_seconds),
        started_age_seconds=age_seconds(info.started_at, now_seconds),
        resident_bytes=None if kibibytes is None else whole(kibibytes * 1024, "bytes"),
    )


def _queues(info: _Info) -> frozenset[str]:
    """All queues of a process: from its capsules, else from the weights, else from the plain list."""
    if info.capsules:
        queues = frozenset(name for capsule in info.capsules.values() for name in capsule.weights)
    elif info.weights:
        tables = info.weights if isinstance(info.weights, list) else [info.weights]
        queues = frozenset(name for table in tables for name in table)
    else:
        queues = frozenset(info.queues or ())
    if not queues:
        raise WireError("the heartbeat does not say which queues are served")
    return queues


def text(value: bytes) -> str:
    """The bytes as UTF-8. Raises WireError for anything else."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise WireError("a name is not UTF-8") from None


def count(value: bytes) -> int:
    """A counter. Raises WireError for what can't be one."""
    found = whole(value, "total")
    if found is None:
        raise WireError("a count is not a number")
    return found


def _number(value: bytes) -> float:
    number = real(value, "time")
    if number is None:
        raise WireError("a time is not a time")
    return number


def _decode(decoder: msgspec.json.Decoder[Any], json: bytes) -> Any:
    try:
        return decoder.decode(json)
    except _UNREADABLE:
        # msgspec's own message may quote the content.
        raise WireError("it is not the JSON that Sidekiq writes") from None
