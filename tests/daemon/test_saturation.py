"""PgBouncer's pool is the bottleneck: the fleet grows only into its free part, so clients hardly ever wait."""

from __future__ import annotations

from fleetd.core.model.reasons.counts import PoolNearlyAtWork, QueriesWait
from tests.support.world.pgbouncer import pgbouncer_facts
from tests.support.world.ports import Rig, policy, strict
from tests.support.world.world import World


def through_pgbouncer(pool: int, *, web: int = 2) -> Rig:
    world = World(policy(strict(numbers="1-8")))
    world.pool_size, world.web_servers, world.max_connections = pool, web, 400
    rig = Rig(world)
    world.enqueue("default", 60_000)
    return rig


def test_our_own_growth_makes_clients_wait_for_a_few_ticks_at_most() -> None:
    rig = through_pgbouncer(10)  # half a server per busy thread: 3 of 8 instances keep the pool busy
    ticks_waited = most = 0
    for _ in range(240):
        rig.run(5.0)
        waits = pgbouncer_facts(rig.world).pools[0].waiting_clients > 0
        ticks_waited = ticks_waited + 1 if waits else 0
        most = max(most, ticks_waited)
    assert most <= 6
    assert 2 <= rig.serving() <= 4


def test_saturation_is_reported_and_the_fleet_does_not_flap() -> None:
    rig = through_pgbouncer(10)
    ticks = rig.run(1800.0)
    assert any(c.code.value == "database_saturated" for c in ticks[-1].fleet.clamps)
    assert len(rig.ordered("start")) <= 8
    held = any(isinstance(c.reason, PoolNearlyAtWork) for c in ticks[-1].fleet.clamps)
    assert held or rig.status(ticks[-1]).connections.saturation


def test_if_web_fills_the_pool_the_fleet_steps_back_slowly_and_not_below_min() -> None:
    rig = through_pgbouncer(40)
    rig.run(300.0)
    assert rig.serving() == 8
    rig.world.web_servers = 45
    rig.run(240.0)
    assert 3 <= rig.serving() <= 7
    rig.run(3600.0)
    assert rig.serving() == 1
    rig.world.web_servers = 2
    rig.run(1300.0)
    assert rig.serving() == 8, "tried again"
    assert rig.world.lost == 0


def test_queries_that_wait_for_locks_hold_growth() -> None:
    world = World(policy(strict(numbers="1-8")))
    rig = Rig(world)
    world.active_backends, world.stalled_backends = 20, 18
    rig.run(30.0)
    world.enqueue("default", 30_000)
    ticks = rig.run(120.0)
    assert rig.serving() == 1
    assert ticks[-1].fleet.saturation.sign == QueriesWait(stalled_queries=18, active_queries=20)
    world.stalled_backends = 0
    rig.run(60.0)
    assert rig.serving() > 4
