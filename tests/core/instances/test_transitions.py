"""The table of transitions agrees with the drawing in the docs."""

from __future__ import annotations

import re

from fleetd.core.instances.lifecycle import TRANSITIONS
from fleetd.core.model.decision import InstanceState
from tests.support.project import PROJECT

DRAWN = (PROJECT / "docs/instances.md").read_text()


def test_every_state_has_a_row_and_can_be_reached() -> None:
    assert set(TRANSITIONS) == set(InstanceState)
    assert set().union(*TRANSITIONS.values()) == set(InstanceState)


def test_every_drawn_transition_is_allowed() -> None:
    arrows = re.findall(r"^ +(\w+) --> (\w+)", DRAWN, re.MULTILINE)
    assert len(arrows) > 20
    for before, after in arrows:
        assert InstanceState(after) in TRANSITIONS[InstanceState(before)], f"{before} --> {after}"


def test_quiet_cannot_be_undone() -> None:
    """A quiet process never serves again. Only a new process does."""
    quiet = {InstanceState.DRAINING, InstanceState.QUIETING, InstanceState.UNDRAINABLE}
    for state in quiet:
        assert not TRANSITIONS[state] & {InstanceState.SERVING, InstanceState.OUTDATED}
