"""Fleets in healthy worlds, in the tick before something is due: what hostile records besides would change."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import msgspec
from prometheus_client import generate_latest

from fleetd.adapters.history.schema import packed_samples, unpacked_samples
from fleetd.cli.client import read_status
from fleetd.core.model.policy_tables import ConnectionPolicy, Policy, SchedulerPolicy
from fleetd.core.model.status import Status
from fleetd.daemon.metrics import Metrics
from fleetd.daemon.observe import Sources
from fleetd.daemon.record import sample_of
from fleetd.daemon.tell import status_of
from fleetd.daemon.tick import Ticker, TickResult
from tests.support.hostile.wire import Added, WireDatabase, WireHost, WirePgBouncer, WireSidekiq, WireUnits, written
from tests.support.world.fleets import QUICK
from tests.support.world.ports import FakeClock, FakeStore, policy, strict
from tests.support.world.world import World

#: What is done to which unit.
Steps = Counter[tuple[str, int]]
_LOOP = asyncio.new_event_loop()


class Fleet:
    """fleetd on what a world's sources write."""

    def __init__(self, world: World, root: Path) -> None:
        self.world = world
        self.added = Added()
        self.units = WireUnits(world, self.added)
        through = world.pool_size is not None
        self.sources = Sources(
            WireSidekiq(world, self.added),
            WireDatabase(world, self.added),
            self.units,
            WireHost(world, self.added, written(world, root)),
            FakeClock(world),
            deadline_seconds=2.0,
            pgbouncer=WirePgBouncer(world, self.added) if through else None,
            replica=WireDatabase(world, self.added, standby=True),
        )
        self.ticker = Ticker(world.policy, self.sources, FakeStore())
        self.result: TickResult | None = None

    def tick(self) -> TickResult:
        self.result = _LOOP.run_until_complete(self.ticker.tick())
        return self.result

    def run_until_due(self, *verbs: str, ticks: int = 200) -> None:
        """Run until the next tick does one of these; then nothing moves any more, and each tick is that next one."""
        for _ in range(ticks):
            kept = self._kept()
            self.units.still = True
            due = {step.verb for step in self.tick().host.steps}
            self._keep(kept)
            if due & set(verbs) or not (verbs or due):
                self._begin = kept
                return
            self.units.still = False
            self.tick()
            self.world.advance(self.world.policy.pace.tick_seconds)
        raise AssertionError(f"nothing of {verbs} became due")

    def _kept(self) -> tuple[object, ...]:
        return self.ticker.host_memory, self.ticker.planned, self.ticker._last

    def _keep(self, kept: tuple[object, ...]) -> None:
        self.ticker.host_memory, self.ticker.planned, self.ticker._last = kept  # type: ignore[assignment]

    def steps(self, added: Added | None = None) -> Steps:
        """What the tick does that is due, with what others added."""
        self._keep(self._begin)
        self._add(added or Added())
        return Counter((step.verb, int(step.key)) for step in self.tick().host.steps)

    def tick_again(self) -> None:
        """One more tick on the same readings, a little later."""
        begun = self.world.now
        self.world.now += self.world.policy.pace.tick_seconds
        try:
            self.tick()
        finally:
            self.world.now = begun

    def _add(self, added: Added) -> None:
        vars(self.added).update(vars(added))

    def status(self) -> Status:
        """What is shown of the last tick, by way of JSON, metrics and the history."""
        assert self.result is not None
        status = status_of(
            self.result,
            sources=self.sources.status(),
            events=(),
            problems=(),
            uptime_seconds=0.0,
            ticks_total=1,
        )
        metrics = Metrics(version="1", now_seconds=lambda: self.world.now)
        metrics.tell(status)
        assert generate_latest(metrics.registry)
        sample = sample_of(self.result, 1_760_000_000.0)
        assert unpacked_samples(packed_samples((sample,))) == (sample,)
        return read_status(msgspec.json.encode(status).decode())


def _world(rules: Policy, running: int) -> World:
    """This many instances serve, and no scheduler."""
    world = World(rules)
    for number in range(1, running + 1):
        world.start(number)
    world.advance(60.0)
    return world


RULES = policy(strict(numbers="1-6"), pace=QUICK)
WITH_SCHEDULER = policy(
    strict(numbers="1-4"), scheduler=SchedulerPolicy(place="here", threads=5, db_pool=7), pace=QUICK
)


def surge(root: Path, rules: Policy = RULES) -> Fleet:
    """Many jobs wait: instances are started."""
    fleet = Fleet(_world(rules, 2), root)
    fleet.run_until_due(ticks=20)
    fleet.world.enqueue("default", 20_000)
    fleet.run_until_due("start")
    return fleet


def calm(root: Path) -> Fleet:
    """No jobs: what is too many is quieted."""
    fleet = Fleet(_world(RULES, 4), root)
    fleet.run_until_due("quiet")
    return fleet


def drained(root: Path) -> Fleet:
    """An instance is quiet and idle: it is stopped."""
    fleet = Fleet(_world(RULES, 4), root)
    fleet.run_until_due("stop")
    return fleet


def steady(root: Path) -> Fleet:
    """As many run as are needed: nothing is done."""
    world = _world(RULES, 1)
    fleet = Fleet(world, root)
    world.rates = {"default": 1.0}
    for _ in range(20):
        fleet.tick()
        world.advance(5.0)
    fleet.run_until_due()
    return fleet


def no_scheduler(root: Path) -> Fleet:
    """No scheduler runs: ours is started."""
    fleet = Fleet(_world(WITH_SCHEDULER, 1), root)
    fleet.run_until_due("start")
    return fleet


def behind_pgbouncer(root: Path) -> Fleet:
    """A surge whose connections PgBouncer limits."""
    world = _world(msgspec.structs.replace(RULES, connections=ConnectionPolicy(named=False)), 2)
    world.pool_size = 50
    fleet = Fleet(world, root)
    fleet.run_until_due(ticks=20)
    world.enqueue("default", 20_000)
    fleet.run_until_due("start")
    return fleet


FLEETS = (surge, calm, drained, steady, no_scheduler, behind_pgbouncer)
