"""Whatever is found, the file loads, min fits, and nothing in it comes from a secret."""

from __future__ import annotations

import tomllib
from typing import Literal

from hypothesis import given
from hypothesis import strategies as st

from fleetd.adapters.mastodon.services import SIZES, MastodonService
from fleetd.adapters.mastodon.sidekiq_command import SidekiqCommand
from fleetd.app.init.found import Found, MastodonFound, MemoryFound, Servers, SourceFound, SourceUnknown
from fleetd.app.init.propose import propose
from fleetd.app.init.sentences import found_lines, growth_lines, unknown_lines
from fleetd.app.init.text import file_text
from fleetd.config import parse
from fleetd.core.model.facts import ProcessFacts
from fleetd.core.model.policy_tables import QUEUES_BY_IMPORTANCE
from tests.support.builders.readings import process, tag

NAMES = st.text(max_size=30)
STOCK = st.sampled_from([*QUEUES_BY_IMPORTANCE, "scheduler"])
QUEUES = st.lists(st.tuples(STOCK | NAMES, st.integers(0, 300)), max_size=9).map(tuple)
COUNTS = st.integers(0, 2000)
FEW = st.integers(0, 150)
RUNS: st.SearchStrategy[Literal["sidekiq", "web", "streaming"]] = st.sampled_from(
    ["sidekiq", "sidekiq", "sidekiq", "web", "streaming"]
)
HOSTS = st.sampled_from(["w1", "main"])


@st.composite
def services(draw: st.DrawFn) -> MastodonService:
    runs = draw(RUNS)
    command = SidekiqCommand(
        threads=draw(st.integers(0, 1000)), queues=draw(QUEUES), config_file=draw(st.just("") | NAMES)
    )
    return MastodonService(
        name=draw(NAMES),
        runs=runs,
        active=draw(st.booleans()),
        enabled=draw(st.booleans()),
        sidekiq=command if runs == "sidekiq" else None,
        sizes=draw(st.dictionaries(st.sampled_from(SIZES), st.integers(0, 1000))),
        fleetds=draw(st.integers(0, 9)) == 0,
    )


@st.composite
def processes(draw: st.DrawFn) -> ProcessFacts:
    label = draw(st.sampled_from(["", "live", tag(3, host="w2"), tag(4)]))
    queues = " ".join(draw(st.lists(STOCK, min_size=1, max_size=7)))
    return process(label, queues=queues, threads=draw(st.integers(0, 200)), hostname=draw(HOSTS | NAMES))


@st.composite
def sources(draw: st.DrawFn) -> SourceFound:
    return SourceFound(
        source=draw(st.sampled_from(["postgres", "pgbouncer", "replica"])),
        limit_connections=draw(COUNTS | FEW),
        seen_connections=draw(COUNTS | FEW),
        other_roles_connections=draw(FEW),
        pool_connections=draw(st.none() | FEW),
    )


LOST = st.builds(SourceUnknown, source=st.sampled_from(["postgres", "pgbouncer", "replica"]), why=NAMES)
FOUND = st.builds(
    Found,
    host=HOSTS | NAMES,
    cores=st.integers(1, 200),
    memory=st.none()
    | st.builds(
        MemoryFound,
        total_bytes=st.integers(0, 2**40),
        available_bytes=st.integers(0, 2**36),
        held_bytes=st.integers(0, 2**36),
    ),
    mastodon=st.builds(
        MastodonFound,
        directory=st.just("/home/mastodon/live") | NAMES,
        user=st.just("mastodon") | NAMES,
        exec=st.none() | NAMES,
        env_why=st.just("") | NAMES,
        sizes=st.dictionaries(st.sampled_from(SIZES), st.integers(0, 1000)),
    ),
    services=st.none() | st.lists(services(), max_size=24).map(tuple),
    other_mastodons=st.lists(NAMES, max_size=6).map(tuple),
    servers=st.builds(
        Servers,
        processes=st.none() | st.lists(processes(), max_size=9).map(tuple),
        redis_why=NAMES,
        sources=st.lists(sources(), max_size=3).map(tuple),
        unknown=st.lists(LOST, max_size=3).map(tuple),
        workers_pool=st.none() | st.integers(1, 60),
        strange_pooler=st.booleans(),
    ),
)


@given(FOUND)
def test_the_file_loads_and_min_fits(found: Found) -> None:
    proposal = propose(found)
    text = file_text(proposal)
    settings = parse(text, machine_host=found.host)
    policy = settings.policy
    assert not policy.observes
    assert parse(text.replace('#mode = "observe"', 'mode = "observe"'), machine_host=found.host).policy.observes
    elsewhere = {q for p in found.servers.processes or () if p.hostname != found.host for q in p.queues}
    for warning in settings.warnings:  # what is served here is the admin's, and what is not others serve
        assert "which stock Mastodon does not have" in warning or any(f"queue {q}:" in warning for q in elsewhere)
    assert policy.scheduler.place == proposal.place
    always = sum(profile.min_instances for profile in policy.profiles)
    claims = sum(p.min_instances * p.claim_connections for p in proposal.profiles)
    left = proposal.room.tightest.left_connections
    assert claims == 0 or claims + proposal.scheduler_connections <= left
    memory = proposal.room.memory
    assert memory is None or always <= max(1, memory.free_bytes // memory.instance_bytes)
    assert all(len(line) <= 120 or not line.startswith("#") for line in text.splitlines())


@given(FOUND)
def test_one_more_fits_where_it_says_so_and_else_it_says_what_helps(found: Found) -> None:
    proposal = propose(found)
    first, left = proposal.profiles[0], proposal.room.tightest.left_connections
    claims = sum(p.min_instances * p.claim_connections for p in proposal.profiles) + proposal.scheduler_connections
    if proposal.growth_instances:
        assert claims + first.claim_connections * proposal.growth_instances <= left
        assert first.max_instances == first.min_instances + proposal.growth_instances
    else:
        assert "What helps:" in " ".join(growth_lines(proposal))
    # A queue of a profile without min can be served.
    for profile in proposal.profiles:
        assert profile.min_instances or not proposal.fits or claims + profile.claim_connections <= left


@given(FOUND)
def test_every_queue_that_a_unit_served_is_served(found: Found) -> None:
    proposal = propose(found)
    written = tomllib.loads(file_text(proposal))["profiles"]
    served = {queue for profile in proposal.profiles for queue, _ in profile.wish.queues}
    wanted = {queue for wish in proposal.wishes.profiles for queue, _ in wish.queues}
    assert served >= wanted or len(wanted) > 64
    assert len(written) == len(proposal.profiles)


@given(FOUND)
def test_every_line_of_the_file_can_be_seen(found: Found) -> None:
    proposal = propose(found)
    assert all((*found_lines(proposal), *unknown_lines(proposal), *growth_lines(proposal)))
    assert all(line.isprintable() for line in file_text(proposal).splitlines())
