"""The table of transitions, against the drawing that people read."""

from __future__ import annotations

import re

from fleetd.core.instances.lifecycle import TRANSITIONS
from fleetd.core.model.decision import InstanceState
from tests.support.project import PROJECT

DRAWN = (PROJECT / "docs/instances.md").read_text()


def test_every_state_has_its_row_and_is_reached() -> None:
    assert set(TRANSITIONS) == set(InstanceState)
    assert set().union(*TRANSITIONS.values()) == set(InstanceState)


def test_what_is_drawn_is_allowed() -> None:
    arrows = re.findall(r"^ +(\w+) --> (\w+)", DRAWN, re.MULTILINE)
    assert len(arrows) > 20
    for before, after in arrows:
        assert InstanceState(after) in TRANSITIONS[InstanceState(before)], f"{before} --> {after}"


def test_quiet_cannot_be_undone() -> None:
    """From a quiet process no way leads back to serving but through a fresh process."""
    quiet = {InstanceState.DRAINING, InstanceState.QUIETING, InstanceState.UNDRAINABLE}
    for state in quiet:
        assert not TRANSITIONS[state] & {InstanceState.SERVING, InstanceState.OUTDATED}
