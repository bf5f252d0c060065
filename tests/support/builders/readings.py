"""Short builders of facts: a test gives only what it is about."""

from __future__ import annotations

from fleetd.core.evidence.weigh import Evidence
from fleetd.core.instances.assess import instance_views
from fleetd.core.instances.host_memory import HostMemory
from fleetd.core.instances.host_tick import HostConstraints, HostTick
from fleetd.core.model.facts import (
    DatabaseFacts,
    HostFacts,
    Known,
    PgBouncerFacts,
    PoolFacts,
    ProcessFacts,
    QueueFacts,
    RenderedSettings,
    SidekiqFacts,
    Snapshot,
    SystemdFacts,
    UnitFacts,
    Unknown,
)
from fleetd.core.model.identity import SCHEDULER, InstanceKey, WorkerTag
from fleetd.core.model.policy_tables import Policy
from fleetd.core.model.worker_settings import SCHEDULER_PROFILE, instance_digest

MIB = 1024 * 1024
AWAY = Unknown(why="no answer")


def tag(key: int, *, host: str = "w1", pool: int = 7) -> str:
    return str(WorkerTag(host=host, key=InstanceKey(key), db_pool=pool, digest="0" * 8))


def queue(name: str, length: int = 0, *, busy: int = 0, age: float = 0.0) -> QueueFacts:
    return QueueFacts(name=name, length_jobs=length, latency_seconds=age, busy_threads=busy)


def process(
    label: str,
    *,
    queues: str = "default",
    threads: int = 5,
    busy: int = 0,
    quiet: bool = False,
    beat: float = 3.0,
    started: float = 5000.0,
    pid: int = 0,
    hostname: str = "w1",
) -> ProcessFacts:
    """`label`: its tag; "" is a stock unit's process."""
    return ProcessFacts(
        identity=f"{hostname}:{pid}:{label}",
        hostname=hostname,
        pid=pid,
        tag=label,
        version="",
        threads=threads,
        busy_threads=busy,
        quiet=quiet,
        queues=frozenset(queues.split()),
        beat_age_seconds=beat,
        started_age_seconds=started,
        resident_bytes=None,
        busy_by_queue={queues.split()[0]: busy} if busy else {},
    )


def sidekiq(
    *queues: QueueFacts,
    processes: tuple[ProcessFacts, ...] = (),
    total: int | None = 0,
    run_id: str = "run-1",
    complete: bool = True,
    writable: bool | None = True,
    now: float = 0.0,
) -> SidekiqFacts:
    return SidekiqFacts(
        now_seconds=now,
        queues={q.name: q for q in queues},
        processes=processes,
        processed_jobs_total=total,
        failed_jobs_total=0,
        redis_run_id=run_id,
        processes_complete=complete,
        writable=writable,
    )


def database(
    *,
    maximum: int = 100,
    reserved: int = 3,
    clients: int = 20,
    workers: dict[str, int] | None = None,
    refused: bool = False,
    role_limit: int | None = None,
    role: int = 0,
    database_limit: int | None = None,
    in_database: int = 0,
) -> DatabaseFacts:
    """`clients`: all client backends, including our workers' and fleetd's own."""
    return DatabaseFacts(
        max_connections=maximum,
        reserved_connections=reserved,
        role_limit_connections=role_limit,
        database_limit_connections=database_limit,
        client_connections=clients,
        role_connections=role,
        database_connections=in_database,
        worker_connections=workers or {},
        own_connections=1,
        refused=refused,
    )


def bouncer(
    *,
    limit: int = 400,
    clients: int = 40,
    size: int = 20,
    active: int = 5,
    servers: int = 20,
    waiting: int = 0,
    wait: float = 0.0,
    refused: bool = False,
) -> PgBouncerFacts:
    """PgBouncer with only Mastodon's pool; `clients`: all of them, including fleetd's console."""
    pool = PoolFacts(
        database="mastodon_production",
        user="mastodon",
        client_connections=clients - 1,
        waiting_clients=waiting,
        longest_wait_seconds=wait,
        active_servers=active,
        server_connections=servers,
        size_connections=size,
    )
    return PgBouncerFacts(
        client_limit_connections=limit,
        client_connections=clients,
        own_connections=1,
        pools=(pool,),
        mastodon=("mastodon_production", "mastodon"),
        refused=refused,
    )


def unit(state: str = "active", *, age: float = 5000.0, pid: int = 0, job: str | None = None) -> UnitFacts:
    """`job` None: the one that goes with the state. A unit that stops was ordered to stop."""
    usual = {"deactivating": "stop", "activating": "start"}
    return UnitFacts(
        name="mastodon-sidekiq@N.service",
        load_state="loaded",
        active_state=state,
        sub_state="",
        main_pid=pid,
        state_age_seconds=age,
        job=usual.get(state, "") if job is None else job,
    )


def systemd(units: dict[int, UnitFacts] | None = None, scheduler: UnitFacts | None = None) -> SystemdFacts:
    found = {InstanceKey(n): facts for n, facts in (units or {}).items()}
    return SystemdFacts(units=found if scheduler is None else {**found, SCHEDULER: scheduler})


def machine(policy: Policy, *, available: int = 64 * 1024 * MIB, without: set[int] | None = None) -> HostFacts:
    rendered = {
        n: RenderedSettings(profile=p.name, digest=instance_digest(p))
        for p in policy.profiles
        for n in p.numbers
        if n not in (without or set())
    }
    return HostFacts(
        memory_available_bytes=available,
        memory_total_bytes=64 * 1024 * MIB,
        resident_bytes={},
        cores=4,
        rendered={**rendered, SCHEDULER: RenderedSettings(profile=SCHEDULER_PROFILE, digest="")},
    )


def snapshot(
    policy: Policy,
    *,
    now: float = 10_000.0,
    boot: str = "boot-1",
    redis: SidekiqFacts | None = None,
    postgres: DatabaseFacts | None = None,
    units: SystemdFacts | None = None,
    host: HostFacts | None = None,
    pgbouncer: PgBouncerFacts | Unknown | None = None,
    replica: DatabaseFacts | Unknown | None = None,
) -> Snapshot:
    """What is not given is unknown, except the machine, which has plenty of everything."""
    return Snapshot(
        host=policy.host,
        now_seconds=now,
        boot_id=boot,
        sidekiq=AWAY if redis is None else Known(value=redis),
        database=AWAY if postgres is None else Known(value=postgres),
        systemd=AWAY if units is None else Known(value=units),
        machine=Known(value=host or machine(policy)),
        pgbouncer=Known(value=pgbouncer) if isinstance(pgbouncer, PgBouncerFacts) else pgbouncer,
        replica=Known(value=replica) if isinstance(replica, DatabaseFacts) else replica,
    )


def tick_of(
    policy: Policy,
    shot: Snapshot,
    memory: HostMemory | None = None,
    constraints: HostConstraints | None = None,
    evidence: Evidence | None = None,
) -> HostTick:
    """A tick with the instances of a snapshot, in the states that follow from this memory."""
    tick = HostTick(policy=policy, snapshot=shot, evidence=evidence or Evidence())
    memory = memory or HostMemory()
    views = instance_views(tick, memory.by_instance(shot.now_seconds, {}), memory.left_over)
    return tick.seeing(views).under(constraints or HostConstraints())


def fleet(count: int, *, busy: int = 0) -> tuple[SystemdFacts, tuple[ProcessFacts, ...]]:
    """Instances @1 to @count that have served for a long time, with their heartbeats."""
    units = {n: unit(pid=100 + n) for n in range(1, count + 1)}
    beats = tuple(process(tag(n), pid=100 + n, busy=busy) for n in units)
    return systemd(units), beats
