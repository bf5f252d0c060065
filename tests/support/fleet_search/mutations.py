"""Ledgers and hosts that lack one rule each: the search must break on every one of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

from msgspec import Struct, structs

from fleetd.core.fleet import admission, rules, slot
from fleetd.core.fleet.calls import Admit, Admitted, Beat, Server
from fleetd.core.fleet.state import LedgerState
from tests.support.fleet_search.scale import small_constants
from tests.support.fleet_search.settings import A, H
from tests.support.fleet_search.world import Setting

TTL_MS = 30_000


class Mutation(Struct, frozen=True, kw_only=True):
    """What is left out, in which world, and words of what then breaks."""

    setting: Setting
    breaks: str
    constants: dict[str, int] = {}
    rule: str = ""  # of what `without` takes away


def claims(**others: object) -> Setting:
    """A world of two hosts and instances."""
    plain = Setting(places=(A, A), schedules=False, fit=True, standing=(0, 0), faults_max=1)
    return structs.replace(plain, **others)


def scheduler(*faults: str) -> Setting:
    """A world of two hosts and one scheduler."""
    return Setting(places=(A, A), faults=faults, faults_max=1)


FULL = {"already": (0, 2), "joined": True}

MUTATIONS = {
    "without gathering": Mutation(
        setting=claims(**FULL, faults=("flush",)),
        constants={"GATHERING_MS_MIN": 0, "GATHERING_MS_MAX": 0},
        breaks="may open more than",
    ),
    "without remembered members": Mutation(
        setting=claims(**FULL, faults=("flush", "cut"), faults_max=2, members_told=False), breaks="may open more than"
    ),
    "without the clock's cap": Mutation(
        setting=scheduler("jump"), constants={"STEP_MS_MAX": 300_000}, breaks="two hosts may start a scheduler at once"
    ),
    "claims dropped while a connection is open": Mutation(
        setting=claims(**FULL, faults=("cut",), heeds_connections=False), breaks="went while its processes run"
    ),
    "without own claims in admit": Mutation(
        setting=claims(faults=("hand",)), rule="own claims", breaks="may open more than"
    ),
    "without the slot": Mutation(
        setting=scheduler(), rule="slot", breaks="a scheduler starts while another host's lives"
    ),
    "without the deadline": Mutation(
        setting=structs.replace(scheduler("freeze"), deadline=False), breaks="two hosts may start a scheduler at once"
    ),
    "claims with a time to live": Mutation(
        setting=claims(**FULL, faults=("cut",)), rule="no time to live", breaks="claims of"
    ),
    "late calls are taken": Mutation(
        setting=Setting(places=(H, A), faults=("late", "jump"), faults_max=2),
        rule="late",
        breaks="a scheduler starts while",
    ),
    "the holder starts beside a rival": Mutation(
        setting=Setting(places=(H, A), faults=("late", "crash"), faults_max=2),
        rule="rival",
        breaks="a scheduler starts while another host's lives",
    ),
    "a silent host without claims is gone": Mutation(
        setting=claims(more=1, standing=(1, 0), faults=("cut",)),
        rule="nothing left",
        breaks="went while its processes run",
    ),
    "a refused beat stops the clock": Mutation(
        setting=Setting(places=(A,), faults=("crash",), faults_max=1), rule="clock of the refused", breaks="no calm"
    ),
}


REAL_ADMIT, REAL_BEAT, REAL_WITHOUT = admission.admit, rules.beat, rules._without_ended


def with_told_claims(state: LedgerState | None, call: Admit, server: Server) -> tuple[LedgerState | None, Admitted]:
    """`admit` with the claims of the last beat."""
    own = {} if state is None else state.claims.get(call.host, {})
    return REAL_ADMIT(state, structs.replace(call, claims=own), server)


def without_old(state: LedgerState, call: Beat) -> LedgerState:
    """Claims that vanish by themselves."""
    state = REAL_WITHOUT(state, call)
    old = {host for host, entry in state.hosts.items() if state.clock_ms - entry.beat_ms >= TTL_MS}
    return structs.replace(state, claims={host: own for host, own in state.claims.items() if host not in old})


def beat_at_once(state: LedgerState | None, call: Beat, server: Server) -> object:
    """`beat` that takes every call for the newest."""
    return REAL_BEAT(state, structs.replace(call, sent_ms=0), server)


def admit_at_once(state: LedgerState | None, call: Admit, server: Server) -> tuple[LedgerState | None, Admitted]:
    """`admit` that takes every call for the newest."""
    return REAL_ADMIT(state, structs.replace(call, sent_ms=0), server)


def beat_or_nothing(state: LedgerState | None, call: Beat, server: Server) -> object:
    """`beat` that changes nothing when it is refused for its name."""
    after, answer = REAL_BEAT(state, call, server)
    return (state if getattr(answer, "code", None) == "name_taken" else after), answer


def beat_of_believer(state: LedgerState | None, call: Beat, server: Server) -> object:
    """`beat` that is always told that nothing of the other hosts is left, whatever its name."""
    hosts = {} if state is None else state.hosts
    return REAL_BEAT(state, structs.replace(call, ended=(*call.ended, *((host, "") for host in hosts))), server)


Change = tuple[object, str, object]
CHANGES: dict[str, tuple[Change, ...]] = {
    "": (),
    "slot": ((slot, "refused", lambda state, call: None),),
    "own claims": ((admission, "admit", with_told_claims),),
    "no time to live": ((rules, "_without_ended", without_old),),
    "late": ((rules, "beat", beat_at_once), (admission, "admit", admit_at_once)),
    "rival": ((slot, "RIVAL_MS", 0),),
    "nothing left": ((rules, "beat", beat_of_believer),),
    "clock of the refused": ((rules, "beat", beat_or_nothing),),
}


@contextmanager
def without(mutation: Mutation) -> Iterator[None]:
    """The rules with small constants and without what the mutation leaves out."""
    with small_constants(**mutation.constants), ExitStack() as changes:
        for where, name, value in CHANGES[mutation.rule]:
            changes.enter_context(patch.object(where, name, value))
        yield
