"""What status and metrics say about connections in the simulated world, and when the next tick comes sooner."""

from __future__ import annotations

import pytest
from msgspec import structs
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from fleetd.core.instances.orders import Pause
from fleetd.core.model.facts import Consumer
from fleetd.core.model.identity import InstanceKey
from fleetd.core.model.policy_tables import ConnectionPolicy, DeclaredClaim, PacePolicy, SchedulerPolicy
from fleetd.core.model.status import ClaimStatus, ConnectionStatus, ConsumerStatus
from fleetd.daemon.metrics import Metrics
from tests.support.world.fleets import configured, surge, tight
from tests.support.world.ports import FakeDatabase, Rig, policy, strict
from tests.support.world.readings import database_facts
from tests.support.world.world import World

WEB = ConnectionPolicy(declared=(DeclaredClaim(name="web", connections=30),))


def connections(rig: Rig, seconds: float = 60.0) -> ConnectionStatus:
    return rig.status(rig.run(seconds)[-1]).connections


def test_the_numbers_add_up_and_headroom_is_shown_as_instances() -> None:
    rig = surge(policy(strict(numbers="1-6"), strict("spare", "7-9", queues="pull", low=0)), 30)
    status = connections(rig)
    assert status.limit_connections is not None
    assert status.reserve_connections is not None
    assert status.others_connections is not None
    assert status.claims_connections == 28
    left = status.limit_connections - status.reserve_connections - status.others_connections - 28
    assert status.headroom_connections == left == 2
    assert status.more_instances == {"default-first": 0, "spare": 0}
    assert status.claim_per_instance == {"default-first": 7, "spare": 7}
    rig.world.max_connections += 7
    assert connections(rig, 5.0).more_instances == {"default-first": 1, "spare": 1}
    [source] = status.sources
    assert source.binds
    assert (source.name, source.headroom_connections, source.others_seen_connections) == ("postgres", 2, 20)


def test_claims_are_shown_by_host_and_profile() -> None:
    scheduler = SchedulerPolicy(place="here", threads=5, db_pool=7)
    rig = Rig(World(policy(strict(numbers="1-2"), scheduler=scheduler)))
    rig.world.appear("w2", "default", key=InstanceKey(1))
    rig.world.appear("w2", "default", key=InstanceKey(2))
    rig.world.appear("w1", "default", key=InstanceKey(77))
    status = connections(rig)
    assert status.claims == (
        ClaimStatus(host="w1", profile="default-first", instances=1, connections=7),
        ClaimStatus(host="w1", profile="not configured", instances=1, connections=7),
        ClaimStatus(host="w1", profile="scheduler", instances=1, connections=7),
        ClaimStatus(host="w2", profile="", instances=2, connections=14),
    )
    assert sum(c.connections for c in status.claims) == status.claims_connections


def test_claims_of_what_is_left_over_are_told_as_that() -> None:
    rig = Rig(World(policy(strict("old", numbers="1-2", low=2), strict("new", numbers="5-8", low=1))))
    rig.run(60.0)
    configured(rig, policy(strict("new", numbers="6-8", low=1)))
    rig.order(Pause())
    status = rig.status(rig.run(10.0)[-1]).connections
    assert status.claims == (
        ClaimStatus(host="w1", profile="new", instances=1, connections=7, configured=False),
        ClaimStatus(host="w1", profile="old", instances=2, connections=14, configured=False),
    )


def test_consumers_are_shown_as_seen_and_as_declared(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(World(policy(connections=WEB)))

    async def read(self: FakeDatabase) -> object:
        consumers = (Consumer(name="mastodon from 10.0.0.1", connections=20),)
        return structs.replace(database_facts(self.world), consumers=consumers)

    monkeypatch.setattr(FakeDatabase, "read", read)
    [source] = connections(rig).sources
    assert source.consumers == (
        ConsumerStatus(name="mastodon from 10.0.0.1", observed_connections=20, declared_connections=None),
        ConsumerStatus(name="web", observed_connections=None, declared_connections=30),
    )
    assert (source.others_connections, source.others_declared_connections) == (30, 30)


def test_through_pgbouncer_undeclared_others_are_reported_as_unattributable() -> None:
    def connections_with(rules: ConnectionPolicy | None) -> ConnectionStatus:
        world = World(policy(connections=rules))
        world.pool_size, world.max_connections = 40, 400
        rig = Rig(world)
        world.enqueue("default", 5000)
        return connections(rig)

    blind = connections_with(None)
    assert "Declare what web and streaming may take under [[connections.claims]]" in blind.unattributable
    [source] = blind.sources
    assert source.name == "pgbouncer"
    assert source.others_bound_connections > source.others_connections
    assert source.pool_connections == 40
    assert source.waiting_clients == 0
    assert connections_with(WEB).unattributable == ""


def test_metrics_agree_with_the_status() -> None:
    world = World(policy(strict(numbers="1-8")))
    world.pool_size, world.web_servers, world.max_connections = 10, 9, 400
    world.enqueue("default", 900)
    rig = Rig(world)
    result = rig.run(60.0)[-1]
    metrics = Metrics(version="1", now_seconds=lambda: world.now)
    metrics.tell(rig.status(result))
    found = {
        (s.name, tuple(sorted(s.labels.items()))): s.value
        for family in text_string_to_metric_families(generate_latest(metrics.registry).decode())
        for s in family.samples
    }
    source = (("source", "pgbouncer"),)
    assert found["fleetd_connection_source_limit", source] == 400
    assert found["fleetd_connection_source_pool", source] == 10
    assert found["fleetd_connection_source_waiting_clients", source] == 2
    assert found["fleetd_source_up", source] == 1
    assert found["fleetd_database_saturated", ()] == 1
    assert found["fleetd_others_unattributable", ()] == 1
    assert found["fleetd_claim_connections", (("host", "w1"), ("profile", "default-first"))] == 7
    assert found["fleetd_instances_headroom", (("profile", "default-first"),)] == 7
    assert ("fleetd_source_up", (("source", "postgres"),)) not in found, "not watched"


def test_the_next_tick_comes_sooner_while_others_rise_or_one_gives_way() -> None:
    rig = surge(policy(strict(numbers="1-6"), pace=PacePolicy(tick_seconds=5.0)), 42)
    assert rig.ticker.pause_seconds() == 5.0
    rig.run(300.0)
    assert rig.ticker.pause_seconds() == 5.0
    for _ in range(2):
        rig.world.other_clients += 5
        rig.run(5.0)
    assert rig.ticker.pause_seconds() == 1.0, "they rise"
    rig.run(40.0)
    assert rig.ticker.pause_seconds() == 5.0, "they have stopped, and claims fit again"


def test_of_several_sources_one_binds_and_is_shown() -> None:
    world = World(policy())
    world.max_connections, world.other_clients = tight(100)
    rig = Rig(world)
    rig.sources.replica = FakeDatabase(world)
    status = connections(rig, 20.0)
    assert [s.name for s in status.sources] == ["postgres", "replica"]
    assert sum(s.binds for s in status.sources) == 1
    world.postgres_up = False
    unknown = connections(rig, 5.0)
    assert unknown.headroom_connections is None
    assert unknown.more_instances == {}
