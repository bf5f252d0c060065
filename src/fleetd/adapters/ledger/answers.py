"""What the ledger's script answers, and what is kept, as values. Others may have written it, so nothing is believed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec
from msgspec import structs

from fleetd.adapters.ledger.kept import FIELDS_MAX, VALUE_BYTES_MAX
from fleetd.core.fleet.calls import Admitted, BeatReply, Code, Refusal, Told
from fleetd.core.fleet.sizes import PLAN_BYTES_MAX
from fleetd.core.fleet.state import FORMAT, BySource, Entry, Lease, LedgerState, Planned, Slot
from fleetd.core.model.bounds import impossible_in
from fleetd.words.plain import plain

_Claims = dict[str, BySource]


class MalformedError(Exception):
    """It can't be what the script answers or keeps. Says where, and nothing of what is there."""


class LaterFormatError(Exception):
    """A later fleetd wrote it."""


class _Beaten(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    generation: int
    clock_ms: int
    gathering: tuple[str, ...] | None
    leader: str
    token: int | None
    alone: Literal[0, 1]
    plan_format: int
    epoch: int
    planned: tuple[int, str, str] | None  # committed_ms, plan, memory
    slot: tuple[str, Literal["there", "kept", "gone"], int, int, int]
    orders_version: int
    orders: list[tuple[str, str]] | None
    members_version: int
    members: list[str] | None
    told: list[tuple[str, int, Literal[0, 1], str, str]] | None  # host, silent_ms, gone, record, claims


def refusal_in(reply: Any) -> Refusal | None:
    """The refusal, if that is the reply. Raises MalformedError, also where the script found that."""
    match _texts(reply):
        case ["malformed", str(where)]:
            raise MalformedError(plain(where))
        case ["refused", str(code), str(about), int(wait_ms), int(over)] if code in set(Code):
            return Refusal(code=Code(code), about=about, wait_ms=wait_ms, over=over)
        case ["refused", *_]:
            raise MalformedError("a refusal")
    return None


def beat_reply(reply: Any) -> BeatReply | Refusal:
    """Raises MalformedError."""
    refusal = refusal_in(reply)
    if refusal is not None:
        return refusal
    match _texts(reply):
        case ["beaten", *fields]:
            return _beat_reply(_convert(fields, _Beaten, "the answer to a beat"))
    raise MalformedError("the answer to a beat")


def _beat_reply(answer: _Beaten) -> BeatReply:
    holder, unit, *times_ms = answer.slot
    planned = None
    if answer.planned is not None:
        committed_ms, plan, memory = answer.planned
        planned = Planned(epoch=answer.epoch, committed_ms=committed_ms, plan=plan, memory=memory)
    return BeatReply(
        generation=answer.generation,
        clock_ms=answer.clock_ms,
        gathering=None if answer.gathering is None else tuple(sorted(answer.gathering)),
        leader=answer.leader,
        token=answer.token,
        alone=bool(answer.alone),
        plan_format=answer.plan_format,
        epoch=answer.epoch,
        planned=planned,
        slot=Slot(holder=holder, unit=unit, sighted_ms=times_ms[0], holder_ms=times_ms[1], rival_ms=times_ms[2]),
        orders_version=answer.orders_version,
        orders=None if answer.orders is None else dict(answer.orders),
        members_version=answer.members_version,
        members=None if answer.members is None else tuple(sorted(answer.members)),
        told=None if answer.told is None else {told[0]: _told(*told) for told in answer.told},
    )


def _told(host: str, silent_ms: int, gone: int, record: str, claims: str) -> Told:
    found = _decode(claims.encode(), _Claims, f"claims:{host}")
    return Told(silent_ms=silent_ms, gone=bool(gone), record=record, claims=found)


def admitted(reply: Any) -> Admitted:
    """Raises MalformedError."""
    refusal = refusal_in(reply)
    if refusal is not None:
        return Admitted(granted=0, refusal=refusal)
    match _texts(reply):
        case ["admitted", int(granted), "", *_]:
            return Admitted(granted=granted)
        case ["admitted", int(granted), *why]:
            return Admitted(granted=granted, refusal=refusal_in(["refused", *why]))
    raise MalformedError("the answer to an admission")


def done(reply: Any) -> Refusal | None:
    """None: it is done. Raises MalformedError."""
    refusal = refusal_in(reply)
    if refusal is None and _texts(reply) != ["done"]:
        raise MalformedError("the answer")
    return refusal


def ledger_in(fields: Mapping[bytes, bytes]) -> LedgerState | None:
    """The whole ledger, from all fields of its hash; None: there is none. Raises MalformedError, LaterFormatError."""
    if not fields:
        return None
    form = _text(fields.get(b"format", b""))
    if form.isascii() and form.isdigit() and len(form) < 10 and int(form) > FORMAT:
        raise LaterFormatError  # before all else: what it may be like is not known here
    if len(fields) > FIELDS_MAX:
        raise MalformedError("too many fields")
    texts = {_text(name): _text(value) for name, value in fields.items()}
    named: dict[str, dict[str, str]] = {"host": {}, "claims": {}, "record": {}, "order": {}}
    for field, text in texts.items():
        if len(text) > (PLAN_BYTES_MAX if field in ("plan", "memory") else VALUE_BYTES_MAX):
            raise MalformedError(field[:100])
        kind, colon, name = field.partition(":")
        if colon and kind in named:
            named[kind][name] = text
    return LedgerState(
        fleet=_required(texts, "fleet"),
        run_id=_required(texts, "run_id"),
        format=_number(texts, "format"),
        generation=_number(texts, "generation"),
        clock_ms=_number(texts, "clock_ms"),
        time_ms=_number(texts, "time_ms"),
        gathering_ms=_number(texts, "gathering_ms") if _required(texts, "gathering_ms") else None,
        lease=_lease(texts),
        planned=_planned(texts),
        slot=_slot(texts),
        hosts={host: _entry(host, text, named["record"]) for host, text in named["host"].items()},
        claims={host: _decode(text.encode(), _Claims, f"claims:{host}") for host, text in named["claims"].items()},
        orders=named["order"],
        orders_version=_number(texts, "orders_version"),
        members_version=_number(texts, "members_version"),
    )


def _lease(texts: Mapping[str, str]) -> Lease:
    return Lease(
        host=_required(texts, "leader"),
        nonce=_required(texts, "leader_nonce"),
        token=_number(texts, "token"),
        until_ms=_number(texts, "until_ms"),
    )


def _planned(texts: Mapping[str, str]) -> Planned:
    return Planned(
        epoch=_number(texts, "epoch"),
        committed_ms=_number(texts, "committed_ms"),
        plan=texts.get("plan", ""),
        memory=texts.get("memory", ""),
    )


def _slot(texts: Mapping[str, str]) -> Slot:
    return Slot(
        holder=_required(texts, "holder"),
        unit=_convert(_required(texts, "unit"), Literal["there", "kept", "gone"], "unit"),
        sighted_ms=_number(texts, "sighted_ms"),
        holder_ms=_number(texts, "holder_ms"),
        rival_ms=_number(texts, "rival_ms"),
    )


def _entry(host: str, text: str, records: Mapping[str, str]) -> Entry:
    entry: Entry = _decode(text.encode(), Entry, f"host:{host}")
    return structs.replace(entry, record=records.get(host, ""))


def _required(texts: Mapping[str, str], field: str) -> str:
    if field not in texts:
        raise MalformedError(field)
    return texts[field]


def _number(texts: Mapping[str, str], field: str) -> int:
    number: int = _decode(_required(texts, field).encode(), int, field)
    return number


def _texts(reply: Any) -> Any:
    """A reply with text for bytes."""
    if isinstance(reply, list):
        return [_texts(one) for one in reply]
    return _text(reply) if isinstance(reply, bytes) else reply


def _text(given: bytes) -> str:
    try:
        return given.decode()
    except UnicodeDecodeError:
        raise MalformedError("text that is not UTF-8") from None


def _decode(text: bytes, kind: Any, field: str) -> Any:
    try:
        if impossible_in(msgspec.json.decode(text)) is None:
            return msgspec.json.decode(text, type=kind)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        pass
    raise MalformedError(field[:100])


def _convert(value: Any, kind: Any, what: str) -> Any:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError:
        raise MalformedError(what) from None
