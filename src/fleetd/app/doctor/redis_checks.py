"""What fleetd's Redis user may not do, each with the command that allows it, and how Redis is replicated."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from typing import Final

from fleetd.adapters.ledger.rights import RIGHTS, key_right
from fleetd.adapters.redis.server_look import Replication, ServerSeen
from fleetd.adapters.sidekiq.rights import comforts, rights
from fleetd.app.doctor.check import Check, Verdict
from fleetd.app.redis_cli import redis_cli
from fleetd.config.connections import RedisSettings
from fleetd.core.model import reasons
from fleetd.words.formatting import times
from fleetd.words.reasons import sentence

_USER: Final = "Redis's user"
_REPLICAS: Final = "Redis's replicas"
_KEEP: Final = "Keep it with ACL SAVE, or CONFIG REWRITE where no aclfile is set."


def user_checks(redis: RedisSettings, seen: ServerSeen, others: Sequence[str], *, shared: bool) -> Iterator[Check]:
    """`others`: hosts whose workers beat beside this one's. `shared`: whether hosts share a ledger there."""
    user = redis.username or "default"
    if seen.unknown:
        names = ", ".join(name.upper() for name in seen.unknown)
        why = "They are renamed or disabled there (rename-command), or it is older than 4.0; fleetd needs them."
        yield Check(subject=_USER, verdict="broken", what=f"Redis does not know {names}", why=why)
    comfort = comforts(redis.key_prefix)
    reading = [right for right in rights(redis.key_prefix) if right in seen.missing]
    needed = [right for right in reading if right not in comfort]
    wanted = [right for right in reading if right in comfort]
    ledger = [right for right in (*RIGHTS, key_right(redis.key_prefix)) if right in seen.missing]
    if needed:
        why = "Without it fleetd can't read what Sidekiq keeps, and holds everything as it is."
        yield _lacking(redis, seen, "broken", f"user {user} may not read all that fleetd reads", needed, why)
    if wanted:
        why = "Without it some numbers are unknown, or after an outage it is known later whether others can write."
        yield _lacking(redis, seen, "look", f"user {user} lacks a right that helps", wanted, why)
    if shared and ledger:
        what, verdict = f"user {user} may not write the ledger that the hosts of a fleet share", "look"
        why = "This host counts as the only one, which is right for a single VM"
        why += ' (fleet.ledger = "local" then says so). Beside workers of another host nothing grows here.'
        if others:
            verdict = "broken"
            why = f"Workers of {', '.join(others)} beat, so nothing grows here above min."
        yield _lacking(redis, seen, verdict, what, ledger, why)  # type: ignore[arg-type]
    if not (needed or wanted or seen.unknown or (shared and ledger)):
        what = "all that fleetd reads" + (", and the fleet's ledger" if shared else "")
        yield Check(subject=_USER, verdict="ok", what=f"user {user} may use {what}")


def _lacking(
    redis: RedisSettings, seen: ServerSeen, verdict: Verdict, what: str, words: Sequence[str], why: str
) -> Check:
    """With the command that gives it what is missing."""
    told = words if seen.version >= (7,) or not seen.version else _before_redis_7(words)
    where = " On each server of that primary, as users are not replicated." if redis.sentinel_master else ""
    command = shlex.join([*redis_cli(redis), "ACL", "SETUSER", redis.username or "default", *told])
    return Check(
        subject=_USER, verdict=verdict, what=f"{what}: {' '.join(told)}", why=f"{why}{where} {_KEEP}", line=command
    )


def _before_redis_7(words: Sequence[str]) -> list[str]:
    """Keys can be allowed as a whole only, and a subcommand only with its command."""
    plain = (word.replace("%RW~", "~").replace("%R~", "~").partition("|")[0] for word in words)
    return list(dict.fromkeys(plain))


def alone_check(others: Sequence[str]) -> Check:
    """Of `fleet.ledger = "local"`. `others`: as above."""
    if others:
        why = "Two hosts without a common ledger could open more connections together than the database has."
        what = sentence(reasons.OtherHostsSeen(hosts=tuple(others)))
        return Check(subject="the fleet", verdict="broken", what=what, why=why)
    what = 'fleet.ledger = "local": this host counts as the only one, and grows nothing while another\'s workers beat'
    return Check(subject="the fleet", verdict="ok", what=what)


def replication_checks(redis: RedisSettings, seen: Replication, *, several: bool) -> Iterator[Check]:
    """`several`: hosts share this Redis, so that another one may go on with the new primary after a failover."""
    if seen.role == "replica":
        why = "What is written there is refused or lost: workers that use it can't even beat."
        what = f"{redis.endpoint} is a replica of {seen.primary}: give fleetd and the workers the primary's address"
        yield Check(subject=_REPLICAS, verdict="broken", what=what, why=why)
        return
    fails_over, count = bool(redis.sentinel_master), times(seen.replicas, "replica")
    if not seen.replicas and not fails_over:
        return
    if not seen.replicas:
        # With it set, no write is taken at all; else there is nothing that a Sentinel could promote.
        then = "so Redis takes no writes" if seen.guarded else "so there is none to fail over to"
        what = f"no replica is connected to the primary, {then}"
        why = "Start the replicas again; their logs say why they don't follow."
        yield Check(subject=_REPLICAS, verdict="broken" if seen.guarded else "look", what=what, why=why)
    elif seen.guarded:
        what = f"{count}; min-replicas-to-write is set, so a primary that is cut off from all of them takes no writes"
        yield Check(subject=_REPLICAS, verdict="ok", what=what)
    else:
        yield _unguarded(redis, count, looked_at=several or fails_over)


def _unguarded(redis: RedisSettings, count: str, *, looked_at: bool) -> Check:
    why = (
        "An old primary that is cut off after a failover then goes on taking writes, and workers beside it go on too: "
        "a second scheduler there runs until the cut is healed. With 1 it stops after min-replicas-max-lag (10 s); but "
        "then Redis takes no writes either while no replica is connected, so have two. On every server of it, and "
        "CONFIG REWRITE."
    )
    line = shlex.join([*redis_cli(redis), "CONFIG", "SET", "min-replicas-to-write", "1"])
    what = f"{count}, and min-replicas-to-write is 0"
    return Check(subject=_REPLICAS, verdict="look" if looked_at else "ok", what=what, why=why, line=line)
