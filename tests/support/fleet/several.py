"""Several hosts with real Tickers on worlds of their own, one Redis, and the ledger's rules in this process."""

from __future__ import annotations

import asyncio

from msgspec import structs

from fleetd.core.asking import Self
from fleetd.core.instances.orders import Order
from fleetd.core.model.facts import SidekiqFacts
from fleetd.core.model.hosts import FleetHosts
from fleetd.core.model.person import Person
from fleetd.core.model.policy_tables import Policy
from fleetd.core.model.status import Status
from fleetd.core.sharing.who_reads import leaving_out
from fleetd.daemon.fleet.ordering import ordered
from fleetd.daemon.fleet.tell_hosts import fleet_hosts
from fleetd.daemon.in_process_ledger import InProcessLedger, LedgerInMemory
from fleetd.daemon.tick import Ticker, TickResult
from fleetd.words.reasons import sentence
from tests.support.world.ports import FakeSidekiq, Rig
from tests.support.world.world import World


class Shared:
    """The ledger in Redis, which can be away."""

    def __init__(self) -> None:
        self.up = True
        self.now_seconds = 0.0
        self.memory = LedgerInMemory(lambda: round(1000 * self.now_seconds))


class SharedSidekiq(FakeSidekiq):
    """One Redis: the processes of all hosts beat in it."""

    def __init__(self, world: World, shared: Shared, everybody: dict[str, World]) -> None:
        super().__init__(world)
        self.shared = shared
        self.everybody = everybody
        self.left_out: frozenset[str] = frozenset()  # whose running jobs the last reading did not ask for

    async def read(self, *, without_jobs_of: frozenset[str] = frozenset()) -> SidekiqFacts:
        self.world.redis_up, self.left_out = self.shared.up, without_jobs_of
        facts = await super().read()
        for world in self.everybody.values():
            if world is not self.world:
                world.redis_up = True
                others = await FakeSidekiq(world).read()
                facts = structs.replace(facts, processes=(*facts.processes, *others.processes))
        return leaving_out(facts, without_jobs_of)


class HostRig(Rig):
    """One of the hosts."""

    def __init__(self, world: World, shared: Shared, everybody: dict[str, World]) -> None:
        self.ledger = InProcessLedger(shared.memory, reachable=lambda: shared.up)
        self.nonces = 0
        self.on = True  # its fleetd runs
        super().__init__(world)
        self.sidekiq: SharedSidekiq = SharedSidekiq(world, shared, everybody)
        self.start_fleetd()

    def start_fleetd(self) -> None:
        super().start_fleetd()
        self.nonces += 1
        self.sources.ledger = self.ledger
        host = self.world.policy.host
        who = Self(fleet="m.example", boot_id=f"{host}-{self.world.boot_id}", nonce=f"{host}{self.nonces}", fleetd="9")
        self.ticker = Ticker(self.world.policy, self.sources, self.store, who)


class Fleet:
    """Hosts by name; those of `policies` differ in their names, or as they like."""

    def __init__(self, *policies: Policy) -> None:
        self.shared = Shared()
        self.worlds = {p.host: World(p) for p in policies}
        first = next(iter(self.worlds.values()))
        for world in self.worlds.values():
            world.queues = first.queues
            world.boot_id = f"{world.policy.host}-boot"
        self.rigs = {host: HostRig(world, self.shared, self.worlds) for host, world in self.worlds.items()}
        self.last: dict[str, TickResult] = {}

    def clone(self, host: str) -> World:
        """Boot a copy of a host, which has its name; in `worlds` and `rigs` it is "HOST-clone"."""
        original = self.worlds[host]
        world = World(original.policy, now=original.now, first_pid=50_000)
        world.queues, world.boot_id = original.queues, f"{host}-clone-boot"
        self.worlds[f"{host}-clone"] = world
        self.rigs[f"{host}-clone"] = HostRig(world, self.shared, self.worlds)
        return world

    def tick(self) -> dict[str, TickResult]:
        """One tick of every host, then five seconds."""
        for host, rig in self.rigs.items():
            self.shared.now_seconds = rig.world.now
            if rig.on:
                self.last[host] = rig.tick()
        for world in self.worlds.values():
            world.advance(5.0)
        return self.last

    def run(self, seconds: float) -> None:
        for _ in range(round(seconds / 5.0)):
            self.tick()

    def order(self, host: str, order: Order, person: Person | None = None) -> str:
        """Give an order on this host; the answer. Raises OrderRefusedError."""
        return sentence(asyncio.run(ordered(self.rigs[host].ticker, order, person)))

    def hosts(self, host: str) -> FleetHosts:
        """What `fleetctl hosts` gets on this host."""
        rig = self.rigs[host]
        return asyncio.run(fleet_hosts(self.last[host], rig.sources.ledger, "9"))

    def status(self, host: str) -> Status:
        return self.rigs[host].status(self.last[host])

    def running(self, host: str) -> int:
        return self.rigs[host].serving()

    def scheduler(self) -> list[str]:
        """Hosts whose scheduler unit runs or starts."""
        return [h for h, w in self.worlds.items() if w.units[0].state in ("active", "activating", "deactivating")]
