"""A full database: status, log, history and metrics say so, who holds what, and what fleetd gives back."""

from __future__ import annotations

import pytest
from msgspec import structs
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from fleetd.cli.advice.findings import findings
from fleetd.cli.advice.verdict import Finding, Level
from fleetd.core.instances.orders import PinInstance
from fleetd.core.model.facts import Consumer
from fleetd.core.model.identity import InstanceKey
from fleetd.core.model.policy_tables import ConnectionPolicy, DeclaredClaim
from fleetd.core.model.reasons.base import ClampCode
from fleetd.core.model.status import Status
from fleetd.daemon.metrics import Metrics
from tests.support.world.fleets import QUICK, idle_fleet
from tests.support.world.ports import FakeDatabase, Rig, policy, strict
from tests.support.world.readings import database_facts
from tests.support.world.recorded import Recorded
from tests.support.world.world import World

#: 2 × 7 of min, of a limit of 297 with a reserve of 10.
AT_MIN = policy(strict(numbers="1-6", low=2), pace=QUICK)


def worked(count: int) -> Rig:
    """Instances that have run jobs, so their connections are known by name; nothing is left to do."""
    rig = idle_fleet(AT_MIN, count)
    rig.world.enqueue("default", 5 * count)
    rig.run(15.0)
    return rig


def at_min(*, others: int = 279, limit: int = 297) -> Rig:
    rig = worked(2)
    rig.world.max_connections, rig.world.other_clients = limit + 3, others
    return rig


def told(status: Status) -> str:
    """The one sentence about a full source, which is among what is wrong."""
    [clamp] = [c for c in status.clamps if c.code == ClampCode.CONNECTIONS and not c.profile]
    assert Finding(Level.BAD, f"{clamp.sentence}.") in findings(status)
    return clamp.sentence


def active(status: Status) -> float:
    metrics = Metrics(version="1", now_seconds=lambda: 0.0)
    metrics.tell(status)
    families = text_string_to_metric_families(generate_latest(metrics.registry).decode())
    return next(
        s.value
        for family in families
        for s in family.samples
        if s.name == "fleetd_clamps_active" and s.labels == {"reason": "connections"}
    )


def test_when_others_hold_them_and_fleetd_is_at_min_it_says_so_and_drains_nothing() -> None:
    rig = at_min()
    status = rig.status(rig.run(60.0)[-1])
    assert told(status) == (
        "Postgres may run out of connections: others hold 279, our instances may open 14, and 10 are kept in reserve. "
        "That is 6 more than its limit of 297 (300 − 3 reserved for superusers). Nothing runs above min, so fleetd can "
        "give none back. The largest of them: mastodon from 10.0.0.1 (puma) 279"
    )
    assert active(status) == 1, "the alert of docs/operations.md fires"
    assert rig.units.orders == []
    assert status.next_sentence == "start nothing more until Postgres has connections to spare"
    rig.world.other_clients = 20
    well = rig.status(rig.run(1800.0)[-1])
    assert active(well) == 0
    assert not any("run out" in finding.sentence for finding in findings(well))


def test_the_log_and_the_history_say_when_it_begins_and_when_it_is_over() -> None:
    rig = Recorded(World(AT_MIN))
    rig.live(60.0)
    rig.world.enqueue("default", 10)
    rig.live(60.0)
    rig.world.max_connections, rig.world.other_clients = 300, 279
    for seconds in range(30):
        rig.world.other_clients = 279 + seconds % 3
        rig.live(5.0)
    rig.world.other_clients = 20
    rig.live(1800.0)
    entries = [entry for batch in rig.history.batches for entry in batch.entries]
    said = [(e.sentence, e.warning) for e in entries if "run out" in e.sentence or "room for all" in e.sentence]
    assert len(said) == 2, "not again whenever a number changes"
    assert said[0][0].startswith("Postgres may run out of connections: others hold 279")
    assert said[0][1]
    assert said[1] == ("Postgres has room for all claims again", False)
    assert {e.kind for e in entries if "run out" in e.sentence} == {"noticed"}, "history shows it without --all"


def test_what_runs_above_min_goes_and_that_is_said() -> None:
    rig = worked(4)
    rig.world.max_connections = 300
    rig.world.other_clients = 270  # beside it 17 are left: min, but no third
    first = told(rig.status(rig.run(5.0)[-1]))
    assert "fleetd lets 2 instances go" in first
    status = rig.status(rig.run(300.0)[-1])
    assert rig.serving() == 2
    assert [c for c in status.clamps if not c.profile] == []


def test_where_all_that_goes_is_not_enough_that_is_said() -> None:
    rig = worked(3)
    rig.world.max_connections, rig.world.other_clients = 300, 279
    assert "fleetd lets 1 instance go, which is not enough: at min ours may still open 14" in told(
        rig.status(rig.run(5.0)[-1])
    )


def test_a_limit_that_shrinks_below_min_says_that_min_does_not_fit() -> None:
    rig = at_min(others=20)
    rig.run(30.0)
    rig.world.max_connections = 23  # less 3: 20; less the reserve: 10
    said = told(rig.status(rig.run(5.0)[-1]))
    assert "24 more than its limit of 20 (23 − 3 reserved for superusers)" in said
    assert "At min our instances alone may open 14: lower min or threads" in said


def test_the_limit_of_mastodons_role_is_named_as_what_binds(monkeypatch: pytest.MonkeyPatch) -> None:
    async def read(self: FakeDatabase) -> object:
        facts = database_facts(self.world)
        return structs.replace(facts, role_limit_connections=40, role_connections=facts.client_connections)

    monkeypatch.setattr(FakeDatabase, "read", read)
    said = told((rig := at_min(others=30)).status(rig.run(20.0)[-1]))
    assert "14 more than its limit of 40 (CONNECTION LIMIT 40 of Mastodon's role)" in said


def test_declarations_are_not_told_as_connections_that_others_hold() -> None:
    web = ConnectionPolicy(declared=(DeclaredClaim(name="web", connections=280),))
    rig = idle_fleet(structs.replace(AT_MIN, connections=web), 2)
    rig.world.max_connections = 300
    assert "others may take 280 (20 now)" in told(rig.status(rig.run(20.0)[-1]))


def test_a_replica_and_pgbouncer_are_named() -> None:
    rig = at_min(others=20)
    other = World(AT_MIN)
    other.max_connections, other.other_clients = 300, 290
    rig.sources.replica = FakeDatabase(other)
    assert told(rig.status(rig.run(20.0)[-1])).startswith("The replica may run out of connections: others hold 290")
    pooled = at_min(others=310)
    pooled.world.pool_size = 40
    said = told(Rig(pooled.world).status(Rig(pooled.world).run(20.0)[-1]))
    assert said.startswith("PgBouncer may run out of connections")
    assert "The largest clients, ours among them: " in said
    assert "reserved for superusers" not in said


def test_what_people_keep_above_min_is_not_told_as_drained() -> None:
    rig = worked(3)
    rig.run(5.0)
    for number in (1, 2, 3):
        rig.order(PinInstance(key=InstanceKey(number)))
    rig.world.max_connections, rig.world.other_clients = 300, 279
    said = told(rig.status(rig.run(30.0)[-1]))
    assert "What runs above min is kept by people, so fleetd lets none go" in said
    assert rig.ordered("quiet") == []


def test_while_redis_cannot_be_read_nothing_is_told_as_drained() -> None:
    rig = worked(3)
    rig.world.redis_up = False
    rig.run(30.0)
    rig.world.max_connections, rig.world.other_clients = 300, 279
    result = rig.run(5.0)[-1]
    [full] = result.fleet.full
    assert getattr(full, "gives_back", "") == "unwatched"


def test_connections_that_are_left_over_from_what_is_gone_drain_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = worked(3)
    rig.world.max_connections, rig.world.other_clients = 300, 261  # 26 are left: three and five more

    async def read(self: FakeDatabase) -> object:
        facts = database_facts(self.world)
        workers = {**facts.worker_connections, "mastodon-sidekiq@6.w1": 7}  # of a process that has just ended
        return structs.replace(facts, worker_connections=workers, client_connections=facts.client_connections + 7)

    monkeypatch.setattr(FakeDatabase, "read", read)
    said = told(rig.status(rig.run(5.0)[-1]))
    assert "What still runs fits, once the connections of instances that are gone are closed" in said
    assert rig.ordered("quiet") == []


def test_a_refusal_is_counted_even_if_nothing_wants_to_grow() -> None:
    rig = at_min(others=20)
    rig.run(20.0)
    rig.world.postgres_refuses = True
    status = rig.status(rig.run(10.0)[-1])
    assert told(status).startswith("Postgres refuses new clients, too many already")
    assert active(status) == 1


def test_the_names_of_many_large_clients_do_not_make_the_sentence_endless(monkeypatch: pytest.MonkeyPatch) -> None:
    async def read(self: FakeDatabase) -> object:
        many = tuple(Consumer(name=f"mastodon from 10.0.0.{n}", connections=200 - n) for n in range(12))
        return structs.replace(database_facts(self.world), consumers=many)

    monkeypatch.setattr(FakeDatabase, "read", read)
    said = told((rig := at_min()).status(rig.run(20.0)[-1]))
    assert said.endswith("mastodon from 10.0.0.0 200, mastodon from 10.0.0.1 199, mastodon from 10.0.0.2 198")
