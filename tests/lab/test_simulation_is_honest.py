"""A surge on real Sidekiq goes as the simulator says, within 25 % or 1 s; longer ones: long/test_honest.py."""

from __future__ import annotations

import pytest

from tests.lab import honest
from tests.lab.agreement import disagreements, steps_told

pytestmark = pytest.mark.lab


def test_a_surge_goes_as_simulated() -> None:
    real = honest.played(honest.SHORT)
    trace = honest.booting(honest.trace_of(honest.SHORT), real.boot_seconds)
    simulated = honest.simulated(trace)
    print(f"real: {steps_told(real.course.counts)}; simulated: {steps_told(simulated.counts)}")
    assert disagreements(real.course, simulated) == []
    # A comparison that can't fail is worth nothing.
    assert disagreements(real.course, honest.simulated(honest.slower(trace, 1.5)))
