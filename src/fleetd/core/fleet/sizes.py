"""How large a call may be (law 7): whatever is kept of it is kept for as long as the fleet lives.

What counts is the text in which it is sent and kept, as msgspec writes it.
"""

from __future__ import annotations

import msgspec
from msgspec import structs

from fleetd.core.fleet.calls import Admit, Beat, Commit

#: Of names: a host, what an order is about.
NAME_BYTES_MAX = 256
#: Of what a host tells the leader, and of one order.
RECORD_BYTES_MAX = 8192
#: Of a host's claims: 200 processes with three sources each. As much again for everything else that is kept of a host.
CLAIMS_BYTES_MAX = 32_768
#: Of the plan and the memory together: those of HOSTS_MAX hosts with 16 profiles each take 350 kB.
PLAN_BYTES_MAX = 524_288
#: Of what is only looked at: 128 hosts with 40 processes each, by name.
SEEN_BYTES_MAX = 524_288


def text(value: object) -> str:
    """As it is sent and kept."""
    return msgspec.json.encode(value).decode()


def bytes_of(value: str) -> int:
    return len(value.encode())


def beat_too_large(call: Beat) -> bool:
    return (
        bytes_of(call.record) > RECORD_BYTES_MAX
        or bytes_of(text(call.claims)) > CLAIMS_BYTES_MAX
        or bytes_of(text(without_record_and_claims(call))) > CLAIMS_BYTES_MAX
        or bytes_of(call.host) > NAME_BYTES_MAX
    )


def without_record_and_claims(call: Beat) -> Beat:
    """What is left of a beat where these two are sent for themselves."""
    return structs.replace(call, record="", claims=None)


def admit_too_large(call: Admit) -> bool:
    return (
        bytes_of(text(call.claims)) > CLAIMS_BYTES_MAX
        or bytes_of(text((call.missing, call.starts))) > CLAIMS_BYTES_MAX
        or bytes_of(text(without_claims_and_starts(call))) > SEEN_BYTES_MAX
    )


def without_claims_and_starts(call: Admit) -> Admit:
    """What is left of it where its claims, and what is missing and to be started, are sent for themselves."""
    return structs.replace(call, claims={}, missing={}, starts=())


def commit_too_large(call: Commit) -> bool:
    return bytes_of(call.plan) + bytes_of(call.memory) > PLAN_BYTES_MAX


def without_plan(call: Commit) -> Commit:
    """What is left of it where plan and memory are sent for themselves."""
    return structs.replace(call, plan="", memory="")


def order_too_large(about: str, what: str | None) -> bool:
    return bytes_of(about) > NAME_BYTES_MAX or (what is not None and bytes_of(what) > RECORD_BYTES_MAX)
