"""The fleet's tick: the leader's readings, and the instances of every host as those of one imaginary host.

So `needed_instances` and `desired_instances` decide for a fleet as they do for one host. Each process counts exactly
once: as an instance of its host's report, or, where nobody tells of it, as a process that fleetd did not render. That
is so where its fleetd is stopped, older or silent: what beats is capacity (law 5).

All times are those of the fleet clock, so a hold window outlives its leader.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from types import MappingProxyType

from msgspec import structs

from fleetd.core.fleet.calls import Told
from fleetd.core.fleet.orders import FleetOrder
from fleetd.core.instances.host_tick import Hold, HostConstraints, HostTick
from fleetd.core.instances.lifecycle import InstanceView
from fleetd.core.model.facts import Known, ProcessFacts, SidekiqFacts, Snapshot, SystemdFacts, UnitFacts, Value
from fleetd.core.model.identity import NUMBER_MAX, SCHEDULER, InstanceKey, application_name, parse_tag
from fleetd.core.model.policy_tables import PUNCTUAL_TICKS, Policy
from fleetd.core.sharing.report import OBSERVES, SILENT, HostReport, keys_of, read
from fleetd.core.sharing.shapes import FleetProfile, fleet_profiles

#: A host that is silent for this long, or for PUNCTUAL_TICKS of its ticks, is not moved: nobody there would act.
SILENT_SECONDS = 20.0
#: One that was silent for this long, and for MISSED_TICKS of its ticks, has missed a beat and may be lost. What it has
#: still counts, but what is needed besides is started elsewhere.
MISSED_SECONDS, MISSED_TICKS = 7.5, 1.5
#: After this time its report does not count any more, but its live processes do: a heartbeat lives as long.
GONE_SECONDS = 60.0
#: A key of the imaginary host is the number on its host, plus this much for each host before it.
_KEYS = NUMBER_MAX + 1


class FleetTick(Value, frozen=True, kw_only=True):
    """The imaginary host's tick, and what it is made of."""

    tick: HostTick
    profiles: tuple[FleetProfile, ...]
    reports: dict[str, HostReport]  # of every host that counts; by name
    hosts: tuple[str, ...]  # in the order of their keys

    def worker(self, key: InstanceKey) -> str:
        """The application_name of an instance."""
        return application_name(InstanceKey(key % _KEYS), self.hosts[key // _KEYS])


def there(told: Mapping[str, Told]) -> dict[str, HostReport]:
    """The reports that count, from what the ledger tells the leader."""
    found = {}
    for host, one in told.items():
        report = None if one.gone else read(one.record, host)
        if report is None:
            continue
        silent, late = one.silent_ms / 1000.0, PUNCTUAL_TICKS * report.tick_seconds
        if silent >= max(GONE_SECONDS, late):
            continue
        if silent >= max(SILENT_SECONDS, late):
            report = structs.replace(report, held=SILENT)
        elif silent >= max(MISSED_SECONDS, MISSED_TICKS * report.tick_seconds):
            report = structs.replace(report, refused=SILENT)
        found[host] = report
    return found


def fleet_tick(
    tick: HostTick,
    own: HostReport,
    others: Mapping[str, HostReport],
    clock_seconds: float,
    maintenance: frozenset[str] = frozenset(),
    sets: Mapping[str, FleetOrder] = MappingProxyType({}),
) -> FleetTick:
    """The fleet as one host. `tick`: the leader's own, `own`: its report; `clock_seconds`: of the fleet clock.

    `sets`: by profile, as any host calls it: what a person wants of it on all hosts together.

    Hosts in `maintenance` count with what runs there; what they must and may have is not the fleet's any more.
    """
    reports = {r.host: r for r in (own, *others.values()) if r.systemd_known}
    hosts = tuple(sorted(reports))
    profiles = fleet_profiles(own.host, reports, maintenance)
    beating = _beating(tick.sidekiq) if tick.sidekiq is not None else None
    views = tuple(v for number, host in enumerate(hosts) for v in _views(number, reports[host], profiles, beating))
    policy = _policy(tick.policy, profiles, list(reports.values()), maintenance)
    merged = HostTick(
        policy=policy,
        snapshot=_snapshot(tick.snapshot, reports, hosts, clock_seconds),
        evidence=tick.evidence,
        instances=views,
        active=views,
        constraints=_on_all(_constraints(tick, profiles, reports, maintenance), profiles, reports, sets),
        running={p.name: sum(reports[h].profiles[place].running for h, place in p.places.items()) for p in profiles},
    )
    return FleetTick(tick=merged, profiles=profiles, reports=reports, hosts=hosts)


def _policy(
    own: Policy, profiles: tuple[FleetProfile, ...], reports: list[HostReport], maintenance: frozenset[str]
) -> Policy:
    """The leader's, for all. While some host acts, the fleet does."""
    moving = [r for r in reports if r.host not in maintenance]
    observes = bool(moving) and all(r.held == OBSERVES for r in moving)
    nowhere = all(r.scheduler.place == "elsewhere" for r in reports)
    place = "elsewhere" if nowhere else "auto"
    return structs.replace(
        own,
        profiles=tuple(p.profile for p in profiles),
        mode="observe" if observes else "act",
        scheduler=structs.replace(own.scheduler, place=place),
    )


def _constraints(
    tick: HostTick, profiles: tuple[FleetProfile, ...], reports: dict[str, HostReport], maintenance: frozenset[str]
) -> HostConstraints:
    holds: tuple[Hold, ...] = ()
    if tick.held is not None and all(r.held for r in reports.values()):
        holds = tick.constraints.holds
    sets: dict[str, int] = {}
    boots: dict[str, float] = {}
    for profile in profiles:
        own = [p for h, place in profile.places.items() if h not in maintenance for p in [reports[h].profiles[place]]]
        counts = [p.set_instances for p in own if p.set_instances is not None]
        if own and len(counts) == len(own):  # where only some hosts have one, it is their min and max
            sets[profile.name] = sum(counts)
        learnt = [p.boot_seconds for p in own if p.boot_seconds is not None]
        if learnt:
            boots[profile.name] = sum(learnt) / len(learnt)
    by = {name: tick.constraints.set_by[name] for name in sets if name in tick.constraints.set_by}
    return HostConstraints(holds=holds, set_instances=sets, set_by=by, boot_seconds=boots)


def _on_all(
    constraints: HostConstraints,
    profiles: tuple[FleetProfile, ...],
    reports: dict[str, HostReport],
    sets: Mapping[str, FleetOrder],
) -> HostConstraints:
    """With what people want on all hosts together. Of several profiles with one name the most important is meant."""
    counts, by = dict(constraints.set_instances), dict(constraints.set_by)
    meant: set[str] = set()
    for name, order in sorted(sets.items()):
        profile = next((p for p in profiles if p.is_called(name, reports)), None)
        if profile is None or order.instances is None:
            continue
        meant.add(profile.name)
        counts[profile.name] = order.instances
        by.pop(profile.name, None)
        if order.person is not None:
            by[profile.name] = order.person
    return structs.replace(constraints, set_instances=counts, set_by=by, set_on_all=frozenset(meant))


def _views(
    number: int,
    report: HostReport,
    profiles: tuple[FleetProfile, ...],
    beating: Mapping[str, frozenset[InstanceKey]] | None,
) -> Iterator[InstanceView]:
    """`beating`: by host, the instances whose heartbeats the leader reads; None: it can't read Redis."""
    names = {p.places[report.host]: p.name for p in profiles if report.host in p.places}
    beats = beating.get(report.host, frozenset()) if beating is not None else frozenset()
    silent = report.held == SILENT
    for told in report.instances:
        heard = beating is not None and (told.key in beats or (told.beats and not silent))
        yield InstanceView(
            key=InstanceKey(number * _KEYS + told.key),
            profile=names.get(told.profile),
            state=told.state,
            threads=told.threads,
            state_age_seconds=told.age_seconds,
            beat_age_seconds=0.0 if heard else None,
            unit=_unit(ready=told.is_ready),
            pinned=told.pinned,
            redis_known=beating is not None,
        )


@lru_cache(maxsize=2)
def _unit(*, ready: bool) -> UnitFacts:
    return UnitFacts(name="", load_state="loaded", active_state="active" if ready else "activating", sub_state="")


def _beating(sidekiq: SidekiqFacts) -> dict[str, frozenset[InstanceKey]]:
    found: dict[str, set[InstanceKey]] = {}
    for process in sidekiq.processes:
        tag = parse_tag(process.tag)
        if tag is not None:
            found.setdefault(tag.host, set()).add(tag.key)
    return {host: frozenset(keys) for host, keys in found.items()}


def _snapshot(own: Snapshot, reports: dict[str, HostReport], hosts: tuple[str, ...], clock_seconds: float) -> Snapshot:
    sidekiq = own.sidekiq
    if isinstance(sidekiq, Known):
        processes = _processes(sidekiq.value.processes, own.host, reports, hosts)
        sidekiq = structs.replace(sidekiq, value=structs.replace(sidekiq.value, processes=processes))
    return structs.replace(own, now_seconds=clock_seconds, sidekiq=sidekiq, systemd=Known(value=SystemdFacts(units={})))


def _processes(
    found: tuple[ProcessFacts, ...], own: str, reports: dict[str, HostReport], hosts: tuple[str, ...]
) -> tuple[ProcessFacts, ...]:
    """The same; those of which no report tells are nobody's, and other hosts' without a tag are theirs."""
    cut = {h: keys_of(r) for h, r in reports.items() if r.cut}
    untagged = {
        identity: InstanceKey(number * _KEYS + key)
        for number, host in enumerate(hosts)
        if host != own
        for identity, key in reports[host].untagged
    }

    def seen(process: ProcessFacts) -> ProcessFacts:
        tag = parse_tag(process.tag)
        if tag is None:
            if process.own_key is not None and own not in reports:
                return structs.replace(process, own_key=None)
            key = untagged.get(process.identity)
            return process if key is None else structs.replace(process, own_key=key)
        left_out = tag.host in cut and tag.key != SCHEDULER and tag.key not in cut[tag.host]
        return structs.replace(process, tag="") if tag.host not in reports or left_out else process

    return tuple(map(seen, found))
