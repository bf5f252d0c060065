"""Whole runs of fleetd and its rivals on a small trace: scores, curves and broken laws."""

from __future__ import annotations

import json

import pytest

from fleetd.core.model.decision import Step, Verb
from fleetd.core.model.identity import InstanceKey
from fleetd.core.model.policy_tables import Policy
from fleetd.errors import ConfigError
from fleetd.simulate.policies.scaling import ByRival
from fleetd.simulate.policies.yardsticks import ORACLE_MARGINS
from fleetd.simulate.replay.reconstruct import with_policy
from fleetd.simulate.run import POLICIES, policy_of, run_fleetd, run_oracle, simulate
from fleetd.simulate.scoring.outcome import Recorder, document, reversals
from fleetd.simulate.trace.trace import Trace
from fleetd.simulate.world.daemon import SimulatedDaemon
from tests.support.builders.traces import PROFILE, queue_toml, small_trace, world_of

SURGE = queue_toml("default", "[[0, 10], [600, 10], [900, 150], [1200, 150], [1220, 10]]") + queue_toml(
    "push", "[[0, 2]]", 0.4
)


def surge_trace(more: str = "") -> Trace:
    return small_trace("[targets]\ndefault = 5\npush = 30\n" + SURGE, seconds=2400, profile=PROFILE + more)


def test_the_same_seed_replays_exactly() -> None:
    first, second = (document(surge_trace(), list(simulate(surge_trace(), None, ("fleetd",)))) for _ in range(2))
    assert first == second


def test_fleetd_handles_a_surge_in_time_breaks_no_law_and_loses_no_job() -> None:
    trace = surge_trace()
    outcome, sizes = run_fleetd(trace, policy_of(trace, None))
    score = outcome.score
    assert score.meets_objective
    assert (score.lost_jobs, score.law_breaks, score.over_budget_seconds, score.reversals) == (0, 0, 0, 0)
    assert max(sizes["local"]) >= 4
    assert sizes["local"][-1] < max(sizes["local"]), "it shrinks again"
    assert score.instance_seconds < 6 * 2400
    assert score.starts == max(sizes["local"]) - 1


def test_a_queue_without_a_target_is_never_late_and_starts_nothing() -> None:
    body = queue_toml("default", "[[0, 10]]") + queue_toml("pull", "[[0, 1]]", bursts="[[60, 100000]]")
    targets = "[targets]\ndefault = 5\n"
    by_target = {}
    for target in ("300", '"none"'):
        trace = small_trace(f"{targets}pull = {target}\n{body}", seconds=1200)
        for outcome in simulate(trace, None, POLICIES):
            by_target[outcome.policy, target] = outcome.score
        assert with_policy(trace, policy_of(trace, None)).targets == trace.targets
    never, late = by_target["fleetd", '"none"'], by_target["fleetd", "300"]
    assert late.starts > 0
    assert late.queues["pull"].late_jobs > 0
    assert (never.starts, never.law_breaks, never.left_waiting > 50_000) == (0, 0, True)
    assert all(by_target[name, '"none"'].queues["pull"].late_jobs == 0 for name in POLICIES)


def test_every_policy_runs_and_the_document_has_every_field() -> None:
    told = json.loads(document(surge_trace(), list(simulate(surge_trace(), None, POLICIES))))
    assert set(told["policies"]) == set(POLICIES)
    for scores in told["policies"].values():
        assert set(scores) == {
            "queues",
            "late_jobs",
            "instance_seconds",
            "starts",
            "stops",
            "reversals",
            "connections_max",
            "over_budget_seconds",
            "left_waiting",
            "lost_jobs",
            "law_breaks",
        }
        assert set(scores["queues"]["default"]) == {"jobs", "wait_seconds", "late_jobs", "late_fraction"}
        assert set(scores["queues"]["default"]["wait_seconds"]) == {"p50", "p95", "p99", "max"}
        assert scores["over_budget_seconds"] == 0
        assert scores["lost_jobs"] == 0
    jobs = {name: scores["queues"]["default"]["jobs"] for name, scores in told["policies"].items()}
    assert len(set(jobs.values())) == 1, "all meet the same traffic"
    cheap = told["policies"]["oracle"]["instance_seconds"]
    assert cheap <= told["policies"]["fleetd"]["instance_seconds"] <= told["policies"]["static"]["instance_seconds"]


def test_the_budget_applies_to_every_policy() -> None:
    trace = surge_trace(
        "[database]\nmax_connections = 60\nothers = [[0, 10]]\n"
    )  # 60 − 10 − 10 have room for three of 12
    for outcome in simulate(trace, None, ("fleetd", "static", "laravel", "keda-length")):
        assert outcome.score.connections_max <= 40, outcome.policy
        assert outcome.score.over_budget_seconds == 0


def test_claims_over_the_budget_are_counted_for_as_long_as_they_last() -> None:
    trace = surge_trace("[database]\nmax_connections = 60\nothers = [[0, 10], [599, 10], [600, 30]]\n")
    world = world_of(trace)
    recorder = Recorder(world)
    for number in range(2, 4):  # three instances claim 36 of 40
        world.start(InstanceKey(number))
    recorder.advance_to(100)
    assert recorder.over_budget_seconds == 0
    world.start(InstanceKey(4))
    recorder.advance_to(150)
    assert recorder.over_budget_seconds == 50
    world.stop(InstanceKey(4))
    recorder.advance_to(590)
    over = recorder.over_budget_seconds
    assert over < 60
    recorder.advance_to(700)  # the budget has shrunk to 20; claims from before that are forgiven
    assert recorder.over_budget_seconds == over
    world.stop(InstanceKey(3))
    recorder.advance_to(720)
    world.start(InstanceKey(3))
    recorder.advance_to(730)
    assert recorder.over_budget_seconds == over + 10, "and what comes after that is not"


def test_a_shrink_forgives_no_claims_that_were_over_the_budget_before() -> None:
    world = world_of(surge_trace("[database]\nmax_connections = 60\nothers = [[0, 10], [599, 10], [600, 30]]\n"))
    recorder = Recorder(world)
    for number in range(2, 5):
        world.start(InstanceKey(number))
    recorder.advance_to(700)
    assert recorder.over_budget_seconds == 700
    world = world_of(surge_trace("[database]\nmax_connections = 30\nothers = [[0, 10]]\n"))  # room for not even one
    recorder = Recorder(world)
    recorder.advance_to(100)
    assert recorder.over_budget_seconds == 0, "no policy is to blame for what serves at the start"


def test_boot_times_of_instances_that_serve_at_the_start_are_known() -> None:
    world = world_of(small_trace(SURGE, head="initial_instances = 2", seconds=2400))
    assert SimulatedDaemon(world).ticker.host_memory.boot_seconds == {"local": 15.0}
    world = world_of(small_trace(SURGE, head="initial_instances = 0", seconds=2400))
    assert SimulatedDaemon(world).ticker.host_memory.boot_seconds == {}


def test_outages_of_every_source_break_no_law() -> None:
    faults = "".join(
        f'[[faults]]\nat = {at}\nfor_seconds = 120\nsource = "{source}"\n'
        for at, source in ((500, "redis"), (700, "postgres"), (900, "systemd"))
    )
    trace = surge_trace(faults + "[[faults]]\nat = 1100\nkill_instances = 2\n")
    outcome, _ = run_fleetd(trace, policy_of(trace, None))
    assert outcome.breaks == ()
    assert outcome.score.law_breaks == 0
    assert outcome.score.lost_jobs > 0, "those of the killed"


def test_a_reversal_is_a_start_soon_after_a_stop_or_the_other_way_round() -> None:
    def step(verb: Verb, number: int) -> Step:
        return Step(verb=verb, key=InstanceKey(number), profile="p", why=ByRival())

    steps = [
        (0, step("start", 1)),
        (100, step("quiet", 1)),  # 100 s after the start
        (130, step("stop", 1)),  # the end of the same drain
        (900, step("start", 2)),  # 800 s after that began, so no reversal
        (950, step("start", 3)),
        (1000, step("stop", 3)),  # stops an instance that still boots
    ]
    assert reversals(steps) == 2


def test_a_trace_without_profiles_takes_the_configurations_and_needs_them() -> None:
    trace = small_trace("[targets]\n" + SURGE, seconds=2400, profile="")
    with pytest.raises(ConfigError, match=r"Add \[profiles.local\] to the trace, or name a fleetd.toml"):
        policy_of(trace, None)
    configured = Policy(host="x", profiles=policy_of(surge_trace(), None).profiles, targets_seconds={"default": 7.0})
    assert policy_of(trace, configured).target_seconds("default") == 7.0
    other = small_trace(queue_toml("unserved", "[[0, 1]]"), profile="")
    with pytest.raises(ConfigError, match="no profile serves this queue"):
        policy_of(other, configured)


@pytest.mark.parametrize(
    ("world", "tries_all"),
    [("", False), ("[database]\nmax_connections = 30\n", True)],
    ids=["enough", "too few"],
)
def test_the_oracles_progress_never_goes_back(world: str, tries_all: bool) -> None:
    told: list[float] = []

    def tell(_: str, share: float) -> None:
        told.append(share)

    trace = surge_trace(world)
    run_oracle(trace, policy_of(trace, None), tell)
    assert told == sorted(told)
    assert told[-1] == 1.0
    assert (5 / len(ORACLE_MARGINS) in told) is tries_all


def test_the_curve_covers_every_second_with_the_fewest_the_most_and_the_mean() -> None:
    trace = small_trace("[targets]\ndefault = 5\npush = 30\n" + SURGE, seconds=2410)
    outcome, sizes = run_fleetd(trace, policy_of(trace, None))
    step = outcome.curve.step_seconds
    parts = [sizes["local"][at : at + step] for at in range(0, 2410, step)]
    assert [tuple(spread) for spread in outcome.curve.instances["local"]] == [
        (min(part), max(part), sum(part) / len(part)) for part in parts
    ]
    assert max(s.highest for s in outcome.curve.claims) == outcome.score.connections_max
    assert len({*map(len, outcome.curve.ages.values()), len(outcome.curve.budget), len(parts)}) == 1
