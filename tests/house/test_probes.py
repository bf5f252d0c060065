"""Each claim of `status --json` has a probe, or a reason why no other program can confirm it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

import msgspec

from fleetd.core.model.status import Status
from tests.support.lab.probes.claims import CLAIMS, UNPROBED


def paths(struct: type[msgspec.Struct], before: str = "") -> Iterator[str]:
    """Every field that holds no further struct."""
    for field in msgspec.structs.fields(struct):
        inner = next(_structs(field.type), None)
        if inner is None or f"{before}{field.name}" in UNPROBED:
            yield f"{before}{field.name}"
        else:
            yield from paths(inner, f"{before}{field.name}.")


def _structs(kind: Any) -> Iterator[type[msgspec.Struct]]:
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        yield kind
    for part in get_args(kind):
        yield from _structs(part)


def test_every_claim_is_in_the_table() -> None:
    told = set(paths(Status))
    assert told - CLAIMS.keys() - UNPROBED.keys() == set()
    assert (CLAIMS.keys() | UNPROBED.keys()) - told == set(), "none is left over"
    assert CLAIMS.keys() & UNPROBED.keys() == set()
    assert len(CLAIMS) > 40
