"""The rules of a fleet with one taken out. Storms and histories must break without it, or it is not tested."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec import structs

from fleetd.core.fleet import rules, slot
from fleetd.core.fleet.admission import admit
from fleetd.core.fleet.calls import Admit, Admitted, Beat, BeatReply, Refusal, Server
from fleetd.core.fleet.state import LedgerState
from fleetd.core.instances import scheduler
from fleetd.core.instances.host_memory import HostMemory
from fleetd.core.instances.host_tick import HostTick
from fleetd.core.instances.lifecycle import InstanceView
from fleetd.core.instances.scheduler import SchedulerDecision
from fleetd.daemon.fleet import part
from tests.support.fleet_world import ledger

Change = Callable[[LedgerState, Beat], tuple[LedgerState, Beat]]


def _before_each_beat(patch: pytest.MonkeyPatch, change: Change) -> None:
    by_the_rules = rules.beat

    def beat(state: LedgerState | None, call: Beat, server: Server) -> tuple[LedgerState | None, BeatReply | Refusal]:
        if state is not None:
            state, call = change(state, call)
        return by_the_rules(state, call, server)

    patch.setattr(rules, "beat", beat)


def without_the_slot(patch: pytest.MonkeyPatch) -> None:
    def undecided(
        tick: HostTick, own: InstanceView | None, memory: HostMemory, decision: SchedulerDecision
    ) -> SchedulerDecision:
        return decision

    patch.setattr(slot, "refused", lambda state, call: None)
    patch.setattr(scheduler, "_by_the_slot", undecided)


def without_the_deadline(patch: pytest.MonkeyPatch) -> None:
    """A start may be carried out however late. The expiry of the plan would still end it, so that goes as well."""
    patch.setattr(part, "GRANT_SECONDS", 1e9)
    patch.setattr("fleetd.core.plan.PLAN_TICKS", 10**6)


def without_own_claims_in_admit(patch: pytest.MonkeyPatch) -> None:
    def as_told_before(state: LedgerState | None, call: Admit, server: Server) -> tuple[LedgerState | None, Admitted]:
        if state is not None:
            call = structs.replace(call, claims=state.claims.get(call.host, {}))
        return admit(state, call, server)

    patch.setattr(ledger, "admit", as_told_before)


def without_gathering(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(rules, "waits_for", lambda state: ())


def without_remembered_members(patch: pytest.MonkeyPatch) -> None:
    _before_each_beat(patch, lambda state, call: (state, structs.replace(call, members=())))


def without_the_cap_of_the_clock(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(rules, "STEP_MS_MAX", 10**12)


def without_open_names(patch: pytest.MonkeyPatch) -> None:
    """The leader says of every name that nothing of it is open any more."""

    def all_ended(state: LedgerState, call: Beat) -> tuple[LedgerState, Beat]:
        names = tuple((host, name) for host, own in state.claims.items() for name in (*own, ""))
        return state, structs.replace(call, ended=names)

    _before_each_beat(patch, all_ended)


def with_an_expiry_of_claims(patch: pytest.MonkeyPatch) -> None:
    """What a host claims is dropped after a minute of silence, as a key with a TTL is."""

    def expired(state: LedgerState, call: Beat) -> tuple[LedgerState, Beat]:
        silent = {h for h, e in state.hosts.items() if state.clock_ms - e.beat_ms >= 60_000 and h != call.host}
        claims = {host: names for host, names in state.claims.items() if host not in silent}
        return structs.replace(state, claims=claims), call

    _before_each_beat(patch, expired)


def without_what_is_set_aside_at_a_restart(patch: pytest.MonkeyPatch) -> None:
    by_the_rules = rules._with_host

    def forgets(state: LedgerState, call: Beat) -> LedgerState:
        after = by_the_rules(state, call)
        if call.claims is not None:
            return after
        entry = structs.replace(after.hosts[call.host], missing={}, scheduler={})
        return structs.replace(after, hosts={**after.hosts, call.host: entry})

    patch.setattr(rules, "_with_host", forgets)
