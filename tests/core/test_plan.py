"""The plan: needed, desired, admitted, and what gives way. The numbers are worked out by hand.

The policy of most tests: one strict profile of @1 to @6, each with 5 threads, 7 connections, min 1. In each instance 4
threads are planned to be busy.
"""

from __future__ import annotations

import pytest

from fleetd.core.demand.desired import HoldWindow
from fleetd.core.demand.needed import DemandMemory
from fleetd.core.instances.host_memory import HostMemory
from fleetd.core.instances.host_tick import HostConstraints
from fleetd.core.model.decision import Clamp
from fleetd.core.model.facts import UnitFacts
from fleetd.core.model.identity import InstanceKey
from fleetd.core.model.policy_tables import ConnectionPolicy
from fleetd.core.model.reasons.base import ClampCode
from fleetd.core.model.reasons.counts import (
    AddedByHand,
    ClaimsAboveBudget,
    ClientsRefused,
    HeartbeatsMissing,
    LimitSet,
    MemoryStalled,
    NoConnectionsLeft,
    QueuesLate,
    TakenAwayByHand,
)
from fleetd.core.model.reasons.units import PinKind
from fleetd.core.plan import FleetDecision, FleetMemory, plan
from fleetd.words.reasons import sentence
from tests.support.builders.decisions import CALM, NOW, ROOMY, decide, pinned, watched
from tests.support.builders.readings import (
    MIB,
    database,
    fleet,
    process,
    queue,
    sidekiq,
    snapshot,
    systemd,
    tag,
    tick_of,
    unit,
)
from tests.support.world.ports import policy, strict, weighted


def counts(decision: FleetDecision) -> dict[str, int]:
    return {name: p.admitted_instances for name, p in decision.plan.profiles["w1"].items()}


def clamp(decision: FleetDecision, code: ClampCode, profile: str = "default-first") -> Clamp:
    return next(c for c in decision.clamps if c.code == code and c.profile == profile)


def codes(decision: FleetDecision) -> list[str]:
    return [c.code.value for c in decision.clamps]


def test_the_fleet_grows_at_once_to_what_is_needed() -> None:
    decision = decide(policy(), busy=17)  # 17 / 4 = 4.25
    assert counts(decision) == {"default-first": 5}
    assert codes(decision) == []


def test_min_is_kept_and_given_as_the_reason() -> None:
    decision = decide(policy(strict(low=2)), running=2)
    assert counts(decision) == {"default-first": 2}
    assert codes(decision) == ["min"]


def test_max_is_kept() -> None:
    decision = decide(policy(strict(high=3)), running=3, busy=40)
    assert counts(decision) == {"default-first": 3}
    at_max = clamp(decision, ClampCode.MAX)
    assert (at_max.before_instances, at_max.after_instances) == (10, 3)


def test_within_the_tolerance_nothing_grows() -> None:
    # 2 run, with 8 threads planned to be busy. 8.8 is 10 % more; 9 is beyond that.
    assert counts(decide(policy(), running=2, busy=8)) == {"default-first": 2}
    rules = policy()
    memory = FleetMemory(demand=DemandMemory(at_seconds=NOW, busy_mean_threads={"default": 8.8}))
    assert counts(decide(rules, running=2, busy=8, memory=memory)) == {"default-first": 2}
    memory = FleetMemory(demand=DemandMemory(at_seconds=NOW, busy_mean_threads={"default": 8.81}))
    assert counts(decide(rules, running=2, busy=8, memory=memory)) == {"default-first": 3}


def test_nothing_goes_down_before_the_window_has_been_watched() -> None:
    decision = decide(policy(), running=4)
    assert counts(decision) == {"default-first": 4}
    assert clamp(decision, ClampCode.HOLD_WINDOW).after_instances == 4


def test_the_count_goes_down_to_the_highest_of_the_window() -> None:
    assert counts(decide(policy(), running=5, memory=watched(3))) == {"default-first": 3}


def test_the_count_goes_down_to_min_if_nothing_was_needed_in_the_window() -> None:
    decision = decide(policy(), running=5, memory=watched(0))
    assert counts(decision) == {"default-first": 1}
    assert codes(decision) == ["min"]


def test_unknown_latency_keeps_what_runs_and_restores_min() -> None:
    decision = decide(policy(), running=4, no_redis=True, memory=watched(0))
    assert counts(decision) == {"default-first": 4}
    assert counts(decide(policy(strict(low=3)), running=1, no_redis=True)) == {"default-first": 3}
    assert decision.memory.windows == {}  # the window starts again


def test_with_unknown_headroom_only_min_is_restored() -> None:
    decision = decide(policy(strict(low=2)), running=1, busy=40, postgres=None)
    assert counts(decision) == {"default-first": 2}
    assert clamp(decision, ClampCode.HEADROOM_UNKNOWN).after_instances == 2


def test_with_systemd_unknown_nothing_is_decided() -> None:
    rules = policy()
    shot = snapshot(rules, redis=sidekiq(queue("default", busy=40)), postgres=ROOMY)
    before = watched(3)
    decision = plan(tick_of(rules, shot), before)
    assert decision.plan.profiles == {"w1": {}}
    assert codes(decision) == ["systemd_unknown"]
    assert decision.memory.windows == before.windows


def test_an_unreadable_queue_holds_only_the_profiles_that_serve_it() -> None:
    rules = policy(strict(numbers="1-4"), strict("mail", "5-8", queues="mailers"))
    units = systemd({n: unit(pid=n) for n in (1, 2, 3, 5, 6)})
    beats = tuple(process(tag(n), pid=n) for n in units.units)
    long_ago = HoldWindow(since_seconds=0.0, entries=((NOW - 5.0, 0),))
    memory = FleetMemory(windows={"default-first": long_ago, "mail": long_ago})
    readable = sidekiq(*(queue(q) for q in ["default", "push", "ingress", "pull", "fasp", "mailers"]), processes=beats)
    assert counts(decide(rules, units=units, redis=readable, memory=memory)) == {
        "default-first": 1,
        "mail": 1,
    }
    without_pull = sidekiq(*(queue(q) for q in ["default", "push", "ingress", "fasp", "mailers"]), processes=beats)
    assert counts(decide(rules, units=units, redis=without_pull, memory=memory)) == {
        "default-first": 3,
        "mail": 1,
    }


@pytest.mark.parametrize("age", [5.0, 5000.0])
def test_an_instance_without_a_heartbeat_holds_only_its_own_profile(age: float) -> None:
    # As after Redis lost its data: all queues are empty, and which jobs run is unknown until the next beat.
    rules = policy(strict(numbers="1-4"), strict("mail", "5-8", queues="mailers"))
    units = systemd({n: unit(pid=n, age=age) for n in (1, 2, 3, 5, 6)})
    long_ago = HoldWindow(since_seconds=0.0, entries=((NOW - 5.0, 0),))
    busy = DemandMemory(at_seconds=NOW - 5.0, busy_mean_threads={"default": 4.0})
    memory = FleetMemory(demand=busy, windows={"default-first": long_ago, "mail": long_ago})
    beats = tuple(process(tag(n), pid=n, started=age) for n in (1, 3, 5, 6))
    redis = sidekiq(queue("default"), *(queue(q) for q in CALM), processes=beats)
    decision = decide(rules, units=units, redis=redis, memory=memory)
    assert counts(decision) == {"default-first": 3, "mail": 1}
    reason = clamp(decision, ClampCode.LATENCY_UNKNOWN).reason
    assert reason == HeartbeatsMissing(keys=(InstanceKey(2),))
    assert "@2 has no heartbeat" in sentence(reason)
    # Its load is not forgotten either.
    assert decision.memory.demand.busy_mean_threads["default"] == 4.0


def test_a_profile_keeps_its_size_while_a_queue_of_it_waits_too_long() -> None:
    rules = policy(strict(numbers="1-4"), strict("mail", "5-8", queues="mailers"))
    units = systemd({n: unit(pid=n) for n in (1, 2, 3, 5, 6)})
    long_ago = HoldWindow(since_seconds=0.0, entries=((NOW - 5.0, 0),))
    memory = FleetMemory(windows={"default-first": long_ago, "mail": long_ago})
    beats = tuple(process(tag(n), pid=n) for n in units.units)
    calm = [q for q in CALM if q != "pull"]

    def with_pull_waiting(age_seconds: float) -> FleetDecision:
        waiting = queue("pull", 3, age=age_seconds)
        redis = sidekiq(queue("default"), waiting, *(queue(q) for q in calm), processes=beats)
        return decide(rules, units=units, redis=redis, memory=memory)

    target = rules.target_seconds("pull")
    late = with_pull_waiting(target + 1.0)
    assert counts(late) == {"default-first": 3, "mail": 1}
    reason = clamp(late, ClampCode.HOLD_WINDOW).reason
    assert reason == QueuesLate(queues=("pull",))
    assert "pull waits longer than its target" in sentence(reason)
    assert counts(with_pull_waiting(target - 1.0)) == {"default-first": 1, "mail": 1}


def test_growth_stops_at_the_last_instance_whose_connections_fit() -> None:
    # limit 50 − 3 − reserve 10 − others 9 = 28 = 4 × 7.
    decision = decide(policy(), running=1, busy=40, postgres=database(maximum=50, clients=10))
    assert counts(decision) == {"default-first": 4}
    assert clamp(decision, ClampCode.CONNECTIONS).reason == NoConnectionsLeft(
        source="postgres",
        needed_connections=7,
        left_connections=0,
        limit_connections=47,
        limit_set=LimitSet(by="server", to_connections=50, reserved_connections=3),
        reserve_connections=10,
        others_connections=9,
        claimed_connections=28,
    )


def test_the_reason_names_claims_that_are_above_the_budget() -> None:
    # limit 30 − 3 − reserve 10 − others 9 = 8, which is less than the 2 × 7 that run.
    decision = decide(policy(strict(low=2)), running=2, busy=40, postgres=database(maximum=30, clients=10))
    assert clamp(decision, ClampCode.CONNECTIONS).reason == NoConnectionsLeft(
        source="postgres",
        needed_connections=7,
        left_connections=0,
        limit_connections=27,
        limit_set=LimitSet(by="server", to_connections=30, reserved_connections=3),
        reserve_connections=10,
        others_connections=9,
        claimed_connections=14,
    )


def test_one_missing_connection_means_one_instance_fewer() -> None:
    decision = decide(policy(), running=1, busy=40, postgres=database(maximum=49, clients=10))
    assert counts(decision) == {"default-first": 3}


def test_not_even_min_is_started_beyond_the_budget() -> None:
    decision = decide(policy(strict(low=3)), running=1, postgres=database(maximum=36, clients=10))
    assert counts(decision) == {"default-first": 2}  # 36 − 3 − 10 − 9 = 14
    assert clamp(decision, ClampCode.CONNECTIONS).after_instances == 2


def test_min_of_all_profiles_comes_before_more_of_the_most_important() -> None:
    rules = policy(strict(numbers="1-6"), strict("mail", "7-8", queues="mailers", low=2))
    decision = decide(rules, running=1, busy=40, postgres=database(maximum=50, clients=10))
    assert counts(decision) == {"default-first": 2, "mail": 2}


def test_an_instance_ordered_a_moment_ago_has_a_claim() -> None:
    # @1 and @2 serve. @3 was ordered but systemd does not show it yet. That makes 21 of 28.
    hosts = HostMemory().with_start(InstanceKey(3), NOW - 1.0)
    decision = decide(policy(), running=2, busy=40, hosts=hosts, postgres=database(maximum=50, clients=10))
    assert decision.claims_connections == 21
    assert counts(decision) == {"default-first": 4}  # 3 count, one more fits


def test_draining_instances_and_those_of_other_hosts_have_claims() -> None:
    _, beats = fleet(2)
    units = systemd({n: unit(pid=100 + n) for n in (1, 2, 3)})
    quiet = process(tag(3), pid=103, quiet=True)
    stray = process(tag(1, host="w2"), hostname="w2")
    redis = sidekiq(queue("default", busy=40), processes=(*beats, quiet, stray))
    decision = decide(policy(), units=units, redis=redis, postgres=database(maximum=50, clients=10))
    assert decision.claims_connections == 28
    assert counts(decision) == {"default-first": 2}


def test_instances_of_other_hosts_still_count_while_redis_is_unknown() -> None:
    stray = process(tag(1, host="w2"), hostname="w2")
    rules = policy(strict(low=3))
    units, beats = fleet(1)
    tight = database(maximum=50, clients=10)  # 28
    first = decide(rules, units=units, redis=sidekiq(processes=(*beats, stray)), postgres=tight)
    later = decide(rules, units=units, no_redis=True, memory=first.memory, postgres=tight)
    assert later.claims_connections == first.claims_connections == 14


def test_instances_give_way_at_once_when_the_budget_shrinks() -> None:
    # 5 run (35) and the budget is 21. Two must go at once, however many are needed.
    decision = decide(policy(), running=5, busy=40, postgres=database(maximum=43, clients=10))
    assert counts(decision) == {"default-first": 3}
    above = clamp(decision, ClampCode.CONNECTIONS)
    assert above.after_instances == 3
    assert above.reason == ClaimsAboveBudget(source="postgres", claimed_connections=35, budget_connections=21)
    assert sentence(above.reason) == "all claims are 35 connections, the budget is 21: giving way"


def test_a_profile_gives_way_down_to_min_and_no_further() -> None:
    decision = decide(policy(strict(low=2)), running=5, busy=40, postgres=database(maximum=14, clients=10))
    assert counts(decision) == {"default-first": 2}


def test_the_least_important_profile_gives_way_first() -> None:
    rules = policy(strict(numbers="1-3"), weighted(numbers="4-6", low=1))
    units = systemd({n: unit() for n in range(1, 7)})
    decision = decide(rules, units=units, busy=40, postgres=database(maximum=50, clients=10))  # 28
    assert counts(decision) == {"default-first": 3, "weighted": 1}


def test_an_instance_that_drains_already_counts_as_given_back() -> None:
    # @1-@5 claim 35 of 28. @5 is already quiet and draining, and the other four fit.
    _, beats = fleet(4)
    units = systemd({n: unit(pid=100 + n) for n in range(1, 6)})
    redis = sidekiq(queue("default", busy=40), processes=(*beats, process(tag(5), pid=105, quiet=True)))
    decision = decide(policy(), units=units, redis=redis, postgres=database(maximum=50, clients=10))
    assert counts(decision) == {"default-first": 4}


def test_an_instance_that_goes_for_lack_of_work_counts_as_given_back() -> None:
    # 5 claim 35 of 28. Only 4 were needed in the window, and those fit.
    decision = decide(policy(), running=5, memory=watched(4), postgres=database(maximum=50, clients=10))
    assert counts(decision) == {"default-first": 4}


def test_nothing_gives_way_for_connections_of_an_instance_that_has_just_ended() -> None:
    # @5's unit is gone, but Postgres still shows its 7 connections: 28 + 7. Those end by themselves.
    postgres = database(maximum=50, clients=17, workers={"mastodon-sidekiq@5.w1": 7})
    assert counts(decide(policy(), running=4, busy=40, postgres=postgres)) == {"default-first": 4}


def test_nothing_gives_way_while_latency_is_unknown() -> None:
    decision = decide(policy(), running=5, no_redis=True, postgres=database(maximum=43, clients=10))
    assert counts(decision) == {"default-first": 5}


def test_when_postgres_refuses_growth_stops_and_nothing_is_ended() -> None:
    decision = decide(policy(), running=3, busy=40, postgres=database(refused=True))
    assert counts(decision) == {"default-first": 3}
    reason = clamp(decision, ClampCode.CONNECTIONS).reason
    assert reason == ClientsRefused(source="postgres")
    assert "Postgres refuses new clients" in sentence(reason)


def test_memory_stops_growth_but_not_min() -> None:
    # 3 GiB − 512 MiB of reserve are enough for two more.
    assert counts(decide(policy(), running=1, busy=40, available=3 * 1024 * MIB)) == {"default-first": 3}
    assert counts(decide(policy(strict(low=4)), running=1, busy=40, available=0)) == {"default-first": 4}


def test_memory_is_set_aside_for_an_instance_that_boots() -> None:
    units = systemd({1: unit(), 2: unit("activating", age=5.0)})
    decision = decide(policy(), units=units, busy=40, available=3 * 1024 * MIB)
    assert counts(decision) == {"default-first": 3}  # 2.5 GiB, of which @2 will still take 1 GiB: one more fits


def test_nothing_is_shed_for_memory_while_another_instance_goes_already() -> None:
    # default-first goes from 2 to 1 for lack of work. mail is less important, and has one above its min.
    rules = policy(strict(numbers="1-4"), strict("mail", "5-8", queues="mailers"))
    units = systemd({n: unit(pid=n) for n in (1, 2, 5, 6)})
    beats = tuple(process(tag(n), pid=n) for n in units.units)
    redis = sidekiq(queue("default"), *(queue(q) for q in CALM), processes=beats)
    short = HostConstraints(shed=MemoryStalled(share=0.5, limit=0.1))
    shot = snapshot(rules, redis=redis, postgres=ROOMY, units=units)
    assert counts(plan(tick_of(rules, shot, constraints=short), watched(1))) == {"default-first": 1, "mail": 2}
    assert counts(plan(tick_of(rules, shot, constraints=short), watched(2))) == {"default-first": 2, "mail": 1}


def test_an_instance_that_a_person_stopped_is_not_replaced() -> None:
    decision = decide(policy(), running=2, busy=12, hosts=pinned({3: PinKind.STOPPED}))  # 3 are needed
    assert counts(decision) == {"default-first": 2}
    reason = clamp(decision, ClampCode.PINNED).reason
    assert reason == TakenAwayByHand(instances=1)
    assert sentence(reason) == "1 stopped or quieted by people: left so, and not replaced"


def test_a_persons_stop_is_no_reason_to_end_another_instance() -> None:
    # The two that still run are needed. The pin is no reason to end one of them.
    decision = decide(policy(), running=2, busy=8, hosts=pinned({3: PinKind.STOPPED}), memory=watched(2))
    assert counts(decision) == {"default-first": 2}


def test_min_takes_precedence_over_a_persons_stop() -> None:
    decision = decide(policy(strict(low=3)), running=2, busy=0, hosts=pinned({3: PinKind.STOPPED}))
    assert counts(decision) == {"default-first": 3}


def test_in_a_large_surge_the_fleet_grows_despite_a_persons_stop() -> None:
    assert counts(decide(policy(), running=2, busy=40, hosts=pinned({3: PinKind.STOPPED}))) == {"default-first": 6}


def test_no_instance_is_ended_in_exchange_for_one_that_a_person_started() -> None:
    decision = decide(policy(), running=3, hosts=pinned({3: PinKind.RUN}), memory=watched(1))
    assert counts(decision) == {"default-first": 2}
    reason = clamp(decision, ClampCode.PINNED).reason
    assert reason == AddedByHand(instances=1)
    assert sentence(reason) == "1 started or pinned by people: kept, and no other is stopped in exchange"


def test_an_instance_that_a_person_started_stays_even_above_max() -> None:
    decision = decide(policy(strict(high=2)), running=3, busy=40, hosts=pinned({3: PinKind.RUN}))
    assert counts(decision) == {"default-first": 3}


def test_others_give_way_to_the_budget_before_one_that_a_person_started() -> None:
    hosts = pinned({5: PinKind.RUN})
    decision = decide(policy(), running=5, busy=40, hosts=hosts, postgres=database(maximum=43, clients=10))
    assert counts(decision) == {"default-first": 3}


def test_the_tolerance_band_does_not_swallow_overflow() -> None:
    # 14 are busy on default. @1-@2 carry 8; the other 6 need two of weighted, of which one runs.
    rules = policy(strict(numbers="1-2"), weighted(numbers="3-6"))
    units = systemd({n: unit() for n in (1, 2, 3)})
    assert counts(decide(rules, units=units, busy=14)) == {"default-first": 2, "weighted": 2}


def test_the_plans_claims_include_what_it_starts() -> None:
    decision = decide(policy(), running=1, busy=17)
    assert decision.plan.claims_connections == 7 + 4 * 7


def test_the_epoch_grows_and_the_plan_expires() -> None:
    decision = decide(policy(), memory=FleetMemory(epoch=41))
    assert (decision.plan.epoch, decision.memory.epoch) == (42, 42)
    assert decision.plan.expires_at_seconds == NOW + 4 * 5.0


def test_within_budget_says_whether_the_scheduler_may_start() -> None:
    assert decide(policy(), running=4, postgres=database(maximum=50, clients=10)).within_budget
    assert not decide(policy(), running=4, postgres=database(maximum=49, clients=10)).within_budget
    assert decide(policy(), running=4, postgres=None).within_budget
    assert not decide(policy(), running=1, postgres=database(refused=True)).within_budget


def test_a_unit_that_is_not_configured_has_no_claim() -> None:
    quiet_night = ConnectionPolicy(limit=10)
    decision = decide(
        policy(connections=quiet_night),
        running=0,
        units=systemd({9: UnitFacts(name="x", load_state="loaded", active_state="active", sub_state="")}),
    )
    assert decision.claims_connections == 0  # @9 is not configured and does not say what it was started with
