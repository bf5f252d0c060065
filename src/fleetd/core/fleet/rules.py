"""The ledger's rules: each call changes the state and has an answer, or is refused and changes nothing.

Law 1: one host holds the slot. It is given to another one only once its holder said that its unit is gone, or after
the takeover time in which no host saw a live scheduler. Law 2: a start is granted only if it fits beside everything
that any host may open, beside each host's way up to `min`, and beside one scheduler.

The truth lives on the hosts. A ledger that is missing, answered by another Redis, or known to have been further (it is
an older copy, or its VM was put back to a snapshot) begins to *gather*: it grants nothing until every host that anybody
remembers has told again what it has.
"""

from __future__ import annotations

from msgspec import structs

from fleetd.core.fleet import slot as slots
from fleetd.core.fleet.calls import Beat, BeatReply, Code, Commit, Refusal, Server, Told
from fleetd.core.fleet.sizes import beat_too_large, commit_too_large, order_too_large
from fleetd.core.fleet.state import FORMAT, HOSTS_MAX, ORDERS_MAX, Entry, Lease, LedgerState, Planned, Slot

#: A beat advances the fleet clock by this or two ticks at most.
STEP_MS_MAX = 10_000
LEASE_TICKS = 4
GATHERING_MS_MIN, GATHERING_MS_MAX = 20_000, 300_000
#: Another machine may take a name over after so long a silence; a clone ticks as its model does.
NAME_MS, NAME_TICKS = 15_000, 3
#: A silent host's claims are kept at least so long.
SILENT_MS = 300_000
#: A host that left nothing is forgotten after a week.
FORGOTTEN_MS = 7 * 86_400_000


def beat(state: LedgerState | None, call: Beat, server: Server) -> tuple[LedgerState | None, BeatReply | Refusal]:
    """Take what a host tells, and tell it what it needs."""
    refusal = _refused(state, call)
    if refusal is not None:
        return state, refusal
    # The clock goes on for these too, or a machine that is alone would be refused for ever: it rebooted, or went back.
    if state is not None and _is_late(later := _on_time(state, call, server), call):
        return later, Refusal(code=Code.LATE)
    if state is not None and _name_taken(later := _on_time(state, call, server), call):
        refused = Refusal(code=Code.NAME_TAKEN, about=call.host)  # but a scheduler there is one
        return structs.replace(later, slot=slots.after_refusal(later, call)), refused
    state = _on_time(_of_this_generation(state, call, server), call, server)
    state = _with_host(state, call)
    state = structs.replace(state, slot=slots.after_beat(state, call))
    state = _with_lease(state, call)
    # While the truth is gathered, how long a host was silent may be wrong: its last beat was perhaps lost.
    if _leads(state, call) and state.gathering_ms is None:
        state = _without_ended(state, call)
    if state.gathering_ms is not None and not waits_for(state):
        state = structs.replace(state, gathering_ms=None)
    return state, _reply(state, call)


def _refused(state: LedgerState | None, call: Beat) -> Refusal | None:
    if beat_too_large(call):
        return Refusal(code=Code.TOO_LARGE)
    if state is None:
        return None
    if state.format > FORMAT:
        return _later_format(state)
    if state.fleet != call.fleet:
        return Refusal(code=Code.FLEET, about=state.fleet)
    entry = state.hosts.get(call.host)
    if entry is None:
        return Refusal(code=Code.FULL) if len(state.hosts) >= HOSTS_MAX else None
    if call.nonce == entry.replaced_nonce and call.nonce:
        return Refusal(code=Code.REPLACED, about=call.host)
    return None


def _is_late(state: LedgerState, call: Beat) -> bool:
    """Whether a later call of the same machine was carried out before. After a long silence its clock went back: a VM
    was put back to a snapshot of its memory.
    """
    entry = state.hosts.get(call.host, Entry())
    earlier = call.boot_id == entry.boot_id and call.sent_ms < entry.sent_ms
    return earlier and state.clock_ms - entry.beat_ms < SILENT_MS


def _name_taken(state: LedgerState, call: Beat) -> bool:
    """Whether another machine beats under this name."""
    entry = state.hosts.get(call.host, Entry())
    silent_ms = state.clock_ms - entry.beat_ms
    return entry.boot_id not in ("", call.boot_id) and silent_ms < name_ms(call.tick_ms)


def name_ms(tick_ms: int) -> int:
    """For how long nobody may have beaten under a name before another machine, which ticks so often, takes it over."""
    return max(NAME_MS, NAME_TICKS * tick_ms)


def _of_this_generation(state: LedgerState | None, call: Beat, server: Server) -> LedgerState:
    """The state; if it may have lost something, a new generation of it that gathers."""
    if state is None:
        fresh = LedgerState(
            fleet=call.fleet,
            run_id=server.run_id,
            generation=call.generation + 1,
            clock_ms=call.clock_ms,
            time_ms=server.time_ms,
            gathering_ms=call.clock_ms,
        )
        return structs.replace(fresh, slot=slots.doubted(Slot(), call.clock_ms))
    went_back = (call.generation, call.clock_ms) > (state.generation, state.clock_ms)
    if state.run_id == server.run_id and not went_back:
        return state
    clock = max(state.clock_ms, call.clock_ms)
    return structs.replace(
        state,
        run_id=server.run_id,
        generation=max(state.generation, call.generation) + 1,
        clock_ms=clock,
        time_ms=server.time_ms,
        gathering_ms=clock,
        lease=structs.replace(state.lease, until_ms=0),
        slot=slots.doubted(state.slot, clock),
    )


def _on_time(state: LedgerState, call: Beat, server: Server) -> LedgerState:
    step = min(max(0, server.time_ms - state.time_ms), max(STEP_MS_MAX, 2 * call.tick_ms))
    return structs.replace(state, clock_ms=state.clock_ms + step, time_ms=server.time_ms)


def _with_host(state: LedgerState, call: Beat) -> LedgerState:
    """The state with what the host tells of itself, and the members that it remembers."""
    hosts = dict(state.hosts)
    before = hosts.get(call.host, Entry())
    # A host that does not know of this generation has not named its members yet, so it is waited for.
    told = call.generation == state.generation and call.claims is not None
    hosts[call.host] = Entry(
        boot_id=call.boot_id,
        nonce=call.nonce,
        replaced_nonce=before.replaced_nonce if before.nonce in ("", call.nonce) else before.nonce,
        sent_ms=call.sent_ms,
        beat_ms=state.clock_ms,
        told_generation=state.generation if told else before.told_generation,
        fit=call.fit,
        plan_format=call.plan_format,
        # A fleetd that has just begun, or can't read its units, does not know what it may have to start.
        missing=before.missing if call.claims is None else call.missing,
        scheduler=before.scheduler if call.claims is None else call.scheduler,
        record=call.record,
    )
    if state.gathering_ms is not None and call.generation == state.generation:
        for name in call.members:
            if name not in hosts and len(hosts) < HOSTS_MAX:
                hosts[name] = Entry(beat_ms=state.clock_ms)
    claims = state.claims if call.claims is None else {**state.claims, call.host: call.claims}
    joined = len(hosts) != len(state.hosts)
    return structs.replace(
        state, hosts=hosts, claims=claims, members_version=state.members_version + (1 if joined else 0)
    )


def _with_lease(state: LedgerState, call: Beat) -> LedgerState:
    lease, now = state.lease, state.clock_ms
    ours = lease.host == call.host and lease.nonce == call.nonce
    if not call.fit:
        return structs.replace(state, lease=structs.replace(lease, until_ms=0)) if ours else state
    if not ours and lease.until_ms > now and lease.host != call.host:
        return state
    token = lease.token if ours else lease.token + 1
    until = now + LEASE_TICKS * call.tick_ms
    return structs.replace(state, lease=Lease(host=call.host, nonce=call.nonce, token=token, until_ms=until))


def _without_ended(state: LedgerState, call: Beat) -> LedgerState:
    """Without the claims of processes that have ended with their host, and without hosts that left long ago."""
    silent = {h for h, e in state.hosts.items() if state.clock_ms - e.beat_ms >= SILENT_MS and h != call.host}
    if not silent:
        return state
    ended = {(host, name) for host, name in call.ended if host in silent}
    claims = {
        host: {name: c for name, c in names.items() if (host, name) not in ended} if host in silent else names
        for host, names in state.claims.items()
    }
    # Without its last beat a host may have started what it had told as missing, under names that nobody knows.
    left = {h for h in silent if not claims.get(h) and (state.hosts[h].gone or (h, "") in call.ended)}
    forgotten = {h for h in left if state.clock_ms - state.hosts[h].beat_ms >= FORGOTTEN_MS}
    hosts = {
        h: structs.replace(e, gone=True, missing={}, scheduler={}) if h in left else e
        for h, e in state.hosts.items()
        if h not in forgotten
    }
    version = state.members_version + (1 if forgotten else 0)
    claims = {h: names for h, names in claims.items() if h not in forgotten}
    return structs.replace(state, hosts=hosts, claims=claims, members_version=version)


def waits_for(state: LedgerState) -> tuple[str, ...]:
    """The hosts that gathering still waits for; ("",): only for its shortest time. Empty: it is over."""
    begun = state.clock_ms if state.gathering_ms is None else state.gathering_ms
    age = state.clock_ms - begun
    if age >= GATHERING_MS_MAX:
        return ()
    untold = (h for h, e in state.hosts.items() if not e.gone and e.told_generation != state.generation)
    waits = tuple(sorted(untold))
    return waits or (("",) if age < GATHERING_MS_MIN else ())


def _leads(state: LedgerState, call: Beat) -> bool:
    """Whether this fleetd leads. One that came before it on this host may have led."""
    lease = state.lease
    return lease.host == call.host and lease.nonce == call.nonce and lease.until_ms > 0


def _reply(state: LedgerState, call: Beat) -> BeatReply:
    leads = _leads(state, call)
    planned = state.planned if leads else structs.replace(state.planned, memory="")
    # Versions begin anew with a ledger, so an equal one may be of another.
    same = call.generation == state.generation
    has_plan = same and planned.epoch == call.epoch and (call.has_memory or not leads)
    return BeatReply(
        generation=state.generation,
        clock_ms=state.clock_ms,
        gathering=None if state.gathering_ms is None else waits_for(state),
        leader=state.lease.host,
        token=state.lease.token if leads else None,
        alone=_alone(state, call.host),
        plan_format=min((e.plan_format for e in state.hosts.values() if e.plan_format and not e.gone), default=0),
        epoch=planned.epoch,
        planned=None if has_plan else planned,
        slot=state.slot,
        orders_version=state.orders_version,
        orders=None if same and call.orders_version == state.orders_version else state.orders,
        members_version=state.members_version,
        members=None if same and call.members_version == state.members_version else tuple(sorted(state.hosts)),
        told={h: _told(state, h, e) for h, e in state.hosts.items()} if leads else None,
    )


def _told(state: LedgerState, host: str, entry: Entry) -> Told:
    return Told(
        silent_ms=state.clock_ms - entry.beat_ms,
        gone=entry.gone,
        record=entry.record,
        claims=state.claims.get(host, {}),
    )


def _alone(state: LedgerState, host: str) -> bool:
    return all(h == host or e.gone or not e.boot_id for h, e in state.hosts.items())


def commit(state: LedgerState | None, call: Commit, server: Server) -> tuple[LedgerState | None, Refusal | None]:
    """Write the leader's plan; None: it was taken."""
    if commit_too_large(call):
        return state, Refusal(code=Code.TOO_LARGE)
    if state is None:
        return state, Refusal(code=Code.NO_LEDGER)
    if state.format > FORMAT:
        return state, _later_format(state)
    if state.run_id != server.run_id or state.generation != call.generation:
        return state, Refusal(code=Code.GENERATION)
    if state.lease.host != call.host or state.lease.token != call.token:
        return state, Refusal(code=Code.LEASE, about=state.lease.host)
    if call.epoch != state.planned.epoch + 1:
        return state, Refusal(code=Code.EPOCH)
    if _alone(state, call.host):
        return state, Refusal(code=Code.ALONE)
    planned = Planned(epoch=call.epoch, committed_ms=state.clock_ms, plan=call.plan, memory=call.memory)
    return structs.replace(state, planned=planned), None


def order(state: LedgerState | None, about: str, what: str | None) -> tuple[LedgerState | None, Refusal | None]:
    """Write a person's order to the fleet, or end it (None)."""
    if order_too_large(about, what):
        return state, Refusal(code=Code.TOO_LARGE)
    if state is None:
        return state, Refusal(code=Code.NO_LEDGER)
    if state.format > FORMAT:
        return state, _later_format(state)
    orders = {key: value for key, value in state.orders.items() if key != about}
    if what is not None:
        if len(orders) >= ORDERS_MAX:
            return state, Refusal(code=Code.FULL)
        orders[about] = what
    return structs.replace(state, orders=orders, orders_version=state.orders_version + 1), None


def forget(state: LedgerState | None, host: str) -> tuple[LedgerState | None, Refusal | None]:
    """A person says that a host is gone for good: its claims, the slot and its lease are free."""
    if state is None:
        return state, Refusal(code=Code.NO_LEDGER)
    if state.format > FORMAT:
        return state, _later_format(state)
    slot, lease = state.slot, state.lease
    return (
        structs.replace(
            state,
            hosts={h: e for h, e in state.hosts.items() if h != host},
            claims={h: c for h, c in state.claims.items() if h != host},
            slot=structs.replace(slot, unit="gone") if slot.holder == host else slot,
            lease=structs.replace(lease, until_ms=0) if lease.host == host else lease,
            members_version=state.members_version + 1,
        ),
        None,
    )


def _later_format(state: LedgerState) -> Refusal:
    return Refusal(code=Code.FORMAT, about=str(state.format))
