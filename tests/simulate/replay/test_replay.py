"""The error of rebuilt waits: what is compared, and what is marked as doubtful."""

from __future__ import annotations

from msgspec import structs

from fleetd.simulate.replay.reconstruct import reconstruct
from fleetd.simulate.replay.replay import Ages, fleet_error, queue_error, run_under
from tests.support.builders.recordings import recorded
from tests.support.builders.traces import queue_toml, small_trace


def test_short_bursts_are_not_averaged_away_by_a_calm_day() -> None:
    calm, late = Ages(30.0), Ages(30.0)
    for second in range(86_400):
        calm.add(0.0, 1.0)
        late.add(59.0 if 5000 <= second < 5400 else 0.0, 1.0)
    error = queue_error(late.waits(), calm.waits(), 0.05)
    assert error.recorded.p95_seconds == 59.0
    assert error.recorded.late_seconds == 400.0
    assert set(error.doubts) == {"p95", "longest", "late"}


def test_a_time_in_which_fleetd_only_observed_shows_what_it_would_have_done() -> None:
    recording, _ = recorded(small_trace(queue_toml("default", "[[0, 5], [200, 150]]", 0.3), seconds=600))
    [change] = recording.policies
    watching = structs.replace(change, policy=structs.replace(change.policy, mode="observe"))
    acted = reconstruct(recording, "acted")
    observed = reconstruct(structs.replace(recording, policies=(watching,)), "observed")
    assert any("only observed" in note for note in observed.notes)
    outcome = run_under(observed, observed.policy, "current")
    assert outcome.score == run_under(acted, acted.policy, "current").score
    assert outcome.score.starts > 0
    assert fleet_error(acted, outcome) is not None
    assert fleet_error(observed, outcome) is None
