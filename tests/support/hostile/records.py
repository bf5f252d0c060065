"""Hostile records for every source: at least one value in each is none that it can be.

A record that is well-formed and false, such as a heartbeat of a process that does not exist, is not one of these: no
reader could tell it from a true one.
"""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

from tests.support.builders.database_rows import postgres_row
from tests.support.hostile.wire import Added, Record

DIGITS = "9" * 400
#: Written where a number belongs.
IMPOSSIBLE_TEXTS = (
    *("inf", "-inf", "nan", "NaN", "Infinity", "1e400", "1e999", "-1", "-0.5", "", " ", "many", "0x10", "1_0", "٣"),
    *(DIGITS, f"-{DIGITS}", "9" * 5000, str(10**17), str(10**30), str(2**63), str(2**64 - 2), "1" + "0" * 25),
)
impossible_bytes = st.sampled_from([text.encode() for text in IMPOSSIBLE_TEXTS]) | st.binary(max_size=30).filter(
    lambda value: not value.strip().isdigit()
)
impossible_values: st.SearchStrategy[Any] = (
    st.sampled_from([*IMPOSSIBLE_TEXTS, int(DIGITS), -int(DIGITS), 10**30, 2**64 - 2, -2, None, [], {}, True, b"x"])
    | st.sampled_from([float("nan"), float("inf"), float("-inf"), 1e300, -1e300])
    | st.integers(max_value=-2)
    | st.integers(min_value=2**53 + 1)
)
#: As JSON has them; some are no JSON at all.
impossible_json = st.sampled_from([DIGITS, f"-{DIGITS}", "1e300", "1e999", "-1", str(10**17), str(10**30), "NaN", "[]"])

INFO = {
    "hostname": "evil",
    "started_at": 5000.0,
    "pid": 4711,
    "tag": "fleetd:w1:2:p7:00000000",
    "concurrency": 5,
    "queues": ["default", "scheduler"],
    "version": "7.3.9",
}
FIELDS = ("info", "busy", "beat", "quiet", "rss", "concurrency")
#: Of a process that would be believed.
BELIEVED: list[bytes | None] = [json.dumps(INFO).encode(), b"1", b"10000.0", b"false", b"1000", None]


running_jobs = (
    st.builds(
        lambda queue, value: b'["%s",%s,"",""]' % (queue, value),
        st.sampled_from([b"default", b"evil"]),
        impossible_bytes,
    )
    | impossible_bytes
)


@st.composite
def heartbeats(draw: st.DrawFn) -> Record:
    """A process of which something essential is impossible, whatever else is."""
    fields = list(BELIEVED)
    info: dict[str, Any] = dict(INFO)
    if draw(st.booleans()):
        name = draw(st.sampled_from(["started_at", "pid", "concurrency"]))
        info[name] = "HERE"
        fields[0] = json.dumps(info).replace('"HERE"', draw(impossible_json)).encode()
    else:
        place = draw(st.sampled_from([0, 1, 2, 3, 5]))
        impossible = impossible_bytes if place != 3 else impossible_bytes.filter(lambda value: value != b"")
        fields[place] = draw(impossible if place == 5 else impossible | st.none())
    if draw(st.booleans()):
        fields[4] = draw(impossible_bytes)
    identity = draw(st.sampled_from([b"evil:1:a", b"evil:2:b", b"\xff", b""]))
    running = draw(st.lists(running_jobs, max_size=3))
    return [b"process", identity, *fields, identity + b":work", len(running), draw(st.integers(-1, 99)), running]


times = st.sampled_from([b"enqueued_at", b"created_at"])
jobs = st.builds(lambda name, value: b'{"%s":%s}' % (name, value.encode()), times, impossible_json) | impossible_bytes
queue_records = st.tuples(
    st.just(b"queue"),
    st.sampled_from([b"evil", b"scheduler", b"\xff", b"", b"a" * 300]),
    st.integers(1, 2**32 - 1),
    st.integers(-1, 2**40),
    jobs,
    st.sampled_from([b"", b"\xff", b'{"class":']),
).map(list)
faults = st.tuples(
    st.just(b"fault"),
    st.sampled_from([b"queue", b"queues", b"processes", b"work", b"counter", b"waiting", b"classes"]),
    st.sampled_from([b"evil:1:a", b"\xff"]),
    impossible_bytes,
    st.sampled_from([b"WRONGTYPE x", b"NOPERM", b"LONGNAME", b"\xff", b""]),
).map(list)
counters = st.tuples(st.just(b"counter"), st.sampled_from([b"processed", b"failed"]), impossible_bytes).map(list)
waiting = st.tuples(
    st.just(b"waiting"), st.sampled_from([b"retry", b"dead", b"schedule"]), st.sampled_from([-1, 2**32, 2**62])
).map(list)
class_names = st.sampled_from([b"LinkCrawlWorker", b"\xff", b"", b"|", b"a" * 300, "\u202eevil\x1b[2J".encode()])
class_fields = st.tuples(class_names, impossible_bytes | st.none(), impossible_bytes | st.none() | st.just(b"7"))
class_fields |= st.tuples(class_names, st.just(b"9"), impossible_bytes | st.none() | st.just(b"7"))
classes = st.builds(
    lambda key, found: [b"classes", key, [part for fields in found for part in fields]],
    st.sampled_from([b"j|251009|8:05", b"\xff"]),
    st.lists(class_fields, max_size=4),
)
sidekiq_records = st.lists(st.one_of(heartbeats(), queue_records, faults, counters, waiting, classes), max_size=4)

COUNTS = ("max_connections", "reserved_connections", "clients", "of_role", "of_database", "hidden", "own")
postgres_columns = st.dictionaries(st.sampled_from([*COUNTS, "role_limit", "database_limit"]), impossible_values)
postgres_columns |= st.dictionaries(st.sampled_from(["active", "stalled"]), impossible_values, min_size=1)
postgres_columns |= st.fixed_dictionaries(
    {"workers": impossible_json.map(lambda number: f'{{"mastodon-sidekiq@2.w1": {number}}}')}
)
postgres_columns |= st.fixed_dictionaries(
    {"consumers": impossible_json.map(lambda number: f'[["a", "b", "c", {number}]]')}
)
assert set(COUNTS) <= set(postgres_row())

console = st.lists(
    st.tuples(
        st.sampled_from(["CONFIG", "LISTS", "POOLS", "DATABASES", "USERS"]),
        st.integers(0, 200),
        st.sampled_from(["value", "items", "cl_active", "cl_waiting", "maxwait", "sv_active", "pool_size", "other"]),
        impossible_values,
    ),
    max_size=3,
)
NUMBERS_OF_UNITS = ("MainPID", "NRestarts", "StateChangeTimestampMonotonic", "InvocationID")
properties = st.lists(
    st.tuples(st.integers(0, 4), st.sampled_from(NUMBERS_OF_UNITS), impossible_values)
    | st.tuples(st.integers(0, 4), st.just("StateChangeTimestampMonotonic"), st.just(2**64 - 1)),
    max_size=2,
)

texts = st.sampled_from([text for text in IMPOSSIBLE_TEXTS if "\n" not in text])
SLICE = "sys/fs/cgroup/system.slice"
files = st.one_of(
    st.builds(
        lambda total, free: {"proc/meminfo": f"MemTotal: {total} kB\nMemAvailable: {free} kB\n"},
        texts,
        texts | st.just("33554432"),
    ),
    st.builds(lambda load: {"proc/loadavg": f"{load} 0.00 0.00 1/1 1\n"}, texts),
    st.builds(lambda kills: {"proc/vmstat": f"oom_kill {kills}\n"}, texts),
    st.builds(
        lambda kind, percent: {
            f"proc/pressure/{kind}": f"some avg10=0 avg60={percent} x\nfull avg10=0 avg60={percent} x\n"
        },
        st.sampled_from(["memory", "cpu"]),
        texts | st.sampled_from(["100.01", "999.99"]),
    ),
    st.builds(
        lambda number, name, value: {f"{SLICE}/mastodon-sidekiq@{number}.service/{name}": value},
        st.integers(1, 4),
        st.sampled_from(["memory.current", "memory.stat"]),
        texts.map(lambda text: f"file {text}\nshmem {text}\n") | texts,
    ),
)


SOURCES = ("redis", "job", "running", "own", "postgres", "replica", "pgbouncer", "systemd", "host")


@st.composite
def hostile(draw: st.DrawFn) -> Added:
    """Hostile records in one source or in several."""
    added = Added()
    sources = draw(st.sets(st.sampled_from(SOURCES), min_size=1))
    if "redis" in sources:
        added.records = draw(sidekiq_records)
    if "job" in sources:
        added.jobs = draw(st.dictionaries(st.sampled_from(["default", "push", "pull"]), jobs, max_size=2))
    if "running" in sources:
        added.running = draw(st.lists(running_jobs, max_size=3))
    if "own" in sources:
        place = draw(st.sampled_from([0, 1, 2, 4]))
        added.fields = {place: draw(impossible_bytes)}
    if "replica" in sources:
        added.replica = draw(postgres_columns)
    if "postgres" in sources:
        added.columns = draw(postgres_columns)
    if "pgbouncer" in sources:
        added.console = draw(console)
    if "systemd" in sources:
        added.properties = draw(properties)
    if "host" in sources:
        added.files = draw(files)
    return added
