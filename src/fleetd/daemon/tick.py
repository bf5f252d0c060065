"""One tick: observe, plan, commit, carry out, act, tell. The daemon and the tests run exactly this."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from fleetd.core.carry_out import carry_out
from fleetd.core.instances.assess import HostLook, look
from fleetd.core.instances.constraints import HostConstraints
from fleetd.core.instances.host_decision import HostDecision
from fleetd.core.instances.host_memory import HostMemory
from fleetd.core.instances.lifecycle import InstanceView
from fleetd.core.instances.orders import obey
from fleetd.core.instances.scheduler import SchedulerDecision, decide_scheduler, remember_scheduler
from fleetd.core.model.commands import Command
from fleetd.core.model.decision import ClampCode, InstanceState, StepResult
from fleetd.core.model.facts import Known, ProcessFacts, Snapshot
from fleetd.core.model.heartbeats import heartbeat_of
from fleetd.core.model.policy import Policy
from fleetd.core.plan import FleetDecision, FleetMemory, plan
from fleetd.daemon.act import act
from fleetd.daemon.observe import Sources
from fleetd.errors import FleetdError, OrderRefusedError
from fleetd.ports import Ledger, LedgerView, MemoryStore

_S = TypeVar("_S", HostMemory, FleetMemory)


class TickResult(msgspec.Struct, frozen=True, kw_only=True):
    """Everything of one tick, for telling."""

    snapshot: Snapshot
    instances: tuple[InstanceView, ...] | None
    terms: HostConstraints
    fleet: FleetDecision
    scheduler: SchedulerDecision
    host: HostDecision
    results: tuple[StepResult, ...]
    noticed: tuple[str, ...]
    duration_seconds: float


#: While connections run short the next look comes sooner: others may take one a second.
HURRIED_SECONDS = 1.0


class Ticker:
    """The ports and the memory that one tick hands to the next."""

    def __init__(self, policy: Policy, sources: Sources, ledger: Ledger, store: MemoryStore) -> None:
        self.policy = policy
        self.sources = sources
        self.ledger = ledger
        self.store = store
        self.host_memory = _decoded(store.load(), HostMemory)
        self._told: TickResult | None = None
        self._saved: HostMemory | None = None
        self._committed = (b"", FleetMemory())  # as written to the ledger, and what that says
        self._trouble = ""

    async def tick(self) -> TickResult:
        """Run one tick. Raises nothing foreseeable: what can't be read or done is in the result."""
        clock = self.sources.clock
        begun = clock.now_seconds()
        snapshot = await self.sources.observe(self.policy.host, check_writes=self._needs_write_probe())
        now = snapshot.now_seconds
        seen: HostLook = look(self.policy, snapshot, self.host_memory)
        instances, memory, noticed = seen.instances, seen.memory, list(seen.noticed)

        view = await self.ledger.beat(now)
        fleet = plan(self.policy, snapshot, instances, self._fleet_memory(view), seen.terms)
        current = view.plan
        if view.token is not None:
            written = msgspec.json.encode(fleet.memory)
            if await self.ledger.commit(fleet.plan, written, view.token):
                current = fleet.plan
                self._committed = (written, fleet.memory)
        if current is not None and current.expires_at_seconds <= now:
            current = None

        scheduler, memory = self._scheduler(snapshot, instances, memory, within_budget=fleet.within_budget)
        host = carry_out(self.policy, snapshot, instances, current, scheduler, memory, seen.terms)
        noticed += self._remember(host.memory)
        results = await act(host.steps, self.sources.units, current, clock, now)
        self._told = TickResult(
            snapshot=snapshot,
            instances=instances,
            terms=seen.terms,
            fleet=fleet,
            scheduler=scheduler,
            host=host,
            results=tuple(results),
            noticed=tuple(noticed),
            duration_seconds=clock.now_seconds() - begun,
        )
        return self._told

    def pause_seconds(self) -> float:
        """Until the next tick: less while others' connections rise, or one is drained because they did."""
        usual = self.policy.pace.tick_seconds
        if self._told is None:
            return usual
        fleet, leaving = self._told.fleet, {InstanceState.QUIETING, InstanceState.DRAINING}
        short = fleet.saturation.waits or not fleet.within_budget
        drained = short and any(v.state in leaving for v in self._told.instances or ())
        hurried = drained or any(source.rising for source in fleet.budget.sources)
        return min(usual, HURRIED_SECONDS) if hurried else usual

    def _needs_write_probe(self) -> bool:
        """Whether this tick may need to know that Redis takes writes (law 4)."""
        memory = self.host_memory
        return bool(memory.drains) or any(w.silent_seconds > 0.0 for w in memory.watches.values())

    def order(self, command: Command) -> str:
        """Obey a person between two ticks; the sentence to tell them. Raises OrderRefusedError with the reason."""
        if self._told is None:
            raise OrderRefusedError(
                "fleetd has just started: no tick is finished yet; try again in a few seconds"
            )
        memory, sentence = obey(
            self.policy,
            self._told.instances,
            self.host_memory,
            command,
            self.sources.clock.now_seconds(),
        )
        self._remember(memory)
        return sentence

    def _scheduler(
        self,
        snapshot: Snapshot,
        instances: tuple[InstanceView, ...] | None,
        memory: HostMemory,
        *,
        within_budget: bool,
    ) -> tuple[SchedulerDecision, HostMemory]:
        own = next((v for v in instances or () if v.number == "scheduler"), None)
        process, now = _own_scheduler_process(self.policy, snapshot), snapshot.now_seconds
        absence = remember_scheduler(self.policy, memory.scheduler, snapshot.sidekiq, own, process, now)
        decision = decide_scheduler(
            self.policy,
            absence,
            snapshot.sidekiq,
            own,
            process,
            within_budget=within_budget,
            handover=memory.scheduler_handover,
        )
        back = own is not None and own.serves and "scheduler" not in memory.drains
        taken = decision.clamp is not None and decision.clamp.code == ClampCode.SCHEDULER_LIVE
        handover = memory.scheduler_handover and not (back or taken)
        return decision, msgspec.structs.replace(memory, scheduler=absence, scheduler_handover=handover)

    def _fleet_memory(self, view: LedgerView) -> FleetMemory:
        """As committed; when it can't be understood a fresh one, whose epoch still grows."""
        written, memory = self._committed
        if view.fleet_memory != written:  # another host's, or of before this start
            memory = _decoded(view.fleet_memory, FleetMemory)
        if view.plan is not None and view.plan.epoch > memory.epoch:
            return msgspec.structs.replace(memory, epoch=view.plan.epoch)
        return memory

    def _remember(self, memory: HostMemory) -> list[str]:
        """Save before acting: an order given but not remembered would later look like a person's."""
        self.host_memory = memory
        kept = memory.worth_keeping()
        if kept == self._saved:
            return []
        try:
            self.store.save(msgspec.json.encode(kept))
        except FleetdError as error:  # a full disk must not leave the queues alone; said once
            return [] if self._trouble == str(error) else self._say_trouble(str(error))
        self._saved = kept
        return self._say_trouble("")

    def _say_trouble(self, trouble: str) -> list[str]:
        before, self._trouble = self._trouble, trouble
        if trouble:
            return [f"what fleetd did can't be remembered over a restart: {trouble}"]
        return ["what fleetd did can be remembered again"] if before else []


def _own_scheduler_process(policy: Policy, snapshot: Snapshot) -> ProcessFacts | None:
    if not (isinstance(snapshot.sidekiq, Known) and isinstance(snapshot.systemd, Known)):
        return None
    return heartbeat_of(
        snapshot.sidekiq.value.processes, policy.host, "scheduler", snapshot.systemd.value.scheduler
    )


def _decoded(content: bytes | None, kind: type[_S]) -> _S:
    """Memory as it was written; a fresh one when there is none or it can't be understood."""
    if content is None:
        return kind()
    try:
        return msgspec.json.decode(content, type=kind)
    except msgspec.DecodeError:
        return kind()
