"""What a host asks of the ledger, and what it tells of the answer, on a real Ticker."""

from __future__ import annotations

from msgspec import structs

from fleetd.core.asking import refusal_reason
from fleetd.core.fleet.calls import Admit, Admitted, Beat, Code, Refusal
from fleetd.core.model.decision import Clamp
from fleetd.core.model.policy_tables import Policy, SchedulerPolicy
from fleetd.core.model.reasons.fleet import NotGranted
from fleetd.core.sharing.report import read
from fleetd.words.reasons import sentence
from tests.support.fleet.several import Fleet, HostRig
from tests.support.world.ports import BY_HAND, policy, strict


def host(name: str) -> Policy:
    scheduler = SchedulerPolicy(place="elsewhere", threads=5, db_pool=7)
    return structs.replace(policy(strict(numbers="1-4"), scheduler=scheduler, pace=BY_HAND), host=name)


class Asked:
    """What one host says to the ledger. `refuses`: every start is refused for want of connections."""

    def __init__(self, rig: HostRig) -> None:
        self.admits: list[Admit] = []
        self.orders: list[str] = []
        self.beats: list[Beat] = []
        self.refuses = False
        ledger = rig.ledger
        say, admit, order = ledger.say, ledger.admit, ledger.order

        def said(call: Beat) -> None:
            self.beats.append(call)
            say(call)

        async def admitted(call: Admit) -> Admitted:
            self.admits.append(call)
            if self.refuses:
                return Admitted(granted=0, refusal=Refusal(code=Code.CLAIMS, about="postgres", over=7))
            return await admit(call)

        async def ordered(about: str, what: str | None) -> Refusal | None:
            self.orders.append(about)
            return await order(about, what)

        ledger.say, ledger.admit, ledger.order = said, admitted, ordered  # type: ignore[method-assign]


def busy() -> tuple[Fleet, Asked]:
    """w1 alone, settled, with work for more."""
    fleet = Fleet(host("w1"))
    fleet.run(100.0)
    asked = Asked(fleet.rigs["w1"])
    fleet.worlds["w1"].enqueue("default", 500)
    return fleet, asked


def refused(beat: Beat) -> str:
    report = read(beat.record, "w1")
    assert report is not None
    return report.profiles[0].refused


def test_what_claims_do_not_fit_into_is_named_as_this_host_calls_it() -> None:
    """The ledger knows it by what it says of itself: Postgres by a number of twenty digits."""
    refusal = Refusal(code=Code.CLAIMS, about="7713951601776586041", over=3)
    reason = refusal_reason(refusal, (), {"pgbouncer": "10.0.0.1:6432", "postgres": "7713951601776586041"})
    assert reason == NotGranted(source="postgres", over_connections=3)
    assert "the connections of Postgres: 3 are missing" in sentence(reason)


def test_what_is_not_granted_is_not_started_and_is_said() -> None:
    fleet, asked = busy()
    asked.refuses = True
    fleet.run(20.0)
    assert asked.admits
    assert fleet.running("w1") == 1
    clamp = next(c for c in fleet.last["w1"].clamps if isinstance(c.reason, NotGranted))
    assert clamp == Clamp(
        reason=NotGranted(source="postgres", over_connections=7),
        profile="default-first",
        before_instances=clamp.before_instances,
        after_instances=1,
    )
    assert (clamp.before_instances or 0) > 1
    asked.refuses = False
    fleet.run(10.0)
    assert fleet.running("w1") > 1


def test_the_leader_hears_of_it_for_a_minute() -> None:
    fleet, asked = busy()
    asked.refuses = True
    while not asked.admits:
        fleet.tick()
    beats = len(asked.beats)  # the next one is the first that tells it
    world = fleet.worlds["w1"]
    world.queues["default"].clear()
    while fleet.tick()["w1"].host.steps:
        pass
    fleet.run(120.0)
    asks = len(asked.admits)
    said = [refused(beat) for beat in asked.beats[beats:]]
    assert said[0] == "connections"
    assert said.count("connections") == 60 // 5 - 1 + asks - 1  # each question begins the minute anew
    assert said[-1] == ""


def test_a_tick_that_only_tries_asks_for_nothing() -> None:
    fleet, asked = busy()
    fleet.rigs["w1"].ticker.only_tries = True
    fleet.run(30.0)
    assert asked.admits == []
    fleet.rigs["w1"].ticker.only_tries = False
    fleet.tick()
    assert asked.admits


def test_many_lost_orders_are_told_a_few_a_tick() -> None:
    fleet, asked = busy()
    lost = {f"pause w{number}": "{}" for number in range(6)}
    fleet.rigs["w1"].ticker.part._lost = dict(lost)
    fleet.tick()
    assert asked.orders == list(lost)[:4]
    fleet.tick()
    assert asked.orders == list(lost)
