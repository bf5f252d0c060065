"""Each Sentinel by itself: whom it names, and what it knows of the others. For `fleetctl doctor`.

Whether they agree on our server is asked before each start, in fewer words (sentinels.py).
"""

from __future__ import annotations

import asyncio
from typing import Any

from redis import exceptions
from redis.asyncio import Redis

from fleetd.adapters.redis import sentinels as asked
from fleetd.adapters.redis.bounded import Allowance
from fleetd.adapters.redis.clients import Address, close, prepare
from fleetd.adapters.redis.failures import error_code
from fleetd.core.model.facts import Value
from fleetd.words.plain import plain

_BYTES_MAX = 64 * 1024
_REFUSES = frozenset({"NOAUTH", "NOPERM", "WRONGPASS"})


class SentinelSeen(Value, frozen=True, kw_only=True):
    """One configured Sentinel. `why`: it gave no answer; "": it did. None: it does not say."""

    place: str  # as configured, "HOST:PORT"
    why: str = ""
    address: str = ""  # where the connection led: two names may be of one Sentinel
    primary: str = ""  # whom it names, "HOST:PORT"; "": it knows no primary of that name
    names_ours: bool = False
    quorum: int | None = None
    others: int | None = None  # Sentinels of that primary that it knows besides itself


async def seen_of(
    sentinels: tuple[tuple[str, int], ...], master: str, ours: Address | None, options: dict[str, Any]
) -> tuple[SentinelSeen, ...]:
    """`ours`: the server that we are connected to. `options`: of redis-py's clients. Never raises."""
    configured = dict.fromkeys(sentinels)
    return tuple(await asyncio.gather(*(_seen(host, port, master, ours, options) for host, port in configured)))


async def _seen(host: str, port: int, master: str, ours: Address | None, options: dict[str, Any]) -> SentinelSeen:
    place, client = f"{host}:{port}", Redis(host=host, port=port, **options)
    peers = prepare(client, Allowance(reading_bytes_max=_BYTES_MAX, round_bytes_max=_BYTES_MAX))
    try:
        async with asyncio.timeout(asked.SENTINEL_SECONDS):
            pipeline = client.pipeline(transaction=False)
            pipeline.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", master)
            pipeline.execute_command("SENTINEL", "MASTER", master)
            named, known = await pipeline.execute(raise_on_error=False)
            if isinstance(named, Exception):
                raise named
            peer = peers.the_one()
            address = "" if peer is None else f"{peer[0]}:{peer[1]}"
            if named is None:
                return SentinelSeen(place=place, address=address)
            name, number = named[0].decode(), int(named[1])
            return SentinelSeen(
                place=place,
                address=address,
                primary=plain(f"{name}:{number}"),
                names_ours=ours is not None and ours in await asked.addresses(name, number),
                quorum=_number(known, b"quorum"),
                others=_number(known, b"num-other-sentinels"),
            )
    except (exceptions.RedisError, OSError, TimeoutError) as error:
        refuses = isinstance(error, exceptions.RedisError) and error_code(error) in _REFUSES
        return SentinelSeen(place=place, why="refuses the login" if refuses else "does not answer")
    except (ValueError, TypeError, AttributeError, IndexError):  # no name, no number, no list
        return SentinelSeen(place=place, why="does not answer as a Sentinel does")
    finally:
        await close(client)


def _number(known: Any, field: bytes) -> int | None:
    """Of the list of names and values with which a Sentinel describes a primary; None also where it may not say."""
    if not isinstance(known, list) or field not in known[::2]:
        return None
    value = known[2 * known[::2].index(field) + 1]
    return int(value) if value.isdigit() else None
