"""Names count once they are seen, and nobody is counted twice."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from fleetd.core.capacity.budget import BudgetMemory, SourceBudget, connection_budget
from fleetd.core.capacity.claims import Claims
from fleetd.core.capacity.naming import (
    DOUBT_SECONDS,
    LONG_JOB_SECONDS,
    SAID_SECONDS,
    NamingMemory,
    nameless,
    names_missing,
    remember_naming,
)
from fleetd.core.model.facts import ProcessFacts, RunningJob
from tests.support.builders.readings import database, process, sidekiq, snapshot, systemd, tag, unit
from tests.support.world.ports import policy

ONE, TWO = "mastodon-sidekiq@1.w1", "mastodon-sidekiq@2.w1"
BUSY = (process(tag(1), busy=3), process(tag(2), busy=2))


def seen(
    memory: NamingMemory,
    *beats: ProcessFacts,
    at: float = 0.0,
    names: dict[str, int] | None = None,
    clients: int = 30,
    **other: object,
) -> NamingMemory:
    """One more reading, `at` seconds after the first."""
    postgres = other.get("postgres", database(workers=names, clients=clients))
    shot = snapshot(
        policy(),
        now=1000.0 + at,
        postgres=postgres,  # type: ignore[arg-type]
        replica=other.get("replica"),  # type: ignore[arg-type]
        units=other.get("units"),  # type: ignore[arg-type]
    )
    return remember_naming(memory, shot, sidekiq(processes=beats), "w1")


def missing(memory: NamingMemory, at: float) -> tuple[str, ...]:
    said = names_missing(memory, 1000.0 + at)
    return () if said is None else said.names


def test_busy_workers_without_names_are_told_after_a_while_and_no_longer_once_a_name_is_seen() -> None:
    memory = seen(NamingMemory(), *BUSY)
    assert nameless(memory, {ONE, TWO}) == {ONE, TWO}
    assert missing(memory, SAID_SECONDS - 1) == ()
    memory = seen(memory, *BUSY, at=SAID_SECONDS)
    assert missing(memory, SAID_SECONDS) == (ONE, TWO)
    memory = seen(memory, *BUSY, at=40.0, names={ONE: 3, TWO: 1})
    assert nameless(memory, {ONE, TWO}) == frozenset()
    assert missing(memory, 100.0) == ()


def test_the_heartbeat_of_a_process_that_was_killed_is_no_evidence() -> None:
    units = systemd({1: unit(age=3.0, pid=77)})
    killed, fresh = process(tag(1), busy=3, pid=7), process(tag(1), started=5.0, pid=77)
    memory = seen(NamingMemory(), killed, units=units)
    memory = seen(memory, killed, fresh, at=SAID_SECONDS + 10.0, units=units)
    assert nameless(memory, {ONE}) == frozenset()
    assert missing(memory, SAID_SECONDS + 10.0) == ()
    at_work = process(tag(1), busy=1, started=5.0, pid=77)
    assert nameless(seen(memory, killed, at_work, at=40.0, units=units), {ONE}) == {ONE}


def test_the_last_heartbeat_of_a_host_without_power_is_no_evidence_for_a_person() -> None:
    memory = NamingMemory()
    for later in (0.0, 10.0, SAID_SECONDS, 50.0):
        dead = process(tag(1, host="w2"), busy=3, beat=3.0 + later, hostname="w2")
        memory = seen(memory, dead, at=later)
        assert missing(memory, later) == ()
    assert nameless(memory, {"mastodon-sidekiq@1.w2"}) != frozenset(), "it may live, and have them open"
    alive = process(tag(1, host="w2"), busy=3, beat=1.0, hostname="w2")
    assert missing(seen(memory, alive, at=55.0), 55.0) == ("mastodon-sidekiq@1.w2",)


def test_an_idle_worker_without_connections_is_no_evidence() -> None:
    idle = (process(tag(1)), process(tag(2)))
    memory = seen(NamingMemory(), *idle, at=0.0)
    memory = seen(memory, *idle, at=DOUBT_SECONDS + 1)
    assert nameless(memory, {ONE, TWO}) == frozenset()
    assert missing(memory, 1000.0) == ()


def test_one_of_several_may_be_nameless() -> None:
    memory = seen(NamingMemory(), *BUSY, names={ONE: 5})
    assert nameless(memory, {ONE, TWO}) == {TWO}
    memory = seen(memory, *BUSY, at=SAID_SECONDS, names={ONE: 5})
    assert missing(memory, SAID_SECONDS) == (TWO,)
    assert names_missing(memory, 1000.0 + SAID_SECONDS).none_seen is False  # type: ignore[union-attr]


def test_a_job_so_long_that_rails_may_have_closed_its_connection_is_no_evidence() -> None:
    job = RunningJob(jid="1", run_age_seconds=LONG_JOB_SECONDS + 1)
    long = structs.replace(process(tag(1), busy=1), jobs=(job,))
    memory = seen(NamingMemory(seen=True), long, names={TWO: 1})
    assert nameless(memory, {ONE, TWO}) == frozenset()
    short = structs.replace(long, jobs=(structs.replace(job, run_age_seconds=LONG_JOB_SECONDS),))
    assert nameless(seen(memory, short, names={TWO: 1}), {ONE, TWO}) == {ONE}


def test_a_name_on_the_replica_is_a_name() -> None:
    memory = seen(NamingMemory(), *BUSY, names={ONE: 5}, replica=database(workers={TWO: 1}))
    assert nameless(memory, {ONE, TWO}) == frozenset()


def test_while_postgres_is_unknown_refuses_or_is_pooled_nothing_is_concluded() -> None:
    named = NamingMemory(seen=True)
    for postgres in (None, database(refused=True), structs.replace(database(), pooled=True)):
        assert seen(named, *BUSY, postgres=postgres) == named


def test_names_that_vanish_from_all_workers_are_noticed() -> None:
    memory = seen(NamingMemory(), *BUSY, names={ONE: 5, TWO: 5})
    memory = seen(memory, *BUSY, at=5.0)  # Mastodon's DATABASE_URL was changed, and they were restarted
    assert nameless(memory, {ONE, TWO}) == {ONE, TWO}


def test_a_worker_that_is_gone_is_no_longer_missed() -> None:
    memory = seen(NamingMemory(), *BUSY)
    memory = seen(memory, BUSY[0], at=5.0, names={ONE: 1})
    assert memory.missing_seconds == {}


def test_what_opens_before_the_first_busy_heartbeat_is_doubted_for_a_while() -> None:
    idle = (process(tag(1)),)
    memory = seen(NamingMemory(), *idle, clients=10)
    memory = seen(memory, *idle, at=100.0, clients=30)
    assert nameless(memory, {ONE}) == {ONE}
    memory = seen(memory, *idle, at=100.0 + DOUBT_SECONDS, clients=30)
    assert nameless(memory, {ONE}) == frozenset()


OPEN = st.integers(min_value=0, max_value=27)


@given(
    workers=st.lists(st.tuples(OPEN, st.booleans()), min_size=1, max_size=8),
    web=st.integers(min_value=0, max_value=150),
    seen_before=st.booleans(),
)
def test_law_2_nobody_is_shed_by_double_counting_and_growth_stays_within_the_limit(
    workers: list[tuple[int, bool]], web: int, seen_before: bool
) -> None:
    """`workers`: what each has open, and whether it bears its name. Each may open 27; all are at work."""
    names = {f"mastodon-sidekiq@{n}.w1": opened for n, (opened, named) in enumerate(workers, 1) if named and opened}
    beats = tuple(process(tag(n, pool=27), threads=25, busy=1) for n in range(1, len(workers) + 1))
    clients = web + sum(opened for opened, _ in workers) + 1
    memory = seen(NamingMemory(seen=seen_before), *beats, names=names, clients=clients)
    claims = {f"mastodon-sidekiq@{n}.w1": 27 for n in range(1, len(workers) + 1)}
    shot = snapshot(policy(), now=1000.0, postgres=database(maximum=200, workers=names, clients=clients))
    budget, _ = connection_budget(
        policy(),
        shot,
        Claims(connections=claims, nameless=nameless(memory, claims.keys())),
        BudgetMemory(naming=memory),
    )
    [source] = budget.sources
    assert isinstance(source, SourceBudget)
    claimed, room = 27 * len(workers), source.limit_connections - source.reserve_connections
    truly_fits = web + claimed <= room
    assert not (truly_fits and budget.excess_connections(claimed, claimed)), "shed although all of it fits"
    headroom = budget.headroom_connections(claimed)
    assert headroom is not None
    assert headroom == 0 or web + claimed + headroom <= room, "grew beyond the limit"


def test_the_peak_from_before_they_were_found_out_is_not_held_against_them() -> None:
    rules, claims = policy(), {ONE: 27, TWO: 27}
    shot = snapshot(rules, now=1000.0, postgres=database(maximum=100, clients=75))
    before, memory = connection_budget(rules, shot, Claims(connections=claims), BudgetMemory())
    assert before.excess_connections(54, 54) > 0  # 74 seen, of which 54 are ours: 54 + 74 > 87
    shot = snapshot(rules, now=1005.0, postgres=database(maximum=100, clients=75))
    after, _ = connection_budget(rules, shot, Claims(connections=claims, nameless=frozenset(claims)), memory)
    assert after.sources[0].others_connections == 20
    assert after.excess_connections(54, 54) == 0


def test_of_a_worker_whose_jobs_another_host_reads_the_connections_are_doubted_but_only_that_host_tells() -> None:
    theirs = "mastodon-sidekiq@1.w2"
    left = structs.replace(process(tag(1, host="w2"), busy=3), jobs=(), busy_by_queue=None, without_jobs=True)
    memory = seen(NamingMemory(), BUSY[0], left, names={ONE: 3})
    memory = seen(memory, BUSY[0], left, at=SAID_SECONDS, names={ONE: 3})
    assert nameless(memory, {ONE, theirs}) == {theirs}
    assert missing(memory, SAID_SECONDS) == ()
    read = structs.replace(left, without_jobs=False, jobs=(RunningJob(jid="a", run_age_seconds=LONG_JOB_SECONDS / 2),))
    memory = seen(memory, BUSY[0], read, at=30.0, names={ONE: 3})
    assert missing(memory, 30.0) == (theirs,)
