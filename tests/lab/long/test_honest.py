"""Two traces on real Sidekiq go as the simulator says, within 25 % or 1 s; figures: benchmarks/policies.md."""

from __future__ import annotations

import pytest

from tests.lab import honest
from tests.lab.agreement import HEAD, disagreements, rows, steps_told

pytestmark = [pytest.mark.lab, pytest.mark.long]


@pytest.mark.parametrize("name", honest.LONG)
def test_a_trace_goes_as_simulated(name: str) -> None:
    trace = honest.trace_of(name)
    real, simulated = honest.played(name), honest.simulated(trace)
    print("\n".join([*HEAD, *rows(name, real.course, simulated)]))
    print(f"real: {steps_told(real.course.counts)}; boots of {[round(s, 1) for s in real.boot_seconds]} s")
    print(f"simulated: {steps_told(simulated.counts)}")
    assert disagreements(real.course, simulated) == []
    assert disagreements(real.course, honest.simulated(honest.slower(trace, 1.5)))
