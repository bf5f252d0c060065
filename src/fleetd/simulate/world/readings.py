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
from fleetd.core.model.identity import WorkerTag, application_name, unit_of
from fleetd.core.model.policy import Policy, Profile
from fleetd.core.model.worker_settings import instance_digest
from fleetd.simulate.world.fleet import Instance
from fleetd.simulate.world.world import World

HOST = "simulated"
#: Superuser's reserve and fleetd's own connection stand outside of what a trace calls max_connections and others.
RESERVED, OWN = 3, 1


class Readings:
    """Facts from a world; what never changes is made once."""

    def __init__(self, world: World, policy: Policy) -> None:
        self.world = world
        self.policy = policy
        digests = {p.name: instance_digest(p) for p in policy.profiles}
        self._rendered = {
            n: RenderedSettings(profile=p.name, digest=digests[p.name])
            for p in policy.profiles
            for n in p.numbers
        }
        self._tags = {
            n: str(WorkerTag(host=policy.host, key=n, db_pool=p.db_pool, digest=digests[p.name]))
            for p in policy.profiles
            for n in p.numbers
        }
        self._names = {n: application_name(n, policy.host) for n in self._rendered}
        # A queue that the trace says nothing of is present and empty.
        self._empty = {
            name: QueueFacts(name=name, length_jobs=0, latency_seconds=0.0, busy_threads=0)
            for p in policy.profiles
            for name, _ in p.queues
            if name not in world.queues
        }
        self._queues = {p.name: frozenset(q for q, _ in p.queues) for p in policy.profiles}

    def sidekiq(self) -> SidekiqFacts:
        world, now = self.world, self.world.now
        busy: Counter[str] = Counter()
        young: Counter[str] = Counter()
        processes = []
        for group in world.groups:
            for instance in group.present:
                if instance.beat_at < 0:
                    continue
                for name, threads in instance.beat_busy.items():
                    busy[name] += threads
                for name, threads in instance.beat_young.items():
                    young[name] += threads
                processes.append(self._process(instance, now))
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
            processed_jobs_total=int(world.processed),
            failed_jobs_total=0,
            redis_run_id="simulated",
            writable=True,
        )

    def _process(self, instance: Instance, now: int) -> ProcessFacts:
        profile: Profile = instance.profile
        return ProcessFacts(
            identity=f"{self.policy.host}:{instance.pid}:0",
            hostname=self.policy.host,
            pid=instance.pid,
            tag=self._tags[instance.number],
            version="8.0.9",
            threads=instance.threads,
            busy_threads=instance.beat_busy.total(),
            quiet=instance.beat_quiet,
            queues=self._queues[profile.name],
            beat_age_seconds=float(now - instance.beat_at),
            started_age_seconds=float(now - instance.since) if not instance.quiet else float(now),
            resident_bytes=None,
        )

    def database(self) -> DatabaseFacts:
        world = self.world
        workers = {self._names[i.number]: i.opened for g in world.groups for i in g.present if i.opened}
        clients = world.others() + sum(workers.values()) + OWN
        busy = round(world.busy_threads)
        knee = world.trace.knee_busy_threads
        return DatabaseFacts(
            max_connections=world.trace.max_connections + RESERVED,
            reserved_connections=RESERVED,
            role_limit_connections=None,
            database_limit_connections=None,
            client_connections=clients,
            role_connections=clients,
            database_connections=clients,
            worker_connections=workers,
            own_connections=OWN,
            # Up to the knee a job is half in the database; beyond it, all the time that is added.
            active_backends=None if knee is None else round(busy - 0.5 * min(float(busy), knee)),
            stalled_backends=None if knee is None else round(max(0.0, busy - knee)),
        )

    def systemd(self) -> SystemdFacts:
        now = self.world.now
        units = {
            instance.number: UnitFacts(
                name=unit_of(instance.number),
                load_state="loaded",
                active_state=instance.state,
                sub_state=instance.state,
                main_pid=instance.pid,
                state_age_seconds=float(now - instance.since),
                invocation_id=str(instance.invocation),
            )
            for group in self.world.groups
            for instance in group.present
        }
        return SystemdFacts(units=units)

    def host(self) -> HostFacts:
        world = self.world
        resident = {i.number: world.resident_bytes(i) for group in world.groups for i in group.present}
        return HostFacts(
            memory_available_bytes=world.memory_available_bytes(),
            memory_total_bytes=int(world.trace.memory_bytes),
            resident_bytes=resident,
            rendered=self._rendered,
        )
