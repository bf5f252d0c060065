"""From what was found to the first configuration: the numbers."""

from __future__ import annotations

import pytest
from msgspec import structs

from fleetd.app.init.found import Found, MastodonFound, Servers, SourceUnknown
from fleetd.app.init.propose import Proposal, propose
from fleetd.app.init.text import file_text
from fleetd.config import Settings, parse
from tests.support.builders.findings import (
    ALL_QUEUES,
    GIB,
    beat,
    pgbouncer,
    postgres,
    sidekiq_unit,
    stock,
    streaming_unit,
    web_unit,
)
from tests.support.builders.readings import tag

FIVE = ("default", "push", "ingress", "mailers", "pull")


def per_queue(*, threads: int = 25, limit: int = 97, **more: object) -> Found:
    units = tuple(sidekiq_unit(f"mastodon-sidekiq-queue@{queue}", f"-c {threads} -q {queue}") for queue in FIVE)
    scheduler = sidekiq_unit("mastodon-sidekiq-cron", "-c 3 -q scheduler")
    beats = tuple(beat(queue, threads=threads) for queue in FIVE)
    beats = (*beats, beat("scheduler", threads=3))
    return stock(*units, scheduler, beats=beats, sources=(postgres(limit),), **more)  # type: ignore[arg-type]


def loaded(found: Found) -> Settings:
    settings = parse(file_text(propose(found)), machine_host=found.host)
    assert settings.warnings == ()
    return settings


def comments(proposal: Proposal) -> str:
    """The file, with each comment on one line."""
    return file_text(proposal).replace("\n# ", " ")


def sizes(proposal: Proposal) -> list[tuple[str, int, int, int]]:
    """(name, threads, min, max) of each profile."""
    return [(p.wish.name, p.threads, p.min_instances, p.max_instances) for p in proposal.profiles]


def test_a_stock_vm_grows_on_debians_hundred_connections() -> None:
    proposal = propose(stock())
    assert sizes(proposal) == [("weighted", 25, 1, 2)]
    assert (proposal.place, proposal.scheduler_threads, proposal.growth_instances) == ("here", 10, 1)
    policy = loaded(stock()).policy
    assert {c.name: c.connections for c in policy.connections.declared} == {"web": 10, "streaming": 10}
    assert policy.scheduler.place == "here"
    assert policy.profiles[0].order == "weighted"
    assert [q for q, _ in policy.profiles[0].queues] == ["default", "push", "ingress", "mailers", "pull", "fasp"]


def test_on_two_cores_and_4_gb_it_grows_if_the_memory_is_there() -> None:
    roomy = propose(stock(cores=2, total=3.8, available=2.6, held=int(0.7 * GIB)))
    assert sizes(roomy) == [("weighted", 25, 1, 2)]
    tight = propose(stock(cores=2, total=3.8, available=1.2, held=int(0.7 * GIB)))
    assert sizes(tight) == [("weighted", 25, 1, 1)]
    assert (tight.growth_instances, tight.profiles[0].bound) == (0, "memory")
    text = file_text(tight)
    assert "# Nothing grows above min: 922 MB of memory are free for workers" in text
    assert "What helps: more memory" in comments(tight)


def test_what_a_sidekiq_has_grown_to_is_its_size() -> None:
    """On the same 4 GB, where the one that runs has stayed at half a gigabyte for two days."""
    found = stock(cores=2, total=3.8, available=1.2, held=int(0.7 * GIB), beats=(beat(held=500 * 1024**2),))
    proposal = propose(found)
    assert proposal.growth_instances == 1
    assert loaded(found).policy.memory.instance_bytes == 512 * 1024**2


@pytest.mark.parametrize(
    ("web", "threads", "scheduler"),
    [({}, 25, 10), ({"WEB_CONCURRENCY": 3}, 25, 5), ({"WEB_CONCURRENCY": 4}, 20, 10), ({"MAX_THREADS": 20}, 12, 5)],
)
def test_more_of_web_leaves_fewer_threads(web: dict[str, int], threads: int, scheduler: int) -> None:
    proposal = propose(stock(others=(web_unit(**web), streaming_unit())))
    assert (proposal.profiles[0].threads, proposal.scheduler_threads) == (threads, scheduler)
    assert proposal.growth_instances == 1


def test_a_large_host_has_as_many_as_half_its_cores() -> None:
    proposal = propose(stock(cores=8, total=32, available=20, sources=(postgres(700),)))
    assert sizes(proposal) == [("weighted", 25, 1, 4)]
    assert "# 4 of 8 cores; web needs the others" in file_text(proposal)


def worker_vm(**more: object) -> Found:
    """A second stock unit beside that of the main VM, which serves the scheduler."""
    units = (sidekiq_unit("mastodon-sidekiq", "-c 25 -q default -q push -q ingress -q mailers -q pull"),)
    beats = (beat("default push ingress mailers pull"), beat(hostname="main"))
    return stock(*units, others=(), beats=beats, **more)  # type: ignore[arg-type]


def test_a_worker_vm_leaves_the_scheduler_where_it_is() -> None:
    proposal = propose(worker_vm())
    assert (proposal.place, proposal.place_at, proposal.scheduler_connections) == ("elsewhere", "main", 0)
    # limit 97 − reserve 10 − web and streaming 20 − the main VM's 27 = 40: twice 18 + 2
    assert sizes(proposal) == [("default-first", 15, 1, 2)]
    assert proposal.profiles[0].wish.added == ()
    text = file_text(proposal)
    assert 'main serves it now; "auto" would take over' in text
    assert '\nplace = "elsewhere"' in text
    assert "no unit here runs it" in text


def test_of_two_copies_of_the_stock_unit_the_one_beside_web_is_replaced() -> None:
    both = (beat(), beat(hostname="main"))
    assert propose(stock(beats=both)).place == "here"
    assert propose(stock(beats=both, others=())).place == "elsewhere"


def test_workers_that_fleetd_runs_on_another_host_keep_their_connections() -> None:
    beats = (beat(), beat(label=tag(1, host="w2", pool=27), threads=25, hostname="w2"))
    proposal = propose(stock(beats=beats))
    assert proposal.room.tightest.left_connections == 97 - 10 - 20 - 27


def test_per_queue_units_become_profiles_with_fewer_threads() -> None:
    """67 connections are for six times 8 + 2, and 3 + 2 of the scheduler."""
    found = per_queue(available=7)
    proposal = propose(found)
    assert sizes(proposal) == [(queue, 8, 1, 2) for queue in FIVE]
    assert (proposal.place, proposal.scheduler_threads) == ("here", 3)
    policy = loaded(found).policy
    assert [[q for q, _ in p.queues] for p in policy.profiles] == [*([q] for q in FIVE[:4]), ["pull", "fasp"]]
    assert [p.numbers for p in policy.profiles] == [(n, n + 1, n + 2) for n in (1, 4, 7, 10, 13)]


def test_connections_for_old_and_new_workers_at_once_are_said_if_they_lack() -> None:
    assert propose(stock()).short_connections == 0, "20 of web, 27 of the old, 39 of the new of 87"
    proposal = propose(per_queue(available=7))
    assert proposal.short_connections == 5 * 27 + 5 + 5 * 10 + 5 - 67
    assert "While fleetd takes over, old and new workers need 128 more connections" in comments(proposal)


def test_per_queue_units_keep_their_threads_where_the_database_allows_it() -> None:
    proposal = propose(per_queue(limit=697, cores=16, total=64, available=40))
    assert sizes(proposal) == [(queue, 25, 1, 4) for queue in FIVE]


def test_instances_of_one_template_are_one_profile() -> None:
    units = [sidekiq_unit(f"mastodon-sidekiq-push@{n}", "-c 10 -q push") for n in (1, 2)]
    proposal = propose(stock(sidekiq_unit("mastodon-sidekiq-main", "-c 20 -q default -q mailers"), *units))
    assert [(p.wish.name, len(p.wish.units)) for p in proposal.profiles] == [("default-first", 1), ("push", 2)]
    assert proposal.profiles[1].wish.added == ("ingress", "pull", "fasp")


def test_without_memory_for_each_queue_the_least_important_start_when_needed() -> None:
    proposal = propose(per_queue(total=8, available=6.1))
    assert [p.min_instances for p in proposal.profiles] == [1, 1, 1, 1, 0]
    assert proposal.profiles[-1].max_instances == 1
    assert proposal.growth_instances >= 1


def test_without_memory_for_them_at_all_queues_are_put_together() -> None:
    found = per_queue(total=8, available=4.1)
    proposal = propose(found)
    assert [p.wish.name for p in proposal.profiles] == ["default", "push", "rest"]
    assert dict(proposal.profiles[-1].wish.queues) == {"ingress": 4, "mailers": 2, "pull": 1, "fasp": 1}
    assert [p.min_instances for p in proposal.profiles] == [1, 1, 0]
    loaded(found)


def test_weights_of_a_unit_are_kept() -> None:
    found = stock(sidekiq_unit(arguments="-c 10 -q default,4 -q push,2 -q scheduler -q ingress -q mailers -q pull"))
    policy = loaded(found).policy
    assert dict(policy.profiles[0].queues) == {
        "default": 4, "push": 2, "ingress": 1, "mailers": 1, "pull": 1, "fasp": 1,
    }  # fmt: skip
    assert policy.profiles[0].threads == 10


def test_behind_pgbouncer_its_clients_are_the_limit() -> None:
    found = stock(sources=(pgbouncer(limit=100, pool=20), postgres(40)))
    proposal = propose(found)
    assert [s.source for s in proposal.room.sources] == ["pgbouncer"]
    assert sizes(proposal) == [("weighted", 25, 1, 2)]
    assert "# PgBouncer's pool lends Mastodon 20 connections to Postgres" in file_text(proposal)


def test_a_console_that_is_closed_leaves_its_default() -> None:
    lost = Servers(processes=(beat(),), unknown=(SourceUnknown(source="pgbouncer", why="not allowed"),))
    proposal = propose(stock(servers=lost))
    tightest = proposal.room.tightest
    assert (tightest.source, tightest.known, tightest.limit_connections) == ("pgbouncer", False, 100)
    assert "# Not found out: PgBouncer could not be asked: not allowed." in file_text(proposal)


def test_a_replicas_limit_binds_too_and_web_has_a_claim_there() -> None:
    replica = structs.replace(postgres(80, seen=5), source="replica")
    found = stock(sources=(postgres(300), replica))
    assert propose(found).room.tightest.source == "replica"
    assert {(c.name, c.on) for c in loaded(found).policy.connections.declared} >= {("web", "replica")}


def test_a_full_database_is_said_and_nothing_is_always_on() -> None:
    found = stock(sources=(postgres(30, seen=28),))
    proposal = propose(found)
    assert (proposal.fits, proposal.profiles[0].min_instances) == (False, 0)
    assert "There are no connections for even one instance" in comments(proposal)
    assert "a higher max_connections" in comments(proposal)
    loaded(found)


def test_a_little_room_is_for_one_instance_and_it_says_what_would_help() -> None:
    proposal = propose(stock(sources=(postgres(50, seen=20),)))
    [(_, threads, low, high)] = sizes(proposal)
    assert (low, high, proposal.growth_instances) == (1, 1, 0)
    assert threads >= 1
    assert "more connections are needed for one more instance" in comments(proposal)


def test_other_programs_have_a_claim_and_what_is_open_beyond_counts() -> None:
    proposal = propose(stock(sources=(postgres(97, seen=30, others=4),)))
    assert proposal.room.tightest.others_connections == 24
    busy = propose(stock(sources=(postgres(97, seen=67),)))
    assert busy.room.tightest.others_connections == 67 - 27


def test_the_pool_in_the_address_limits_the_threads() -> None:
    servers = Servers(processes=(beat(),), sources=(postgres(),), workers_pool=10)
    proposal = propose(stock(servers=servers))
    assert (proposal.profiles[0].threads, proposal.profiles[0].claim_connections) == (10, 10)


def test_nothing_was_found_out_at_all() -> None:
    nothing = Found(host="w 1", cores=1, services=None, mastodon=MastodonFound(env_why="you may not"))
    proposal = propose(nothing)
    assert sizes(proposal) == [("weighted", 25, 1, 1)]
    assert (proposal.place, proposal.place_from) == ("auto", "unknown")
    settings = parse(file_text(proposal), machine_host="w 1")
    assert settings.policy.host == "w-1"
    text = file_text(proposal)
    for said in ("systemd did not say", "can't be read: you may not", "limit is not known: 97", "How much memory"):
        assert said in text


def test_a_mastodon_that_is_not_the_guides_has_its_keys() -> None:
    elsewhere = MastodonFound(directory="/srv/m", user="masto", exec="/opt/m/bin/sidekiq")
    mastodon = loaded(structs.replace(stock(), mastodon=elsewhere)).mastodon
    assert (mastodon.env_file, mastodon.user, mastodon.exec) == ("/srv/m/.env.production", "masto", elsewhere.exec)
    odd = structs.replace(stock(), mastodon=MastodonFound(user="root", exec='/bin/sh -c "x"'))
    assert loaded(odd).mastodon.user is None
    assert "# mastodon.user is not root" in file_text(propose(odd))


def test_a_unit_that_is_stopped_and_disabled_counts_only_if_there_is_no_other() -> None:
    off = sidekiq_unit("mastodon-sidekiq-old", "-c 5 -q pull", active=False, enabled=False)
    assert propose(stock(sidekiq_unit(), off)).profiles[0].wish.units == ("mastodon-sidekiq.service",)
    assert propose(stock(off)).profiles[0].wish.units == ("mastodon-sidekiq-old.service",)


def test_queues_of_other_hosts_are_left_to_them() -> None:
    beats = (beat("push"), beat(ALL_QUEUES, hostname="main"))
    proposal = propose(stock(sidekiq_unit(arguments="-c 25 -q push"), beats=beats, others=()))
    assert [q for q, _ in proposal.profiles[0].wish.queues] == ["push"]


def test_web_on_several_units_is_counted_with_all_of_them() -> None:
    second = structs.replace(web_unit(WEB_CONCURRENCY=3), name="mastodon-web-2.service")
    found = stock(others=(web_unit(), second, streaming_unit()))
    claims = {claim.declared.name: claim for claim in propose(found).room.claims}
    assert claims["web"].declared.connections == (2 + 3) * 5


def test_a_quiet_scheduler_elsewhere_takes_no_more_jobs_so_it_is_none() -> None:
    """place = "elsewhere" would leave nobody once it ends."""
    quiet = structs.replace(beat(hostname="main"), quiet=True)
    assert propose(stock(beats=(beat(hostname="main"), beat("push")))).place == "elsewhere"
    assert propose(stock(beats=(quiet, beat("push")))).place != "elsewhere"


def test_a_unit_that_does_not_run_is_not_said_to() -> None:
    text = comments(propose(stock(sidekiq_unit(active=False, enabled=False), beats=())))
    assert "Sidekiq not now run by mastodon-sidekiq.service" in text
    assert " now serve" not in text
    assert " serves it here now" not in text
