"""Hosts of a fleet for tests: reports, and the readings that go with them."""

from __future__ import annotations

from msgspec import structs

from fleetd.core.instances.host_memory import HostMemory
from fleetd.core.instances.host_tick import HostConstraints, HostTick
from fleetd.core.model.decision import InstanceState
from fleetd.core.model.facts import ProcessFacts, QueueFacts
from fleetd.core.model.policy_tables import Policy
from fleetd.core.sharing.report import HostReport, InstanceReport, ProfileReport, SchedulerReport, report_of
from fleetd.core.sharing.settings import FleetSettings
from tests.support.builders.readings import MIB, machine, process, queue, sidekiq, snapshot, systemd, tag, tick_of, unit
from tests.support.world.ports import policy

QUEUES = ("default", "push", "ingress", "mailers", "pull", "fasp")


def tick(
    host: str = "w1",
    running: int = 1,
    rules: Policy | None = None,
    *,
    queues: tuple[QueueFacts, ...] = (),
    others: tuple[ProcessFacts, ...] = (),
    constraints: HostConstraints | None = None,
    memory: HostMemory | None = None,
    available: int = 64 * 1024 * MIB,
) -> HostTick:
    """A host's tick with @1 to @N that have served for long; `others`: processes besides theirs."""
    rules = structs.replace(rules or policy(), host=host)
    units = systemd({n: unit(pid=100 + n) for n in range(1, running + 1)})
    beats = tuple(beat(host, n) for n in range(1, running + 1))
    redis = sidekiq(*(queues or (queue(q) for q in QUEUES)), processes=(*beats, *others))
    shot = snapshot(rules, redis=redis, units=units, host=machine(rules, available=available))
    return tick_of(rules, shot, memory, constraints)


def beat(host: str, number: int, *, busy: int = 0) -> ProcessFacts:
    return process(tag(number, host=host), pid=100 + number, hostname=host, busy=busy)


def told(host: str, running: int = 1, rules: Policy | None = None) -> HostReport:
    """What a host with @1 to @N that have served for long tells."""
    return report_of(tick(host, running, rules), HostMemory())


def profile(
    running: int = 1,
    *,
    name: str = "default",
    queues: tuple[int, ...] = (0,),
    low: int = 0,
    high: int = 16,
    free: int | None = None,
    wanted: int | None = None,
    mib: int = 1024,
    threads: int = 5,
    refused: str = "",
) -> ProfileReport:
    return ProfileReport(
        name=name,
        order="strict",
        queues=tuple((place, 1) for place in queues),
        threads=threads,
        claim_connections=threads + 2,
        min_instances=low,
        max_instances=high,
        running=running,
        free_numbers=max(0, high - running) if free is None else free,
        instance_mib=mib,
        set_instances=wanted,
        refused=refused,
    )


def host(
    name: str,
    *profiles: ProfileReport,
    cores: int | None = 4,
    left: int | None = 64 * 1024,
    held: str = "",
    refused: str = "",
    starting: int = 0,
    queues: tuple[str, ...] = ("default", "push", "pull"),
    scheduler: SchedulerReport | None = None,
    code: str = "code",
) -> HostReport:
    """A report with instances that serve, but for the first `starting` of each profile."""
    instances = [
        InstanceReport(
            key=1 + place * 100 + number,
            profile=place,
            state=InstanceState.STARTING if number < starting else InstanceState.SERVING,
            age_seconds=5.0,
            threads=own.threads,
            flags="--" if number < starting else "rb",
        )
        for place, own in enumerate(profiles)
        for number in range(own.running)
    ]
    settings = FleetSettings(numbers={}, targets_seconds={})
    return HostReport(
        host=name,
        code_digest=code,
        cores=cores,
        memory_left_mib=left,
        held=held,
        refused=refused,
        booting=sum(i.state == InstanceState.STARTING for i in instances),
        queues=queues,
        profiles=profiles,
        instances=tuple(instances),
        scheduler=scheduler or SchedulerReport(place="auto", may_start=True),
        digest=settings.digest,
        settings=settings,
    )
