"""fleetd in the simulated world: the daemon's own Ticker on each host, with ports that show what Redis, … would."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable
from contextlib import nullcontext
from statistics import fmean
from typing import Any

import msgspec

from fleetd.core.asking import Self
from fleetd.core.fleet.view import FleetKnown
from fleetd.core.instances.host_memory import HostMemory
from fleetd.core.model.decision import Step, StepResult
from fleetd.core.model.facts import (
    DatabaseFacts,
    HostFacts,
    ProcessFacts,
    QueueFacts,
    RenderedSettings,
    SidekiqFacts,
    SystemdFacts,
    UnitFacts,
)
from fleetd.core.model.identity import SCHEDULER, InstanceKey, WorkerTag, application_name, unit_of
from fleetd.core.model.worker_settings import SCHEDULER_PROFILE, instance_digest, scheduler_digest
from fleetd.core.sharing.who_reads import leaving_out
from fleetd.daemon.in_process_ledger import InProcessLedger, LedgerInMemory
from fleetd.daemon.observe import Sources
from fleetd.daemon.tick import Ticker, TickResult
from fleetd.errors import SourceUnavailableError
from fleetd.simulate.trace.trace import Source
from fleetd.simulate.world.fleet import Instance
from fleetd.simulate.world.machine import Machine
from fleetd.simulate.world.world import World

#: Superusers' reserve and fleetd's own connection are outside of what a trace calls max_connections and others.
RESERVED_CONNECTIONS, OWN_CONNECTIONS = 3, 1


class _Port:
    """A port into the world, of one host. Its source can't be reached during an outage."""

    def __init__(self, world: World, machine: Machine | None = None) -> None:
        """`machine`: None: the only one."""
        self.world = world
        self.machine = machine or world.machine

    def reach(self, source: Source) -> None:
        if not self.world.reaches(self.machine, source):
            raise SourceUnavailableError(f"{source} is away in this trace")

    async def close(self) -> None: ...


class SimulatedSidekiq(_Port):
    def __init__(self, world: World, machine: Machine | None = None) -> None:
        super().__init__(world, machine)
        self._served = {p.name: frozenset(q for q, _ in p.queues) for p in world.policy.profiles}
        self._served["scheduler"] = frozenset(world.policy.scheduler.queues)
        self._tags = {
            (machine.name, n): str(WorkerTag(host=machine.name, key=n, db_pool=pool, digest=digest))
            for machine in world.machines
            for n, pool, digest in _rendered(machine)
        }
        # A queue that the trace does not name exists and is empty.
        self._empty = {
            name: QueueFacts(name=name, length_jobs=0, latency_seconds=0.0)
            for p in world.policy.profiles
            for name, _ in p.queues
            if name not in world.queues
        }

    async def read(self, *, without_jobs_of: frozenset[str] = frozenset()) -> SidekiqFacts:
        self.reach("redis")
        return leaving_out(self.facts(), without_jobs_of)

    def facts(self) -> SidekiqFacts:
        world, now = self.world, self.world.now
        beating = [i for machine in world.machines for i in machine.present if i.beat_at is not None]
        processes = [
            self._process(instance, now - instance.beat_at)
            for instance in (*beating, *world.host_outages.heartbeats())
            if instance.beat_at is not None
        ]
        queues = {
            name: QueueFacts(name=name, length_jobs=queue.waiting, latency_seconds=queue.latency_seconds(now))
            for name, queue in world.queues.items()
        }
        return SidekiqFacts(
            now_seconds=float(now),
            queues={**self._empty, **queues},
            processes=tuple(processes),
            processed_jobs_total=int(world.processed_jobs),
            failed_jobs_total=0,
            redis_run_id="simulated",
            writable=True,
        )

    def _process(self, instance: Instance, beat_age_seconds: int) -> ProcessFacts:
        now, host = self.world.now, instance.group.machine.name
        return ProcessFacts(
            identity=f"{host}:{instance.pid}:0",
            hostname=host,
            pid=instance.pid,
            tag=self._tags[host, instance.key],
            version="8.0.9",
            threads=instance.threads,
            busy_threads=instance.beat_busy.total(),
            quiet=instance.beat_quiet,
            queues=self._served[instance.group.profile.name],
            beat_age_seconds=float(beat_age_seconds),
            started_age_seconds=float(now - instance.state_since if instance.quieted_at is None else now),
            resident_bytes=None,
            busy_by_queue=instance.beat_busy,
            young_by_queue=instance.beat_young,
        )


class SimulatedDatabase(_Port):
    async def read(self) -> DatabaseFacts:
        self.reach("postgres")
        world = self.world
        workers = Counter[str]()
        for machine in world.machines:
            for instance in machine.present:
                workers[application_name(instance.key, machine.name)] += instance.open_connections
        for instance, until in world.host_outages.remains:
            if until > world.now:
                workers[application_name(instance.key, instance.group.machine.name)] += instance.open_connections
        clients = world.other_connections() + workers.total() + OWN_CONNECTIONS * len(world.machines)
        busy = round(world.busy_threads)
        knee = world.trace.database.knee_busy_threads
        return DatabaseFacts(
            max_connections=world.trace.database.max_connections + RESERVED_CONNECTIONS,
            reserved_connections=RESERVED_CONNECTIONS,
            role_limit_connections=None,
            database_limit_connections=None,
            client_connections=clients,
            role_connections=clients,
            database_connections=clients,
            worker_connections={name: count for name, count in workers.items() if count},
            own_connections=OWN_CONNECTIONS,
            # Up to the knee a job spends half of its time in the database; beyond it, all of the extra time.
            active_backends=None if knee is None else round(busy - 0.5 * min(float(busy), knee)),
            stalled_backends=None if knee is None else round(max(0.0, busy - knee)),
        )


class SimulatedUnits(_Port):
    async def read(self) -> SystemdFacts:
        self.reach("systemd")
        now = self.world.now
        units = {
            instance.key: UnitFacts(
                name=unit_of(instance.key),
                load_state="loaded",
                active_state=instance.state.value,
                sub_state=instance.state.value,
                main_pid=instance.pid,
                state_age_seconds=float(now - instance.state_since),
                invocation_id=str(instance.invocation),
                job="stop" if instance.state.value == "deactivating" else "",
            )
            for instance in self.machine.present
        }
        return SystemdFacts(units=units)

    async def carry_out(self, step: Step) -> StepResult:
        try:
            self.reach("systemd")
        except SourceUnavailableError as error:
            return StepResult(step=step, result="failed", sentence=str(error))
        return StepResult(step=step, result=self.world.carry_out(step, self.machine))


class SimulatedHost(_Port):
    """The host, its clock, and a state directory."""

    def __init__(self, world: World, machine: Machine | None = None) -> None:
        super().__init__(world, machine)
        names = {n: p.name for p in self.machine.policy.profiles for n in p.numbers} | {SCHEDULER: SCHEDULER_PROFILE}
        self._rendered = {
            n: RenderedSettings(profile=names[n], digest=digest) for n, _, digest in _rendered(self.machine)
        }

    async def read(self, systemd: SystemdFacts | None) -> HostFacts:
        world, machine = self.world, self.machine
        return HostFacts(
            memory_available_bytes=world.memory_available_bytes(machine),
            memory_total_bytes=int(machine.memory_bytes),
            resident_bytes={i.key: world.resident_bytes(i) for i in machine.present},
            rendered=self._rendered,
            cores=machine.cores,
        )

    def now_seconds(self) -> float:
        return float(self.world.now - self.machine.booted_at)

    def boot_id(self) -> str:
        return f"{self.machine.name}-{self.machine.boots}"

    def load(self) -> bytes:
        """What was saved; at first that fleetd has started what serves, and so knows boots, and the other hosts."""
        if self.machine.disk is not None:
            return self.machine.disk
        learnt = fmean(self.world.trace.boot_seconds)
        booted = {group.profile.name: learnt for group in self.machine.groups if group.present}
        known = FleetKnown(members=tuple(m.name for m in self.world.machines) if self.world.trace.hosts else ())
        return msgspec.json.encode(HostMemory(boot_id=self.boot_id(), boot_seconds=booted, fleet=known))

    def save(self, content: bytes) -> None:
        self.machine.disk = content


def _rendered(machine: Machine) -> list[tuple[InstanceKey, int, str]]:
    """The settings of a host's units: number, pool and digest."""
    found = [(n, p.db_pool, instance_digest(p)) for p in machine.policy.profiles for n in p.numbers]
    if machine.scheduler_group is not None:
        scheduler = machine.policy.scheduler
        found.append((SCHEDULER, scheduler.db_pool, scheduler_digest(scheduler)))
    return found


async def _one_by_one(*readings: Awaitable[Any]) -> list[Any]:
    """No reading waits for anything here, so none needs its own task."""
    return [await reading for reading in readings]


class SimulatedDaemon:
    """The daemon's ticks on one host, at the times at which it would tick."""

    def __init__(self, world: World, machine: Machine | None = None, ledger: LedgerInMemory | None = None) -> None:
        """`machine`: None: the only one. `ledger`: the fleet's; None: this host is the whole fleet."""
        self.world = world
        self.machine = machine or world.machine
        self._ledger = ledger
        self._start()

    def _start(self) -> None:
        """A process of fleetd begins."""
        world, machine = self.world, self.machine
        host = SimulatedHost(world, machine)
        sources = Sources(
            SimulatedSidekiq(world, machine),
            SimulatedDatabase(world, machine),
            SimulatedUnits(world, machine),
            host,
            host,
            deadline_seconds=2.0,
            ledger=self._own_ledger(),
        )
        sources.together = _one_by_one
        no_deadline = nullcontext()
        sources.timeout = lambda _deadline_seconds: no_deadline
        who = Self(fleet="simulated", boot_id=host.boot_id(), nonce=host.boot_id())
        self._boots = machine.boots
        self.ticker = Ticker(machine.policy, sources, host, who)

    def _own_ledger(self) -> InProcessLedger | None:
        if self._ledger is None:
            return None
        return InProcessLedger(self._ledger, reachable=lambda: self.world.reaches(self.machine, "redis"))

    async def tick(self) -> TickResult:
        return await self.ticker.tick()

    def pause_seconds(self) -> int:
        """Until the next tick, in whole seconds of the world."""
        return max(1, round(self.ticker.pause_seconds()))

    async def act(self) -> int:
        """Tick, if fleetd runs; returns the second at which to act again."""
        if not self.machine.fleetd_runs(self.world.now):
            return self.world.now + 1
        if self.machine.boots != self._boots:
            self._start()
        await self.tick()
        return self.world.now + self.pause_seconds()


def daemons(world: World) -> list[SimulatedDaemon]:
    """fleetd on every host of the trace: one fleet around one ledger, or one host without."""
    if not world.trace.hosts:
        return [SimulatedDaemon(world)]
    ledger = LedgerInMemory(lambda: 1000 * world.now, "simulated")
    return [SimulatedDaemon(world, machine, ledger) for machine in world.machines]
