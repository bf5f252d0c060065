"""The plan of a fleet survives its way through the ledger, and explains each host's counts without a gap."""

from __future__ import annotations

import ast
import inspect
import json
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from fleetd.core.demand import desired
from fleetd.core.fleet.sizes import PLAN_BYTES_MAX
from fleetd.core.model import reasons
from fleetd.core.model.person import Person
from fleetd.core.sharing.fleet_plan import (
    FleetClamp,
    FleetCounts,
    FleetPlan,
    FleetReason,
    HostShare,
    clamps_of,
    read,
    written,
)
from fleetd.words.reasons import sentence

PLAN = FleetPlan(
    leader="w1",
    profiles=(
        FleetCounts(
            name="default",
            needed_instances=12,
            desired_instances=10,
            shared_instances=9,
            running_instances=7,
            clamps=(
                FleetClamp(reason=reasons.AtMax(max_instances=10), before_instances=12, after_instances=10),
                FleetClamp(
                    reason=reasons.NoHostTakesMore(
                        missing_instances=1, hosts=(reasons.NotTaken(host="w2", why="memory"),), more_hosts=0
                    ),
                    before_instances=10,
                    after_instances=9,
                ),
            ),
            need=reasons.QueueNeeds(
                queue="default", length_jobs=900, latency_seconds=4.0, target_seconds=5.0, lasts_seconds=None
            ),
        ),
    ),
    hosts={
        "w1": {"default": HostShare(profile=0, desired_instances=5, goal_instances=5)},
        "w2": {
            "all": HostShare(
                profile=0,
                desired_instances=4,
                goal_instances=3,
                why=reasons.MovesAway(host="w2", fleet_instances=9, to_host="w3", queue="", pressed="host_pressure"),
            )
        },
    },
    scheduler_host="w1",
)


def test_a_plan_is_read_as_written() -> None:
    assert read(written(PLAN)) == PLAN
    assert read(written(FleetPlan(leader="w1"))) == FleetPlan(leader="w1")


def test_the_clamps_of_a_host_lead_from_the_need_to_its_count_without_a_gap() -> None:
    for host, own, count in (("w1", "default", 5), ("w2", "all", 4)):
        found = clamps_of(PLAN, host)
        assert [c.before_instances for c in found[1:]] == [c.after_instances for c in found[:-1]]
        assert (found[0].before_instances, found[-1].after_instances) == (12, count)
        assert {c.profile for c in found} == {own}
        assert (PLAN.needed_instances(host, own), PLAN.desired_instances(host)) == (12, {own: count})
    assert [sentence(c.reason) for c in clamps_of(PLAN, "w2")] == [
        "max is 10",
        "1 more is wanted, and no host takes it: w2 (no memory left)",
        "9 are wanted on all hosts together; one moves from w2 to w3: w2 is short (under pressure)",
        "9 are wanted on all hosts together, 3 of them on w2, once the one that comes on other hosts serves",
    ]
    assert (clamps_of(PLAN, "w3"), PLAN.needed_instances("w3", "x"), PLAN.desired_instances("w3")) == ((), None, {})


def test_a_host_that_has_all_of_a_profile_needs_no_reason_of_its_own() -> None:
    counts = FleetCounts(name="a", needed_instances=2, desired_instances=2, shared_instances=2, running_instances=2)
    share = HostShare(profile=0, desired_instances=2, goal_instances=2)
    assert clamps_of(FleetPlan(leader="w1", profiles=(counts,), hosts={"w1": {"a": share}}), "w1") == ()


@given(st.one_of(st.binary(), st.text(), st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps)))
def test_garbage_is_no_plan(garbage: str | bytes) -> None:
    assert read(garbage) is None


def test_a_later_format_and_what_no_fleetd_wrote_are_no_plan() -> None:
    document: dict[str, Any] = json.loads(written(PLAN))
    assert read(json.dumps({**document, "later": 1})) == PLAN
    for wrong in (
        {"format": 2},
        {"format": 0},
        {"leader": 1},
        {"hosts": {"w1": {"default": [1, 5, 5]}}},  # a profile that there is not
        {"hosts": {"w1": {"default": [0, -1, 5]}}},
        {"hosts": {"w1": {"default": [0, 5, 5, {"type": "NoSuchReason"}]}}},
        {"profiles": [{**document["profiles"][0], "needed_instances": 10**30}]},
        {"profiles": [{**document["profiles"][0], "clamps": [[{"type": "AtMax", "max_instances": 10**30}, 1, 1]]}]},
    ):
        assert read(json.dumps({**document, **wrong})) is None, wrong
    assert read("{" * 100_000) is None
    text = json.dumps(document)
    assert read(text.ljust(PLAN_BYTES_MAX)) == PLAN
    assert read(text.ljust(PLAN_BYTES_MAX + 1)) is None, "the ledger takes none so long"


#: What a host says of the plan; none of them is in it.
OF_ONE_HOST = {"FleetGathers", "PlanMissing", "PlannedByLeader"}


def reasons_of_desired() -> set[str]:
    tree = ast.parse(inspect.getsource(desired))
    return {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "reasons"
        if issubclass(getattr(reasons, node.attr, int), reasons.ClampReason)
    }


def test_every_reason_that_changes_what_is_desired_can_be_in_a_plan() -> None:
    known = {kind.__name__ for kind in get_args(FleetReason)}
    of_desired = reasons_of_desired()
    assert {"AtMin", "QueuesLate", "SetByPeople"} <= of_desired
    assert of_desired - {"ClampReason", "HeartbeatsMissing", *OF_ONE_HOST} <= known  # that one becomes all hosts'
    assert {kind.__name__ for kind in get_args(reasons.HoldReason)} <= known


@pytest.mark.parametrize(
    "reason",
    [
        reasons.SetByPeople(instances=3, person=Person(user="root", login="alice")),
        reasons.Paused(note="moving", person=None),
        reasons.HeartbeatsMissingThere(workers=("mastodon-sidekiq@1.w2",), more_workers=2),
    ],
    ids=lambda reason: type(reason).__name__,
)
def test_reasons_keep_what_is_in_them(reason: Any) -> None:
    counts = structs.replace(PLAN.profiles[0], clamps=(FleetClamp(reason=reason),))
    plan = structs.replace(PLAN, profiles=(counts,))
    assert read(written(plan)) == plan
