"""Law 2 over hosts: a start is granted if it fits beside everything that any host may open.

Per source, the claims of all hosts, what each host may still open on its way up to `min`, one scheduler, and what is
seen of processes beyond their claims must leave room within the limit that the starter has just read.
"""

from __future__ import annotations

from msgspec import structs

from fleetd.core.fleet import slot as slots
from fleetd.core.fleet.calls import Admit, Admitted, Code, Refusal, Server, Start
from fleetd.core.fleet.sizes import admit_too_large
from fleetd.core.fleet.state import FORMAT, BySource, LedgerState
from fleetd.core.model.identity import SCHEDULER, unit_name


def admit(state: LedgerState | None, call: Admit, server: Server) -> tuple[LedgerState | None, Admitted]:
    """Grant the first of the starts that fit; what is granted is claimed from now on."""
    refusal = _refused(state, call, server)
    if state is None or refusal is not None:
        return state, Admitted(granted=0, refusal=refusal)
    entry = structs.replace(state.hosts[call.host], missing=call.missing, sent_ms=call.sent_ms, gone=False)
    own = dict(call.claims)
    state = structs.replace(state, hosts={**state.hosts, call.host: entry}, claims={**state.claims, call.host: own})
    for granted, start in enumerate(call.starts):
        refusal = slots.refused(state, call) if start.scheduler else None
        refusal = refusal or _unfitting(state, call, start)
        if refusal is not None:
            return state, Admitted(granted=granted, refusal=refusal)
        own = {**own, start.name: _greater(own.get(start.name, {}), start.claims)}
        state = structs.replace(state, claims={**state.claims, call.host: own})
        if start.scheduler:
            state = structs.replace(state, slot=slots.granted(state, call.host))
    return state, Admitted(granted=len(call.starts))


def _refused(state: LedgerState | None, call: Admit, server: Server) -> Refusal | None:
    if admit_too_large(call):
        return Refusal(code=Code.TOO_LARGE)
    if state is None:
        return Refusal(code=Code.NO_LEDGER)
    if state.format > FORMAT:
        return Refusal(code=Code.FORMAT, about=str(state.format))
    entry = state.hosts.get(call.host)
    if entry is None or entry.nonce != call.nonce:
        return Refusal(code=Code.REPLACED, about=call.host)
    if call.sent_ms < entry.sent_ms:
        return Refusal(code=Code.LATE)
    if state.run_id != server.run_id or state.generation != call.generation:
        return Refusal(code=Code.GENERATION)
    return Refusal(code=Code.GATHERING) if state.gathering_ms is not None else None


def _greater(one: BySource, other: BySource) -> BySource:
    return {source: max(one.get(source, 0), other.get(source, 0)) for source in one.keys() | other.keys()}


def _sum(one: BySource, other: BySource) -> BySource:
    return {source: one.get(source, 0) + other.get(source, 0) for source in one.keys() | other.keys()}


def is_scheduler(name: str) -> bool:
    """Whether a process of this application_name is a scheduler."""
    return name.startswith(unit_name(SCHEDULER))


def taken(state: LedgerState, source: str, seen: dict[str, int]) -> int:
    """Connections of a source that are claimed or set aside, but for a scheduler that does not run."""
    # Postgres cuts names off, so processes of two hosts with long names may have the same one.
    known: dict[str, BySource] = {}
    for names in state.claims.values():
        for name, claims in names.items():
            known[name] = _sum(known.get(name, {}), claims)
    claimed = sum(claims.get(source, 0) for names in state.claims.values() for claims in names.values())
    aside = sum(entry.missing.get(source, 0) for entry in state.hosts.values())
    # One whose claims name other sources only is not on this one. One that is in no ledger may be.
    above = sum(
        max(0, connections - known.get(name, {source: 0}).get(source, connections))
        for name, connections in seen.items()
    )
    return claimed + aside + above


def _unfitting(state: LedgerState, call: Admit, start: Start) -> Refusal | None:
    names = {name for own in state.claims.values() for name in own}
    scheduled = start.scheduler or any(is_scheduler(name) for name in names)
    before = state.claims[call.host].get(start.name, {})
    for source in sorted(start.claims.keys() & call.limits.keys()):
        aside = 0 if scheduled else max((e.scheduler.get(source, 0) for e in state.hosts.values()), default=0)
        more = max(0, start.claims[source] - before.get(source, 0))
        over = taken(state, source, call.seen) + aside + more - call.limits[source]
        if over > 0:
            return Refusal(code=Code.CLAIMS, about=source, over=over)
    return None
