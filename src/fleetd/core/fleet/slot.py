"""Law 1 over hosts: who may run the scheduler.

The holder's unit stays and any other host's ends. The slot moves only once its holder said that its unit is gone, or
when no host has seen a live scheduler for `takeover_seconds`; a host that can't tell counts as having seen one. A unit
that is found running takes the slot if nobody else may have it.
"""

from __future__ import annotations

from fleetd.core.fleet.calls import Admit, Beat, Code, Refusal
from fleetd.core.fleet.state import LedgerState, Slot

#: The host that the configuration names waits this long after the holder said gone.
HERE_MS = 20_000
#: A heartbeat in Redis lives 60 s after its last beat, so a silent holder that was not seen for this long has none.
GHOST_MS = 75_000


def after_beat(state: LedgerState, call: Beat) -> Slot:
    """The slot with what a host saw."""
    slot, now = state.slot, state.clock_ms
    holder, unit = slot.holder, slot.unit
    if call.own_scheduler == "there" and holder != call.host and _may_adopt(state, call):
        holder, unit = call.host, "there"
    elif holder == call.host and call.own_scheduler != "unknown":
        unit = call.own_scheduler
    ours = holder == call.host and call.own_scheduler != "gone"
    unsure = call.own_scheduler == "unknown" or call.schedulers is None
    seen = ours or unsure or call.own_scheduler == "there" or bool(call.schedulers)
    of_holder = ours or unsure or holder in (call.schedulers or ())
    return Slot(
        holder=holder,
        unit=unit,
        sighted_ms=now if seen else slot.sighted_ms,
        holder_ms=now if of_holder else slot.holder_ms,
    )


def _may_adopt(state: LedgerState, call: Beat) -> bool:
    """Whether a unit that was found running may take the slot: by hand, at a boot, or because the ledger forgot."""
    slot = state.slot
    if slot.holder == "" or slot.unit != "there":
        return True
    if call.schedulers is None or slot.holder in call.schedulers:
        return False
    holder = state.hosts.get(slot.holder)
    if state.gathering_ms is not None and (holder is None or holder.beat_ms < state.gathering_ms):
        return True  # the ledger may have forgotten that the slot had moved
    return state.clock_ms - slot.holder_ms >= GHOST_MS


def refused(state: LedgerState, call: Admit) -> Refusal | None:
    """Why this host may not start its scheduler now; None: it may, and has the slot from now on."""
    slot = state.slot
    wait = wait_ms(slot, call.host, state.clock_ms, here=call.here, takeover_ms=call.takeover_ms)
    return Refusal(code=Code.SLOT, about=slot.holder, wait_ms=wait) if wait > 0 else None


def wait_ms(slot: Slot, host: str, now_ms: int, *, here: bool, takeover_ms: int) -> int:
    """How much longer no host may see a live scheduler before this one gets the slot; 0: it gets it now."""
    if slot.holder == host:
        return 0
    free = slot.holder == "" or slot.unit == "gone"
    needed = HERE_MS if here and free else takeover_ms
    return max(0, needed - (now_ms - slot.sighted_ms))


def granted(state: LedgerState, host: str) -> Slot:
    """The slot, given to this host."""
    return Slot(holder=host, sighted_ms=state.clock_ms, holder_ms=state.clock_ms)
