"""Numbers in Sidekiq's keys that can't be: unknown, never believed, and nothing raises."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fleetd.adapters.sidekiq.formats import (
    WireError,
    age_seconds,
    count,
    heartbeat,
    job_age_seconds,
    process_info,
    work_entry,
)
from fleetd.core.model.facts import ProcessFacts
from tests.support.rig.sidekiq_keys import compact, fixture

NOW = 1760000000.0
DIGITS = int("9" * 400)
FIELDS = ("busy", "beat", "quiet", "rss", "concurrency")


def fields_of(name: str, **changed: object) -> list[bytes | None]:
    """The heartbeat's fields; `changed`: of the hash or else of its info."""
    sample = fixture(name)
    fields = dict(sample["hash"])
    info: dict[str, Any] = dict(sample["info"])
    for key, value in changed.items():
        if key in FIELDS:
            fields[key] = None if value is None else str(value)
        else:
            info[key] = value
    values = [fields.get(field) for field in FIELDS]
    return [compact(info).encode(), *[None if v is None else v.encode() for v in values]]


def read(fields: list[bytes | None]) -> ProcessFacts:
    assert fields[0] is not None
    process, _ = heartbeat("i", process_info(fields[0]), fields[1:], NOW)
    return process


@pytest.mark.parametrize("threads", [-1, 1001, 10**17, 10**30, DIGITS])
@pytest.mark.parametrize("version", ["6.4.1", "7.3.9", "8.0.9"])
def test_a_process_with_an_impossible_number_of_threads_is_unreadable(version: str, threads: int) -> None:
    """Of 10^17 threads an instance was drained as useless; 400 digits ended fleetd."""
    fields = fields_of(f"process-{version}.json")
    info = json.loads(fields[0] or b"")
    info["concurrency"] = threads
    info.pop("capsules", None)
    fields[0] = compact(info).encode()
    with pytest.raises(WireError):
        read(fields)


@pytest.mark.parametrize("threads", [-1, 1001, 10**17, DIGITS])
def test_an_impossible_count_in_the_hash_is_not_believed_and_the_capsules_say_it(threads: int) -> None:
    """Sidekiq 8.1 writes the number of threads twice."""
    assert read(fields_of("process-8.1.6.json", concurrency=threads)).threads == 60


@pytest.mark.parametrize("threads", [10**17, DIGITS])
def test_threads_of_capsules_are_bounded_too(threads: int) -> None:
    fields = fields_of("process-8.1.6.json", concurrency=None)
    info = json.loads(fields[0] or b"")
    info.pop("concurrency", None)
    info["capsules"] = {"default": {"weights": {"default": 1}, "concurrency": threads}}
    fields[0] = compact(info).encode()
    with pytest.raises(WireError):
        read(fields)


@pytest.mark.parametrize("change", [{"pid": 2**22 + 1}, {"pid": DIGITS}, {"pid": -1}, {"busy": 10**17}, {"busy": 1001}])
def test_other_impossible_counts_make_a_heartbeat_unreadable(change: dict[str, int]) -> None:
    with pytest.raises(WireError):
        read(fields_of("process-8.1.6.json", **change))


@pytest.mark.parametrize("rss", ["\x00", "-5", "9" * 400, str(2**52), "1e9"])
def test_an_impossible_size_is_unknown_and_the_rest_is_read(rss: str) -> None:
    process = read(fields_of("process-8.1.6.json", rss=rss))
    assert process.resident_bytes is None
    assert (process.threads, process.busy_threads) == (60, 17)


@pytest.mark.parametrize("time", [-1.0, 1e300, float("inf"), float("nan"), 1e17, 5e9, 5e12])
def test_times_more_than_a_hundred_years_away_are_none(time: float) -> None:
    with pytest.raises(WireError):
        age_seconds(time, NOW)
    with pytest.raises(WireError):
        read(fields_of("process-8.1.6.json", started_at=time))


@pytest.mark.parametrize("time", ["9" * 400, "1e400", "1e17", "-5", '"soon"', "[1]"])
def test_a_job_with_an_impossible_time_has_no_age(time: str) -> None:
    job = b'{"jid":"a","enqueued_at":%s}' % time.encode()
    with pytest.raises(WireError):
        job_age_seconds(job, cut=False, now_seconds=NOW)
    with pytest.raises(WireError):
        age_seconds(work_entry(b'["pull",%s,"",""]' % time.encode()).run_at_seconds, NOW)


@pytest.mark.parametrize("value", [b"-1", b"1_0", b"9" * 400, b"9" * 5000, str(2**53 + 1).encode(), b"1e5", b""])
def test_an_impossible_counter_is_unknown(value: bytes) -> None:
    """Of 10^30 the history could keep nothing: it has 64 bits."""
    with pytest.raises(WireError):
        count(value)
