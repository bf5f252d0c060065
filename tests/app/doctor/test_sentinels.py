"""`fleetctl doctor`: what it makes of Sentinels and of replicas. They are looked at in tests/adapters/redis."""

from __future__ import annotations

from typing import Any

import pytest

from fleetd.adapters.redis.sentinel_look import SentinelSeen
from fleetd.adapters.redis.server_look import Replication
from fleetd.app.doctor.check import Check
from fleetd.app.doctor.redis_checks import alone_check, replication_checks
from fleetd.app.doctor.sentinel_checks import sentinel_checks
from fleetd.app.redis_cli import redis_cli
from fleetd.config.connections import RedisSettings

PRIMARY = "10.0.0.1:6379"
ALONE = RedisSettings(host="10.0.0.1")
GUARDED = RedisSettings(sentinel_master="mastodon", sentinels=(("s1", 26379),))


def sentinel(number: int, **changes: Any) -> SentinelSeen:
    """Of three that agree."""
    place = f"s{number}:26379"
    given: dict[str, Any] = {
        "place": place,
        "address": place,
        "primary": PRIMARY,
        "names_ours": True,
        "quorum": 2,
        "others": 2,
    }
    return SentinelSeen(**(given | changes))


def silent(number: int, why: str = "does not answer") -> SentinelSeen:
    return SentinelSeen(place=f"s{number}:26379", why=why)


def said(*seen: SentinelSeen) -> list[tuple[str, str]]:
    return [(check.verdict, check.what) for check in sentinel_checks(seen, "mastodon")]


AGREED = ("ok", f"2 of 3 name {PRIMARY}, which fleetd talks to; quorum 2")


def test_three_that_agree() -> None:
    assert said(*map(sentinel, (1, 2, 3))) == [("ok", f"all 3 name {PRIMARY}, which fleetd talks to; quorum 2")]
    assert said(*[sentinel(n, quorum=None, others=None) for n in (1, 2, 3)]) == [
        ("ok", f"all 3 name {PRIMARY}, which fleetd talks to")
    ], "what they may not say is not told"


def test_one_that_is_lost_and_two() -> None:
    assert said(sentinel(1), sentinel(2), silent(3)) == [AGREED, ("look", "s3:26379 does not answer")]
    assert said(sentinel(1), silent(2), silent(3, "refuses the login")) == [
        ("broken", "only 1 of 3 name the Redis that fleetd talks to"),
        ("look", "s2:26379 does not answer"),
        ("look", "s3:26379 refuses the login"),
    ]
    first = next(iter(sentinel_checks((sentinel(1), silent(2), silent(3)), "mastodon")))
    assert "Without 2 of them nothing is granted" in first.why


def test_those_that_name_another_server_or_none() -> None:
    other = {"primary": "10.0.0.2:6379", "names_ours": False}
    assert said(sentinel(1), sentinel(2), sentinel(3, **other)) == [AGREED, ("look", "s3:26379 names 10.0.0.2:6379")]
    after_a_failover = said(sentinel(1, **other), sentinel(2, **other), sentinel(3, **other))
    assert after_a_failover == [("broken", "all 3 name 10.0.0.2:6379, and fleetd talks to another Redis, or to none")]
    unknown = SentinelSeen(place="s3:26379", address="s3:26379")
    assert said(sentinel(1), sentinel(2), unknown) == [AGREED, ("look", "s3:26379 knows no primary named mastodon")]


def test_too_few_and_an_even_number() -> None:
    pair = [sentinel(n, others=1) for n in (1, 2)]
    assert said(*pair)[1:] == [("look", "2 are configured")]
    assert said(sentinel(1, others=0, quorum=1))[1:] == [("look", "1 is configured")]
    four = list(sentinel_checks([sentinel(n, others=3) for n in (1, 2, 3, 4)], "mastodon"))
    assert [check.what for check in four[1:]] == ["4 are configured, an even number"]
    assert "than of 3: add one, or take one away" in four[1].why
    assert len(said(*[sentinel(n, others=4) for n in (1, 2, 3, 4, 5)])) == 1


def test_one_that_does_not_know_the_others() -> None:
    found = said(sentinel(1), sentinel(2), sentinel(3, others=0))
    assert found[1:] == [
        ("look", "s3:26379 knows 0 others, not 2"),
        ("look", "s3:26379 wants 2 of 1 to agree that a primary is gone"),
    ]
    assert said(*[sentinel(n, others=1) for n in (1, 2, 3)])[1:] == [
        ("look", f"s{n}:26379 knows 1 other, not 2") for n in (1, 2, 3)
    ]


def test_those_that_are_not_configured() -> None:
    found = said(*[sentinel(n, others=4) for n in (1, 2, 3)])
    assert found[1:] == [("look", "they are 5, of which 3 are configured")]


def test_two_names_of_one_sentinel() -> None:
    first, second = (sentinel(n, others=1) for n in (1, 2))
    assert said(first, second, sentinel(3, address=first.address, others=1)) == [
        AGREED,
        ("look", "s3:26379 and s1:26379 are the same Sentinel"),
    ]


def replicas(seen: Replication | None, redis: RedisSettings = ALONE, *, several: bool = False) -> list[Check]:
    return list(replication_checks(redis, seen, redis_cli(redis, PRIMARY), several=several))


def primary(count: int, *, guarded: bool = False) -> Replication:
    return Replication(role="primary", replicas=count, guarded=guarded)


def test_a_redis_without_replicas_is_not_spoken_of() -> None:
    assert replicas(primary(0)) == []
    assert replicas(primary(0), several=True) == []


@pytest.mark.parametrize(
    ("redis", "several", "verdict", "start"),
    [
        (ALONE, False, "ok", "redis-cli -h 10.0.0.1 -p 6379 "),
        (ALONE, True, "look", "redis-cli -h 10.0.0.1 -p 6379 "),
        (GUARDED, False, "look", "redis-cli -h 10.0.0.1 -p 6379 "),
    ],
)
def test_what_a_primary_that_is_cut_off_does_matters_where_another_may_take_over(
    redis: RedisSettings, verdict: str, start: str, *, several: bool
) -> None:
    [check] = replicas(primary(1), redis, several=several)
    assert (check.verdict, check.what) == (verdict, "1 replica, and min-replicas-to-write is not set")
    assert check.line == f"{start}CONFIG SET min-replicas-to-write 1"
    assert "a second scheduler" in check.why
    [check] = replicas(primary(2, guarded=True), redis, several=several)
    assert check.verdict == "ok"
    assert check.what.startswith("2 replicas; min-replicas-to-write is set")


def test_a_redis_that_keeps_its_replication_for_itself() -> None:
    assert replicas(None) == []
    for found in (replicas(None, several=True), replicas(None, GUARDED)):
        [check] = found
        assert check.verdict == "look"
        assert check.line == "redis-cli -h 10.0.0.1 -p 6379 CONFIG GET min-replicas-to-write"


def test_a_primary_whose_replicas_are_gone() -> None:
    [check] = replicas(primary(0), GUARDED)
    assert (check.verdict, "none to fail over to" in check.what) == ("look", True)
    [check] = replicas(primary(0, guarded=True), GUARDED)
    assert (check.verdict, "takes no writes" in check.what) == ("broken", True)


def test_a_replica_that_is_taken_for_the_primary() -> None:
    [check] = replicas(Replication(role="replica", primary="10.0.0.9:6379"))
    assert check.verdict == "broken"
    assert check.what.startswith("10.0.0.1:6379 is a replica of 10.0.0.9:6379: give fleetd and the workers")


def test_a_host_without_a_ledger_says_what_that_means() -> None:
    alone = alone_check(())
    assert (alone.verdict, 'fleet.ledger = "local"' in alone.what) == ("ok", True)
    beside = alone_check(("w2",))
    assert beside.verdict == "broken"
    assert beside.what.startswith("workers of w2 are seen, but this host shares no ledger")
