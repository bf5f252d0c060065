"""Law 1 over hosts: who may run the scheduler.

The holder's unit stays and any other host's ends. The slot moves only once its holder said that its unit is gone, or
when no host has seen a live scheduler for `takeover_seconds`; a host that can't tell counts as having seen one. A unit
that is found running takes the slot if nobody else may have it.
"""

from __future__ import annotations

from msgspec import structs

from fleetd.core.fleet.calls import Admit, Beat, Code, Refusal
from fleetd.core.fleet.state import LedgerState, Slot

#: The host that the configuration names waits this long after the holder said gone.
HERE_MS = 20_000
#: The holder itself does not start its unit while another one was seen so shortly before: that one ends first.
RIVAL_MS = 20_000
#: A heartbeat in Redis lives 60 s after its last beat, so a silent holder that was not seen for this long has none.
GHOST_MS = 75_000


def doubted(slot: Slot, now: int) -> Slot:
    """The slot as if any scheduler had been seen just now: what was seen before may be lost."""
    return structs.replace(slot, sighted_ms=now, holder_ms=now, rival_ms=now)


def after_beat(state: LedgerState, call: Beat) -> Slot:
    """The slot with what a host saw."""
    slot, now = state.slot, state.clock_ms
    holder, unit = slot.holder, slot.unit
    if call.own_scheduler == "there" and holder != call.host and _may_adopt(state, call):
        holder, unit = call.host, "there"
    elif call.own_scheduler == "kept" and holder == "":
        holder, unit = call.host, "kept"  # the ledger forgot that a person stopped it, or never knew
    elif holder == call.host and call.own_scheduler != "unknown":
        unit = call.own_scheduler
    ours = holder == call.host and call.own_scheduler != "gone"
    unsure = call.own_scheduler == "unknown" or call.schedulers is None
    seen = ours or unsure or call.own_scheduler == "there" or bool(call.schedulers)
    of_holder = ours or unsure or holder in (call.schedulers or ())
    rival = (call.own_scheduler == "there" and not ours) or bool({*(call.schedulers or ())} - {holder})
    return Slot(
        holder=holder,
        unit=unit,
        sighted_ms=now if seen else slot.sighted_ms,
        holder_ms=now if of_holder else slot.holder_ms,
        rival_ms=now if rival else slot.rival_ms,
    )


def after_refusal(state: LedgerState, call: Beat) -> Slot:
    """The slot after the beat of a machine whose name another one has: its scheduler is seen, but takes nothing."""
    slot, now = state.slot, state.clock_ms
    return structs.replace(
        slot,
        sighted_ms=now if call.own_scheduler in ("there", "unknown") else slot.sighted_ms,
        rival_ms=now if call.own_scheduler == "there" else slot.rival_ms,
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
    holder = "" if slot.holder == call.host else slot.holder
    return Refusal(code=Code.SLOT, about=holder, wait_ms=wait) if wait > 0 else None


def wait_ms(slot: Slot, host: str, now_ms: int, *, here: bool, takeover_ms: int) -> int:
    """How much longer no host may see a live scheduler before this one gets the slot; 0: it gets it now."""
    if slot.holder == host:
        return max(0, RIVAL_MS - (now_ms - slot.rival_ms))
    free = slot.holder == "" or slot.unit == "gone"
    needed = HERE_MS if here and free else takeover_ms
    return max(0, needed - (now_ms - slot.sighted_ms))


def granted(state: LedgerState, host: str) -> Slot:
    """The slot, given to this host."""
    now = state.clock_ms
    return structs.replace(state.slot, holder=host, unit="there", sighted_ms=now, holder_ms=now)
