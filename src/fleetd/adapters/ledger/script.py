"""The ledger's script: the rules' own numbers, then the parts in Lua. One text, of which Redis keeps one copy."""

from __future__ import annotations

from pathlib import Path

from fleetd.adapters.ledger import kept
from fleetd.adapters.redis.rounds import Script
from fleetd.core.fleet import rules, sizes, slot, state
from fleetd.core.model.identity import SCHEDULER, unit_name

_NUMBERS = {
    "FORMAT": state.FORMAT,
    "HOSTS_MAX": state.HOSTS_MAX,
    "ORDERS_MAX": state.ORDERS_MAX,
    "NAME_BYTES_MAX": sizes.NAME_BYTES_MAX,
    "RECORD_BYTES_MAX": sizes.RECORD_BYTES_MAX,
    "CLAIMS_BYTES_MAX": sizes.CLAIMS_BYTES_MAX,
    "PLAN_BYTES_MAX": sizes.PLAN_BYTES_MAX,
    "SEEN_BYTES_MAX": sizes.SEEN_BYTES_MAX,
    "NUMBER_MAX": kept.NUMBER_MAX,
    "VALUE_BYTES_MAX": kept.VALUE_BYTES_MAX,
    "FIELDS_MAX": kept.FIELDS_MAX,
    "TOLD_BYTES_MAX": kept.TOLD_BYTES_MAX,
    "STEP_MS_MAX": rules.STEP_MS_MAX,
    "LEASE_TICKS": rules.LEASE_TICKS,
    "GATHERING_MS_MIN": rules.GATHERING_MS_MIN,
    "GATHERING_MS_MAX": rules.GATHERING_MS_MAX,
    "NAME_MS": rules.NAME_MS,
    "NAME_TICKS": rules.NAME_TICKS,
    "SILENT_MS": rules.SILENT_MS,
    "FORGOTTEN_MS": rules.FORGOTTEN_MS,
    "HERE_MS": slot.HERE_MS,
    "RIVAL_MS": slot.RIVAL_MS,
    "GHOST_MS": slot.GHOST_MS,
}
_PARTS = ("store", "beat", "calls")


def _part(name: str) -> str:
    return Path(__file__).with_name(f"{name}.lua").read_text(encoding="utf-8")


def script_with(server: str) -> Script:
    """`server`: Lua that defines `server()`: the clock in milliseconds, and the run_id."""
    numbers = [f"local {name} = {number}" for name, number in _NUMBERS.items()]
    names = [f"local SCHEDULER = '{unit_name(SCHEDULER)}'"]
    return Script("\n".join([*numbers, *names, server, *map(_part, _PARTS)]))


SCRIPT = script_with(_part("server"))
