"""Numbers in a unit's properties: what systemd gives for a time that never came, and what can't be."""

from __future__ import annotations

from typing import Any

import pytest

from fleetd.adapters.systemd.unit_properties import SeenUnit
from tests.support.builders.unit_rows import unit_properties

NOW = 90.0


def age_seconds(**changed: Any) -> float:
    return SeenUnit.from_properties("mastodon-sidekiq@1.service", unit_properties(**changed)).at(NOW).state_age_seconds


def test_a_state_change_that_never_came_counts_from_the_boot_of_the_host() -> None:
    assert age_seconds(StateChangeTimestampMonotonic=80_000_000) == 10.0
    assert age_seconds(StateChangeTimestampMonotonic=0) == NOW
    assert age_seconds(StateChangeTimestampMonotonic=2**64 - 1) == NOW


@pytest.mark.parametrize("value", [-1, 2**64 - 2, 2**53 + 1, int("9" * 400), 1.5, float("inf"), "soon", True, None])
@pytest.mark.parametrize("name", ["MainPID", "NRestarts", "StateChangeTimestampMonotonic"])
def test_a_number_that_cannot_be_is_no_reading(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"^{name} is not"):
        age_seconds(**{name: value})


def test_a_pid_is_one_that_linux_gives() -> None:
    with pytest.raises(ValueError, match="MainPID"):
        age_seconds(MainPID=2**22 + 1)


@pytest.mark.parametrize("value", [10**12, "abc", None])
def test_an_invocation_id_is_bytes(value: Any) -> None:
    """bytes(10**12) would ask for as many zeros."""
    with pytest.raises(TypeError):
        age_seconds(InvocationID=value)
