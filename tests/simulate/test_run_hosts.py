"""Whole runs of several hosts: one fleet, one scheduler, one budget, whatever happens to a host."""

from __future__ import annotations

import json

import pytest

from fleetd.errors import ConfigError
from fleetd.simulate.run import POLICIES, policy_of, run_fleetd, simulate
from fleetd.simulate.scoring.outcome import Outcome, document
from fleetd.simulate.trace.trace import Trace
from tests.support.builders.traces import hosts_toml, queue_toml, small_trace

#: Work for less than an instance of 10 threads, and from 20 minutes on for seven.
SURGE = queue_toml("default", "[[0, 20], [900, 20], [1200, 300], [1800, 300]]") + queue_toml("push", "[[0, 2]]", 0.4)
STEADY = queue_toml("default", "[[0, 60]]")
TARGETS = "[targets]\ndefault = 5\npush = 30\n"


def fleet(body: str = SURGE, *, seconds: int = 1800, **hosts: str) -> Trace:
    return small_trace(TARGETS + hosts_toml(**hosts) + body, seconds=seconds)


def run(trace: Trace) -> Outcome:
    return run_fleetd(trace, policy_of(trace, None))[0]


def test_a_surge_is_shared_out_and_no_law_is_broken() -> None:
    outcome = run(fleet(w1="", w2="cores = 8", w3='place = "elsewhere"'))
    score = outcome.score
    assert outcome.breaks == ()
    assert score.meets_objective
    assert (score.lost_jobs, score.over_budget_seconds) == (0, 0)
    last = {name: host.instances[-1][1] for name, host in score.hosts.items()}
    assert all(last.values()), "each host has some"
    assert last["w2"] > max(last["w1"], last["w3"]), "that with the most cores has the most"
    assert sum(last.values()) >= 7
    assert score.instance_seconds == sum(host.instance_seconds for host in score.hosts.values())
    assert score.scheduler == [(0, ("w1",))], "it stays where it is"


def test_a_lost_host_is_made_up_for_and_its_scheduler_taken_over_after_the_time_for_that() -> None:
    outcome = run(fleet(w1="lost = [[1250, 1750]]", w2="", w3=""))
    score = outcome.score
    assert outcome.breaks == ()
    w1 = dict(score.hosts["w1"].instances)
    assert w1[1250] == 0
    assert w1[1750] == 1, "the boot starts min"
    others = [host.instances[-1][1] for name, host in score.hosts.items() if name != "w1"]
    assert sum(others) >= 7, "the others do its work"
    assert score.hosts["w1"].lost_jobs > 0
    assert score.lost_jobs == score.hosts["w1"].lost_jobs
    (_, first), (lost_at, nobody), (taken_at, taker) = score.scheduler
    assert (first, lost_at, nobody) == (("w1",), 1251, ())
    assert taker in (("w2",), ("w3",))
    # takeover_seconds from when its heartbeat expires, and a boot.
    assert 1250 + 300 <= taken_at <= 1250 + 60 + 300 + 40


@pytest.mark.parametrize("outage", ["frozen", "cut_off"])
def test_a_host_that_comes_back_after_a_takeover_ends_its_own_scheduler(outage: str) -> None:
    outcome = run(fleet(STEADY, w1=f"{outage} = [[600, 1100]]", w2="", seconds=1300))
    score = outcome.score
    assert outcome.breaks == ()
    assert [hosts for _, hosts in score.scheduler] == [("w1",), (), ("w2",), ("w1", "w2"), ("w2",)]
    begins, ends = score.scheduler[3][0], score.scheduler[4][0]
    assert 1100 <= begins <= 1102
    assert ends - begins <= 11, "within two ticks"
    assert score.lost_jobs == 0


def test_a_host_cut_off_for_less_than_the_takeover_keeps_its_scheduler() -> None:
    outcome = run(fleet(STEADY, w1="cut_off = [[600, 800]]", w2="", seconds=1000))
    assert outcome.breaks == ()
    assert [hosts for _, hosts in outcome.score.scheduler] == [("w1",), (), ("w1",)]


def test_one_budget_for_all_hosts() -> None:
    # 90 − 10 have room for the scheduler's 12 and five instances of 12; each host alone would take six.
    outcome = run(fleet(SURGE + "[database]\nmax_connections = 90\n", w1="", w2="", w3=""))
    assert outcome.breaks == ()
    assert outcome.score.connections_max == 12 + 5 * 12
    assert outcome.score.over_budget_seconds == 0


def test_faults_of_sources_and_kills_meet_every_host() -> None:
    faults = '[[faults]]\nat = 300\nfor_seconds = 100\nsource = "redis"\n[[faults]]\nat = 500\nkill_instances = 2\n'
    score = run(fleet(STEADY + faults, w1="", w2="", seconds=700)).score
    assert score.law_breaks == 0
    assert all(host.lost_jobs for host in score.hosts.values())


def test_the_document_has_the_hosts_and_the_same_seed_replays_exactly() -> None:
    trace = fleet(STEADY, w1="lost = [[200, 400]]", w2="", seconds=600)
    first, second = (document(trace, list(simulate(trace, None, ("fleetd",)))) for _ in range(2))
    assert first == second
    score = json.loads(first)["policies"]["fleetd"]
    assert set(score["hosts"]["w1"]) == {"instance_seconds", "starts", "stops", "lost_jobs", "instances"}
    assert score["scheduler"][0] == [0, ["w1"]]
    trace = small_trace(TARGETS + STEADY)
    alone = json.loads(document(trace, list(simulate(trace, None, ("fleetd",)))))["policies"]["fleetd"]
    assert not {"hosts", "scheduler"} & set(alone), "a trace without hosts has none"


def test_one_host_with_a_ledger_does_as_one_without() -> None:
    alone, without = run(fleet(w1="")).score, run(small_trace(TARGETS + SURGE, seconds=1800)).score
    assert (alone.starts, alone.stops) == (without.starts, without.stops)
    assert alone.instance_seconds == pytest.approx(without.instance_seconds, rel=0.02)
    assert alone.late_jobs == pytest.approx(without.late_jobs, rel=0.1, abs=50)


def test_only_fleetd_runs_on_several_hosts() -> None:
    with pytest.raises(ConfigError, match=r"hosts: only fleetd runs on several hosts, not static, hpa"):
        next(simulate(fleet(w1=""), None, POLICIES))
