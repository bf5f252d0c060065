"""What fleetd's Redis user may not do, each with the command that allows it, and how Redis is replicated."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Final

from fleetd.adapters.ledger.rights import RIGHTS, key_right
from fleetd.adapters.redis.server_look import Replication, ServerSeen
from fleetd.adapters.sidekiq.rights import comforts, rights
from fleetd.app.doctor.check import Check, Verdict
from fleetd.config.connections import RedisSettings
from fleetd.core.model import reasons
from fleetd.words.formatting import times
from fleetd.words.reasons import sentence

_USER: Final = "Redis's user"
_REPLICAS: Final = "Redis's replicas"
_KEEP: Final = "Keep the change with ACL SAVE, or CONFIG REWRITE where no aclfile is set."


def user_checks(
    redis: RedisSettings, seen: ServerSeen, cli: Sequence[str], others: Sequence[str], *, shared: bool
) -> Iterator[Check]:
    """`cli`: the first words of redis-cli. `others`: hosts whose workers beat beside this one's. `shared`: whether
    hosts share a ledger there.
    """
    user, comfort = redis.username or "default", comforts(redis.key_prefix)
    reading = [right for right in rights(redis.key_prefix) if right in seen.missing]
    needed = [right for right in reading if right not in comfort]
    wanted = [right for right in reading if right in comfort]
    ledger = [right for right in (*RIGHTS, key_right(redis.key_prefix)) if right in seen.missing] if shared else []
    lacking = partial(_lacking, redis, seen, cli)
    yield from _unknown_commands(seen.unknown, comfort)
    if needed:
        why = "fleetd can't read what Sidekiq keeps, and holds everything as it is."
        yield lacking("broken", f"user {user} may not read all that fleetd reads", needed, why)
    if wanted:
        why = "Some numbers are unknown then, or after an outage it is known later whether others can write."
        yield lacking("look", f"user {user} lacks a right that helps", wanted, why)
    if ledger:
        what = f"user {user} may not write the ledger that the hosts of a fleet share"
        why = 'Right for a single VM only (fleet.ledger = "local"); beside workers of another host nothing grows here.'
        if others:
            why = f"Workers of {', '.join(others)} beat, so nothing grows here above min."
        yield lacking("broken" if others else "look", what, ledger, why)
    if not (reading or ledger or seen.unknown):
        what = f"user {user} may read all that fleetd reads" + (", and write the fleet's ledger" if shared else "")
        yield Check(subject=_USER, verdict="ok", what=what)


def _unknown_commands(unknown: Sequence[str], comfort: Sequence[str]) -> Iterator[Check]:
    if not unknown:
        return
    names = ", ".join(name.upper() for name in unknown)
    helps = {word[1:].partition("|")[0] for word in comfort}
    why = "Renamed or disabled there (rename-command), or it is older than 4.0."
    verdict: Verdict = "look" if helps.issuperset(unknown) else "broken"
    yield Check(subject=_USER, verdict=verdict, what=f"Redis does not know {names}, which fleetd uses", why=why)


def _lacking(
    redis: RedisSettings,
    seen: ServerSeen,
    cli: Sequence[str],
    verdict: Verdict,
    what: str,
    words: Sequence[str],
    why: str,
) -> Check:
    """With the command that gives it what is missing."""
    told = words if seen.version >= (7,) or not seen.version else _before_redis_7(words, seen.missing)
    where = " On each server of that primary: users are not replicated." if redis.sentinel_master else ""
    line = shlex.join([*cli, "ACL", "SETUSER", redis.username or "default", *told])
    said = f"{what}: {' '.join(told)}"
    return Check(subject=_USER, verdict=verdict, what=said, why=f"{why}{where} {_KEEP}", line=line)


def _before_redis_7(words: Sequence[str], missing: Sequence[str]) -> list[str]:
    """There a key can be allowed as a whole only, and a subcommand with its command. Redis refuses a key after `~*`."""
    everything = "%R~*" in missing
    kept = (word for word in words if not (everything and "~" in word) or word == "%R~*")
    plain = (word.replace("%RW~", "~").replace("%R~", "~").partition("|")[0] for word in kept)
    return list(dict.fromkeys(plain))


def alone_check(others: Sequence[str]) -> Check:
    """Of `fleet.ledger = "local"`. `others`: as above."""
    if others:
        why = "Two hosts without a common ledger could open more connections together than the database has."
        what = sentence(reasons.OtherHostsSeen(hosts=tuple(others)))
        return Check(subject="the fleet", verdict="broken", what=what, why=why)
    what = 'fleet.ledger = "local": this host counts as the only one, and grows nothing while another\'s workers beat'
    return Check(subject="the fleet", verdict="ok", what=what)


def replication_checks(
    redis: RedisSettings, seen: Replication | None, cli: Sequence[str], *, several: bool
) -> Iterator[Check]:
    """`several`: hosts share this Redis, so that another one may go on with the new primary after a failover.

    `seen`: None: it does not say, as a hosted one may keep this for itself.
    """
    fails_over = bool(redis.sentinel_master)
    if seen is None:
        if several or fails_over:
            what = "Redis does not say whether it has replicas, and whether min-replicas-to-write is set"
            why = "Look there, or ask whoever runs it. Not set, an old primary that is cut off goes on taking writes."
            line = shlex.join([*cli, "CONFIG", "GET", "min-replicas-to-write"])
            yield Check(subject=_REPLICAS, verdict="look", what=what, why=why, line=line)
        return
    if seen.role == "replica":
        why = "What is written there is refused or lost: workers that use it can't even beat."
        what = f"{redis.endpoint} is a replica of {seen.primary}: give fleetd and the workers the primary's address"
        yield Check(subject=_REPLICAS, verdict="broken", what=what, why=why)
        return
    count = times(seen.replicas, "replica")
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
        yield _unguarded(cli, count, looked_at=several or fails_over)


def _unguarded(cli: Sequence[str], count: str, *, looked_at: bool) -> Check:
    why = (
        "After a failover an old primary that is cut off goes on taking writes, and workers beside it go on, a second "
        "scheduler among them, until the cut is healed. With 1 it takes none after min-replicas-max-lag (10 s). Nor "
        "does a primary whose last replica is down, so have two. Set it on every server of it, and CONFIG REWRITE."
    )
    line = shlex.join([*cli, "CONFIG", "SET", "min-replicas-to-write", "1"])
    what = f"{count}, and min-replicas-to-write is not set"
    return Check(subject=_REPLICAS, verdict="look" if looked_at else "ok", what=what, why=why, line=line)
