"""The error of rebuilt waits: what is compared, and what is marked as doubtful."""

from __future__ import annotations

from fleetd.simulate.replay.replay import Ages, queue_error


def test_short_bursts_are_not_averaged_away_by_a_calm_day() -> None:
    calm, late = Ages(30.0), Ages(30.0)
    for second in range(86_400):
        calm.add(0.0, 1.0)
        late.add(59.0 if 5000 <= second < 5400 else 0.0, 1.0)
    error = queue_error(late.waits(), calm.waits(), 0.05)
    assert error.recorded.p95_seconds == 59.0
    assert error.recorded.late_seconds == 400.0
    assert set(error.doubts) == {"p95", "longest", "late"}
