"""RedisLedger on a real Redis: its own calls, its beat in a reading of Sidekiq, rights, and what others write there."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import redis

from fleetd.adapters.ledger.ledger import LEDGER_KEY, RedisLedger
from fleetd.adapters.ledger.rights import RIGHTS, key_right
from fleetd.adapters.ledger.script import SCRIPT
from fleetd.adapters.redis.connection import RedisConnection
from fleetd.adapters.sidekiq.reading import SidekiqRedis
from fleetd.adapters.sidekiq.rights import rights as reading_rights
from fleetd.config.connections import RedisSettings
from fleetd.core.fleet.calls import Admit, Admitted, Beat, BeatReply, Code, Commit, Refusal, Start
from fleetd.core.fleet.state import HOSTS_MAX
from fleetd.errors import SourceUnavailableError
from tests.support.project import PROJECT
from tests.support.rig.redis_server import WAIT_SECONDS, RedisServer, command, redis_server

NAME = "mastodon-sidekiq@1.w1"


def beat(host: str = "w1", **fields: Any) -> Beat:
    given: dict[str, Any] = {"claims": {}, "record": "{}", "schedulers": (), "own_scheduler": "gone"} | fields
    return Beat(fleet="a/b", host=host, boot_id=f"boot {host}", nonce=f"nonce {host}", tick_ms=5000, **given)


class Host:
    """A ledger and the reading that carries its beat."""

    def __init__(self, server: RedisServer, **settings: Any) -> None:
        found = RedisSettings(unix_socket=server.socket, **settings)
        connection = RedisConnection(found, timeout_seconds=WAIT_SECONDS)
        self.ledger = RedisLedger(found, connection, deadline_seconds=WAIT_SECONDS)
        self.sidekiq = SidekiqRedis(found, queues=(), read_timeout_seconds=WAIT_SECONDS, rider=self.ledger)

    async def beat(self, call: Beat) -> BeatReply | Refusal | None:
        self.ledger.say(call)
        await self.sidekiq.read()
        return self.ledger.heard()

    async def close(self) -> None:
        await self.ledger.close()
        await self.sidekiq.close()


def story(server: RedisServer, tell: Callable[[Host], Awaitable[None]], **settings: Any) -> None:
    async def told() -> None:
        host = Host(server, **settings)
        try:
            await tell(host)
        finally:
            await host.close()

    asyncio.run(told())


def test_a_beat_travels_with_the_reading_and_gathering_begins(shared_redis: RedisServer, client: redis.Redis) -> None:
    async def tell(host: Host) -> None:
        assert host.ledger.heard() is None
        assert await host.ledger.read() is None
        await host.beat(beat())
        client.script_flush()
        reply = await host.beat(beat())
        assert isinstance(reply, BeatReply)
        assert reply.gathering == ("w1",)
        assert reply.token == 1
        state = await host.ledger.read()
        assert state is not None
        assert state.hosts["w1"].nonce == "nonce w1"
        assert state.run_id == client.info("server")["run_id"]
        assert abs(state.time_ms - client.time()[0] * 1000) < 600_000
        assert client.ttl(LEDGER_KEY) == -1

    story(shared_redis, tell)


def test_a_namespace_comes_before_the_key(shared_redis: RedisServer, client: redis.Redis) -> None:
    async def tell(host: Host) -> None:
        assert isinstance(await host.beat(beat()), BeatReply)
        assert client.keys(f"*{LEDGER_KEY}*") == [f"social:{LEDGER_KEY}".encode()]

    story(shared_redis, tell, namespace="social")


def test_what_was_said_is_sent_once(shared_redis: RedisServer, client: redis.Redis) -> None:
    async def tell(host: Host) -> None:
        await host.beat(beat())
        await host.sidekiq.read()
        assert isinstance(host.ledger.heard(), BeatReply)
        host.ledger.say(beat())
        assert host.ledger.heard() is None
        host.ledger.missed()
        assert host.ledger.commands() == ()
        assert (host.ledger.heard(), host.ledger.fault()) == (None, None)

    story(shared_redis, tell)


def test_the_other_calls_are_answered(shared_redis: RedisServer, client: redis.Redis) -> None:
    async def tell(host: Host) -> None:
        ledger = host.ledger
        start = Start(name=NAME, claims={"pg": 10})
        admit = Admit(
            host="w1", nonce="nonce w1", generation=1, claims={}, missing={}, starts=(start, start), limits={"pg": 9}
        )
        commit = Commit(host="w1", token=1, generation=1, epoch=1, plan="p", memory="m")
        assert await ledger.admit(admit) == Admitted(granted=0, refusal=Refusal(code=Code.NO_LEDGER))
        assert await ledger.commit(commit) == Refusal(code=Code.NO_LEDGER)
        assert await ledger.order("a", "b") == Refusal(code=Code.NO_LEDGER)
        await host.beat(beat())
        await host.beat(beat(generation=1))
        assert await ledger.admit(admit) == Admitted(granted=0, refusal=Refusal(code=Code.GATHERING))
        client.hset(LEDGER_KEY, "gathering_ms", "")  # as after 20 s
        refusal = Refusal(code=Code.CLAIMS, about="pg", over=1)
        assert await ledger.admit(admit) == Admitted(granted=0, refusal=refusal)
        assert await ledger.commit(commit) == Refusal(code=Code.ALONE)
        assert await ledger.order("w1", '{"pause":true}') is None
        reply = await host.beat(beat(generation=1))
        assert isinstance(reply, BeatReply)
        assert reply.orders == {"w1": '{"pause":true}'}
        assert await ledger.order("w1", None) is None
        assert await ledger.forget("w1") is None
        state = await ledger.read()
        assert state is not None
        assert (state.hosts, state.orders) == ({}, {})

    story(shared_redis, tell)


@pytest.mark.parametrize(
    "break_it",
    [
        lambda client: client.delete(LEDGER_KEY) and client.set(LEDGER_KEY, "a string"),
        lambda client: client.delete(LEDGER_KEY) and client.rpush(LEDGER_KEY, "a", "b"),
        lambda client: client.delete(LEDGER_KEY) and client.hset(LEDGER_KEY, "a", "b"),
        lambda client: client.hset(LEDGER_KEY, "generation", "1e300"),
        lambda client: client.hset(LEDGER_KEY, "clock_ms", "9" * 400),
        lambda client: client.hset(LEDGER_KEY, "time_ms", "nan"),
        lambda client: client.hset(LEDGER_KEY, "unit", "\xff"),
        lambda client: client.hset(LEDGER_KEY, "fleet", "x" * 2_000_000),
        lambda client: client.hdel(LEDGER_KEY, "token"),
        lambda client: client.hset(LEDGER_KEY, "host:w1", "{"),
        lambda client: client.hset(LEDGER_KEY, "host:w1", "[" * 100_000),
        lambda client: client.hset(LEDGER_KEY, "host:w1", "7"),
        lambda client: client.hset(LEDGER_KEY, "host:w1", '{"boot_id":1}'),
        lambda client: client.hset(LEDGER_KEY, "host:w2", "{}\xff"),
        lambda client: client.hset(LEDGER_KEY, "claims:w2", '{"a":{"pg":1e99}}'),
        lambda client: client.hset(LEDGER_KEY, "claims:w2", '{"a":{"pg":"1"}}'),
        lambda client: client.hset(LEDGER_KEY, "claims:w2", '{"a":{"pg":-9}}'),
        lambda client: client.hset(LEDGER_KEY, "claims:w2", '["a"]'),
        lambda client: client.hset(LEDGER_KEY, "claims:w2", "y" * 2_000_000),
        lambda client: client.hset(LEDGER_KEY, mapping={f"more {n}": "" for n in range(100_000)}),
        lambda client: client.hset(LEDGER_KEY, mapping={f"claims:x{n}": "{}" for n in range(HOSTS_MAX * 4)}),
    ],
)
def test_what_others_write_there_is_refused_in_words(
    shared_redis: RedisServer, client: redis.Redis, break_it: Callable[[redis.Redis], Any]
) -> None:
    start = Start(name=NAME, claims={"pg": 1})
    admit = Admit(host="w1", nonce="nonce w1", generation=1, claims={}, missing={}, starts=(start,), limits={"pg": 9})

    async def tell(host: Host) -> None:
        for name in ("w1", "w2"):
            await host.beat(beat(name))
        client.hset(LEDGER_KEY, "gathering_ms", "")
        break_it(client)
        with pytest.raises(SourceUnavailableError, match=r"fleetd:ledger was not written by fleetd \(.+\)"):
            await host.ledger.admit(admit)
        client.hset(LEDGER_KEY, "gathering_ms", "0") if client.type(LEDGER_KEY) == b"hash" else None
        reply = await host.beat(beat())
        assert reply is None
        assert "was not written by fleetd (" in (host.ledger.fault() or "")
        with pytest.raises(SourceUnavailableError, match=r"fleetd:ledger|sent more than"):
            await host.ledger.read()

    story(shared_redis, tell)


def test_a_call_that_is_too_large_is_not_sent(shared_redis: RedisServer, client: redis.Redis) -> None:
    many = {f"mastodon-sidekiq@{n}.w1": {"pg": 10} for n in range(2000)}

    async def tell(host: Host) -> None:
        assert await host.beat(beat(claims=many)) == Refusal(code=Code.TOO_LARGE)
        assert await host.ledger.order("a", "x" * 9000) == Refusal(code=Code.TOO_LARGE)

    story(shared_redis, tell)
    assert client.exists(LEDGER_KEY) == 0
    # Nor would the script take it from whoever sends it.
    reply = client.eval(SCRIPT.text, 1, LEDGER_KEY, "beat", "{}", "", json.dumps(many))
    assert reply == [b"refused", b"too_large", b"", 0, 0]


@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [("maxmemory", "1", "maxmemory"), ("min-replicas-to-write", "1", "replicas")],
)
def test_a_redis_that_takes_no_writes_is_said_and_nothing_is_changed(
    shared_redis: RedisServer, client: redis.Redis, setting: str, value: str, words: str
) -> None:
    async def tell(host: Host) -> None:
        await host.beat(beat())
        await host.beat(beat("w2"))
        before = client.hgetall(LEDGER_KEY)
        usual = client.config_get(setting)[setting] or ""
        client.config_set(setting, value)
        try:
            assert await host.beat(beat()) is None
            assert words in (host.ledger.fault() or "")
            with pytest.raises(SourceUnavailableError, match=words):
                await host.ledger.forget("w2")
            assert client.hgetall(LEDGER_KEY) == before
        finally:
            client.config_set(setting, usual)
        assert isinstance(await host.beat(beat()), BeatReply)

    story(shared_redis, tell)


def test_a_ledger_of_a_later_fleetd_is_not_to_be_deleted(shared_redis: RedisServer, client: redis.Redis) -> None:
    """Whatever it has come to look like: more fields, other ones, bytes that are no text."""

    async def tell(host: Host) -> None:
        await host.beat(beat())
        client.hset(LEDGER_KEY, mapping={"format": "2", "shards": b"\xff", **{f"shard:{n}": "" for n in range(1000)}})
        client.hdel(LEDGER_KEY, "token")
        before = client.hgetall(LEDGER_KEY)
        assert await host.beat(beat()) == Refusal(code=Code.FORMAT, about="2")
        with pytest.raises(SourceUnavailableError, match=r"a later version of fleetd wrote fleetd:ledger .*upgrade"):
            await host.ledger.read()
        assert client.hgetall(LEDGER_KEY) == before

    story(shared_redis, tell)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--rename-command", "HLEN", ""), "does not know a command that fleetd needs"),
        (("--cluster-enabled", "yes"), "is a Redis Cluster, which Sidekiq can't use"),
    ],
)
def test_what_keeps_redis_from_answering_at_all_is_said_as_for_a_reading(options: tuple[str, ...], words: str) -> None:
    async def tell(host: Host) -> None:
        with pytest.raises(SourceUnavailableError, match=words) as told:
            await host.ledger.order("pause", None)
        assert "does not let fleetd use" not in str(told.value)

    with redis_server(*options) as server:
        story(server, tell)


def with_rights(client: redis.Redis, *words: str) -> dict[str, Any]:
    command(client, "ACL", "SETUSER", "fleetd", "reset", "on", ">secret", *words)
    return {"username": "fleetd", "password": "secret"}


def test_the_documented_rights_are_enough_and_none_is_too_much(shared_redis: RedisServer, client: redis.Redis) -> None:
    needed = (*reading_rights("social:"), *RIGHTS, key_right("social:"))
    refused = list[str]()

    async def tell(host: Host) -> None:
        if not isinstance(await host.beat(beat()), BeatReply):
            refused.append("beat")
        try:
            await host.ledger.order("a", "b")
            await host.ledger.order("a", None)
            await host.ledger.forget("w1")
            await host.ledger.read()
        except SourceUnavailableError as error:
            refused.append(str(error))

    user = with_rights(client, *needed)
    story(shared_redis, tell, namespace="social", **user)
    assert refused == []
    with redis.Redis(unix_socket_path=shared_redis.socket, **user) as own:
        for words in (
            ("HSET", "fleetd:ledger", "a", "b"),
            ("DEL", "social:fleetd:ledger"),
            ("HSET", "queue:a", "b", "c"),
        ):
            with pytest.raises(redis.exceptions.NoPermissionError):
                command(own, *words)
    for right in (*RIGHTS, key_right("social:")):
        refused.clear()
        user = with_rights(client, *(word for word in needed if word != right))
        story(shared_redis, tell, namespace="social", **user)
        assert refused, right
        assert all("docs/operations.md" in why for why in refused if why != "beat")


def test_who_may_not_write_it_is_refused_for_that(shared_redis: RedisServer, client: redis.Redis) -> None:
    async def tell(host: Host) -> None:
        reply = await host.beat(beat())
        assert isinstance(reply, Refusal)
        assert reply.code is Code.NO_RIGHTS
        assert "docs/operations.md" in reply.about

    story(shared_redis, tell, **with_rights(client, *reading_rights("")))


def test_the_page_and_the_program_name_the_same_rights() -> None:
    text = (PROJECT / "docs/operations.md").read_text()
    assert f"ACL SETUSER fleetd {' '.join(RIGHTS)} {key_right('')}\n" in text


def test_a_redis_that_can_not_be_reached_is_said(tmp_path: Any) -> None:
    async def tell() -> None:
        settings = RedisSettings(unix_socket=str(tmp_path / "none.sock"))
        ledger = RedisLedger(settings, RedisConnection(settings, timeout_seconds=5.0), deadline_seconds=5.0)
        with pytest.raises(SourceUnavailableError, match="can't be reached"):
            await ledger.read()

    asyncio.run(tell())
