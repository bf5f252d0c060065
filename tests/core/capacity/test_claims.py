"""Claims: what each process on every host may open, by what it was started with, until it is gone."""

from __future__ import annotations

from msgspec import structs

from fleetd.core.capacity.claims import (
    GHOST_CLAIM_SECONDS,
    TAGGED_NAMES_MAX,
    ProcessClaims,
    count_claims,
    remember_processes,
)
from fleetd.core.evidence.weigh import Evidence
from fleetd.core.model.decision import InstanceState
from fleetd.core.model.facts import ProcessFacts
from fleetd.core.model.identity import InstanceKey
from fleetd.core.model.policy_tables import SchedulerPolicy
from tests.support.builders.readings import database, fleet, process, sidekiq, snapshot, systemd, tag, tick_of, unit
from tests.support.world.ports import policy, strict


def claims_of(
    *beats: ProcessFacts,
    observed: dict[str, int] | None = None,
    on_replica: dict[str, int] | None = None,
    place: str = "elsewhere",
) -> dict[str, int]:
    """@1 serves, @2 boots, @3 stops, @4 is down. Each claims 7 connections."""
    scheduler = SchedulerPolicy(place=place, threads=5, db_pool=7)  # type: ignore[arg-type]
    rules = policy(strict(numbers="1-4"), scheduler=scheduler)
    units = systemd({1: unit(), 2: unit("activating"), 3: unit("deactivating")})
    shot = snapshot(
        rules,
        redis=sidekiq(processes=beats),
        units=units,
        postgres=None if observed is None else database(workers=observed),
        replica=None if on_replica is None else database(workers=on_replica),
    )
    processes = remember_processes(ProcessClaims(), sidekiq(processes=beats), "w1", Evidence())
    return count_claims(tick_of(rules, shot), processes).connections


def test_claims_include_instances_that_start_and_that_drain() -> None:
    assert claims_of() == {
        "mastodon-sidekiq@1.w1": 7,
        "mastodon-sidekiq@2.w1": 7,
        "mastodon-sidekiq@3.w1": 7,
    }


def test_claims_come_from_what_a_process_was_started_with() -> None:
    # 5 threads and a pool of 7 are configured now. It was started with 25 threads and a pool of 20.
    beat = process(tag(1, pool=20), threads=25)
    assert claims_of(beat)["mastodon-sidekiq@1.w1"] == 20


def test_processes_of_other_hosts_and_numbers_count() -> None:
    other_host = process(tag(1, host="w2", pool=30), threads=60)
    not_configured = process(tag(77), threads=5)
    found = claims_of(other_host, not_configured)
    assert found["mastodon-sidekiq@1.w2"] == 30
    assert found["mastodon-sidekiq@77.w1"] == 7


def test_connections_still_open_under_a_name_count_after_its_unit_is_gone() -> None:
    assert claims_of(observed={"mastodon-sidekiq@4.w1": 5})["mastodon-sidekiq@4.w1"] == 5
    assert claims_of(on_replica={"mastodon-sidekiq@4.w1": 6})["mastodon-sidekiq@4.w1"] == 6


def test_room_for_the_scheduler_is_set_aside_where_it_may_have_to_start() -> None:
    assert claims_of(place="auto")["mastodon-sidekiq-scheduler.w1"] == 7
    assert claims_of(place="here")["mastodon-sidekiq-scheduler.w1"] == 7


def test_names_beyond_the_bound_share_an_entry_and_still_count() -> None:
    beats = tuple(process(tag(n % 9999, host=f"h{n}")) for n in range(TAGGED_NAMES_MAX + 10))
    memory = remember_processes(ProcessClaims(), sidekiq(processes=beats), "w1", Evidence())
    assert len(memory.tagged_connections) == TAGGED_NAMES_MAX + 1
    assert sum(memory.tagged_connections.values()) == 7 * (TAGGED_NAMES_MAX + 10)


def test_foreign_processes_are_counted_by_their_threads_and_named() -> None:
    stock = process("", threads=25, hostname="main")
    memory = remember_processes(ProcessClaims(), sidekiq(processes=(stock, process(tag(1)))), "w1", Evidence())
    assert memory.foreign_connections == 27
    assert memory.foreign_hosts == ("main",)


def test_while_a_heartbeat_is_unreadable_no_claim_is_forgotten() -> None:
    stock = process("", threads=25, hostname="main")
    before = remember_processes(ProcessClaims(), sidekiq(processes=(stock, process(tag(1)))), "w1", Evidence())
    garbled = remember_processes(before, sidekiq(processes=(process(tag(2)),), complete=False), "w1", Evidence())
    assert garbled.foreign_connections == 27
    assert garbled.tagged_connections == {"mastodon-sidekiq@1.w1": 7, "mastodon-sidekiq@2.w1": 7}
    healed = remember_processes(garbled, sidekiq(processes=(process(tag(2)),)), "w1", Evidence())
    assert healed.foreign_connections == 0
    assert healed.tagged_connections == {"mastodon-sidekiq@2.w1": 7}


def test_a_stalled_instance_keeps_its_claim_until_it_leaves() -> None:
    """It is no capacity, but nobody drains it, so its claim does not leave either."""
    units, beats = fleet(2)
    rules = policy()
    tick = tick_of(rules, snapshot(rules, redis=sidekiq(processes=beats), units=units))
    claims = count_claims(tick, ProcessClaims())
    stalled, serving = tick.active[0], tick.active[1]
    tick = structs.replace(tick, active=(structs.replace(stalled, state=InstanceState.STALLED), serving))
    assert claims.staying_connections(tick) == claims.total_connections
    tick = structs.replace(tick, active=(structs.replace(stalled, state=InstanceState.DRAINING), serving))
    assert claims.staying_connections(tick) == claims.total_connections - stalled.claim_connections


def test_a_unit_that_lost_its_tag_has_its_claim_under_its_own_name() -> None:
    """Also one that the configuration no longer names, whose claim no instance has."""
    bare = structs.replace(process(""), own_key=InstanceKey(9))
    found = remember_processes(ProcessClaims(), sidekiq(processes=(bare,)), "w1", Evidence())
    assert found.tagged_connections == {"mastodon-sidekiq@9.w1": 7}
    assert found.foreign_connections == 0


def test_a_ghost_keeps_its_claim_for_five_minutes() -> None:
    """Its process has ended, but Postgres may not have noticed yet."""
    ghost = process(tag(3))

    def claims(age_seconds: float) -> dict[str, int]:
        evidence = Evidence(ghosts=(ghost,), ghost_ages_seconds={ghost.identity: age_seconds})
        return remember_processes(ProcessClaims(), sidekiq(), "w1", evidence).tagged_connections

    assert claims(GHOST_CLAIM_SECONDS - 1.0) == {"mastodon-sidekiq@3.w1": 7}
    assert claims(GHOST_CLAIM_SECONDS) == {}
