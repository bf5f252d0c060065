"""The leader's part of a tick: from what every host told to a plan in the ledger, and every host's part of that plan.

A plan is advice: each start is still asked for (part.py), so two hosts that both take themselves for the leader
cost moves back and forth, and break no law.
"""

from __future__ import annotations

import msgspec

from fleetd.core.fleet.calls import BeatReply, Code, Commit
from fleetd.core.fleet.orders import in_maintenance, sets_of_fleet
from fleetd.core.fleet.state import Planned
from fleetd.core.fleet.view import FleetView, Share
from fleetd.core.instances.host_tick import HostTick
from fleetd.core.model.bounds import impossible_in
from fleetd.core.model.facts import Value
from fleetd.core.model.reasons.fleet import PlanFault
from fleetd.core.plan import PLAN_TICKS
from fleetd.core.sharing.fleet_plan import FleetPlan, clamps_of, read, written
from fleetd.core.sharing.leading import FleetShared, SharingMemory, leaving, plan_fleet
from fleetd.core.sharing.merged import there
from fleetd.core.sharing.report import HostReport
from fleetd.errors import SourceUnavailableError
from fleetd.ports import Ledger


class _Committed(Value, frozen=True, kw_only=True):
    """What this host wrote to the ledger last."""

    generation: int
    epoch: int
    plan: FleetPlan
    memory: SharingMemory


class Leading:
    """Plans for the fleet while this host leads, and reads the plan while another one does."""

    def __init__(self) -> None:
        self._committed: _Committed | None = None
        self._read: tuple[str, FleetPlan | None] = ("", None)  # the plan as written, and the same decoded

    async def planned(self, ledger: Ledger, tick: HostTick, own: HostReport) -> tuple[FleetView, FleetShared | None]:
        """The view with this host's part of the plan; and the plan that was made, if this host leads.

        `own`: this host's report.
        """
        view, reply = tick.fleet, tick.fleet.settled
        if reply is None or view.alone:
            return view, None
        if reply.token is None:
            return _with_plan(tick, self._others_plan(tick, reply)), None
        shared = self._decided(tick, own, reply)
        planned = await self._commit(ledger, shared, reply, reply.token)
        if not isinstance(planned, Planned):
            return msgspec.structs.replace(view, plan_fault=planned), None
        known = msgspec.structs.replace(view.known, planned=planned)
        return msgspec.structs.replace(_with_plan(tick, shared.plan), known=known), shared

    def _others_plan(self, tick: HostTick, reply: BeatReply) -> FleetPlan | None:
        planned = tick.fleet.known.planned
        age_seconds = 0.0 if planned is None else (reply.clock_ms - planned.committed_ms) / 1000
        if planned is None or age_seconds > PLAN_TICKS * tick.policy.pace.tick_seconds:
            return None
        if planned.plan != self._read[0]:
            self._read = planned.plan, read(planned.plan)
        return self._read[1]

    def _decided(self, tick: HostTick, own: HostReport, reply: BeatReply) -> FleetShared:
        previous, remembered = self._before(tick, reply)
        forced = {host: heard.order.force for host, heard in in_maintenance(tick.fleet, tick.now_seconds).items()}
        maintenance, own, told = leaving(forced, own, there(reply.told or {}))
        return plan_fleet(
            tick,
            own,
            told,
            remembered,
            previous,
            clock_seconds=reply.clock_ms / 1000,
            maintenance=maintenance,
            sets={name: heard.order for name, heard in sets_of_fleet(tick.fleet, tick.now_seconds).items()},
        )

    def _before(self, tick: HostTick, reply: BeatReply) -> tuple[FleetPlan | None, SharingMemory]:
        """The last plan and its memory: our own, or what the ledger has of whoever led before."""
        own, found = self._committed, tick.fleet.known.planned
        if own is not None and (own.generation, own.epoch) == (reply.generation, reply.epoch):
            return own.plan, own.memory
        if found is None or found.epoch != reply.epoch:
            return None, SharingMemory()
        return read(found.plan), _memory(found.memory)

    async def _commit(self, ledger: Ledger, shared: FleetShared, reply: BeatReply, token: int) -> Planned | PlanFault:
        call = Commit(
            host=shared.plan.leader,
            token=token,
            generation=reply.generation,
            epoch=reply.epoch + 1,
            plan=written(shared.plan),
            memory=msgspec.json.encode(shared.memory).decode(),
        )
        try:
            refusal = await ledger.commit(call)
        except SourceUnavailableError:
            return "unanswered"
        if refusal is not None:
            return "too_large" if refusal.code == Code.TOO_LARGE else "overtaken"
        self._committed = _Committed(
            generation=reply.generation, epoch=call.epoch, plan=shared.plan, memory=shared.memory
        )
        return Planned(epoch=call.epoch, committed_ms=reply.clock_ms, plan=call.plan, memory=call.memory)


def _with_plan(tick: HostTick, plan: FleetPlan | None) -> FleetView:
    """The view with what this host is to have."""
    view, host = tick.fleet, tick.policy.host
    if plan is None:
        return view
    clamps = clamps_of(plan, host)
    shares = {
        name: Share(
            needed_instances=plan.needed_instances(host, name) or 0,
            desired_instances=desired,
            clamps=tuple(c for c in clamps if c.profile == name),
            need=plan.need(host, name),
        )
        for name, desired in plan.desired_instances(host).items()
    }
    return msgspec.structs.replace(
        view,
        shares=shares,
        queues=plan.queues,
        scheduler_host=plan.scheduler_host,
        rolls_host=plan.rolls_host,
        differences=plan.differences,
        restart_stopped=plan.restart_stopped,
    )


def _memory(text: str) -> SharingMemory:
    """What the leader before remembered; a fresh memory if nobody did, or no fleetd wrote it."""
    try:
        memory = msgspec.json.decode(text, type=SharingMemory)
        return SharingMemory() if impossible_in(msgspec.json.decode(text)) else memory
    except (msgspec.MsgspecError, UnicodeError, RecursionError, ValueError):
        return SharingMemory()
