"""A closer look at a Redis than a reading takes: what its user may do, and how it is replicated. For `fleetctl doctor`.

Rights are found by trying: each command is sent in a form that changes nothing, such as a HSET that lacks a value,
which Redis refuses only after it has looked at the rights. So it works in every version, where commands are renamed,
and for a user who may not ask about rights (ACL).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from redis import exceptions

from fleetd.adapters.redis.bounded import NotRedisError
from fleetd.adapters.redis.connection import RedisConnection
from fleetd.adapters.redis.failures import error_code, sentence
from fleetd.config.connections import RedisSettings
from fleetd.core.model.facts import Value
from fleetd.errors import SourceUnavailableError

_KEY_REFUSED = re.compile(r"access (a|one of the|at least one of the) keys?\b")
_ASKED: tuple[tuple[str, ...], ...] = (("TIME",), ("INFO", "server"), ("INFO", "replication"))


class Trial(Value, frozen=True, kw_only=True):
    """A command that changes nothing, and the words of ACL SETUSER that allow it."""

    words: tuple[str, ...]
    right: str
    key_right: str = ""  # "": it names no key


class Replication(Value, frozen=True, kw_only=True):
    """What INFO says of a server's part in its replication."""

    role: Literal["primary", "replica"]
    primary: str = ""  # whom a replica follows, "HOST:PORT"
    replicas: int = 0  # that are connected
    guarded: bool = False  # whether min-replicas-to-write is set: only then INFO counts the good replicas


class ServerSeen(Value, frozen=True, kw_only=True):
    """What was seen of the server. None: it does not say."""

    missing: tuple[str, ...] = ()  # rights, as words of ACL SETUSER
    unknown: tuple[str, ...] = ()  # commands that it does not know
    version: tuple[int, ...] = ()  # (): it does not say
    now_ms: int | None = None  # its clock
    replication: Replication | None = None


async def look_at_server(
    connection: RedisConnection, settings: RedisSettings, trials: Sequence[Trial], deadline_seconds: float
) -> ServerSeen:
    """`connection`: one that sends nothing by itself (`bare`). Raises SourceUnavailableError."""
    try:
        async with asyncio.timeout(deadline_seconds):
            pipeline = connection.client().pipeline(transaction=False)
            for words in (*(trial.words for trial in trials), *_ASKED):
                pipeline.execute_command(*words)
            replies = await pipeline.execute(raise_on_error=False)
    except (exceptions.RedisError, OSError, TimeoutError) as error:
        await connection.drop()
        raise SourceUnavailableError(sentence(error, settings, deadline_seconds)) from None
    except (ValueError, TypeError, AttributeError, IndexError):  # redis-py, of a reply that is not what was asked for
        await connection.drop()
        raise SourceUnavailableError(sentence(NotRedisError(), settings, deadline_seconds)) from None
    time, server, replication = replies[len(trials) :]
    missing, unknown = _refused(trials, replies)
    return ServerSeen(
        missing=missing,
        unknown=unknown,
        version=_version(server),
        now_ms=time[0] * 1000 + time[1] // 1000 if isinstance(time, tuple) else None,
        replication=_replication(replication) if isinstance(replication, dict) else None,
    )


def _refused(trials: Sequence[Trial], replies: Sequence[Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Rights that are missing, in the order of the trials, and unknown commands.

    A key is looked at only once the command is allowed; a right to it is never guessed to be missing, because Redis
    refuses a whole ACL SETUSER that adds a key to `~*`.
    """
    missing, unknown = dict[str, None](), dict[str, None]()
    for trial, reply in zip(trials, replies, strict=False):
        code = error_code(reply) if isinstance(reply, exceptions.ResponseError) else ""
        if code == "UNKNOWN":
            unknown[trial.words[0].lower()] = None
        elif code == "NOPERM" and not _KEY_REFUSED.search(str(reply)):
            missing[trial.right] = None
        elif code == "NOPERM":
            missing[trial.key_right] = None
    return tuple(missing), tuple(unknown)


def _version(server: Any) -> tuple[int, ...]:
    numbers = str(server.get("redis_version", "")).split(".") if isinstance(server, dict) else []
    return tuple(int(n) for n in numbers) if all(n.isascii() and n.isdigit() and len(n) < 9 for n in numbers) else ()


def _replication(info: Mapping[str, Any]) -> Replication | None:
    """None: it is in none of the two roles, as where a service keeps this part of INFO for itself."""
    replicas = info.get("connected_slaves")
    if info.get("role") == "slave":
        return Replication(role="replica", primary=f"{info.get('master_host')}:{info.get('master_port')}")
    if info.get("role") != "master" or not isinstance(replicas, int):
        return None
    return Replication(role="primary", replicas=replicas, guarded="min_slaves_good_slaves" in info)
