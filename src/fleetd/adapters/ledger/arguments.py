"""Calls as the script's arguments: which call, its JSON, and for themselves the texts that are kept as they come."""

from __future__ import annotations

from fleetd.core.fleet.calls import Admit, Beat, Commit
from fleetd.core.fleet.sizes import text, without_claims_and_starts, without_plan, without_record_and_claims


def beat_arguments(call: Beat) -> tuple[str, ...]:
    return ("beat", text(without_record_and_claims(call)), call.record, text(call.claims))


def admit_arguments(call: Admit) -> tuple[str, ...]:
    rest = text(without_claims_and_starts(call))
    return ("admit", rest, text(call.claims), text((call.missing, call.starts)))


def commit_arguments(call: Commit) -> tuple[str, ...]:
    return ("commit", text(without_plan(call)), call.plan, call.memory)


def order_arguments(about: str, what: str | None) -> tuple[str, ...]:
    return ("order", about) if what is None else ("order", about, what)


def forget_arguments(host: str) -> tuple[str, ...]:
    return ("forget", host)
