"""What every Ledger promises to the hosts of a fleet. Its rules have their own tests: tests/core/fleet."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Protocol

import pytest

from fleetd.core.fleet.calls import Admitted, Beat, BeatReply, Code, Commit, Refusal, Start
from fleetd.errors import SourceUnavailableError
from fleetd.ports import Ledger
from tests.support.fleet.ledger_calls import admit_of, beat_of

CLAIMS = {"mastodon-sidekiq@1.w1": {"pg": 10}}


class LedgerCase(Protocol):
    """A fleet's ledger, as two hosts have it."""

    def ledger_of(self, host: str) -> Ledger: ...

    async def read(self, host: str) -> None:
        """A reading on this host, with what it said to the ledger; it may fail."""
        ...

    def pass_time(self, milliseconds: int) -> None:
        """By the ledger's own clock."""
        ...

    def lose(self) -> None:
        """All that is kept is gone."""
        ...

    def break_connection(self) -> None: ...

    def heal_connection(self) -> None: ...


LedgerCheck = Callable[[LedgerCase], Coroutine[Any, Any, None]]


async def answered(case: LedgerCase, call: Beat) -> BeatReply:
    """The answer to a beat, which is not refused."""
    case.ledger_of(call.host).say(call)
    await case.read(call.host)
    heard = case.ledger_of(call.host).heard()
    assert isinstance(heard, BeatReply)
    return heard


async def gathered(case: LedgerCase, **fields: Any) -> dict[str, BeatReply]:
    """The last answers to two hosts, w1 the leader, once all that there is has been told."""
    replies = {host: await answered(case, beat_of(host)) for host in ("w1", "w2")}
    for _ in range(6):
        case.pass_time(4_000)
        for host in replies:
            replies[host] = await answered(case, beat_of(host, replies[host], **fields))
    assert replies["w1"].gathering is None
    return replies


async def a_first_beat_begins_to_gather_and_leads(case: LedgerCase) -> None:
    assert case.ledger_of("w1").heard() is None
    reply = await answered(case, beat_of("w1"))
    assert (reply.generation, reply.gathering, reply.leader, reply.token) == (1, ("w1",), "w1", 1)
    assert (reply.alone, reply.members, reply.orders) == (True, ("w1",), {})


async def only_the_leader_is_told_of_all_hosts(case: LedgerCase) -> None:
    replies = await gathered(case, claims=CLAIMS)
    assert replies["w2"].token is None
    assert replies["w2"].told is None
    told = replies["w1"].told
    assert told is not None
    assert {host: one.record for host, one in told.items()} == {"w1": "record of w1", "w2": "record of w2"}
    assert told["w2"].claims == CLAIMS


async def what_has_not_changed_is_left_out(case: LedgerCase) -> None:
    replies = await gathered(case)
    assert (replies["w2"].orders, replies["w2"].members, replies["w2"].planned) == (None, None, None)


async def a_plan_reaches_the_others_and_its_memory_only_the_leader(case: LedgerCase) -> None:
    known = await gathered(case)
    commit = Commit(host="w1", token=1, generation=1, epoch=1, plan="plan", memory="memory")
    assert await case.ledger_of("w1").commit(commit) is None
    assert await case.ledger_of("w1").commit(commit) == Refusal(code=Code.EPOCH)
    planned = [(await answered(case, beat_of(host, known[host]))).planned for host in ("w1", "w2")]
    assert [(one.epoch, one.plan, one.memory) for one in planned if one is not None] == [
        (1, "plan", "memory"),
        (1, "plan", ""),
    ]


async def who_begins_to_lead_gets_the_memory_of_a_plan_that_it_knows(case: LedgerCase) -> None:
    known = await gathered(case)
    commit = Commit(host="w1", token=1, generation=1, epoch=1, plan="plan", memory="memory")
    assert await case.ledger_of("w1").commit(commit) is None
    known["w2"] = await answered(case, beat_of("w2", known["w2"]))
    await answered(case, beat_of("w1", known["w1"], fit=False))
    reply = await answered(case, beat_of("w2", known["w2"]))
    assert reply.token == 2
    assert reply.planned is not None
    assert (reply.planned.epoch, reply.planned.memory) == (1, "memory")
    assert (await answered(case, beat_of("w2", reply, has_memory=True))).planned is None


async def starts_are_granted_as_long_as_they_fit(case: LedgerCase) -> None:
    await gathered(case)
    starts = [Start(name=f"mastodon-sidekiq@{n}.w1", claims={"pg": 10}) for n in (1, 2, 3)]
    refusal = Refusal(code=Code.CLAIMS, about="pg", over=5)
    assert await case.ledger_of("w1").admit(admit_of("w1", *starts)) == Admitted(granted=2, refusal=refusal)
    one = Start(name="mastodon-sidekiq@1.w2", claims={"pg": 5})
    assert await case.ledger_of("w2").admit(admit_of("w2", one)) == Admitted(granted=1)


async def orders_are_told_and_ended(case: LedgerCase) -> None:
    known = await gathered(case)
    assert await case.ledger_of("w2").order("default", '{"pin":3}') is None
    known["w1"] = await answered(case, beat_of("w1", known["w1"]))
    assert known["w1"].orders == {"default": '{"pin":3}'}
    assert await case.ledger_of("w1").order("default", None) is None
    assert (await answered(case, beat_of("w1", known["w1"]))).orders == {}


async def who_is_forgotten_is_no_member(case: LedgerCase) -> None:
    known = await gathered(case)
    assert await case.ledger_of("w1").forget("w2") is None
    assert (await answered(case, beat_of("w1", known["w1"]))).members == ("w1",)


async def a_call_that_is_too_large_is_refused(case: LedgerCase) -> None:
    await gathered(case)
    ledger, large, refusal = case.ledger_of("w1"), "x" * 1_000_000, Refusal(code=Code.TOO_LARGE)
    ledger.say(beat_of("w1", record=large))
    await case.read("w1")
    assert ledger.heard() == refusal
    claims = {large: {"pg": 1}}
    assert await ledger.admit(admit_of("w1", claims=claims)) == Admitted(granted=0, refusal=refusal)
    assert await ledger.order("default", large) == refusal
    assert await ledger.commit(Commit(host="w1", token=1, generation=1, epoch=1, plan=large, memory="")) == refusal


async def what_was_lost_is_gathered_again(case: LedgerCase) -> None:
    known = await gathered(case)
    case.lose()
    assert await case.ledger_of("w1").order("default", "{}") == Refusal(code=Code.NO_LEDGER)
    reply = await answered(case, beat_of("w2", known["w2"]))
    assert (reply.generation, reply.gathering) == (2, ("w2",))
    assert reply.clock_ms >= known["w2"].clock_ms


async def nothing_is_heard_and_every_call_says_so_while_it_can_not_be_reached(case: LedgerCase) -> None:
    await answered(case, beat_of("w1"))
    ledger = case.ledger_of("w1")
    case.break_connection()
    ledger.say(beat_of("w1"))
    await case.read("w1")
    assert ledger.heard() is None
    commit = Commit(host="w1", token=1, generation=1, epoch=1, plan="", memory="")
    for call in (ledger.admit(admit_of("w1")), ledger.commit(commit), ledger.order("a", None), ledger.forget("w2")):
        with pytest.raises(SourceUnavailableError, match="can't be reached"):
            await call
    case.heal_connection()
    assert (await answered(case, beat_of("w1"))).leader == "w1"
    await ledger.close()


ledger_contract: tuple[LedgerCheck, ...] = (
    a_first_beat_begins_to_gather_and_leads,
    only_the_leader_is_told_of_all_hosts,
    what_has_not_changed_is_left_out,
    a_plan_reaches_the_others_and_its_memory_only_the_leader,
    who_begins_to_lead_gets_the_memory_of_a_plan_that_it_knows,
    starts_are_granted_as_long_as_they_fit,
    orders_are_told_and_ended,
    who_is_forgotten_is_no_member,
    a_call_that_is_too_large_is_refused,
    what_was_lost_is_gathered_again,
    nothing_is_heard_and_every_call_says_so_while_it_can_not_be_reached,
)
