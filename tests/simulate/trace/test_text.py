"""A trace as text: reading it back gives the same trace."""

from __future__ import annotations

import tomllib

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from fleetd.simulate.trace.text import trace_text
from fleetd.simulate.trace.trace import (
    Database,
    Fault,
    Host,
    QueueTraffic,
    ServiceSeconds,
    Trace,
    TraceProfile,
    load_trace,
    parse_trace,
)
from tests.support.builders.traces import DOCUMENTED
from tests.support.project import PROJECT

names = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,20}", fullmatch=True).filter(lambda n: n != "scheduler")
profile_names = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,20}", fullmatch=True)
positive = st.floats(0.1, 1e4)


def points(duration: float, most: float = 1e5) -> st.SearchStrategy[tuple[tuple[float, float], ...]]:
    amounts = st.floats(0, most, allow_nan=False) | st.integers(0, int(most)).map(float)
    return st.lists(st.tuples(st.floats(0, duration), amounts), max_size=20).map(
        lambda found: tuple(sorted(found, key=lambda point: point[0]))
    )


@st.composite
def traces(draw: st.DrawFn) -> Trace:
    duration = draw(st.floats(60, 1e6))
    queues = draw(st.lists(names, min_size=1, max_size=4, unique=True))
    at = draw(st.floats(0, duration, exclude_max=True))
    weighted = draw(st.booleans())
    profile = TraceProfile(
        order=draw(st.just("weighted" if weighted else "strict") | st.none()),
        queues=None if weighted else tuple(queues),
        weights={queue: draw(st.integers(1, 100)) for queue in queues} if weighted else None,
        threads=20,
        db_pool=draw(st.none() | st.integers(20, 30)),
        instances=3,
        min=draw(st.none() | st.integers(0, 3)),
    )
    low = draw(positive)
    return Trace(
        name=draw(st.text(min_size=1, max_size=30).filter(str.isprintable)),
        seed=draw(st.integers(0, 10**9)),
        duration_seconds=duration,
        tick_seconds=draw(st.floats(1, 60)),
        boot_seconds=(low, low + draw(positive)),
        beat_seconds=draw(st.integers(1, 30)),
        initial_instances=draw(st.integers(0, 3)),
        targets={queue: draw(st.floats(0.1, 86_400) | st.just("none")) for queue in queues}
        if draw(st.booleans())
        else {},
        queues={
            queue: QueueTraffic(
                arrivals_per_second=draw(points(duration, 200)),
                bursts=tuple((at, float(int(jobs))) for at, jobs in draw(points(duration)) if at < duration),
                service_seconds=ServiceSeconds(mean=draw(st.floats(0.0001, 86_400)), sigma=draw(st.floats(0, 4))),
            )
            for queue in queues
        },
        profiles=draw(st.just({}) | st.dictionaries(profile_names, st.just(profile), max_size=2)),
        database=Database(
            max_connections=draw(st.integers(1, 100_000)),
            others=draw(points(duration)),
            knee_busy_threads=draw(st.none() | st.floats(1, 1e4)),
        ),
        host=Host(
            memory_bytes=draw(st.floats(1e6, 1e13)),
            instance_memory_bytes=(300e6, draw(st.floats(300e6, 1e12))),
        ),
        faults=draw(
            st.sampled_from(
                [
                    (),
                    (Fault(at=at, kill_instances=2),),
                    (Fault(at=at, for_seconds=draw(st.floats(1, 1e4)), source="redis"),),
                ]
            )
        ),
    )


@settings(max_examples=100, deadline=None)
@given(trace=traces(), comment=st.text(max_size=40))
def test_a_trace_is_the_same_when_read_back(trace: Trace, comment: str) -> None:
    assert parse_trace(trace_text(trace, (comment,))) == trace


def test_a_hostile_queue_name_is_escaped_and_read_back() -> None:
    trace = parse_trace(DOCUMENTED)
    name = "a\x1b[2J\x9b\u202e\u200b\U000e0041\x7f"
    (first, *_) = trace.queues.values()
    hostile = structs.replace(trace, queues={name: first}, profiles={}, targets={name: 5.0})
    text = trace_text(hostile, ("by \x1b[2J\u202e",))
    assert all(line.isprintable() for line in text.split("\n"))
    assert r"# by \x1b[2J\u202e" in text
    assert tomllib.loads(text)["queues"].keys() == {name}


def test_the_documented_and_the_benchmark_traces_are_read_back() -> None:
    documented = parse_trace(DOCUMENTED)
    assert parse_trace(trace_text(documented)) == documented
    for path in sorted((PROJECT / "benchmarks/traces").glob("*.toml")):
        loaded = load_trace(path)
        assert parse_trace(trace_text(loaded)) == loaded, path.name


def test_a_trace_without_profiles_and_targets_is_read_back() -> None:
    bare = structs.replace(parse_trace(DOCUMENTED), profiles={}, targets={})
    assert parse_trace(trace_text(bare)) == bare
