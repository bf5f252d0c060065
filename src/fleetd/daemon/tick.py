"""One tick: observe, assess, plan, carry out, ask the ledger, act. The daemon and the tests run exactly this."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from fleetd.core.asking import Self
from fleetd.core.carry_out import carry_out
from fleetd.core.evidence.signs import of_settings, of_systemd, signs
from fleetd.core.fleet.view import FleetView
from fleetd.core.instances.assess import assess
from fleetd.core.instances.host_memory import HostMemory, Rollout
from fleetd.core.instances.host_tick import HostDecision, HostTick
from fleetd.core.instances.observing import only_ordered
from fleetd.core.instances.orders import Order, Situation
from fleetd.core.instances.scheduler import SchedulerDecision, decide_scheduler
from fleetd.core.model.decision import Clamp, InstanceState, Step, StepResult
from fleetd.core.model.facts import Known, Snapshot
from fleetd.core.model.identity import SCHEDULER_UNIT, TEMPLATE_UNIT
from fleetd.core.model.person import Person
from fleetd.core.model.policy_tables import Policy
from fleetd.core.model.reasons.base import Reason
from fleetd.core.model.reasons.counts import UnitUnfit
from fleetd.core.model.reasons.evidence import PoolerBetween
from fleetd.core.model.reasons.fleet import LedgerUnusable
from fleetd.core.model.reasons.replies import Reply
from fleetd.core.model.reasons.saving import MemoryUnsaved
from fleetd.core.plan import FleetDecision, FleetMemory, plan
from fleetd.core.sharing.leading import FleetShared
from fleetd.core.sharing.orders.heard import obey_heard
from fleetd.daemon import kept_memory
from fleetd.daemon.act import act
from fleetd.daemon.fleet.part import FleetPart
from fleetd.daemon.observe import Sources
from fleetd.errors import MemoryUnsavedError, OrderRefusedError
from fleetd.ports import MemoryStore


class TickResult(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that one tick read, decided and did.

    While fleetd only observes, `fleet`, `scheduler` and `wished` are what it would decide if it acted; `host` is what
    it did and remembers.
    """

    tick: HostTick
    fleet: FleetDecision
    scheduler: SchedulerDecision
    host: HostDecision
    shared: FleetShared | None = None  # what it planned for all hosts, if it leads
    wished: HostDecision | None = None  # None: it acts, so it wishes what it does
    results: tuple[StepResult, ...]
    noticed: tuple[Reason, ...]
    unsaved: MemoryUnsaved | None  # why the memory is not in its file; None: it is
    duration_seconds: float

    @property
    def snapshot(self) -> Snapshot:
        return self.tick.snapshot

    @property
    def signs(self) -> tuple[Reason, ...]:
        """What the readings show to be wrong."""
        missing, database = self.fleet.names_missing, self.snapshot.database
        return (
            *signs(self.tick.evidence, self.tick.sidekiq),
            *([missing] if missing is not None else []),
            *([PoolerBetween()] if isinstance(database, Known) and database.value.pooled else []),
            *of_systemd(self.tick.systemd),
            *([LedgerUnusable(fault="no_rights")] if self.tick.fleet.may_not_write else []),
            *of_settings(self.tick.policy, self.snapshot.pgbouncer),
        )

    @property
    def unfit(self) -> tuple[UnitUnfit, ...]:
        """The units that are left alone because they are somebody else's or changed; see core/model/unit_rules.py.

        Without one that is a hold, which says it, and without a scheduler that is not wanted here.
        """
        unwanted = {TEMPLATE_UNIT} | ({SCHEDULER_UNIT} if self.tick.policy.scheduler.place == "elsewhere" else set())
        found = self.host.memory.unfit_units.items()
        return tuple(UnitUnfit(unfit=unfit) for unit, unfit in found if unit not in unwanted)

    @property
    def clamps(self) -> tuple[Clamp, ...]:
        """The fleet's, the scheduler's, then the host's."""
        scheduler, host = self.scheduler.clamp, self.host if self.wished is None else self.wished
        return (*self.fleet.clamps, *([scheduler] if scheduler is not None else []), *host.clamps)

    @property
    def would(self) -> tuple[Step, ...]:
        """The steps that fleetd would take if it did not only observe."""
        done = {(step.verb, step.key) for step in self.host.steps}
        return tuple(s for s in (self.wished.steps if self.wished is not None else ()) if (s.verb, s.key) not in done)

    @property
    def would_replace(self) -> Rollout | None:
        """The rollout that fleetd would begin if it did not only observe."""
        wished = self.wished.memory.rollout_under_way if self.wished is not None else None
        return wished if self.host.memory.rollout_under_way is None else None


class _Wishes(NamedTuple):
    """What fleetd would decide if it did not only observe."""

    fleet: FleetDecision
    scheduler: SchedulerDecision
    host: HostDecision


#: While connections run short the next tick comes after this time: others may take one a second.
HURRIED_SECONDS = 1.0


class Ticker:
    """Runs ticks: has the ports, and the memory that one tick hands to the next."""

    def __init__(
        self,
        policy: Policy,
        sources: Sources,
        store: MemoryStore,
        who: Self | None = None,
    ) -> None:
        """`who`: beats in the ledger of `sources`; None: this host is the whole fleet."""
        self.policy = policy
        self.sources = sources
        self.store = store
        self.part = FleetPart(sources, who)
        self.host_memory, unread = kept_memory.read(store.load())
        self._unread = () if unread is None else (unread,)  # for the log, in the first tick
        self._last: TickResult | None = None
        self._saved: HostMemory | None = None
        self.planned = FleetMemory()
        self.unsaved: MemoryUnsaved | None = None  # as in TickResult, and after an order
        self.only_tries = False  # the next tick decides and shows what it would do, but does and remembers nothing

    async def tick(self) -> TickResult:
        """Run one tick. Raises nothing foreseeable: what can't be read or done is in the result."""
        clock = self.sources.clock
        begun = clock.now_seconds()
        self.part.say(self.policy, self.host_memory)
        snapshot = await self.sources.observe(self.policy.host, self.part.without_jobs_of())
        view = self.part.hear(self.host_memory.fleet, snapshot)
        assessed = assess(self.policy, snapshot, self.host_memory, view)
        view, shared = await self.part.planned(assessed.tick, assessed.memory)
        tick = msgspec.structs.replace(assessed.tick, fleet=view)
        memory = msgspec.structs.replace(assessed.memory, fleet=view.known)
        if shared is not None:
            memory = msgspec.structs.replace(memory, evidence=memory.evidence.believing(shared.memory.stalled))

        memory, heard = obey_heard(tick, memory, assessed.memory.fleet)

        kept, fleet = memory, plan(tick, self.planned)
        wishes = self._wishes(snapshot, self.planned, view)
        self.planned = fleet.memory if wishes is None else wishes.fleet.memory

        scheduler, memory = decide_scheduler(tick, memory, within_budget=fleet.within_budget)
        granted = await self.part.granted(tick, fleet, scheduler, memory, asks=not self.only_tries)
        host = granted.host
        if self.policy.observes:
            host = only_ordered(tick, memory, host)
        if self.only_tries:
            host.steps, host.memory = [], kept
        self._remember(host.memory)
        results = await act(host.steps, self.sources.units, granted.until_seconds, clock, self.sources.bugs)
        self.part.did(tick, fleet, host.steps)
        self._last = TickResult(
            tick=tick,
            fleet=granted.told(fleet) if wishes is None else wishes.fleet,
            scheduler=granted.scheduler if wishes is None else wishes.scheduler,
            host=host,
            shared=shared,
            wished=None if wishes is None else wishes.host,
            results=tuple(results),
            noticed=(*self._unread, *assessed.noticed, *heard),
            unsaved=self.unsaved,
            duration_seconds=clock.now_seconds() - begun,
        )
        self._unread = ()
        return self._last

    @property
    def last(self) -> TickResult | None:
        """The last completed tick; None: there was none yet."""
        return self._last

    def _wishes(self, snapshot: Snapshot, before: FleetMemory, view: FleetView) -> _Wishes | None:
        """What fleetd would decide if it acted; it is only shown. None: it acts."""
        if not self.policy.observes:
            return None
        acting = msgspec.structs.replace(self.policy, mode="act")
        assessed = assess(acting, snapshot, self.host_memory, view)
        fleet = plan(assessed.tick, before)
        scheduler, memory = decide_scheduler(assessed.tick, assessed.memory, within_budget=fleet.within_budget)
        return _Wishes(fleet=fleet, scheduler=scheduler, host=carry_out(assessed.tick, fleet.plan, scheduler, memory))

    def pause_seconds(self) -> float:
        """Seconds until the next tick: fewer while others' connections rise, or a drain gives connections back."""
        usual = self.policy.pace.tick_seconds
        if self._last is None:
            return usual
        fleet, leaving = self._last.fleet, {InstanceState.QUIETING, InstanceState.DRAINING}
        short = fleet.saturation.sign is not None or not fleet.within_budget
        drained = short and any(v.state in leaving for v in self._last.tick.active)
        hurried = drained or any(source.rising for source in fleet.budget.sources)
        return min(usual, HURRIED_SECONDS) if hurried else usual

    def order(self, order: Order, person: Person | None = None) -> Reply:
        """Obey a person between two ticks; returns the answer. Raises OrderRefusedError with the reason."""
        if self._last is None:
            raise OrderRefusedError("fleetd has just started: no tick is finished yet; try again in a few seconds")
        tick = msgspec.structs.replace(self._last.tick, policy=self.policy)
        now = self.sources.clock.now_seconds()
        memory, reply = order.obey(Situation(tick, self.host_memory, now, person))
        self._remember(memory)
        return reply

    def save_again(self) -> None:
        """Try once more to save what could not be saved. Every tick does that by itself."""
        if self.unsaved is not None:
            self._remember(self.host_memory)

    def _remember(self, memory: HostMemory) -> None:
        """Save before acting: an order given but not remembered would later look like a person's."""
        self.host_memory = memory
        kept = memory.worth_keeping()
        if kept == self._saved:
            return
        try:
            self.store.save(kept_memory.written(kept))
        except MemoryUnsavedError as error:  # a full disk must not keep the queues from being served
            self.unsaved = MemoryUnsaved(why=str(error), kept_in=error.kept_in)
            self._saved = None  # the new content may be in place all the same; and the next tick tries again
        else:
            self._saved, self.unsaved = kept, None
