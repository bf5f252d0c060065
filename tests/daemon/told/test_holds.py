"""Each thing that can hold the fleet is told by every table that tells holds."""

from __future__ import annotations

from typing import get_args

from fleetd.cli.advice.verdict import HOLD_CODES
from fleetd.core.model.reasons.counts import HoldReason
from fleetd.core.model.status import HoldKind
from fleetd.daemon.tell_holds import KINDS, UNTIL
from fleetd.words.reasons import HOLDS

ALL = set(get_args(HoldKind))


def test_every_reason_has_a_kind_and_every_kind_its_words() -> None:
    assert set(KINDS) == set(get_args(HoldReason))
    assert set(KINDS.values()) == ALL == set(UNTIL)
    assert HOLD_CODES.keys() <= ALL
    told = {KINDS[reason] for reason in HOLDS}
    assert ALL - told == {"pause", "units"}, "they are told as an order, and by their unit"
