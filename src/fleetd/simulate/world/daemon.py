"""fleetd in the simulated world: the daemon's own Ticker, with ports that show what Redis, Postgres, … would."""

from __future__ import annotations

from collections.abc import Awaitable
from contextlib import nullcontext
from statistics import fmean
from typing import Any

import msgspec

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
from fleetd.core.model.identity import WorkerTag, application_name, unit_of
from fleetd.core.model.worker_settings import instance_digest
from fleetd.daemon.observe import Sources
from fleetd.daemon.tick import Ticker, TickResult
from fleetd.errors import SourceUnavailableError
from fleetd.simulate.trace.trace import Source
from fleetd.simulate.world.fleet import Instance
from fleetd.simulate.world.world import HOST, World

#: The host has been up for long, so nothing is taken for a reboot.
BOOTTIME_SECONDS = 1_000_000.0
#: Superusers' reserve and fleetd's own connection are outside of what a trace calls max_connections and others.
RESERVED_CONNECTIONS, OWN_CONNECTIONS = 3, 1


class _Port:
    """A port into the world. Its source can't be reached during an outage."""

    def __init__(self, world: World) -> None:
        self.world = world

    def reach(self, source: Source) -> None:
        if source in self.world.down:
            raise SourceUnavailableError(f"{source} is away in this trace")

    async def close(self) -> None: ...


class SimulatedSidekiq(_Port):
    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._served = {p.name: frozenset(q for q, _ in p.queues) for p in world.policy.profiles}
        self._tags = {
            n: str(WorkerTag(host=HOST, key=n, db_pool=p.db_pool, digest=instance_digest(p)))
            for p in world.policy.profiles
            for n in p.numbers
        }
        # A queue that the trace does not name exists and is empty.
        self._empty = {
            name: QueueFacts(name=name, length_jobs=0, latency_seconds=0.0)
            for p in world.policy.profiles
            for name, _ in p.queues
            if name not in world.queues
        }

    async def read(self, *, without_jobs_of: frozenset[str] = frozenset()) -> SidekiqFacts:
        """There is one host, so there is nobody whose jobs need not be read."""
        self.reach("redis")
        return self.facts()

    def facts(self) -> SidekiqFacts:
        world, now = self.world, self.world.now
        processes = []
        for group in world.groups:
            for instance in group.present:
                if instance.beat_at is not None:
                    processes.append(self._process(instance, now - instance.beat_at))
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
        now = self.world.now
        return ProcessFacts(
            identity=f"{HOST}:{instance.pid}:0",
            hostname=HOST,
            pid=instance.pid,
            tag=self._tags[instance.key],
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
        workers = {
            application_name(i.key, HOST): i.open_connections
            for group in world.groups
            for i in group.present
            if i.open_connections
        }
        clients = world.other_connections() + sum(workers.values()) + OWN_CONNECTIONS
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
            worker_connections=workers,
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
            for group in self.world.groups
            for instance in group.present
        }
        return SystemdFacts(units=units)

    async def carry_out(self, step: Step) -> StepResult:
        try:
            self.reach("systemd")
        except SourceUnavailableError as error:
            return StepResult(step=step, result="failed", sentence=str(error))
        return StepResult(step=step, result=self.world.carry_out(step))


class SimulatedHost(_Port):
    """The host, its clock, and a state directory that is read once and keeps nothing."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._rendered = {
            n: RenderedSettings(profile=p.name, digest=instance_digest(p))
            for p in world.policy.profiles
            for n in p.numbers
        }

    async def read(self, systemd: SystemdFacts | None) -> HostFacts:
        world = self.world
        resident = {i.key: world.resident_bytes(i) for group in world.groups for i in group.present}
        return HostFacts(
            memory_available_bytes=world.memory_available_bytes(),
            memory_total_bytes=int(world.trace.host.memory_bytes),
            resident_bytes=resident,
            rendered=self._rendered,
        )

    def now_seconds(self) -> float:
        return BOOTTIME_SECONDS + self.world.now

    def boot_id(self) -> str:
        return "simulated"

    def load(self) -> bytes:
        """fleetd started the instances that serve at the start, so it knows how long a boot takes."""
        learnt = fmean(self.world.trace.boot_seconds)
        booted = {group.profile.name: learnt for group in self.world.groups if group.present}
        return msgspec.json.encode(HostMemory(boot_id=self.boot_id(), boot_seconds=booted))

    def save(self, content: bytes) -> None: ...


async def _one_by_one(*readings: Awaitable[Any]) -> list[Any]:
    """No reading waits for anything here, so none needs its own task."""
    return [await reading for reading in readings]


class SimulatedDaemon:
    """The daemon's ticks, at the times at which it would tick."""

    def __init__(self, world: World) -> None:
        self.world = world
        host = SimulatedHost(world)
        sources = Sources(
            SimulatedSidekiq(world), SimulatedDatabase(world), SimulatedUnits(world), host, host, deadline_seconds=2.0
        )
        sources.together = _one_by_one
        no_deadline = nullcontext()
        sources.timeout = lambda _deadline_seconds: no_deadline
        self.ticker = Ticker(world.policy, sources, host)

    async def tick(self) -> TickResult:
        return await self.ticker.tick()

    def pause_seconds(self) -> int:
        """Until the next tick, in whole seconds of the world."""
        return max(1, round(self.ticker.pause_seconds()))

    async def act(self) -> int:
        """Tick; returns the second of the next tick."""
        await self.tick()
        return self.world.now + self.pause_seconds()
