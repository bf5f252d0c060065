"""The scripts do what the rules say: after each call of a history, the same answer and the same ledger."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from msgspec import structs

from fleetd.adapters.ledger.answers import admitted, beat_reply, done, ledger_in
from fleetd.adapters.ledger.arguments import (
    admit_arguments,
    beat_arguments,
    commit_arguments,
    forget_arguments,
    order_arguments,
)
from fleetd.core.fleet import rules
from fleetd.core.fleet.admission import admit
from fleetd.core.fleet.calls import Admit, Beat, BeatReply, Commit, Refusal, Server
from fleetd.core.fleet.rules import SILENT_MS
from fleetd.core.fleet.sizes import CLAIMS_BYTES_MAX, RECORD_BYTES_MAX, text
from fleetd.core.fleet.state import HOSTS_MAX, ORDERS_MAX, LedgerState
from tests.support.fleet.histories import FLEET, HOSTS, Actor, Step, picked, steps
from tests.support.fleet.ledger_calls import beat_of
from tests.support.fleet.ledger_script import Scripted
from tests.support.rig.redis_server import admin, redis_server

WEEK_MS = 7 * 86_400_000


class Pair:
    """The rules on a state in memory, and the script on Redis."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._scripted = Scripted(client)
        self.state: LedgerState | None = None
        self.time_ms, self.run = 1_700_000_000_123, 0

    @property
    def server(self) -> Server:
        return Server(time_ms=self.time_ms, run_id=f"run{self.run}")

    def lose(self) -> None:
        self._client.delete("fleetd:ledger")
        self.state = None

    def beat(self, call: Beat) -> BeatReply | Refusal:
        self.state, expected = rules.beat(self.state, call, self.server)
        assert beat_reply(self._reply(beat_arguments(call))) == expected
        return expected

    def admit(self, call: Admit) -> None:
        self.state, expected = admit(self.state, call, self.server)
        assert admitted(self._reply(admit_arguments(call))) == expected

    def commit(self, call: Commit) -> None:
        self.state, expected = rules.commit(self.state, call, self.server)
        assert done(self._reply(commit_arguments(call))) == expected

    def order(self, about: str, what: str | None) -> None:
        self.state, expected = rules.order(self.state, about, what)
        assert done(self._reply(order_arguments(about, what))) == expected

    def forget(self, host: str) -> None:
        self.state, expected = rules.forget(self.state, host)
        assert done(self._reply(forget_arguments(host))) == expected

    def _reply(self, arguments: tuple[str, ...]) -> object:
        reply, fields = self._scripted.run(arguments, self.server)
        assert ledger_in(fields) == self.state
        return reply


def carry_out(pair: Pair, actor: Actor, step: Step) -> None:
    pair.time_ms += step.jump_ms
    match step.op:
        case "beat":
            reply = pair.beat(actor.beat(step))
            if isinstance(reply, BeatReply):
                actor.hear(reply)
        case "admit":
            pair.admit(actor.admit(step))
        case "commit":
            pair.commit(actor.commit(step))
        case "order":
            what = picked(step.choice, None, '{"paused":true}', "x" * (9000 if step.odd == "too large" else 5))
            pair.order(f"about {step.choice % 3}", what)
        case "forget":
            pair.forget(actor.name)
        case "run_id":
            pair.run += 1
        case "lost":
            pair.lose()
        case "week":
            # The clock goes by a few seconds a beat, but a host that knows it to be later is believed.
            call = actor.beat(step._replace(odd=""))
            reply = pair.beat(structs.replace(call, generation=call.generation + 1, clock_ms=call.clock_ms + WEEK_MS))
            if isinstance(reply, BeatReply):
                actor.hear(reply)


def history(client: redis.Redis, chosen: list[Step]) -> None:
    client.delete("fleetd:ledger")
    pair, actors = Pair(client), {name: Actor(name) for name in HOSTS}
    for step in chosen:
        carry_out(pair, actors[step.host], step)


@pytest.fixture(scope="module")
def ledger_client() -> Iterator[redis.Redis]:
    with redis_server() as server, admin(server) as client:
        yield client


SHORT = settings(
    max_examples=200,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


@given(steps)
@SHORT
def test_histories(ledger_client: redis.Redis, chosen: list[Step]) -> None:
    history(ledger_client, chosen)


def test_more_hosts_than_a_ledger_has(ledger_client: redis.Redis) -> None:
    """In two rounds, so that each knows the generation, and with members that do not fit either."""
    ledger_client.delete("fleetd:ledger")
    pair = Pair(ledger_client)
    members = tuple(f"member{n}" for n in range(20))
    for generation in (0, 1):
        for n in range(HOSTS_MAX + 3 if generation else HOSTS_MAX - 10):
            pair.time_ms += 100
            call = Beat(
                fleet=FLEET,
                host=f"host{n}",
                boot_id=f"boot{n}",
                nonce="a",
                tick_ms=5_000,
                generation=generation,
                members=members if n == 5 else (),
                claims={f"mastodon-sidekiq@1.host{n}": {"pg": n}},
                record="r" * 8_000 if n < 3 else "",
                schedulers=(),
            )
            reply = pair.beat(call)
    assert isinstance(reply, Refusal)
    assert pair.state is not None
    assert len(pair.state.hosts) == HOSTS_MAX


def test_a_host_that_is_gone_and_comes_back(ledger_client: redis.Redis) -> None:
    ledger_client.delete("fleetd:ledger")
    pair, known = Pair(ledger_client), dict[str, BeatReply]()

    def beat(host: str, **fields: Any) -> BeatReply:
        pair.time_ms += 10_000
        reply = pair.beat(beat_of(host, known.get(host), **fields))
        assert isinstance(reply, BeatReply)
        known[host] = reply
        return reply

    while any(beat(host, plan_format=1 + (host == "w1")).gathering is not None for host in ("w1", "w2")):
        pass
    for _ in range(SILENT_MS // 10_000):
        assert not beat("w1", plan_format=2).alone
    reply = beat("w1", plan_format=2, ended=(("w2", ""),))
    assert (reply.alone, reply.plan_format) == (True, 2)
    reply = beat("w2")
    assert (reply.alone, reply.plan_format) == (False, 1)


def test_a_clock_that_went_back_and_a_clone_of_a_slow_machine(ledger_client: redis.Redis) -> None:
    ledger_client.delete("fleetd:ledger")
    pair = Pair(ledger_client)

    def beat(**fields: Any) -> bool:
        pair.time_ms += 10_000
        return isinstance(pair.beat(beat_of("w1", **fields)), BeatReply)

    assert beat(sent_ms=10**9)
    assert [beat(sent_ms=n) for n in range(SILENT_MS // 10_000 + 1)] == [False] * (SILENT_MS // 10_000 - 1) + [True] * 2
    clone = [beat(boot_id="a clone", tick_ms=20_000) for _ in range(8)]
    assert clone == [False] * 5 + [True] * 3


def test_as_many_and_as_large_as_may_be(ledger_client: redis.Redis) -> None:
    ledger_client.delete("fleetd:ledger")
    pair = Pair(ledger_client)
    claims = {"n": {"s" * (CLAIMS_BYTES_MAX - len(text({"n": {"": 1}}))): 1}}
    for more in (0, 1):
        call = beat_of("w1", record="r" * (RECORD_BYTES_MAX + more))
        assert isinstance(pair.beat(call), Refusal) == bool(more)
    assert isinstance(pair.beat(beat_of("w1", claims=claims)), BeatReply)
    for n in range(ORDERS_MAX + 2):
        pair.order(f"about {n}", "o" * (RECORD_BYTES_MAX - 1 + n % 2))
    pair.order("about 0", "another")
    assert pair.state is not None
    assert len(pair.state.orders) == ORDERS_MAX


@pytest.mark.long
@given(steps)
@settings(SHORT, max_examples=20_000)
def test_many_histories(ledger_client: redis.Redis, chosen: list[Step]) -> None:
    history(ledger_client, chosen)
