"""The readings of the simulated world that the fakes of the ports return."""

from __future__ import annotations

from fleetd.core.model.facts import (
    CodeStamp,
    Consumer,
    DatabaseFacts,
    HostFacts,
    ProcessFacts,
    QueueFacts,
    RenderedSettings,
    RunningJob,
    SidekiqFacts,
    SystemdFacts,
    TargetFacts,
    UnitFacts,
)
from fleetd.core.model.identity import SCHEDULER, SCHEDULER_UNIT, TEMPLATE_UNIT, InstanceKey, parse_tag
from fleetd.core.model.policy_tables import Profile
from fleetd.core.model.worker_settings import SCHEDULER_PROFILE, instance_digest, scheduler_digest
from tests.support.world.parts import Process, Unit
from tests.support.world.world import GHOST_SECONDS, MIB, World


def sidekiq_facts(world: World) -> SidekiqFacts:
    processes = tuple(
        _heartbeat(world, p)
        for p in (*world.processes(), *world.ghosts)
        if _is_listed(world, p) and not (world.garbled and p in world.elsewhere)
    )
    queues = {
        name: QueueFacts(
            name=name,
            length_jobs=len(queue),
            latency_seconds=world.now - queue[0].enqueued_at if queue else 0.0,
        )
        for name, queue in world.queues.items()
        if name not in world.unreadable
    }
    return SidekiqFacts(
        now_seconds=world.now,
        queues=queues,
        processes=processes,
        processed_jobs_total=world.done,
        failed_jobs_total=world.failed,
        redis_run_id=world.run_id,
        processes_complete=not (world.garbled and world.elsewhere),
        writable=world.redis_writable,
        faults=world.faults,
        retry_jobs=world.retry_jobs,
        dead_jobs=world.dead_jobs,
        scheduled_jobs=world.scheduled_jobs,
        failing_classes=world.failing_classes,
    )


def _is_listed(world: World, process: Process) -> bool:
    beat = process.beat_at
    return process.listed and beat is not None and world.now - beat < GHOST_SECONDS


def _heartbeat(world: World, process: Process) -> ProcessFacts:
    assert process.beat_at is not None
    now = world.now - world.clock_ahead_seconds  # as ages come out for what the worker's clock wrote
    jobs = tuple(
        RunningJob(jid=jid, run_age_seconds=now - begun, job_class="LinkCrawlWorker")
        for jid, begun in sorted(process.beat_jobs, key=lambda job: job[1])
    )
    return ProcessFacts(
        identity=process.identity,
        hostname=process.hostname,
        pid=process.pid,
        tag=process.tag,
        version="",
        threads=process.threads,
        busy_threads=process.beat_work.total(),
        quiet=process.beat_quiet,
        queues=frozenset(queue for queue, _ in process.queues),
        beat_age_seconds=now - process.beat_at,
        started_age_seconds=now - max(process.started_at, process.ready_at - 1.0),
        resident_bytes=_resident(world, process),
        jobs=jobs,
        busy_by_queue=process.beat_work,
    )


def _resident(world: World, process: Process) -> int:
    return world.resident_bytes if process.resident_bytes is None else process.resident_bytes


def database_facts(world: World) -> DatabaseFacts:
    workers: dict[str, int] = {}
    foreign = 0
    for process in world.processes():
        tag = parse_tag(process.tag)
        if process.name and (tag is None or not world.nameless & {0, tag.key}):
            workers[process.name] = workers.get(process.name, 0) + process.opened
        else:
            foreign += process.opened
    clients = world.other_clients + foreign + sum(workers.values()) + 1
    others = world.other_clients + foreign
    web = Consumer(name="mastodon from 10.0.0.1 (puma)", connections=others)
    return DatabaseFacts(
        max_connections=world.max_connections,
        reserved_connections=3,
        role_limit_connections=None,
        database_limit_connections=None,
        client_connections=clients,
        role_connections=clients,
        database_connections=clients,
        worker_connections=workers,
        own_connections=1,
        refused=world.postgres_refuses,
        consumers=(web,) if others else (),
        active_backends=world.active_backends,
        stalled_backends=world.stalled_backends,
    )


def systemd_facts(world: World) -> SystemdFacts:
    units = [unit for unit in world.units.values() if unit.state != "inactive"]  # inactive units are unloaded
    found = {unit.key: _unit_facts(world, unit) for unit in units}
    return SystemdFacts(units=found, polkit_runs=world.polkit_runs, target=_target_facts(world))


def _target_facts(world: World) -> TargetFacts | None:
    if world.target is None:
        return None
    stopped = world.target_stopped_at if world.target == "inactive" else None
    age = None if stopped is None else world.now - stopped
    return TargetFacts(active_state=world.target, job=world.target_job, stopped_age_seconds=age)


def _unit_facts(world: World, unit: Unit) -> UnitFacts:
    return UnitFacts(
        name=unit.name,
        load_state="loaded",
        active_state=unit.state,
        sub_state=_sub_state(unit),
        main_pid=unit.process.pid if unit.process is not None else 0,
        restarts=unit.restarts,
        state_age_seconds=world.now - unit.since,
        invocation_id=f"{unit.invocation:032x}",
        result=unit.result,
        ending=unit.ending,
        job=unit.job,
    )


def _sub_state(unit: Unit) -> str:
    if unit.restart_at is not None:
        return "auto-restart"
    return "stop-sigterm" if unit.state == "deactivating" else unit.state


def host_facts(world: World) -> HostFacts:
    rendered = {}
    if SCHEDULER in world.rendered:
        scheduler = world.rendered_policy.scheduler
        rendered[SCHEDULER] = RenderedSettings(
            profile=SCHEDULER_PROFILE,
            digest=scheduler_digest(scheduler),
            threads=scheduler.threads,
            db_pool=scheduler.db_pool,
        )
    owners: dict[int, Profile] = dict(world.left_over)
    owners.update((n, p) for p in world.rendered_policy.profiles for n in p.numbers if n in world.rendered)
    for number, profile in owners.items():
        rendered[InstanceKey(number)] = RenderedSettings(
            profile=profile.name, digest=instance_digest(profile), threads=profile.threads, db_pool=profile.db_pool
        )
    resident = {u.key: _resident(world, u.process) for u in world.units.values() if u.process is not None}
    by_instances = sum(bytes_ for key, bytes_ in resident.items() if key != SCHEDULER)
    return HostFacts(
        memory_available_bytes=world.memory_available_bytes - by_instances,
        memory_total_bytes=64 * 1024 * MIB,
        resident_bytes=resident,
        rendered=rendered,
        pressure=world.pressure,
        load_per_core=world.load_per_core,
        cores=4,
        oom_kills_total=world.oom_kills_total,
        code=CodeStamp(digest=world.code, version=world.code),
        unit_digests={TEMPLATE_UNIT: world.unit_file, SCHEDULER_UNIT: world.unit_file},
        file_digests={TEMPLATE_UNIT: world.installed_unit, SCHEDULER_UNIT: world.installed_unit},
        shipped_digests={TEMPLATE_UNIT: world.installed_unit, SCHEDULER_UNIT: world.installed_unit},
        unfit_units=dict(world.unfit_units),
        masked_units=world.masked_units,
    )
