"""The leader's part of a tick: all hosts as one, how many are needed and desired of it, and which host gets how many.

Law 3: while the leader can't read Redis, nothing is needed or not needed: what runs is kept, as on one host.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from msgspec import structs

from fleetd.core.demand.cause import need_of
from fleetd.core.demand.desired import HoldWindow, desired_instances
from fleetd.core.demand.fold import fold
from fleetd.core.demand.needed import DemandMemory, Needed
from fleetd.core.demand.unserved import UnservedMemory, unserved
from fleetd.core.fleet.orders import FleetOrder
from fleetd.core.fleet.view import QueueTold
from fleetd.core.instances.host_tick import HostTick
from fleetd.core.model import reasons
from fleetd.core.model.decision import Clamp, Clamps
from fleetd.core.model.facts import Value
from fleetd.core.sharing.differences import from_leader
from fleetd.core.sharing.expected import Given, as_expected, given_now
from fleetd.core.sharing.fleet_plan import FleetClamp, FleetCounts, FleetPlan
from fleetd.core.sharing.merged import FleetTick, fleet_tick
from fleetd.core.sharing.report import MAINTENANCE, OBSERVES, SILENT, HostReport
from fleetd.core.sharing.rolls import host_that_rolls, restart_stopped
from fleetd.core.sharing.scheduler_host import named_scheduler_host
from fleetd.core.sharing.share import NAMED_MAX, Shares, share

#: Processes that a leader tells the next one of.
STALLED_MAX = 100


class SharingMemory(Value, frozen=True, kw_only=True):
    """What the leader remembers between ticks, and the next leader finds in the ledger. Times of the fleet clock."""

    demand: DemandMemory = DemandMemory()
    windows: dict[str, HoldWindow] = {}  # by profile of the fleet
    unserved: UnservedMemory = UnservedMemory()
    moved_seconds: float | None = None  # when an instance was last moved without need
    stalled: tuple[str, ...] = ()  # processes whose threads are all in endless jobs, by identity
    given: dict[str, dict[str, Given]] = {}  # by host and its profile, what the last plan gave it


def leaving(
    forced: Mapping[str, bool], own: HostReport, told: Mapping[str, HostReport]
) -> tuple[frozenset[str], HostReport, dict[str, HostReport]]:
    """The hosts in maintenance, and the reports. `forced`: by each such host, whether it goes even as the last one.

    While no other host serves, those that are not forced keep what they have.
    """
    reports = {**told, own.host: own}
    hosts = frozenset(forced) & reports.keys()
    if not any(_serves(report) for host, report in reports.items() if host not in hosts):
        for host in hosts:
            if not forced[host] and not reports[host].held:
                reports[host] = structs.replace(reports[host], held=MAINTENANCE)
    return hosts, reports[own.host], {host: reports[host] for host in told}


def _serves(report: HostReport) -> bool:
    return report.held not in (OBSERVES, SILENT) and any(p.max_instances for p in report.profiles)


class FleetShared(Value, frozen=True, kw_only=True):
    """The plan for all hosts, with what led to it."""

    plan: FleetPlan
    memory: SharingMemory
    fleet: FleetTick
    needed: Needed | None  # None: Redis is unknown
    unserved: reasons.QueuesUnserved | None  # None: every queue is served, or that is unknown


def plan_fleet(
    tick: HostTick,
    own: HostReport,
    told: Mapping[str, HostReport],
    memory: SharingMemory,
    previous: FleetPlan | None,
    *,
    clock_seconds: float,
    maintenance: frozenset[str] = frozenset(),
    sets: Mapping[str, FleetOrder] = MappingProxyType({}),
) -> FleetShared:
    """Decide for all hosts. `own`: the leader's report (report_of), `told`: the others' (merged.there).

    `sets`: see fleet_tick.
    """
    others = {host: report for host, report in told.items() if host != own.host}
    fleet = as_expected(fleet_tick(tick, own, others, clock_seconds, maintenance, sets), own.host, memory.given)
    needed, memory = _needed(fleet.tick, memory)
    clamps = Clamps()
    desired, windows = desired_instances(fleet.tick, needed, memory.windows, clamps)
    shares = share(
        desired,
        fleet.profiles,
        fleet.reports,
        previous,
        maintenance=maintenance,
        set_on_all=fleet.tick.constraints.set_on_all,
        now_seconds=clock_seconds,
        moved_seconds=memory.moved_seconds,
    )
    memory = structs.replace(memory, windows=_grown(windows, shares, fleet.tick))
    sidekiq = fleet.tick.sidekiq
    return FleetShared(
        plan=FleetPlan(
            leader=own.host,
            profiles=_counts(fleet, needed, desired, shares, list(clamps)),
            hosts=shares.hosts,
            queues=_queues(tick, needed),
            rolls_host=host_that_rolls(fleet.reports, None if previous is None else previous.rolls_host),
            restart_stopped=restart_stopped({**others, own.host: own}, previous),
            scheduler_host=named_scheduler_host(fleet.reports, maintenance),
            differences=from_leader(own, others),
        ),
        memory=_remembered(tick, memory, fleet, shares),
        fleet=fleet,
        needed=needed,
        unserved=unserved(memory.unserved, sidekiq) if sidekiq is not None else None,
    )


def _stalled(tick: HostTick, before: tuple[str, ...]) -> tuple[str, ...]:
    """Found now, or known before and not read this time. A new leader would otherwise watch them for as long again, and
    meanwhile take their threads for work.
    """
    if tick.sidekiq is None:
        return before
    found = {identity for identity, seen in tick.evidence.stalled.items() if seen.queue is None}
    found |= {p.identity for p in tick.sidekiq.processes if p.without_jobs} & set(before)
    return tuple(sorted(found)[:STALLED_MAX])


def _queues(tick: HostTick, needed: Needed | None) -> dict[str, QueueTold]:
    if tick.sidekiq is None or needed is None:
        return {}
    need = needed.queue_threads
    return {
        name: QueueTold(
            busy_threads=queue.busy_threads,
            young_threads=queue.young_threads,
            need_threads=round(need[name], 2) if name in need else None,
        )
        for name, queue in tick.sidekiq.queues.items()
    }


def _grown(windows: dict[str, HoldWindow], shares: Shares, tick: HostTick) -> dict[str, HoldWindow]:
    """The hold windows, with when their profiles grew."""
    now, running = tick.now_seconds, tick.running
    return {
        name: structs.replace(w, grew_seconds=now) if shares.counts[name] > running[name] else w
        for name, w in windows.items()
    }


def _remembered(tick: HostTick, memory: SharingMemory, fleet: FleetTick, shares: Shares) -> SharingMemory:
    """With what this plan gives."""
    return structs.replace(
        memory,
        moved_seconds=shares.moved_seconds,
        stalled=_stalled(tick, memory.stalled),
        given=given_now(memory.given, fleet, shares),
    )


def _needed(tick: HostTick, memory: SharingMemory) -> tuple[Needed | None, SharingMemory]:
    needed, demand, unserved_memory = fold(tick, memory.demand, memory.unserved)
    return needed, structs.replace(memory, demand=demand, unserved=unserved_memory)


def _counts(
    fleet: FleetTick, needed: Needed | None, desired: dict[str, int], shares: Shares, clamps: list[Clamp]
) -> tuple[FleetCounts, ...]:
    tick = fleet.tick
    raw = needed.instances if needed is not None else tick.running
    found = []
    for profile in fleet.profiles:
        name, running = profile.name, tick.running[profile.name]
        own = [_clamp(fleet, c) for c in clamps if c.profile == name]
        last = shares.clamps.get(name)
        need = None
        if needed is not None and tick.sidekiq is not None and shares.counts[name] != running:
            need = need_of(tick, profile.profile, needed, tick.sidekiq)
        found.append(
            FleetCounts(
                name=name,
                needed_instances=raw[name],
                desired_instances=desired[name],
                shared_instances=shares.counts[name],
                running_instances=running,
                clamps=(*own, *([last] if last is not None else [])),
                need=need,
            )
        )
    return tuple(found)


def _clamp(fleet: FleetTick, clamp: Clamp) -> FleetClamp:
    """As the plan has it. Keys of the imaginary host mean nothing elsewhere."""
    reason = clamp.reason
    if isinstance(reason, reasons.HeartbeatsMissing):
        keys = reason.keys
        reason = reasons.HeartbeatsMissingThere(
            workers=tuple(fleet.worker(key) for key in keys[:NAMED_MAX]), more_workers=max(0, len(keys) - NAMED_MAX)
        )
    elif isinstance(reason, reasons.AtMin):
        reason = structs.replace(reason, whole=True)
    return FleetClamp(
        reason=reason,  # type: ignore[arg-type]  # those of demand/desired.py; a test holds FleetReason to them
        before_instances=clamp.before_instances,
        after_instances=clamp.after_instances,
    )
