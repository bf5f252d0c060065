from __future__ import annotations

import json
import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetd.adapters.sidekiq.formats import (
    RunningEntry,
    WireError,
    heartbeat,
    job_age_seconds,
    newest_push_seconds,
    process_info,
    work_entry,
)
from fleetd.adapters.sidekiq.records import FAULTS_MAX, Reading
from fleetd.core.model.facts import KeyFault, ProcessFacts
from tests.support.rig.sidekiq_keys import compact, fixture

NOW = 1760000000.0
SIX = frozenset({"default", "push", "ingress", "mailers", "pull"})
EIGHT = SIX | {"fasp", "scheduler"}
FIELDS = ("busy", "beat", "quiet", "rss", "concurrency")


def fields_of(name: str) -> list[bytes | None]:
    sample = fixture(name)
    values = [sample["hash"].get(field) for field in FIELDS]
    return [compact(sample["info"]).encode(), *[None if v is None else v.encode() for v in values]]


def read(fields: list[bytes | None]) -> tuple[ProcessFacts, tuple[str, ...]]:
    if fields[0] is None:
        raise WireError("no info")
    return heartbeat("worker1:4711:5f0c3a9d2b1e", process_info(fields[0]), fields[1:], NOW)


@pytest.mark.parametrize(
    ("version", "said", "quiet", "queues"),
    [
        ("6.4.1", "", False, SIX),
        ("6.5.12", "", False, SIX),
        ("7.0.0", "", False, SIX),
        ("7.3.9", "7.3.9", False, SIX),
        ("8.0.9", "8.0.9", True, EIGHT),
        ("8.1.6", "8.1.6", False, EIGHT),
    ],
)
def test_heartbeats_of_every_version(version: str, said: str, quiet: bool, queues: frozenset[str]) -> None:
    process, problems = read(fields_of(f"process-{version}.json"))
    assert problems == ()
    assert (process.version, process.quiet, process.queues) == (said, quiet, queues)
    assert (process.threads, process.busy_threads, process.pid) == (60, 17, 4711)
    assert process.tag == "fleetd:worker1:3:p62:0a1b2c3d"
    assert process.beat_age_seconds == pytest.approx(4.5)
    assert process.started_age_seconds == pytest.approx(3600.25)
    assert process.resident_bytes == 612340 * 1024


def test_a_capsule_without_the_deprecated_lists_still_names_its_queues() -> None:
    """Sidekiq 9 is announced to drop `queues` and `weights`. A scheduler must not vanish then (law 1)."""
    fields = fields_of("process-8.1.6.json")
    info = json.loads(fields[0] or b"")
    del info["queues"], info["weights"]
    fields[0] = compact(info).encode()
    assert "scheduler" in read(fields)[0].queues


@pytest.mark.parametrize("missing", [1, 2, 3])
def test_a_heartbeat_that_lacks_a_field_is_an_error(missing: int) -> None:
    fields = fields_of("process-6.4.1.json")
    fields[missing] = None
    with pytest.raises(WireError):
        read(fields)


@pytest.mark.parametrize(
    ("index", "value"),
    [
        (0, b"{}"),
        (0, b"[]"),
        (0, b"\xff\xfe"),
        (0, b"[" * 200_000),
        (1, b"-1"),
        (1, b"17 "),
        (1, b"9" * 5000),
        (2, b"nan"),
        (2, b"inf"),
        (2, b"yesterday"),
        (3, b"perhaps"),
    ],
)
def test_nonsense_in_a_heartbeat_is_an_error(index: int, value: bytes) -> None:
    fields = fields_of("process-8.1.6.json")
    fields[index] = value
    with pytest.raises(WireError):
        read(fields)


@pytest.mark.parametrize(
    ("index", "value", "name", "unknown"),
    [
        (4, b"\x00", "rss", {"resident_bytes": None}),
        (5, b"sixty", "concurrency", {}),
        ("version", {"major": 7}, "version", {"version": ""}),
        ("concurrency", "sixty", "concurrency", {}),
        ("queues", "default", "queues", {}),
        ("weights", 7, "weights", {}),
        ("capsules", [1], "capsules", {}),
        ("labels", 7, "", {}),
    ],
)
def test_a_bad_field_that_is_not_needed_costs_only_itself(
    index: int | str, value: Any, name: str, unknown: dict[str, object]
) -> None:
    whole, _ = read(fields_of("process-8.1.6.json"))
    fields = fields_of("process-8.1.6.json")
    info = json.loads(fields[0] or b"")
    info["concurrency"] = 60
    if isinstance(index, str):
        info[index] = value
    else:
        fields[index] = value
    fields[0] = compact(info).encode()
    process, problems = read(fields)
    assert process == msgspec.structs.replace(whole, **unknown)
    assert problems == ((f"its {name} is not what Sidekiq writes",) if name else ())


@pytest.mark.parametrize("job", fixture("jobs.json")["jobs"], ids=lambda job: str(job["of"]))
def test_ages_of_jobs(job: dict[str, Any]) -> None:
    assert job_age_seconds(job["json"].encode(), cut=False, now_seconds=NOW) == pytest.approx(job["age_seconds"])


@pytest.mark.parametrize("job", fixture("jobs.json")["jobs"], ids=lambda job: str(job["of"]))
def test_ages_of_jobs_of_which_only_the_end_was_read(job: dict[str, Any]) -> None:
    """Something that looks like a time but comes before the job's own (ActiveJob nests one) must not be used."""
    text = job["json"]
    starts = [at for at in (text.find('"created_at":'), text.find('"enqueued_at":')) if at >= 0]
    if job["of"] == "neither":
        with pytest.raises(WireError):
            job_age_seconds(text[min(starts) :].encode(), cut=True, now_seconds=NOW)
    else:
        age = job_age_seconds(text[min(starts) :].encode(), cut=True, now_seconds=NOW)
        assert age == pytest.approx(job["age_seconds"])


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["enqueued_at", "created_at", "a"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(before=st.dictionaries(st.sampled_from(["args", "b", 'q"uo\\te']), json_values), after=json_values)
def test_the_end_of_a_job_gives_the_same_as_the_whole(before: dict[str, Any], after: Any) -> None:
    job = compact(before | {"created_at": NOW - 9, "enqueued_at": NOW - 7, "error_message": after}).encode()
    starts = [job.find(key) for key in (b'"created_at":', b'"enqueued_at":') if key in job]
    assert job_age_seconds(job, cut=False, now_seconds=NOW) == pytest.approx(7)
    assert job_age_seconds(job[min(starts) :], cut=True, now_seconds=NOW) == pytest.approx(7)


@pytest.mark.parametrize(
    "entry",
    [
        b'{"queue":"pull","payload":{"class":"A"},"run_at":1759999990}',
        b'["pull",1759999990,"","A"]',
        b'["queue:pull",1759999990.0,"","A"]',
        b'["pull",1759999990000,"","A"]',
    ],
)
def test_running_jobs(entry: bytes) -> None:
    assert work_entry(entry) == RunningEntry("pull", 1759999990.0, "", "A")


@pytest.mark.parametrize("work", fixture("work.json")["work"], ids=lambda work: str(work["of"]))
def test_the_id_and_class_of_a_running_job_of_every_version(work: dict[str, Any]) -> None:
    """The job's own, not those in its arguments: by its id, a job that was pushed back is recognised."""
    entry = work_entry(work["json"].encode())
    assert entry == RunningEntry(work["queue"], work["run_at"], work["jid"], work["class"])


@pytest.mark.parametrize("word", ["a b", "a" * 129, "\n", "b4\n", 7, None, ["b4"], {"b4": 1}])
def test_a_job_with_an_invalid_id_or_class_is_still_counted(word: object) -> None:
    whole = {"queue": "pull", "payload": compact({"jid": word, "class": word}), "run_at": 5}
    assert work_entry(compact(whole).encode()) == RunningEntry("pull", 5.0, "", "")
    if isinstance(word, str):
        assert work_entry(compact(["pull", 5, word, word]).encode()) == RunningEntry("pull", 5.0, "", "")


@pytest.mark.parametrize("entry", [b"", b"[" * 200_000, b"\xff", b"{}", b'["pull",-1,"",""]', b'["pull","5","",""]'])
def test_what_is_no_running_job_is_an_error(entry: bytes) -> None:
    with pytest.raises(WireError):
        work_entry(entry)


def test_the_newest_push_of_a_scheduler() -> None:
    """As EtOrbi's and Ruby's times print themselves; one that can't be read is left out."""
    lines = [b"2025-10-09 08:53:17 +0000", b"2025-10-09 10:53:18 +0200", b"2025-10-09 08:00:00 Z", b"yesterday", b""]
    assert newest_push_seconds(b"\n".join(lines)) == 1759999998.0
    assert newest_push_seconds(b"2025-10-09 08:53:17 UTC") == 1759999997.0
    assert newest_push_seconds(b"2025-10-09 03:53:17 -0500") == 1759999997.0
    assert newest_push_seconds(b"2025-99-09 08:53:17 +0000\n2025-10-09 08:53:17 +9900") is None


def take(*records: list[Any]) -> Reading:
    reading = Reading("")
    for record in ([b"time", b"1760000000", b"0"], *records):
        reading.take(record)
    return reading


def process_record(identity: bytes = b"p:1:a", *entries: bytes, name: str = "process-7.3.9.json") -> list[Any]:
    return [b"process", identity, *fields_of(name), identity + b":work", len(entries), 9, list(entries)]


def queue_record(name: bytes, length: int = 0, job: bytes | None = None) -> list[Any]:
    return [b"queue", name, length, len(job or b""), job, b""]


def test_an_unreadable_heartbeat_makes_the_processes_incomplete() -> None:
    bad = process_record(b"p:2:b")
    bad[2] = b"\xff"
    facts = take(process_record(), bad, queue_record(b"pull")).facts(redis_run_id="", writable=None)
    assert [process.identity for process in facts.processes] == ["p:1:a"]
    assert not facts.processes_complete
    assert facts.faults == (KeyFault(key="p:2:b", why="it is not the JSON that Sidekiq writes"),)
    assert set(facts.queues) == {"pull"}


def test_an_unreadable_running_job_makes_only_the_busy_threads_of_its_process_unknown() -> None:
    """Otherwise busy threads would look like idle capacity, and an instance would be stopped (law 3)."""
    records = queue_record(b"pull", 7), process_record(b"p:1:a", b"", b'["pull",1759999990,"b4",""]')
    facts = take(*records).facts(redis_run_id="", writable=None)
    assert facts.queues["pull"].length_jobs == 7
    assert facts.processes[0].busy_by_queue is None
    assert [job.jid for job in facts.processes[0].jobs] == ["b4"]
    assert {fault.key for fault in facts.faults} == {"p:1:a:work"}
    assert facts.processes_complete


def test_the_running_jobs_of_a_process_oldest_first() -> None:
    entries = (
        b'["pull",1759999990,"b4","A"]',
        b'["push",1759999950,"c5","B"]',
        b"",
        b'["pull",1759999970,"",""]',
    )
    idle_record: list[Any] = [b"process", b"p:2:b", *fields_of("process-7.3.9.json"), b"", 0, 0, []]
    readings = take(process_record(b"p:1:a", *entries), idle_record)
    busy, idle = readings.facts(redis_run_id="", writable=None).processes
    assert [(job.jid, job.run_age_seconds) for job in busy.jobs] == [("c5", 50), ("", 30), ("b4", 10)]
    assert busy.oldest_run_age_seconds == 50
    assert (idle.jobs, idle.oldest_run_age_seconds) == ((), None)


def test_faults_are_bounded_and_never_show_content() -> None:
    records = [queue_record(b"q%d" % n, 1, b'{"enqueued_at":"hunter2"}') for n in range(FAULTS_MAX * 2)]
    facts = take(*records).facts(redis_run_id="", writable=None)
    assert all(queue.latency_seconds is None for queue in facts.queues.values())
    assert len(facts.faults) == FAULTS_MAX + 1
    assert "hunter2" not in repr(facts.faults)


texts = st.binary(max_size=40) | st.sampled_from(
    [
        b'{"enqueued_at":',
        b"{}",
        b"[]",
        b"null",
        b"1e999",
        b"-1",
        b"nan",
        b'{"enqueued_at":1e400}',
        b"\xf0\x28\x8c\x28",
    ]
)
maybe = texts | st.none()
mangled = st.sampled_from(fields_of("process-8.1.6.json") + fields_of("process-6.4.1.json")) | maybe
records = st.one_of(
    st.tuples(st.just(b"queue"), texts, st.integers(0), st.sampled_from([-2, -1, 0, 9, 10**7]), maybe, texts),
    st.tuples(st.just(b"process"), texts, *[mangled] * 6, texts, st.integers(0), st.integers(-1), st.lists(maybe)),
    st.tuples(st.just(b"scheduled"), texts),
    st.tuples(st.just(b"members"), st.integers(0), st.integers(-1)),
    st.tuples(st.just(b"left"), texts),
    st.tuples(st.just(b"empty")),
    st.tuples(st.just(b"counter"), st.sampled_from([b"processed", b"failed"]), maybe),
    st.tuples(st.just(b"fault"), st.sampled_from([b"queue", b"processes", b"work"]), texts, texts, texts),
    st.tuples(st.just(b"cut"), st.sampled_from([b"queues", b"processes", b"work"]), texts, texts, st.integers(0)),
)


@given(st.lists(records.map(list), max_size=12))
def test_no_nonsense_raises_or_changes_the_sentence(nonsense: list[list[Any]]) -> None:
    first, second = (take(*nonsense).facts(redis_run_id="", writable=None) for _ in range(2))
    assert first == second
    assert all(fault.why and fault.key is not None for fault in first.faults)
    assert all(queue.latency_seconds is None or math.isfinite(queue.latency_seconds) for queue in first.queues.values())
