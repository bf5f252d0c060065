"""The ids of running jobs, which a script inside a real Redis finds whatever their arguments are."""

from __future__ import annotations

import json
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fleetd.adapters.sidekiq import running_jobs
from fleetd.core.model.facts import RunningJob
from tests.support.rig.redis_server import RedisServer
from tests.support.rig.sidekiq_keys import SidekiqKeys, compact, fixture
from tests.support.rig.sidekiq_source import read, source_at

ME = "worker1:4711:5f0c"
JID = "88cee6de6ec5f8f3be802e28"


def jobs_of(
    server: RedisServer, client: redis.Redis, *entries: str | bytes, cut: bool = False
) -> tuple[RunningJob, ...]:
    """The running jobs as they are read. `cut`: inside Redis, as over a slow link; else they are sent whole."""
    client.flushall()
    keys = SidekiqKeys(client)
    keys.beat(ME)
    more = [entry(job("x" * 20_000) | {"jid": "more"})] if cut else []
    keys.running(ME, *entries, *more)
    source = source_at(server)
    source._running_jobs._sent_bytes_max = 0 if cut else running_jobs.SENT_BYTES_MAX
    facts = read(source)
    assert facts.faults == ()
    return tuple(running for running in facts.processes[0].jobs if running.jid != "more")


def entry(job: object, *, run_at: int = 1_760_000_000) -> str:
    return compact({"queue": "pull", "payload": compact(job), "run_at": run_at})


def job(*arguments: object, **after: object) -> dict[str, object]:
    """A job as Sidekiq's client writes it: the id after the arguments, then whatever middleware adds."""
    written = {"retry": True, "queue": "pull", "class": "A", "args": arguments, "jid": JID, "created_at": 1.5}
    return written | after | {"enqueued_at": 2.5}


@pytest.mark.parametrize("work", fixture("work.json")["work"], ids=lambda work: str(work["of"]))
@pytest.mark.parametrize("cut", [False, True])
def test_the_id_and_class_of_every_version(
    shared_redis: RedisServer, client: redis.Redis, work: dict[str, Any], cut: bool
) -> None:
    (running,) = jobs_of(shared_redis, client, work["json"], cut=cut)
    assert (running.jid, running.job_class) == (work["jid"], work["class"])


@pytest.mark.parametrize("work", fixture("work.json")["work"][:7], ids=lambda work: str(work["of"]))
def test_the_id_and_class_of_a_large_job_of_every_version(
    shared_redis: RedisServer, client: redis.Redis, work: dict[str, Any]
) -> None:
    outer = json.loads(work["json"])
    payload = json.loads(outer["payload"])
    payload["args"].append("x" * 9_000)
    large = compact(outer | {"payload": compact(payload)})
    (whole,) = jobs_of(shared_redis, client, large)
    (cut,) = jobs_of(shared_redis, client, large, cut=True)
    assert (whole.jid, whole.job_class) == (work["jid"], work["class"])
    assert cut.job_class == work["class"]
    assert cut.jid in (work["jid"], "")  # "": an object of a middleware comes after it


def test_oldest_first(shared_redis: RedisServer, client: redis.Redis) -> None:
    now = int(SidekiqKeys(client).now())
    ages = {"c": 5, "a": 7200, "b": 60}
    entries = [entry(job() | {"jid": jid}, run_at=now - age) for jid, age in ages.items()]
    jobs = jobs_of(shared_redis, client, *entries)
    assert [running.jid for running in jobs] == ["a", "b", "c"]
    assert [running.run_age_seconds for running in jobs] == pytest.approx([7200, 60, 5], abs=5)


def test_jobs_that_began_lately_are_young(shared_redis: RedisServer, client: redis.Redis) -> None:
    client.flushall()
    keys = SidekiqKeys(client)
    keys.beat(ME)
    now = int(keys.now())
    keys.running(ME, *(entry(job(), run_at=now - age) for age in (0, 4, 60, 7200)))
    (process,) = read(source_at(shared_redis)).processes
    assert (process.busy_by_queue, process.young_by_queue) == ({"pull": 4}, {"pull": 2})


@pytest.mark.parametrize(
    ("arguments", "after"),
    [
        (["x" * 2_000_000], {}),
        ([{"jid": "nested"}, "x" * 2_000_000], {}),
        (["x" * 5000, *[{"jid": f"nested{n}"} for n in range(5)]], {}),
        ([compact({"jid": "in a string"}) * 1000], {}),
        (["x" * 5000], {"lock_args": ["x" * 5000], "error_message": 'ü"\\' * 3_333, "retry_count": 3}),
    ],
)
def test_the_id_of_a_large_job(
    shared_redis: RedisServer, client: redis.Redis, arguments: list[object], after: dict[str, object]
) -> None:
    for cut in (False, True):
        (running,) = jobs_of(shared_redis, client, entry(job(*arguments, **after)), cut=cut)
        assert (running.jid, running.job_class) == (JID, "A")


@pytest.mark.parametrize(
    ("arguments", "after"),
    [
        (["x" * 5000], {"error_backtrace": "x" * 70_000}),  # too far from the end
        (["x" * 5000], {"cattr": {"jid": "nested"}}),
        (["x" * 5000], {"error_message": '{"jid":"in a string"}'}),
        (["x" * 5000, *[{"jid": f"nested{n}"} for n in range(50)]], {}),
    ],
)
def test_a_large_job_whose_id_is_not_found_cheaply_has_none(
    shared_redis: RedisServer, client: redis.Redis, arguments: list[object], after: dict[str, object]
) -> None:
    """No id is better than a wrong one. The thread is still counted, and its time is known."""
    (running,) = jobs_of(shared_redis, client, entry(job(*arguments, **after)), cut=True)
    assert running.jid == ""


def test_a_payload_that_is_no_job_still_counts_as_a_busy_thread(shared_redis: RedisServer, client: redis.Redis) -> None:
    payloads = [b'"\xff\xfe"', b'"' + b"[" * 100_000 + b'"', b"[]", b'{"jid":7}', b'"jid\\":\\"b4\\"}"', b"}"]
    entries = [b'{"queue":"pull","payload":' + p + b',"run_at":1760000000}' for p in payloads]
    for cut in (False, True):
        jobs = jobs_of(shared_redis, client, *entries, cut=cut)
        assert [running.jid for running in jobs] == [""] * len(payloads)


texts = st.text(st.sampled_from('jid":,{}[]\\ ü'), max_size=12) | st.sampled_from(['"jid":"no"', 'x,"jid', "jid"])
arguments = st.recursive(
    st.none() | st.integers() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner | st.just("no"), max_size=3),
    max_leaves=8,
)
others = st.dictionaries(texts.filter(lambda key: key != "jid"), arguments, max_size=3)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    jobs=st.lists(st.tuples(others, arguments, others), min_size=1, max_size=30),
    padding=st.sampled_from(["", "x" * 3000]),
    has_id=st.booleans(),
)
def test_the_id_is_never_one_of_a_nested_value(
    shared_redis: RedisServer,
    client: redis.Redis,
    jobs: list[tuple[dict[str, object], object, dict[str, object]]],
    padding: str,
    has_id: bool,
) -> None:
    own = {"class": "Own", "jid": JID} if has_id else {}
    entries = [entry({"p": padding, **before, "args": args, **own, **after}) for before, args, after in jobs]
    found = {running.jid for running in jobs_of(shared_redis, client, *entries, cut=bool(padding))}
    assert found <= ({JID, ""} if has_id else {""})
    if has_id and not padding:
        assert found == {JID}
