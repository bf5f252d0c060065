"""A plan for 100 hosts of 16 instances and 50 queues costs at most 1.2 × 100 times one host's (benchmarks/)."""

from __future__ import annotations

import pytest

from benchmarks.fleet_plan import TARGET, Case, ratio


@pytest.mark.parametrize(("running", "threads"), [(16, 330), (2, 330)], ids=["steady", "surge"])
def test_a_fleet_s_plan_costs_its_leader_no_more_than_each_host_its_own(running: int, threads: int) -> None:
    assert ratio(Case(running, threads), rounds=5) <= TARGET
