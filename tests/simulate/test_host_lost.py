"""A host that is lost at the peak costs at most 1.25 times as many late jobs as the loss of as many instances."""

from __future__ import annotations

from benchmarks.host_lost import RATIO_MAX, late_jobs, pair
from fleetd.simulate.scoring.outcome import Score
from fleetd.simulate.trace.trace import Trace


def had_before(score: Score, trace: Trace) -> int:
    """Instances of the host that is lost, in the second before."""
    [(host, at)] = [(host.name, host.lost[0][0]) for host in trace.hosts if host.lost]
    return [count for second, count in score.hosts[host].instances if second < at][-1]


def test_late_jobs_of_a_lost_host_beside_as_many_lost_instances() -> None:
    lost, killed = pair()
    assert lost.queues == killed.queues
    assert lost.targets == killed.targets
    runs = late_jobs(lost.seed, (0, 3))  # seconds after a tick
    for one, other in runs:
        assert had_before(one, lost) == killed.faults[0].kill_instances, "as many"
        assert min(one.late_jobs, other.late_jobs) > 10_000, "it hurts, so the ratio means something"
    ratio = sum(one.late_jobs for one, _ in runs) / sum(other.late_jobs for _, other in runs)
    assert ratio <= RATIO_MAX
