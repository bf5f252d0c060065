"""Law 1: exactly one process in the whole fleet serves the `scheduler` queue.

With two, `every` jobs are pushed twice and nothing deduplicates them. With none, nothing is enqueued and there is no
catch-up. Two are harder to undo than none for a few minutes, so in doubt none is started.

Over several hosts the ledger's slot says whose unit may run (core/fleet/slot.py): the holder's stays, any other of ours
ends, and a start is granted by the ledger right before it.

A scheduler is live if Redis has a heartbeat that lists the queue, or if systemd says that our own unit runs. A stock
unit that restarts looks absent while Rails boots. So taking over from another host takes `takeover_seconds` of absence
in healthy readings. An unknown reading restarts that count, because after an outage of Redis every heartbeat looks
absent until its next beat. Our unit asks once more before it starts (app/may_schedule.py). If it refuses, it saw one
that we did not see, and that counts as any other sighting.
"""

from __future__ import annotations

from msgspec import structs

from fleetd.core.fleet.calls import Code
from fleetd.core.fleet.orders import in_maintenance
from fleetd.core.fleet.slot import wait_ms
from fleetd.core.fleet.state import Slot
from fleetd.core.instances.drain import let_go
from fleetd.core.instances.host_memory import AbsenceMemory, HostMemory
from fleetd.core.instances.host_tick import HostDecision, HostTick
from fleetd.core.instances.lifecycle import InstanceView
from fleetd.core.instances.start import masking_units, start_failed
from fleetd.core.model import reasons
from fleetd.core.model.decision import Clamp, InstanceState
from fleetd.core.model.facts import ProcessFacts, SidekiqFacts, Value
from fleetd.core.model.heartbeats import heartbeats_by_key, is_foreign, own_key, present_heartbeat
from fleetd.core.model.identity import SCHEDULER, parse_tag, unit_of
from fleetd.core.model.policy_tables import SCHEDULER_QUEUE, Policy

#: Even a host with place = "here" waits two beats: after an outage live heartbeats come back one by one.
SETTLE_SECONDS = 20.0
#: A heartbeat lives 60 s after its last beat (Sidekiq's Launcher). After this time none of an ended process is left.
GHOST_SECONDS = 75.0
#: Hosts with a scheduler that the ledger is told of.
_HOSTS_MAX = 8
#: The heartbeat of a live process is never older.
BEATS_SECONDS = 60.0


_COMING = (reasons.SchedulerStarted, reasons.SchedulerAbsent, reasons.SchedulerRefused)
_WAITS = (
    reasons.SchedulerAbsent,
    reasons.SchedulerRefused,
    reasons.SchedulerOfHost,
    reasons.SchedulerFree,
    reasons.SchedulerPlaced,
)


class SchedulerDecision(Value, frozen=True, kw_only=True):
    """What to do with this host's scheduler unit. `state`: the situation, with its reason."""

    state: reasons.Reason
    start: bool = False
    surplus: reasons.SchedulerSurplus | reasons.SchedulerMoves | None = None  # why ours is to be stopped
    live_processes: int | None = None  # None: unknown
    hosts: tuple[str, ...] = ()

    @property
    def clamp(self) -> Clamp | None:
        """What keeps ours from being started, or stops it; None: nothing."""
        state = self.state
        return Clamp(reason=state) if isinstance(state, reasons.ClampReason | reasons.SchedulerHeld) else None


def decide_scheduler(
    tick: HostTick, memory: HostMemory, *, within_budget: bool
) -> tuple[SchedulerDecision, HostMemory]:
    """Start ours, stop ours, or leave it; and the memory with this reading.

    `within_budget`: whether all claims fit the budget, including the one reserved for ours (law 2).
    """
    own, process = tick.view(SCHEDULER), _own_process(tick)
    absence = remember_absence(tick, memory.scheduler, own, process)
    decision = _decide(tick, own, process, absence, memory, within_budget=within_budget)
    decision = _by_the_slot(tick, own, memory, decision)
    unfit = memory.unfit(SCHEDULER)
    if unfit is not None and (decision.start or decision.surplus is not None):
        left_alone = reasons.SchedulerUnitUnfit(file=unfit.file)
        decision = structs.replace(decision, state=left_alone, start=False, surplus=None)
    coming = isinstance(decision.state, _WAITS)  # it would be started a little later
    hindrance = _hindrance(tick, memory) if decision.start or coming else None
    if hindrance is not None and (decision.start or isinstance(hindrance, reasons.SchedulerHeld)):
        decision = structs.replace(decision, state=_left_to_another(tick, hindrance) or hindrance, start=False)
    back = own is not None and own.serves and SCHEDULER not in memory.drains
    taken = isinstance(decision.state, reasons.SchedulerElsewhere)
    leaves = tick.constraints.maintenance is not None and _other_named(tick) is not None
    handover = memory.scheduler_handover and not (back or taken or leaves)
    return decision, structs.replace(memory, scheduler=absence, scheduler_handover=handover)


def _own_process(tick: HostTick) -> ProcessFacts | None:
    if tick.sidekiq is None or tick.systemd is None:
        return None
    beats = heartbeats_by_key(tick.sidekiq.processes, tick.policy.host)
    return present_heartbeat(beats.get(SCHEDULER, []), tick.systemd.units.get(SCHEDULER))


def live_elsewhere(
    policy: Policy, sidekiq: SidekiqFacts, own: InstanceView, own_process: ProcessFacts | None
) -> tuple[ProcessFacts, ...]:
    """Live processes on the queue that are not this host's scheduler unit.

    A heartbeat outlives its process by up to 60 s. So while our unit runs, another heartbeat with our own tag is taken
    for that of an earlier process. Once our unit has run for longer than that can last, it is a rival's: a cloned host
    has our name too. While our unit does not run, every heartbeat counts as live, because waiting a minute costs less
    than a second scheduler.
    """
    found = []
    for process in sidekiq.processes:
        if SCHEDULER_QUEUE not in process.queues or process.quiet:  # a quiet one schedules nothing any more
            continue
        if own.is_present and own_key(process, policy.host) == SCHEDULER:
            mine = own_process is None or process.identity == own_process.identity
            if mine or own.state_age_seconds <= GHOST_SECONDS:
                continue
        found.append(process)
    return tuple(found)


def remember_absence(
    tick: HostTick, memory: AbsenceMemory, own: InstanceView | None, own_process: ProcessFacts | None
) -> AbsenceMemory:
    """Count how long none was live.

    Only complete readings of the same Redis add to it, and only the time for which they prove that others could write:
    a scheduler that can't write its heartbeat looks absent as well.
    """
    sidekiq, now = tick.sidekiq, tick.now_seconds
    if sidekiq is None or own is None or not sidekiq.processes_complete:
        return AbsenceMemory(redis_run_id=memory.redis_run_id)
    run_id = sidekiq.redis_run_id
    quiet = tuple(p.identity for p in sidekiq.processes if _is_drained_elsewhere(p, tick.policy.host))
    if own.is_present or live_elsewhere(tick.policy, sidekiq, own, own_process):
        return AbsenceMemory(redis_run_id=run_id, quiet=quiet)  # the first reading without one begins the count
    if _was_refused_since(memory.at_seconds, own, now):  # our own unit saw one
        return AbsenceMemory(at_seconds=now, redis_run_id=run_id, quiet=quiet)
    if set(memory.quiet) - set(quiet):  # its drain is over, so its own fleetd is about to start it again
        return AbsenceMemory(at_seconds=now, redis_run_id=run_id, quiet=quiet)
    since = memory.at_seconds if run_id == memory.redis_run_id else None
    gap = tick.policy.pace.punctual(since, now)
    absent = memory.absent_seconds + min(tick.evidence.proved_seconds, gap) if gap is not None else 0.0
    return AbsenceMemory(at_seconds=now, absent_seconds=absent, redis_run_id=run_id, quiet=quiet)


def _was_refused_since(at_seconds: float | None, own: InstanceView, now_seconds: float) -> bool:
    """Whether our unit has refused to start since then; so that it is not tried again each tick."""
    age = own.unit.skipped_age_seconds if own.unit is not None else None
    return age is not None and (at_seconds is None or now_seconds - age >= at_seconds)


def _is_drained_elsewhere(process: ProcessFacts, host: str) -> bool:
    """Whether it is another host's scheduler unit, quiet: its fleetd drains it."""
    ours = own_key(process, host) == SCHEDULER or is_foreign(process)
    return process.quiet and SCHEDULER_QUEUE in process.queues and not ours


def _decide(
    tick: HostTick,
    own: InstanceView | None,
    own_process: ProcessFacts | None,
    absence: AbsenceMemory,
    memory: HostMemory,
    *,
    within_budget: bool,
) -> SchedulerDecision:
    if own is None:
        return SchedulerDecision(state=reasons.SchedulerUnreadable(what="systemd"))
    if tick.sidekiq is None:
        return SchedulerDecision(state=reasons.SchedulerUnreadable(what="redis"))
    policy = tick.policy
    others = live_elsewhere(policy, tick.sidekiq, own, own_process)
    quiet = own_process is not None and own_process.quiet
    runs = own.is_present and not quiet
    hosts = tuple(sorted({p.hostname for p in others} | ({policy.host} if runs else set())))
    live = len(others) + (1 if runs else 0)
    slot = tick.fleet.slot
    rivals = others if slot is None or slot.holder == "" else tuple(filter(is_foreign, others))
    if _ours_is_surplus(own, rivals, own_process, policy.pace.tick_seconds):
        rival = min(rivals, key=lambda p: p.beat_age_seconds)
        surplus = reasons.SchedulerSurplus(host=rival.hostname, process=_serving(tick, rival))
        return SchedulerDecision(state=surplus, surplus=surplus, live_processes=live, hosts=hosts)
    if own.is_present and quiet and not others:
        kept = memory.people.pinned(SCHEDULER, reasons.PinKind.STOPPED, tick.now_seconds)
        again = memory.scheduler_handover and not kept
        said = reasons.SchedulerBeingReplaced if again else reasons.SchedulerQuiet
        return SchedulerDecision(state=said(host=policy.host), live_processes=0)
    if own.is_present or others:
        elsewhere = reasons.SchedulerElsewhere(processes=tuple(_serving(tick, process) for process in others))
        state: reasons.Reason = elsewhere
        if runs:
            ours = policy.scheduler.place != "elsewhere" or own.pinned == reasons.PinKind.RUN
            state = reasons.SchedulerRuns(hosts=hosts) if ours else reasons.SchedulerStillHere(hosts=hosts)
        return SchedulerDecision(state=state, live_processes=live, hosts=hosts)
    if not tick.sidekiq.processes_complete:
        return SchedulerDecision(state=reasons.SchedulerUnreadable(what="heartbeat"))
    if policy.scheduler.place == "elsewhere":
        return SchedulerDecision(state=reasons.SchedulerNeverHere(), live_processes=0)
    needed = SETTLE_SECONDS  # if it belongs here, or we stopped ours to start it again, no other host is waited for
    if not belongs_here(tick) and not memory.scheduler_handover:
        needed = max(SETTLE_SECONDS, policy.scheduler.takeover_seconds)
    if absence.absent_seconds < needed:
        return _too_early(own, absence.absent_seconds, needed)
    if not within_budget:
        return SchedulerDecision(state=reasons.SchedulerOverBudget(), live_processes=0)
    return SchedulerDecision(state=reasons.SchedulerStarted(host=policy.host), start=True, live_processes=0)


def _too_early(own: InstanceView, absent_seconds: float, needed_seconds: float) -> SchedulerDecision:
    refused = own.unit.skipped_age_seconds if own.unit is not None else None
    if refused is not None:  # it saw one that we don't see
        left = needed_seconds - absent_seconds
        return SchedulerDecision(state=reasons.SchedulerRefused(ago_seconds=refused, left_seconds=left))
    absent = reasons.SchedulerAbsent(absent_seconds=absent_seconds, needed_seconds=needed_seconds)
    return SchedulerDecision(state=absent, live_processes=0)


def _by_the_slot(
    tick: HostTick, own: InstanceView | None, memory: HostMemory, decision: SchedulerDecision
) -> SchedulerDecision:
    """The decision within the fleet: ours ends if another host's holds the slot, and starts only if it may."""
    fleet, policy = tick.fleet, tick.policy
    slot, reply = fleet.slot, fleet.settled
    if not fleet.shared or own is None or decision.surplus is not None:
        return decision
    moves = _moves(tick, own)
    if moves is not None:
        return structs.replace(decision, state=moves, surplus=moves)
    twin = _twin(tick, own)
    if twin is not None:
        surplus = reasons.SchedulerSurplus(host=twin.hostname, process=_serving(tick, twin))
        return structs.replace(decision, state=surplus, surplus=surplus)
    if own.is_present:
        # Told to be here, a unit would have taken a slot that was free.
        if _asks(own) or slot is None or fleet.told != "there" or slot.holder in ("", policy.host):
            return decision
        surplus = reasons.SchedulerSurplus(host=slot.holder)
        return structs.replace(decision, state=surplus, surplus=surplus)
    if slot is None or reply is None or not isinstance(decision.state, _COMING):
        return decision  # what can't be asked for is not started; see core/asking.py
    wait = wait_ms(
        slot,
        policy.host,
        reply.clock_ms,
        here=belongs_here(tick),
        takeover_ms=round(1000 * policy.scheduler.takeover_seconds),
    )
    # The slot of one that was stopped to be started again stays here, so nobody else could start one.
    again = memory.scheduler_handover and slot.holder == policy.host and tick.constraints.maintenance is None
    if wait == 0 and (again or fleet.scheduler_host in (None, policy.host)):
        return decision
    if wait == 0:
        placed = reasons.SchedulerPlaced(host=fleet.scheduler_host or "", leader=fleet.leader)
        return structs.replace(decision, state=placed, start=False)
    return structs.replace(decision, state=slot_reason(slot, wait), start=False)


def _twin(tick: HostTick, own: InstanceView) -> ProcessFacts | None:
    """The scheduler of another machine with this host's name, which the ledger knows under it; None: there is none.

    It has our tag as well. One that has beaten since our unit's last change of state is no earlier process of ours.
    """
    refusal = tick.fleet.refusal
    if refusal is None or refusal.code not in (Code.NAME_TAKEN, Code.REPLACED) or tick.sidekiq is None:
        return None
    if not own.is_present or _asks(own):
        return None
    mine = _own_process(tick)
    beats = heartbeats_by_key(tick.sidekiq.processes, tick.policy.host).get(SCHEDULER, [])
    later = (p for p in beats if p is not mine and not p.quiet and p.beat_age_seconds < own.state_age_seconds)
    return min(later, key=lambda p: p.beat_age_seconds, default=None)


def belongs_here(tick: HostTick) -> bool:
    """Whether it is started here first: so it is configured, or its host is in maintenance and the leader names us."""
    slot, own = tick.fleet.slot, tick.policy.host
    if tick.policy.scheduler.place == "here":
        return True
    left = slot is not None and slot.unit == "gone" and slot.holder != own
    named = left and tick.fleet.scheduler_host == own
    return named and slot is not None and slot.holder in in_maintenance(tick.fleet, tick.now_seconds)


def _other_named(tick: HostTick) -> str | None:
    """The other host that the leader names for it."""
    named = tick.fleet.scheduler_host
    return None if named == tick.policy.host else named


def _left_to_another(
    tick: HostTick, hindrance: reasons.ClampReason | reasons.SchedulerHeld
) -> reasons.SchedulerPlaced | None:
    """Of a host in maintenance: which other host starts it. To end the maintenance for it would be wrong."""
    other = _other_named(tick)
    held = isinstance(hindrance, reasons.SchedulerHeld) and isinstance(hindrance.hold, reasons.UnderMaintenance)
    return reasons.SchedulerPlaced(host=other, leader=tick.fleet.leader) if held and other is not None else None


def _moves(tick: HostTick, own: InstanceView) -> reasons.SchedulerMoves | None:
    """Why ours is stopped although it holds the slot: in maintenance it goes last, if another host may start one."""
    slot, other = tick.fleet.slot, _other_named(tick)
    leaves = tick.constraints.maintenance is not None and tick.held is None and not tick.policy.observes
    if not leaves or other is None or slot is None or slot.holder != tick.policy.host:
        return None
    if not own.is_present or own.pinned is not None or _asks(own):
        return None
    left = [v for v in tick.active if v.profile is not None and v.is_present and v.pinned != reasons.PinKind.RUN]
    return None if left else reasons.SchedulerMoves(host=other)


def slot_reason(slot: Slot, wait_milliseconds: int) -> reasons.SchedulerOfHost | reasons.SchedulerFree:
    """Why ours waits for the slot."""
    wait = wait_milliseconds / 1000
    if not slot.host:
        return reasons.SchedulerFree(wait_seconds=wait)
    return reasons.SchedulerOfHost(host=slot.host, kept_stopped=slot.unit == "kept", wait_seconds=wait)


def schedulers_elsewhere(tick: HostTick) -> tuple[str, ...] | None:
    """Hosts with a live scheduler besides our own unit, as the ledger is told; "?": of no fleetd. None: unknown."""
    own, sidekiq = tick.view(SCHEDULER), tick.sidekiq
    if own is None or sidekiq is None or not sidekiq.processes_complete:
        return None
    tags = [parse_tag(p.tag) for p in live_elsewhere(tick.policy, sidekiq, own, _own_process(tick))]
    return tuple(sorted({"?" if tag is None else tag.host for tag in tags})[:_HOSTS_MAX])


def _serving(tick: HostTick, process: ProcessFacts) -> reasons.ServingProcess:
    """What a person needs to find this process: its unit by its tag, or on this host by its pid."""
    tag, host = parse_tag(process.tag), tick.policy.host
    unit = unit_of(tag.key) if tag is not None else ""
    if not unit and tick.machine is not None and tick.sidekiq is not None:
        tags = ((p.hostname, parse_tag(p.tag)) for p in tick.sidekiq.processes)
        if process.hostname in {host} | {name for name, t in tags if t is not None and t.host == host}:
            unit = tick.machine.sidekiq_units.get(process.pid, "")
    return reasons.ServingProcess(host=process.hostname, pid=process.pid, unit=unit)


def _ours_is_surplus(
    own: InstanceView, others: tuple[ProcessFacts, ...], own_process: ProcessFacts | None, tick_seconds: float
) -> bool:
    """Whether ours yields: to a process that we can't stop (a stock unit), or to an older one of another host.

    Not while its unit asks that itself.

    Only to one that is known to beat: a heartbeat without an expiry counts as live until it is known to be a ghost, but
    must not end the real scheduler meanwhile.
    """
    if not own.is_present or _asks(own):
        return False
    for other in others:
        # A clock that is off makes a beat look older by up to a tick.
        if other.beat_age_seconds >= BEATS_SECONDS + tick_seconds:
            continue
        if is_foreign(other) or own_process is None:
            return True
        # Both hosts read the same heartbeats, so both find the same older one. If equally old, the identity decides.
        if _age_as_written(other) > _age_as_written(own_process):
            return True
    return False


def _asks(own: InstanceView) -> bool:
    """Whether the unit itself is asking now; if it may not start, it says so to whoever started it."""
    return own.unit is not None and own.unit.sub_state == "condition"


def _age_as_written(process: ProcessFacts) -> tuple[float, str]:
    """By the process's own clock: what each host takes that clock to be off by differs between the hosts."""
    return process.started_age_seconds - process.clock_ahead_seconds, process.identity


def _hindrance(tick: HostTick, memory: HostMemory) -> reasons.ClampReason | reasons.SchedulerHeld | None:
    """What keeps ours from being started although none is live: a hold, a person, or what failed before."""
    # A scheduler that we stopped to start it again is started even in a pause, just as a drain under way goes on, and
    # although units were installed, which are whole. The instances' unit says nothing of the scheduler's.
    found = (*tick.constraints.holds, *((tick.constraints.maintenance,) if tick.constraints.maintenance else ()))
    holds = [h for h in found if not isinstance(h.reason, reasons.UnitUnfit)]
    under_way = memory.scheduler_handover and all(
        isinstance(h.reason, reasons.Paused | reasons.UnitsUpgraded | reasons.UnderMaintenance) for h in holds
    )
    pin = memory.people.pins.get(SCHEDULER)
    if holds and not under_way:
        return reasons.SchedulerHeld(hold=holds[0].reason)
    if pin is not None and memory.people.pinned(SCHEDULER, reasons.PinKind.STOPPED, tick.now_seconds):
        left = pin.until_seconds - tick.now_seconds
        return reasons.SchedulerKeptStopped(by_hand=pin.by == "hand", left_seconds=left, person=pin.person)
    if masked := masking_units(tick.machine, (SCHEDULER,)):
        return reasons.UnitsMasked(keys=(SCHEDULER,), units=masked)
    if tick.machine is not None and SCHEDULER not in tick.machine.rendered:
        return reasons.NotRendered(keys=(SCHEDULER,))
    if not memory.units.may_retry(SCHEDULER, tick.now_seconds):
        return start_failed((SCHEDULER,), memory, tick.now_seconds)
    return None


def end_or_start_scheduler(tick: HostTick, scheduler: SchedulerDecision, decision: HostDecision) -> None:
    """Stop our scheduler if it is surplus, or start it."""
    own, now = tick.view(SCHEDULER), tick.now_seconds
    if own is None:
        return
    observes = tick.policy.observes
    ends = SCHEDULER in decision.memory.drains or own.state == InstanceState.STOPPING
    if scheduler.surplus is not None and not ends and not observes:
        let_go(own, scheduler.surplus, now, decision)
    if scheduler.start and (decision.memory.scheduler_handover or not observes):
        decision.order("start", own, scheduler.state)
        decision.memory = decision.memory.with_start(SCHEDULER, now)
