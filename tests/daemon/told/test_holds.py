"""Each thing that can hold the fleet is told by every table that tells holds."""

from __future__ import annotations

from typing import get_args, get_type_hints

from fleetd.cli.advice.verdict import HOLD_CODES
from fleetd.core.model.reasons.counts import HoldReason
from fleetd.core.model.status import HoldStatus
from fleetd.daemon import tell
from fleetd.words.reasons import HOLDS

KINDS = set(get_args(get_type_hints(HoldStatus)["kind"]))


def test_every_reason_has_a_kind_and_every_kind_its_words() -> None:
    assert set(tell._HOLD_KINDS) == set(get_args(HoldReason))
    assert set(tell._HOLD_KINDS.values()) == KINDS == set(tell._HELD_UNTIL)
    assert HOLD_CODES.keys() <= KINDS
    told = {tell._HOLD_KINDS[reason] for reason in HOLDS}
    assert KINDS - told == {"pause", "units"}, "they are told as an order, and by their unit"
