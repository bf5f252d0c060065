"""What this host asks of the fleet's ledger: the beat, and leave for what it is about to start.

Law 2: each start beyond `min` is asked for right before it. Law 1: so is every scheduler's. What is not granted is not
started: the plan is lowered by it, and the host decides again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from msgspec import structs

from fleetd.core.capacity.budget import ConnectionBudget
from fleetd.core.capacity.claims import Claims
from fleetd.core.capacity.fleet_claims import (
    claim_limits,
    is_own,
    missing_to_min,
    own_claims,
    scheduler_claim,
    seen_elsewhere,
)
from fleetd.core.fleet.calls import Admit, Beat, Code, OwnScheduler, Refusal, Start
from fleetd.core.fleet.rules import SILENT_MS
from fleetd.core.fleet.state import Slot
from fleetd.core.fleet.view import FleetKnown
from fleetd.core.instances.host_memory import HostMemory
from fleetd.core.instances.host_tick import HostTick
from fleetd.core.instances.scheduler import belongs_here, schedulers_elsewhere, slot_reason
from fleetd.core.model import reasons
from fleetd.core.model.decision import Plan, Step
from fleetd.core.model.facts import Unknown, Value
from fleetd.core.model.identity import SCHEDULER, application_name
from fleetd.core.model.policy_tables import Policy
from fleetd.core.model.reasons.base import ConnectionSource
from fleetd.core.plan import FleetDecision
from fleetd.core.sharing.report import report_of, written

#: Names that one beat tells to have ended; the others follow with the next.
ENDED_MAX = 200
NO_SOURCES: Mapping[ConnectionSource, str] = {}


class Self(Value, frozen=True, kw_only=True):
    """Who beats: this Mastodon, this host's boot, and this process of fleetd."""

    fleet: str
    boot_id: str
    nonce: str
    fleetd: str = ""  # its version


def first_beat(policy: Policy, who: Self, known: FleetKnown) -> Beat:
    """The beat of a fleetd that has read nothing yet: it only says that it is there."""
    return Beat(
        fleet=who.fleet,
        host=policy.host,
        boot_id=who.boot_id,
        nonce=who.nonce,
        tick_ms=round(1000 * policy.pace.tick_seconds),
        generation=known.generation,
        clock_ms=known.clock_ms,
        members=known.members if known.gathers else (),
        fit=False,
        orders_version=-1 if known.orders_version is None else known.orders_version,
        members_version=-1 if known.members_version is None else known.members_version,
        epoch=-1 if known.planned is None else known.planned.epoch,
        has_memory=known.planned is not None and bool(known.planned.memory),
    )


def beat_of(
    tick: HostTick,
    fleet: FleetDecision,
    steps: list[Step],
    memory: HostMemory,
    who: Self,
    refused: Mapping[str, str] | None = None,
) -> Beat:
    """What this host tells after a tick, with what it started in it. `refused`: see report_of."""
    sources = memory.fleet.sources
    return structs.replace(
        first_beat(tick.policy, who, memory.fleet),
        fit=tick.sidekiq is not None and not isinstance(tick.snapshot.database, Unknown),
        own_scheduler=own_scheduler(tick, steps, memory),
        schedulers=schedulers_elsewhere(tick),
        claims=own_claims(tick, fleet.claims, steps, sources),
        missing=missing_to_min(tick, steps, sources),
        scheduler=scheduler_claim(tick, sources),
        record=written(report_of(tick, memory, who.fleetd, refused or {})),
        ended=ended(tick, fleet.claims),
    )


def ended(tick: HostTick, claims: Claims) -> tuple[tuple[str, str], ...]:
    """What the leader knows to have ended with hosts that are silent: no heartbeat and no connection is left.

    A connection that is still open keeps the whole claim of its name. What can't be read has not ended (law 3).
    """
    reply, sidekiq = tick.fleet.reply, tick.sidekiq
    if reply is None or reply.told is None or sidekiq is None or not sidekiq.processes_complete:
        return ()
    if any(isinstance(reading, Unknown) for reading in (tick.snapshot.database, tick.snapshot.replica)):
        return ()
    found: list[tuple[str, str]] = []
    for host, told in reply.told.items():
        if told.gone or told.silent_ms < SILENT_MS or host == tick.policy.host:
            continue
        found += [(host, name) for name in told.claims if name not in claims.connections]
        if not any(is_own(name, host) for name in claims.connections):
            found.append((host, ""))
    return tuple(found[:ENDED_MAX])


def own_scheduler(tick: HostTick, steps: list[Step], memory: HostMemory) -> OwnScheduler:
    """Our scheduler unit, as the ledger is told. One that is stopped to be started again is not gone."""
    view = tick.view(SCHEDULER)
    if view is None:
        return "unknown"
    if view.is_present or SCHEDULER in memory.starts or any(s.verb == "start" and s.key == SCHEDULER for s in steps):
        return "there"
    if memory.scheduler_handover:
        return "there"
    return "kept" if memory.people.pinned(SCHEDULER, reasons.PinKind.STOPPED, tick.now_seconds) else "gone"


def beyond_min(tick: HostTick, steps: list[Step]) -> list[Step]:
    """The starts for which leave is needed, in the order in which they are carried out."""
    counts = dict(tick.running)
    found = []
    for step in steps:
        if step.verb != "start":
            continue
        profile = tick.policy.profile(step.profile or "")
        if profile is None:
            found.append(step)
            continue
        counts[profile.name] += 1
        if counts[profile.name] > profile.min_instances:
            found.append(step)
    return found


def admit_of(
    tick: HostTick, claims: Claims, budget: ConnectionBudget, steps: list[Step], memory: HostMemory, who: Self
) -> Admit:
    """The call that asks for these starts. `steps`: all of the tick's; those within `min` are claimed with it."""
    asked = beyond_min(tick, steps)
    within = [s for s in steps if s.verb == "start" and s not in asked]
    scheduler = [s for s in asked if s.key == SCHEDULER]
    sources = memory.fleet.sources
    return Admit(
        host=tick.policy.host,
        nonce=who.nonce,
        generation=memory.fleet.generation,
        claims=own_claims(tick, claims, within, sources) or {},
        missing=missing_to_min(tick, within, sources),
        starts=tuple(_start(tick, step, list(sources.values())) for step in asked),
        limits=claim_limits(budget, sources, scheduler=len(scheduler) == len(asked)),
        seen=seen_elsewhere(tick, claims),
        here=belongs_here(tick),
        takeover_ms=round(1000 * tick.policy.scheduler.takeover_seconds),
    )


def _start(tick: HostTick, step: Step, sources: list[str]) -> Start:
    profile = tick.policy.profile(step.profile or "")
    size = tick.policy.scheduler.claim_connections if profile is None else profile.claim_connections
    return Start(
        name=application_name(step.key, tick.policy.host),
        claims=dict.fromkeys(sources, size),
        scheduler=step.key == SCHEDULER,
    )


def lowered(plan: Plan, tick: HostTick, steps: list[Step], refused: list[Step]) -> Plan:
    """The plan with those of the tick's starts that are not refused. A spare may be refused too."""
    counts = dict(plan.profiles.get(tick.policy.host, {}))
    started = Counter(step.profile for step in steps if step.verb == "start" and step not in refused)
    for name in {step.profile or "" for step in refused}:
        planned = counts.get(name)
        if planned is None:
            continue
        if planned.spare and planned.admitted_instances <= tick.running[name]:
            counts[name] = structs.replace(planned, spare=False)
        else:
            counts[name] = structs.replace(planned, admitted_instances=tick.running[name] + started[name])
    return structs.replace(plan, profiles={**plan.profiles, tick.policy.host: counts})


def nobody_asked(tick: HostTick, steps: list[Step], granted: list[Step]) -> bool:
    """Whether one of the steps needs leave that was not given. The reason of a start does not matter."""
    keys = {step.key for step in granted}
    return any(step.key not in keys for step in beyond_min(tick, steps))


def refusal_reason(
    refusal: Refusal, waits_for: tuple[str, ...], sources: Mapping[ConnectionSource, str] = NO_SOURCES
) -> reasons.ClampReason:
    """Why a start is not granted, as it is told. `sources`: of this host, with the identities that the ledger names."""
    if refusal.code == Code.CLAIMS:
        source = next((name for name, identity in sources.items() if identity == refusal.about), refusal.about)
        return reasons.NotGranted(source=source, over_connections=refusal.over)
    if refusal.code == Code.SLOT:
        return slot_reason(Slot(holder=refusal.about), refusal.wait_ms)
    if refusal.code == Code.GATHERING:
        return reasons.FleetGathers(waits_for=waits_for)
    if refusal.code == Code.FLEET:
        return reasons.LedgerUnusable(fault="fleet", fleet=refusal.about)
    if refusal.code == Code.FORMAT:
        return reasons.LedgerUnusable(fault="format")
    if refusal.code in (Code.NAME_TAKEN, Code.REPLACED):
        fault: reasons.LedgerFault = "name_taken" if refusal.code == Code.NAME_TAKEN else "replaced"
        return reasons.LedgerUnusable(fault=fault, host=refusal.about)
    if refusal.code == Code.NO_RIGHTS:
        return reasons.LedgerUnusable(fault="no_rights")
    if refusal.code == Code.FULL:
        return reasons.LedgerUnusable(fault="full")
    if refusal.code == Code.LATE:
        return reasons.LedgerUnusable(fault="late")
    if refusal.code == Code.GENERATION:
        return reasons.AskedTooLate()
    if refusal.code == Code.SENTINELS:
        return reasons.SentinelsDisagree(agree=refusal.about)
    return reasons.LedgerUnusable(fault="unanswered", why=refusal.about)
