"""What Sidekiq 6.4 to 8.1 writes into Redis, from bytes to facts; no I/O.

Formats: Sidekiq's `launcher.rb` (heartbeats), `processor.rb` (running jobs), `client.rb` (jobs) and, from 7.0 on,
`metrics/tracking.rb` (job classes) of 6.4.1, 6.5.12, 7.0, 7.3.9, 8.0.9 and 8.1.6; sidekiq-scheduler's `utils.rb` and
`redis_manager.rb` of 4.0 to 6.0. What can't be understood raises a WireError. Its words depend on the fault alone and
not on the content of the key, so that a log can say it once.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, NamedTuple

import msgspec

from fleetd.core.model.bounds import Unit, real, whole
from fleetd.core.model.facts import FailingClass, ProcessFacts

#: A time above this is in milliseconds (Sidekiq 8), below it in seconds (up to 7). It is the year 5138 in seconds and
#: 1973 in milliseconds.
_MILLISECONDS_FROM = 1e11
_TIME_KEYS = (b'"enqueued_at":', b'"created_at":')
_TRIES_MAX = 64  # nested objects with the same keys
_JID_BYTES = re.compile(rb"[A-Za-z0-9_.:-]{1,64}")
_JID = re.compile(r"[A-Za-z0-9_.:-]{1,64}")  # Sidekiq makes 24 hex digits, but people may set their own
_WORK_ENDS = re.compile(
    rb'{"queue":"([^"\\]+)","payload":.*,"run_at":(\d+\.?\d*)}', re.DOTALL
)  # as Sidekiq writes them
#: Below this a running job is decoded whole; above it, only if what is needed does not stand where Sidekiq writes it.
_WHOLE_BYTES = 1024
_WORK_HEAD = re.compile(rb'{"queue":"([^"\\]+)","payload":"{')
_WORK_END = re.compile(rb'}","run_at":(\d+\.?\d*)}$')
_HEAD_BYTES, _TAIL_BYTES = 512, 2048
_NESTED = re.compile(rb"[{\[]")
_OWN_CLASS = re.compile(rb'[,{]\\"(wrapped|class)\\":\\"([A-Za-z0-9_:]+)\\"')
_CLASS = re.compile(r"[A-Za-z_][A-Za-z0-9_:]{0,127}")
_PUSHED = re.compile(rb"(\d{4})-(\d\d)-(\d\d) (\d\d):(\d\d):(\d\d) (?:Z|UTC|([+-])(\d\d):?(\d\d))")

#: Everything that decoding hostile JSON may raise; RecursionError is msgspec's for deep nesting.
_UNREADABLE = (msgspec.MsgspecError, RecursionError, ValueError, OverflowError)


class WireError(Exception):
    """A key does not hold what Sidekiq writes; the text says what is wrong, without its content."""


class _Times(msgspec.Struct):
    enqueued_at: float | str | None = None  # some clients write a string
    created_at: float | str | None = None


class RunningEntry(NamedTuple):
    """One running job: its queue, its begin (Unix seconds), its id and the name of its class; "": could not be read."""

    queue: str
    run_at_seconds: float
    jid: str
    job_class: str


class _Work(msgspec.Struct):
    queue: str
    run_at: float
    payload: msgspec.Raw = msgspec.Raw()


class _Job(msgspec.Struct, rename={"job_class": "class"}):
    jid: Any = ""
    job_class: Any = ""
    wrapped: Any = None  # ActiveJob: the job's own class; `class` is then the same for all


class _Capsule(msgspec.Struct):
    weights: dict[str, Any]
    concurrency: int = 0


class _Info(msgspec.Struct):
    """The `info` of a heartbeat: 6.x has queues and concurrency, 7.x weights, 8.0.9 capsules, 8.1.2 no concurrency."""

    hostname: str
    started_at: float
    pid: int
    tag: str | None = ""
    version: msgspec.Raw = msgspec.Raw(b'""')
    concurrency: msgspec.Raw = msgspec.Raw(b"null")
    queues: msgspec.Raw = msgspec.Raw(b"null")
    weights: msgspec.Raw = msgspec.Raw(b"null")
    capsules: msgspec.Raw = msgspec.Raw(b"null")


class ProcessInfo(NamedTuple):
    """What a process says of itself once: the same in all of its heartbeats."""

    hostname: str
    started_at_seconds: float  # Unix time
    pid: int
    tag: str
    version: str
    threads: int | None  # None: this version does not say it here
    queues: frozenset[str]
    problems: tuple[str, ...]  # fields that could not be understood and are not needed


_TIMES = msgspec.json.Decoder(_Times)
_CUT_WORK = msgspec.json.Decoder(tuple[str, float, str, str])  # from running_jobs.lua
_WORK = msgspec.json.Decoder(_Work)
_PAYLOAD = msgspec.json.Decoder(str | _Job)  # a job's JSON in a string; before Sidekiq 6 the job itself
_JOB = msgspec.json.Decoder(_Job)
_INFO = msgspec.json.Decoder(_Info)
_VERSION = msgspec.json.Decoder(str)
_CONCURRENCY = msgspec.json.Decoder(int | None)
_QUEUES = msgspec.json.Decoder(list[str] | None)
_WEIGHTS = msgspec.json.Decoder(list[dict[str, Any]] | dict[str, Any] | None)
_CAPSULES = msgspec.json.Decoder(dict[str, _Capsule] | None)


def job_age_seconds(job: bytes, *, now_seconds: float, cut: bool = False, head: bytes = b"") -> float:
    """How long the next job of a queue has waited; 0.0 when it has no time, as in Sidekiq's own latency.

    `cut`: only the end of the job is there, from the first key that is named like one of its times, and maybe its
    `head`. A key is the job's own, and not one of a nested object, exactly if what follows it closes one object and
    nothing more; or if what comes before it opens one object and nothing more.
    """
    times = _times_of_parts(job, head) if cut else _decode(_TIMES, job)
    value = times.enqueued_at if times.enqueued_at is not None else times.created_at
    if value is None:
        return 0.0
    return age_seconds(_number(value.encode()) if isinstance(value, str) else value, now_seconds)


def _times_of_parts(tail: bytes, head: bytes) -> _Times:
    """The times at the end of a job, else those at its beginning. Sidekiq writes them last, so that is tried first."""
    found = _Times()
    for at in reversed(_places(tail)[-_TRIES_MAX:]):
        try:
            found = _TIMES.decode(b"{" + tail[at:])
        except _UNREADABLE:
            continue
        if found.enqueued_at is not None:
            return found
    if found.created_at is not None:
        return found
    for at in _places(head)[:_TRIES_MAX]:
        try:
            _TIMES.decode(head[:at].rstrip().removesuffix(b",") + b"}")
            value = re.match(rb"\s*([^\s,{}\[\]]+)\s*[,}]", head[head.index(b":", at) + 1 :])
            if value is not None:
                return _TIMES.decode(b"{" + head[at : head.index(b":", at) + 1] + value[1] + b"}")
        except _UNREADABLE:
            continue
    raise WireError("the oldest job has no time of its own near its end")


def _places(json: bytes) -> list[int]:
    """Where keys begin that are named like a job's times, in their order."""
    return sorted(match.start() for key in _TIME_KEYS for match in re.finditer(re.escape(key), json))


def unix_seconds(time: float) -> float:
    """A Sidekiq time, in seconds or milliseconds, as Unix seconds."""
    if real(time, "time") is None:
        raise WireError("a time is not a time")
    return time / 1000.0 if time >= _MILLISECONDS_FROM else time


def age_seconds(time: float, now_seconds: float) -> float:
    """Age of a Sidekiq time in seconds or milliseconds; below 0 where another machine's clock runs ahead."""
    age = real(now_seconds - unix_seconds(time), "seconds")
    if age is None:
        raise WireError("a time is more than a hundred years away")
    return age


def work_entry(entry: bytes) -> RunningEntry:
    """A running job: from its JSON, or from what running_jobs.lua extracted from that.

    An id or a class that can't be read is no error: the thread is busy either way.
    """
    if not entry:
        raise WireError("a running job is too large to be read, or is not what Sidekiq writes")
    found = _ends_of_large(entry) if len(entry) > _WHOLE_BYTES else None
    if found is not None:
        return found
    if entry[:1] == b"[":
        queue, run_at, jid, job_class = _decode(_CUT_WORK, entry)
    else:
        try:
            work = _WORK.decode(entry)
            queue, run_at = work.queue, work.run_at
            jid, job_class = _jid_and_class(work.payload)
        except _UNREADABLE:  # of the payload, maybe; the rest is enough
            ends = _WORK_ENDS.fullmatch(entry)
            if ends is None:
                raise WireError("it is not the JSON that Sidekiq writes") from None
            queue, run_at, jid, job_class = text(ends[1]), float(ends[2]), "", ""
    return RunningEntry(
        queue=queue.removeprefix("queue:"),
        run_at_seconds=unix_seconds(run_at),
        jid=_plain(_JID, jid),
        job_class=_plain(_CLASS, job_class),
    )


def _ends_of_large(entry: bytes) -> RunningEntry | None:
    """A large running job from its beginning and its end; None: they do not look as Sidekiq writes them.

    The job is JSON in a string here. Quotes of its keys are escaped once and those inside its strings twice, so what
    looks like a key is one. The last `jid` is the job's own, and not one of a nested object, if there is no brace
    between it and the job's last; a class is its own if no other object or list begins before it.
    """
    head, end = _WORK_HEAD.match(entry), _WORK_END.search(entry, len(entry) - 48)
    if head is None or end is None:
        return None
    jid_at = entry.rfind(b'jid\\":\\"', max(0, end.start() - _TAIL_BYTES), end.start())
    if jid_at < 0 or entry[jid_at - 3 : jid_at] not in (b',\\"', b'{\\"') or entry.find(b"}", jid_at) != end.start():
        return None
    jid = entry[jid_at + 8 : entry.find(b"\\", jid_at + 8)]
    nested = _NESTED.search(entry, head.end())
    before = nested.start() if nested is not None else len(entry)
    classes = dict(_OWN_CLASS.findall(entry, head.end() - 1, min(before, _HEAD_BYTES)))
    job_class = classes.get(b"wrapped", classes.get(b"class"))
    if job_class is None or not _JID_BYTES.fullmatch(jid):
        return None
    try:
        queue = head[1].decode()
    except UnicodeDecodeError:
        return None
    return RunningEntry(
        queue=queue.removeprefix("queue:"),
        run_at_seconds=unix_seconds(float(end[1])),
        jid=jid.decode(),
        job_class=_plain(_CLASS, job_class.decode()),
    )


def _jid_and_class(payload_json: msgspec.Raw) -> tuple[Any, Any]:
    """Those of the job itself, whatever its arguments hold."""
    try:
        payload = _PAYLOAD.decode(payload_json)
        job = _JOB.decode(payload) if isinstance(payload, str) else payload
    except _UNREADABLE:
        return "", ""
    return job.jid, job.job_class if job.wrapped is None else job.wrapped


def _plain(pattern: re.Pattern[str], value: Any) -> str:
    return value if isinstance(value, str) and pattern.fullmatch(value) else ""


def process_info(json: bytes) -> ProcessInfo:
    """The `info` of a heartbeat. Raises WireError if something is missing without which it is of no use."""
    info = _decode(_INFO, json)
    problems: list[str] = []

    def optional(decoder: msgspec.json.Decoder[Any], name: str, default: Any) -> Any:
        try:
            return decoder.decode(getattr(info, name))
        except _UNREADABLE:
            problems.append(f"its {name} is not what Sidekiq writes")
            return default

    capsules = optional(_CAPSULES, "capsules", None)
    weights = optional(_WEIGHTS, "weights", None)
    queues = optional(_QUEUES, "queues", None)
    threads = optional(_CONCURRENCY, "concurrency", None)
    if threads is None and capsules:
        threads = sum(capsule.concurrency for capsule in capsules.values())
    pid = whole(info.pid, "pid")
    if pid is None:
        raise WireError("the heartbeat's pid is not a number")
    return ProcessInfo(
        hostname=info.hostname,
        started_at_seconds=unix_seconds(info.started_at),
        pid=pid,
        tag=info.tag or "",
        version=optional(_VERSION, "version", ""),
        threads=whole(threads, "threads"),
        queues=_all_queues(capsules, weights, queues),
        problems=tuple(problems),
    )


def _all_queues(
    capsules: dict[str, _Capsule] | None,
    weights: list[dict[str, Any]] | dict[str, Any] | None,
    plain: list[str] | None,
) -> frozenset[str]:
    """All queues of a process: from its capsules, else from the weights, else from the plain list."""
    if capsules:
        queues = frozenset(name for capsule in capsules.values() for name in capsule.weights)
    elif weights:
        tables = weights if isinstance(weights, list) else [weights]
        queues = frozenset(name for table in tables for name in table)
    else:
        queues = frozenset(plain or ())
    if not queues:
        raise WireError("the heartbeat does not say which queues are served")
    return queues


def heartbeat(
    identity: str, info: ProcessInfo, fields: list[bytes | None], now_seconds: float
) -> tuple[ProcessFacts, tuple[str, ...]]:
    """A process, and what of its heartbeat was left out because it is not what Sidekiq writes.

    `fields` of its hash: busy, beat, quiet, rss, concurrency, in this order.
    """
    busy, beat, quiet, rss, concurrency = fields
    if busy is None or beat is None or quiet is None:
        raise WireError("the heartbeat lacks a field")
    if quiet not in (b"true", b"false", b""):
        raise WireError("the heartbeat's quiet is neither true nor false")
    problems = list(info.problems)
    resident_bytes = _optional(rss or None, "rss", "bytes", problems)
    own_threads = _optional(concurrency, "concurrency", "threads", problems)
    threads = own_threads if own_threads is not None else info.threads
    if threads is None:
        raise WireError("the heartbeat does not say how many threads there are")
    busy_threads = whole(busy, "threads")
    if busy_threads is None:
        raise WireError("the heartbeat's busy is not a number of threads")
    started_age_seconds = real(now_seconds - info.started_at_seconds, "seconds")
    if started_age_seconds is None:
        raise WireError("a time is more than a hundred years away")
    process = ProcessFacts(
        identity=identity,
        hostname=info.hostname,
        pid=info.pid,
        tag=info.tag,
        version=info.version,
        threads=threads,
        busy_threads=busy_threads,
        quiet=quiet == b"true",
        queues=info.queues,
        beat_age_seconds=age_seconds(_number(beat), now_seconds),
        started_age_seconds=started_age_seconds,
        resident_bytes=None if resident_bytes is None else whole(resident_bytes * 1024, "bytes"),
    )
    return process, tuple(problems)


def _optional(value: bytes | None, name: str, unit: Unit, problems: list[str]) -> int | None:
    """A number without which the heartbeat is of use all the same."""
    found = whole(value, unit)
    if found is None and value is not None:
        problems.append(f"its {name} is not what Sidekiq writes")
    return found


def newest_push_seconds(lines: bytes) -> float | None:
    """The newest of sidekiq-scheduler's times of a last push, one a line, as Unix seconds; None: none is readable.

    It writes them as Ruby writes a time: "2025-10-09 08:53:17 +0000".
    """
    newest: float | None = None
    for line in lines.split(b"\n"):
        match = _PUSHED.fullmatch(line)
        if match is None:
            continue
        try:
            offset = timedelta(hours=int(match[8] or 0), minutes=int(match[9] or 0))
            zone = UTC if match[7] is None else timezone(-offset if match[7] == b"-" else offset)
            pushed = datetime(*(int(part) for part in match.groups()[:6]), tzinfo=zone).timestamp()  # type: ignore[misc, arg-type]
        except _UNREADABLE:
            continue
        newest = pushed if newest is None else max(newest, pushed)
    return newest


def minute_keys(unix_minutes: int) -> tuple[str, ...]:
    """The hashes in which job classes are counted for one minute, by the worker's clock in UTC.

    `j|20251009|8:5` from Sidekiq 7.0, `j|251009|8:05` from 8.0 on; both exist side by side in an upgrade.
    """
    at = datetime.fromtimestamp(unix_minutes * 60, UTC)
    day = f"{at.year:04}{at.month:02}{at.day:02}"
    return f"j|{day}|{at.hour}:{at.minute}", f"j|{day[2:]}|{at.hour}:{at.minute:02}"


def failing_class(name: bytes, failed: bytes | None, processed: bytes | None) -> FailingClass:
    """A class of jobs with its counts of a minute. A name or a number of jobs without sense is unknown.

    Raises WireError if the count of failures is none.
    """
    failed_jobs, processed_jobs = whole(failed, "jobs"), whole(processed, "jobs")
    if failed_jobs is None:
        raise WireError("a count is not a number")
    if processed_jobs is not None and processed_jobs < failed_jobs:
        processed_jobs = None
    return FailingClass(
        name=_plain(_CLASS, name.decode("utf-8", "replace")),
        failed_jobs=failed_jobs,
        processed_jobs=processed_jobs,
    )


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
