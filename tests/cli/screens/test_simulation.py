"""What `fleetctl replay` says about how far its numbers can be trusted."""

from __future__ import annotations

from fleetd.cli.screens.simulation import error_sentence
from fleetd.simulate.replay.replay import Doubt, QueueError, Waits


def error(*doubts: Doubt) -> QueueError:
    waits = Waits(mean_seconds=1.0, p95_seconds=3.0, longest_seconds=3.0, late_share=0.0, late_seconds=0.0)
    return QueueError(recorded=waits, reconstructed=waits, jobs_factor=1.1, doubts=doubts, trusted=not doubts)


def test_numbers_that_cannot_be_trusted_are_marked() -> None:
    said = error_sentence({"default": error(), "pull": error("longest"), "push": error("jobs")})
    assert "waits of pull are far from" in said
    assert "How many jobs push had is not known well" in said
    assert "default" not in said
    assert "are close to the recorded ones" in error_sentence({"default": error()})
