"""This host as one of a fleet: tells the ledger what it has, hears what the others have, asks before it starts.

Laws 1 and 2: a grant counts GRANT_SECONDS from before it was asked for. A host that was frozen meanwhile asks again.
"""

from __future__ import annotations

from msgspec import structs

from fleetd.core.asking import Self, admit_of, beat_of, beyond_min, first_beat, lowered, nobody_asked, refusal_reason
from fleetd.core.capacity.fleet_claims import remember_identities
from fleetd.core.carry_out import carry_out
from fleetd.core.fleet.calls import BeatReply, Code, Refusal
from fleetd.core.fleet.orders import lost, timed
from fleetd.core.fleet.view import FleetKnown, FleetView
from fleetd.core.instances.host_memory import HostMemory
from fleetd.core.instances.host_tick import HostDecision, HostTick
from fleetd.core.instances.scheduler import SchedulerDecision
from fleetd.core.model.decision import Clamp, Plan, Step
from fleetd.core.model.facts import Snapshot, Unknown, Value
from fleetd.core.model.identity import SCHEDULER
from fleetd.core.model.policy_tables import Policy
from fleetd.core.model.reasons.base import ClampReason
from fleetd.core.plan import FleetDecision
from fleetd.core.sharing.leading import FleetShared
from fleetd.core.sharing.report import report_of
from fleetd.core.sharing.who_reads import jobs_of_others
from fleetd.daemon.fleet.leading import Leading
from fleetd.daemon.observe import Sources
from fleetd.errors import SourceUnavailableError
from fleetd.ports import Ledger

#: How long after it was asked for a start may be carried out.
GRANT_SECONDS = 10.0
#: How long a profile that was not granted counts as such for the leader.
REFUSED_SECONDS = 60.0
#: Orders that one tick tells to a ledger that has lost them.
TOLD_AGAIN_MAX = 4


class Granted(Value, frozen=True, kw_only=True, gc=True):
    """A host's decision within what the ledger granted."""

    host: HostDecision
    scheduler: SchedulerDecision
    plan: Plan
    until_seconds: float  # when the starts must have begun
    clamps: tuple[Clamp, ...] = ()

    def told(self, fleet: FleetDecision) -> FleetDecision:
        """The fleet's decision, with what was not granted."""
        if not self.clamps:
            return fleet
        cut = {clamp.profile for clamp in self.clamps}
        wanted = {name: why for name, why in fleet.wanted.items() if name not in cut}
        return structs.replace(fleet, plan=self.plan, clamps=(*fleet.clamps, *self.clamps), wanted=wanted)


class FleetPart:
    """Talks to the ledger for one host."""

    def __init__(self, sources: Sources, who: Self | None) -> None:
        """Without a ledger in `sources`, or a `who` to beat there, this host is the whole fleet."""
        self.sources = sources
        self.who = who
        self._leading = Leading()
        #: By profile that was not granted lately: the code, and until when it counts.
        self._refused: dict[str, tuple[str, float]] = {}
        self._lost: dict[str, str] = {}  # orders that the ledger lost
        self._last: tuple[HostTick, FleetDecision, list[Step]] | None = None

    def say(self, policy: Policy, memory: HostMemory) -> None:
        """What the reading that comes now tells the ledger: the tick before, and what was started in it."""
        ledger = self.sources.ledger
        if ledger is None or self.who is None:
            return
        if self._last is None:
            self._beat = first_beat(policy, self.who, memory.fleet)
        else:
            tick, fleet, steps = self._last
            tick = structs.replace(tick, policy=policy)
            self._beat = beat_of(tick, fleet, steps, memory, self.who, self._refused_lately())
        self._beat = structs.replace(self._beat, sent_ms=self._sent_ms())
        ledger.say(self._beat)

    def _refused_lately(self) -> dict[str, str]:
        """So that the leader does not offer the same host the same again in each tick."""
        now = self.sources.clock.now_seconds()
        self._refused = {name: (code, until) for name, (code, until) in self._refused.items() if until > now}
        return {name: code for name, (code, _) in self._refused.items()}

    def _sent_ms(self) -> int:
        """So that the ledger takes no call that was overtaken by a later one."""
        return round(1000 * self.sources.clock.now_seconds())

    def without_jobs_of(self) -> frozenset[str]:
        """The processes whose running jobs are left to the leader in the reading that comes now."""
        return frozenset() if self._last is None else jobs_of_others(self._last[0])

    def hear(self, known: FleetKnown, snapshot: Snapshot) -> FleetView:
        """What the ledger answered to it."""
        known = structs.replace(known, sources=remember_identities(known.sources, snapshot))
        if self.sources.ledger is None or self.who is None:
            return FleetView(known=known)
        heard = self.sources.ledger.heard()
        if isinstance(heard, BeatReply):
            told = heard.orders or {}  # again, by another host; or ended by a person since
            self._lost = {about: text for about, text in self._lost.items() if about not in told}
            self._lost |= lost(known, heard)
            before, known = known, known.heard(heard)
            known = structs.replace(known, orders={**self._lost, **known.orders})
            known = self._timed(known, before, snapshot)
            if isinstance(snapshot.sidekiq, Unknown):  # they came together: what is too old of one is of the other
                return FleetView(shared=True, refusal=_no_ledger(snapshot.sidekiq.why), known=known)
            return FleetView(shared=True, reply=heard, told=self._beat.own_scheduler, known=known)
        if heard is None:
            heard = _no_ledger(self.sources.ledger.fault() or "")
        # Without the right to write there, this host is a fleet of its own, and grows nothing beside another's workers.
        known = self._timed(known, known, snapshot)
        return FleetView(shared=heard.code != Code.NO_RIGHTS, refusal=heard, known=known)

    def _timed(self, known: FleetKnown, before: FleetKnown, snapshot: Snapshot) -> FleetKnown:
        boot_id = self.who.boot_id if self.who is not None else ""
        return timed(known, before, boot_id, snapshot.now_seconds)

    def did(self, tick: HostTick, fleet: FleetDecision, steps: list[Step]) -> None:
        """Remember what the next beat tells."""
        self._last = tick, fleet, steps

    async def planned(self, tick: HostTick, memory: HostMemory) -> tuple[FleetView, FleetShared | None]:
        """The view with the leader's plan; and what this host planned, if it leads."""
        ledger = self.sources.ledger
        if ledger is None or self.who is None:
            return tick.fleet, None
        await self._tell_again(ledger)
        own = report_of(tick, memory, self.who.fleetd, self._refused_lately())
        return await self._leading.planned(ledger, tick, own)

    async def _tell_again(self, ledger: Ledger) -> None:
        """People's orders outlive a ledger that was lost. A few a tick, as each may take its whole deadline (law 7)."""
        for about, text in list(self._lost.items())[:TOLD_AGAIN_MAX]:
            try:
                await ledger.order(about, text)
            except SourceUnavailableError:
                return
            del self._lost[about]

    async def granted(
        self, tick: HostTick, plan: FleetDecision, scheduler: SchedulerDecision, memory: HostMemory, *, asks: bool
    ) -> Granted:
        """The host's decision, without the starts that the ledger does not grant.

        `asks`: whether what is decided will be done; nothing is claimed, and no slot is taken, for what is only tried.
        """
        host = carry_out(tick, plan.plan, scheduler, memory)
        asked = beyond_min(tick, host.steps) if tick.fleet.shared and asks else []
        until = plan.plan.expires_at_seconds
        if not asked:
            return Granted(host=host, scheduler=scheduler, plan=plan.plan, until_seconds=until)
        until = min(until, self.sources.clock.now_seconds() + GRANT_SECONDS)
        count, refusal = await self._admitted(tick, plan, host.steps, memory)
        if refusal is None:
            return Granted(host=host, scheduler=scheduler, plan=plan.plan, until_seconds=until)
        reason = refusal_reason(refusal, _waits_for(tick), memory.fleet.sources)
        counts_until = self.sources.clock.now_seconds() + REFUSED_SECONDS
        self._refused |= {s.profile: (reason.code.value, counts_until) for s in asked[count:] if s.profile}
        granted, refused = asked[:count], asked[count:]
        if any(step.key == SCHEDULER for step in refused):
            scheduler = structs.replace(scheduler, start=False, state=reason)
        fewer = lowered(plan.plan, tick, host.steps, refused)
        host = carry_out(tick, fewer, scheduler, memory)
        if nobody_asked(tick, host.steps, granted):
            host = HostDecision(memory)  # it chose others: the next tick asks
        cut = dict.fromkeys(step.profile for step in refused if step.profile)
        clamps = tuple(_cut(reason, name, plan.plan, fewer, tick) for name in cut)
        return Granted(host=host, scheduler=scheduler, plan=fewer, until_seconds=until, clamps=clamps)

    async def _admitted(
        self, tick: HostTick, fleet: FleetDecision, steps: list[Step], memory: HostMemory
    ) -> tuple[int, Refusal | None]:
        hindrance, ledger = tick.fleet.hindrance, self.sources.ledger
        if hindrance is not None or ledger is None or self.who is None:
            return 0, hindrance
        call = admit_of(tick, fleet.claims, fleet.budget, steps, memory, self.who)
        try:
            answer = await ledger.admit(structs.replace(call, sent_ms=self._sent_ms()))
        except SourceUnavailableError as error:
            return 0, _no_ledger(str(error))
        return answer.granted, answer.refusal


def _no_ledger(why: str) -> Refusal:
    return Refusal(code=Code.NO_LEDGER, about=why)


def _waits_for(tick: HostTick) -> tuple[str, ...]:
    reply = tick.fleet.reply
    return tuple(host for host in (reply.gathering or ()) if host) if reply is not None else ()


def _cut(reason: ClampReason, profile: str, before: Plan, after: Plan, tick: HostTick) -> Clamp:
    counts = [plan.of(tick.policy.host, profile) for plan in (before, after)]
    was, now = (None if count is None else count.admitted_instances + count.spare for count in counts)
    return Clamp(reason=reason, profile=profile, before_instances=was, after_instances=now)
