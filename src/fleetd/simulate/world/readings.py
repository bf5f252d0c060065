"""What the simulated world shows: readings as Sidekiq, Postgres, systemd and the host would give them."""

from __future__ import annotations

from collections import Counter

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
from fleetd.core.model.identity import InstanceKey, WorkerTag, application_name, unit_of
from fleetd.core.model.worker_settings import instance_digest
from fleetd.simulate.world.fleet import Instance
from fleetd.simulate.world.world import World

HOST = "simulated"
#: Superusers' reserve and fleetd's own connection are outside of what a trace calls max_connections and others.
RESERVED_CONNECTIONS, OWN_CONNECTIONS = 3, 1


class Readings:
    """Facts from a world. What never changes is made once."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._rendered: dict[InstanceKey, RenderedSettings] = {}
        self._tags: dict[InstanceKey, str] = {}
        for profile in world.policy.profiles:
            digest = instance_digest(profile)
            for n in profile.numbers:
                self._rendered[n] = RenderedSettings(profile=profile.name, digest=digest)
                self._tags[n] = str(WorkerTag(host=HOST, key=n, db_pool=profile.db_pool, digest=digest))
        self._names = {n: application_name(n, HOST) for n in self._rendered}
        self._served = {p.name: frozenset(q for q, _ in p.queues) for p in world.policy.profiles}
        # A queue that the trace does not name is there and empty.
        self._empty = {
            name: QueueFacts(name=name, length_jobs=0, latency_seconds=0.0, busy_threads=0)
            for profile in world.policy.profiles
            for name, _ in profile.queues
            if name not in world.queues
        }

    def sidekiq(self) -> SidekiqFacts:
        world, now = self.world, self.world.now
        busy: Counter[str] = Counter()
        young: Counter[str] = Counter()
        processes = []
        for group in world.groups:
            for instance in group.present:
                if instance.beat_at is not None:
                    busy.update(instance.beat_busy)
                    young.update(instance.beat_young)
                    processes.append(self._process(instance, now - instance.beat_at))
        queues = {
            name: QueueFacts(
                name=name,
                length_jobs=queue.waiting,
                latency_seconds=queue.latency_seconds(now),
                busy_threads=busy[name],
                young_threads=young[name],
            )
            for name, queue in world.queues.items()
        }
        return SidekiqFacts(
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
        )

    def database(self) -> DatabaseFacts:
        world = self.world
        workers = {
            self._names[i.key]: i.open_connections
            for group in world.groups
            for i in group.present
            if i.open_connections
        }
        clients = world.other_connections() + sum(workers.values()) + OWN_CONNECTIONS
        busy = round(world.busy_threads)
        knee = world.trace.knee_busy_threads
        return DatabaseFacts(
            max_connections=world.trace.max_connections + RESERVED_CONNECTIONS,
            reserved_connections=RESERVED_CONNECTIONS,
            role_limit_connections=None,
            database_limit_connections=None,
            client_connections=clients,
            role_connections=clients,
            database_connections=clients,
            worker_connections=workers,
            own_connections=OWN_CONNECTIONS,
            # Up to the knee a job is half in the database; beyond it, all the time that is added.
            active_backends=None if knee is None else round(busy - 0.5 * min(float(busy), knee)),
            stalled_backends=None if knee is None else round(max(0.0, busy - knee)),
        )

    def systemd(self) -> SystemdFacts:
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
            )
            for group in self.world.groups
            for instance in group.present
        }
        return SystemdFacts(units=units)

    def host(self) -> HostFacts:
        world = self.world
        resident = {i.key: world.resident_bytes(i) for group in world.groups for i in group.present}
        return HostFacts(
            memory_available_bytes=world.memory_available_bytes(),
            memory_total_bytes=int(world.trace.memory_bytes),
            resident_bytes=resident,
            rendered=self._rendered,
        )
