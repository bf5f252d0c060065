"""`fleetctl doctor` on a real Redis: which rights its user lacks; that the documented user lacks none and is enough."""

from __future__ import annotations

import asyncio
import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from msgspec import structs

from fleetd.adapters.ledger.ledger import LEDGER_KEY, RedisLedger
from fleetd.adapters.ledger.rights import RIGHTS, key_right
from fleetd.adapters.mastodon.env_file import EnvFile
from fleetd.adapters.redis.connection import RedisConnection
from fleetd.adapters.redis.server_look import ServerSeen
from fleetd.adapters.sidekiq.reading import SidekiqRedis
from fleetd.adapters.sidekiq.rights import comforts, rights
from fleetd.app.doctor.check import Check
from fleetd.app.doctor.redis_checks import user_checks
from fleetd.app.doctor.redis_seen import RedisSeen, look_at_redis
from fleetd.app.endpoints import Endpoints, find_endpoints
from fleetd.app.redis_cli import redis_cli
from fleetd.config import Settings, parse
from fleetd.core.fleet.calls import Admit, Admitted, Beat, BeatReply, Commit, Start
from tests.support.project import PROJECT
from tests.support.rig.redis_server import WAIT_SECONDS, RedisServer, admin, command, redis_server

SECRET = "s3cret"
NEEDED = (*rights(""), *RIGHTS, key_right(""))
DATABASE = "DB_HOST=/var/run/postgresql\nDB_USER=mastodon\nDB_PASS=\nLOCAL_DOMAIN=m.example\n"


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture
def client(server: RedisServer) -> Iterator[redis.Redis]:
    with admin(server) as client:
        client.flushall()
        client.script_flush()
        yield client


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fleetd.app.doctor.redis_seen.READING_SECONDS_MAX", WAIT_SECONDS)


def configured(server: RedisServer, *more: str, ledger: str = "redis") -> tuple[Settings, Endpoints]:
    table = [f'unix_socket = "{server.socket}"', 'username = "fleetd"', f'password = "{SECRET}"', *more]
    text = '[fleet]\nhost = "w1"\nledger = "' + ledger + '"\n[profiles.default]\ninstances = "1-3"\n[redis]\n'
    settings = parse(text + "\n".join(table) + "\n")
    return settings, find_endpoints(settings, EnvFile(text=DATABASE))


def seen_as(server: RedisServer, *words: str, more: tuple[str, ...] = (), ledger: str = "redis") -> RedisSeen:
    """What a user with these rights sees."""
    with admin(server) as client:
        command(client, "ACL", "SETUSER", "fleetd", "reset", "on", f">{SECRET}", *words)
    return asyncio.run(look_at_redis(*configured(server, *more, ledger=ledger)))


def checks(server: RedisServer, seen: RedisSeen, *others: str, ledger: str = "redis") -> list[Check]:
    assert seen.server is not None
    _, endpoints = configured(server)
    return list(user_checks(endpoints.redis, seen.server, redis_cli(endpoints.redis), others, shared=ledger == "redis"))


def all_keys(client: redis.Redis) -> dict[object, object]:
    return {key: client.dump(key) for key in client.keys("*")}


def test_whoever_may_do_everything_lacks_nothing(server: RedisServer, client: redis.Redis) -> None:
    [check] = checks(server, seen_as(server, "~*", "+@all"))
    assert (check.verdict, check.what) == (
        "ok",
        "user fleetd may read all that fleetd reads, and write the fleet's ledger",
    )


@pytest.mark.parametrize("more", [(), ("db = 3",), ('namespace = "social"',)])
def test_every_right_that_is_left_out_is_named_and_no_other(
    server: RedisServer, client: redis.Redis, more: tuple[str, ...]
) -> None:
    prefix = "social:" if "namespace" in str(more) else ""
    needed = (*rights(prefix), *RIGHTS, key_right(prefix))
    assert seen_as(server, *needed, more=more).server is not None
    for left_out in needed:
        if left_out == "+select" and "db" not in str(more):
            continue
        seen = seen_as(server, *(word for word in needed if word != left_out), more=more)
        assert seen.server is not None
        assert seen.server.missing == (left_out,), left_out


def test_asking_changes_nothing(server: RedisServer, client: redis.Redis) -> None:
    client.hset(LEDGER_KEY, mapping={"a": "b", "fleet": "x"})
    client.sadd("queues", "default")
    client.set("fleetd:probe", "1")
    client.rpush("queue:default", "{}")
    before = all_keys(client)
    seen_as(server, "~*", "+@all")
    seen_as(server, *NEEDED)
    assert all_keys(client) == before
    client.flushall()
    seen_as(server, "~*", "+@all")
    assert all_keys(client) == {}


@pytest.mark.parametrize(
    ("words", "verdict", "line", "rounds"),
    [
        (rights(""), "look", "+hgetall +hset +hdel '%RW~fleetd:ledger'", 1),
        ((*rights(""), *RIGHTS), "look", "'%RW~fleetd:ledger'", 1),
        ((*rights(""), *RIGHTS, "%R~fleetd:ledger"), "look", "'%RW~fleetd:ledger'", 1),
        (("~*", "+@all", "-@scripting"), "broken", "+eval +evalsha", 1),
        (("~*", "+@all", "-@write"), "look", "+set", 1),
        (("~queue:*", "+@all"), "broken", "'%R~*'", 1),
        ((), "broken", None, 2),  # a key is looked at once the command is allowed
    ],
)
def test_the_line_that_is_printed_mends_it(
    server: RedisServer, client: redis.Redis, words: tuple[str, ...], verdict: str, line: str | None, rounds: int
) -> None:
    found = checks(server, seen_as(server, *words))
    assert found[0].verdict == verdict
    start = f"redis-cli -s {server.socket} ACL SETUSER fleetd "
    assert all(check.line.startswith(start) for check in found)
    if line is not None:
        assert found[0].line == start + line
    for _ in range(rounds):
        for check in found:
            command(client, *shlex.split(check.line)[3:])
        found = checks(server, asyncio.run(look_at_redis(*configured(server))))
    assert [check.verdict for check in found] == ["ok"]


def test_no_ledger_beside_workers_of_another_host_is_broken(server: RedisServer, client: redis.Redis) -> None:
    seen = seen_as(server, *rights(""))
    [alone] = checks(server, seen)
    assert (alone.verdict, 'fleet.ledger = "local"' in alone.why) == ("look", True)
    assert alone.what.endswith(": +hgetall +hset +hdel %RW~fleetd:ledger")
    [beside] = checks(server, seen, "w2")
    assert (beside.verdict, beside.line) == ("broken", alone.line)
    assert "Workers of w2 beat" in beside.why


def test_a_host_without_a_ledger_is_asked_for_no_rights_to_it(server: RedisServer, client: redis.Redis) -> None:
    seen = seen_as(server, *rights(""), ledger="local")
    [check] = checks(server, seen, ledger="local")
    assert (check.verdict, check.what) == ("ok", "user fleetd may read all that fleetd reads")


def test_what_only_helps_is_no_fault(server: RedisServer, client: redis.Redis) -> None:
    for left_out in comforts(""):
        [check] = checks(server, seen_as(server, *(word for word in NEEDED if word != left_out)))
        assert (check.verdict, left_out in check.line) == ("look", True)


def test_the_user_needs_no_right_to_ask_about_rights(server: RedisServer, client: redis.Redis) -> None:
    seen = seen_as(server, *NEEDED)
    with redis.Redis(unix_socket_path=server.socket, username="fleetd", password=SECRET) as own:
        for words in (("ACL", "WHOAMI"), ("ACL", "DRYRUN", "fleetd", "HSET", "a", "b", "c"), ("COMMAND", "COUNT")):
            with pytest.raises(redis.exceptions.NoPermissionError):
                command(own, *words)
    assert [check.verdict for check in checks(server, seen)] == ["ok"]


@pytest.mark.parametrize(("unknown", "verdict"), [(("eval",), "broken"), (("memory", "zcard"), "look")])
def test_commands_that_are_renamed_there(server: RedisServer, unknown: tuple[str, ...], verdict: str) -> None:
    _, endpoints = configured(server)
    [check] = user_checks(endpoints.redis, ServerSeen(unknown=unknown), ("redis-cli",), (), shared=True)
    names = ", ".join(unknown).upper()
    assert (check.verdict, check.what) == (verdict, f"Redis does not know {names}, which fleetd uses")


@pytest.mark.parametrize(
    "words", [("+info", "+time", "+@scripting", "+@read"), ("~queue:*", "+@all"), ("~*", *rights("")[1:-1])]
)
def test_the_lines_for_redis_6_mend_it_one_after_the_other(
    server: RedisServer, client: redis.Redis, words: tuple[str, ...]
) -> None:
    """Redis 7 takes what Redis 6 takes. There a key is allowed as a whole, and a subcommand with its command."""
    seen = seen_as(server, *words)
    assert seen.server is not None
    _, endpoints = configured(server)
    old = structs.replace(seen.server, version=(6, 2, 14))
    found = list(user_checks(endpoints.redis, old, ("redis-cli",), (), shared=True))
    for check in found:
        said = shlex.split(check.line)
        assert not any(word.startswith("%") or "|" in word for word in said)
        command(client, *said[1:])
    again = asyncio.run(look_at_redis(*configured(server)))
    assert [check.verdict for check in checks(server, again)] == ["ok"]


def documented(page: str) -> list[list[str]]:
    """The words of each `ACL SETUSER fleetd` of a page, after the user's name."""
    text = (PROJECT / "docs" / page).read_text().replace("\\\n", " ")
    return [line.split()[3:] for line in re.findall(r"^    (ACL SETUSER fleetd .*)$", text, flags=re.MULTILINE)]


def test_the_documented_user_passes_and_runs_a_fleet(server: RedisServer, client: redis.Redis) -> None:
    reading, ledger = documented("operations.md")
    assert documented("several-hosts.md") == [ledger]
    words = [word.replace(">PASSWORD", f">{SECRET}") for word in (*reading, *ledger)]
    [check] = checks(server, seen_as(server, *words))
    assert check.verdict == "ok"
    _, endpoints = configured(server)
    asyncio.run(_fleet_of_two(endpoints, client))


async def _fleet_of_two(endpoints: Endpoints, client: redis.Redis) -> None:
    settings = endpoints.redis
    ledger = RedisLedger(
        settings, RedisConnection(settings, timeout_seconds=WAIT_SECONDS), deadline_seconds=WAIT_SECONDS
    )
    sidekiq = SidekiqRedis(settings, queues=(), read_timeout_seconds=WAIT_SECONDS, rider=ledger)

    async def beat(host: str, **fields: Any) -> BeatReply:
        told: dict[str, Any] = {"claims": {}, "record": "{}", "schedulers": (), "own_scheduler": "gone"}
        ledger.say(Beat(fleet="f", host=host, boot_id=host, nonce=host, tick_ms=5000, **told, **fields))
        await sidekiq.read()
        reply = ledger.heard()
        assert isinstance(reply, BeatReply)
        return reply

    try:
        await beat("w1")
        await beat("w2")
        client.hset(LEDGER_KEY, "gathering_ms", "")  # as after 20 s
        reply = await beat("w1", generation=1)
        start = Start(name="mastodon-sidekiq@1.w1", claims={"pg": 10})
        admit = Admit(host="w1", nonce="w1", generation=1, claims={}, missing={}, starts=(start,), limits={"pg": 10})
        assert await ledger.admit(admit) == Admitted(granted=1)
        assert reply.token is not None
        commit = Commit(host="w1", token=reply.token, generation=1, epoch=1, plan="p", memory="m")
        assert await ledger.commit(commit) is None
        assert await ledger.order("w1", "{}") is None
        assert await ledger.forget("w2") is None
        state = await ledger.read()
        assert state is not None
        assert (state.planned.plan, list(state.claims["w1"])) == ("p", ["mastodon-sidekiq@1.w1"])
    finally:
        await sidekiq.close()
        await ledger.close()
