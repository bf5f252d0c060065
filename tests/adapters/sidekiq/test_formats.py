from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetd.adapters.sidekiq.formats import WireError, heartbeat, job_age_seconds, work_entry
from fleetd.adapters.sidekiq.reading import FAULTS_MAX, Reading
from fleetd.core.model.facts import KeyFault
from tests.support.rig.sidekiq_keys import compact, fixture

NOW = 1760000000.0
SIX = frozenset({"default", "push", "ingress", "mailers", "pull"})
EIGHT = SIX | {"fasp", "scheduler"}
FIELDS = ("busy", "beat", "quiet", "rss", "concurrency")


def fields_of(name: str) -> list[bytes | None]:
    sample = fixture(name)
    values = [sample["hash"].get(field) for field in FIELDS]
    return [compact(sample["info"]).encode(), *[None if v is None else v.encode() for v in values]]


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
    process = heartbeat("worker1:4711:5f0c3a9d2b1e", fields_of(f"process-{version}.json"), NOW)
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
    assert "scheduler" in heartbeat("i", fields, NOW).queues


@pytest.mark.parametrize("missing", [0, 1, 2, 3])
def test_a_heartbeat_that_lacks_a_field_is_an_error(missing: int) -> None:
    fields = fields_of("process-6.4.1.json")
    fields[missing] = None
    with pytest.raises(WireError):
        heartbeat("i", fields, NOW)


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
        (4, b"\x00"),
        (5, b"sixty"),
    ],
)
def test_nonsense_in_a_heartbeat_is_an_error(index: int, value: bytes) -> None:
    fields = fields_of("process-8.1.6.json")
    fields[index] = value
    with pytest.raises(WireError):
        heartbeat("i", fields, NOW)


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
        [b"pull", b"1759999990", b""],
        [b"queue:pull", b"1759999990", b""],
        [b"pull", b"1759999990", b"", b"\xff"],
        [b"pull", b"1759999990", b"", b"[" * 200_000],
    ],
)
def test_running_jobs(entry: Any) -> None:
    assert work_entry(entry) == ("pull", 1759999990.0, "")


@pytest.mark.parametrize("work", fixture("work.json")["work"], ids=lambda work: str(work["of"]))
def test_the_id_of_a_running_job_of_every_version(work: dict[str, Any]) -> None:
    """The job's own id, not one in its arguments: by it, a job that was pushed back is recognised."""
    json = work["json"].encode()
    assert work_entry(json) == (work["queue"], work["run_at"], work["jid"])
    assert work_entry([b"pull", b"5", b"", json]) == ("pull", 5.0, work["jid"])


@pytest.mark.parametrize("jid", [b"\xff", b"a b", b"a" * 65, b"\n", b"b4\n"])
def test_a_job_with_an_invalid_id_is_still_counted(jid: bytes) -> None:
    assert work_entry([b"pull", b"5", jid]) == ("pull", 5.0, "")


def take(*records: list[Any], prefix: str = "") -> Reading:
    reading = Reading(prefix)
    for record in ([b"time", b"1760000000", b"0"], *records):
        reading.take(record)
    return reading


def process_record(name: str = "process-7.3.9.json", identity: bytes = b"p:1:a") -> list[Any]:
    return [b"process", identity, *fields_of(name)]


def test_an_unreadable_heartbeat_makes_the_processes_incomplete() -> None:
    bad = process_record(identity=b"p:2:b")
    bad[2] = b"\xff"
    facts = take(process_record(), bad, [b"queue", b"pull", 0, None, 0]).facts(redis_run_id="", writable=None)
    assert [process.identity for process in facts.processes] == ["p:1:a"]
    assert not facts.processes_complete
    assert facts.faults == (KeyFault(key="p:2:b", why="it is not the JSON that Sidekiq writes"),)
    assert set(facts.queues) == {"pull"}


def test_an_unreadable_running_job_makes_only_the_busy_threads_of_its_process_unknown() -> None:
    """Otherwise busy threads would look like idle capacity, and an instance would be stopped (law 3)."""
    entries = [b"", [b"pull", b"1759999990", b"b4"]]
    records = [b"queue", b"pull", 7, None, 0], process_record(), [b"work", b"p:1:a", b"p:1:a:work", entries]
    facts = take(*records).facts(redis_run_id="", writable=None)
    assert facts.queues["pull"].length_jobs == 7
    assert facts.processes[0].busy_by_queue is None
    assert [job.jid for job in facts.processes[0].jobs] == ["b4"]
    assert {fault.key for fault in facts.faults} == {"p:1:a:work"}
    assert facts.processes_complete


def test_the_running_jobs_of_a_process_oldest_first() -> None:
    entries = [
        [b"pull", b"1759999990", b"b4"],
        [b"push", b"1759999950", b"c5"],
        b"",
        [b"pull", b"1759999970", b""],
    ]
    readings = take(process_record(), process_record(identity=b"p:2:b"), [b"work", b"p:1:a", b"p:1:a:work", entries])
    busy, idle = readings.facts(redis_run_id="", writable=None).processes
    assert [(job.jid, job.run_age_seconds) for job in busy.jobs] == [("c5", 50), ("", 30), ("b4", 10)]
    assert busy.oldest_run_age_seconds == 50
    assert (idle.jobs, idle.oldest_run_age_seconds) == ((), None)


def test_faults_are_bounded_and_never_show_content() -> None:
    records = [[b"queue", b"q%d" % n, 1, b'{"enqueued_at":"hunter2"}', 0] for n in range(FAULTS_MAX * 2)]
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
    st.tuples(st.just(b"queue"), texts, st.integers(0), maybe, st.sampled_from([0, 1])),
    st.tuples(st.just(b"process"), texts, *[mangled] * 6),
    st.tuples(st.just(b"work"), texts, texts, st.lists(texts | st.lists(texts, min_size=3, max_size=4), max_size=4)),
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
