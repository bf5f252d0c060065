"""Whether the Sentinels take the server that we are connected to for the primary.

A primary that was cut off from the others goes on taking writes until it finds out, and what was written there is lost.
Whoever is connected to it learns from the Sentinels' majority that another one has been promoted.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any, NamedTuple

from redis import exceptions
from redis.asyncio import Redis

from fleetd.adapters.redis.bounded import Allowance
from fleetd.adapters.redis.clients import Address, address_of, close, prepare
from fleetd.core.model.facts import Value

#: The deadline of each Sentinel, connecting included. All are asked at once.
SENTINEL_SECONDS = 1.0
#: What each may send: an address, and what greets it.
_SENTINEL_BYTES_MAX = 64 * 1024


class SentinelView(Value, frozen=True, kw_only=True):
    """What the Sentinels say of the server that we are connected to."""

    configured: int
    answered: int  # also that they know no primary of that name
    naming_ours: int

    @property
    def majority(self) -> bool:
        """Whether most of all that are configured name ours: those that are silent may say something else."""
        return self.naming_ours > self.configured // 2


class _Answer(NamedTuple):
    sentinel: Address | None
    primary: frozenset[Address | None]  # all addresses of it; none: no primary of that name


async def view_of(
    sentinels: tuple[tuple[str, int], ...], master: str, ours: Address | None, options: dict[str, Any]
) -> SentinelView:
    """Ask all of them. `ours`: the server that we are connected to. `options`: of redis-py's clients. Never raises."""
    configured = dict.fromkeys(sentinels)
    answers = await asyncio.gather(*(_ask(Redis(host=host, port=port, **options), master) for host, port in configured))
    # Who answers to two names is one Sentinel.
    said = {answer.sentinel: answer.primary for answer in answers if answer is not None}
    naming_ours = sum(ours in primary for primary in said.values()) if ours is not None else 0
    return SentinelView(configured=len(configured), answered=len(said), naming_ours=naming_ours)


async def _ask(client: Redis, master: str) -> _Answer | None:
    """None: no answer, or one that makes no sense."""
    peers = prepare(client, Allowance(reading_bytes_max=_SENTINEL_BYTES_MAX, round_bytes_max=_SENTINEL_BYTES_MAX))
    try:
        async with asyncio.timeout(SENTINEL_SECONDS):
            reply = await client.execute_command(  # type: ignore[no-untyped-call]
                "SENTINEL", "GET-MASTER-ADDR-BY-NAME", master
            )
            sentinel = peers.the_one()
            match reply:
                case None:
                    return _Answer(sentinel, frozenset())
                case [bytes() as host, bytes() as port]:
                    return _Answer(sentinel, await addresses(host.decode(), int(port)))
            return None
    except (exceptions.RedisError, OSError, TimeoutError, ValueError):  # ValueError: no name, no number, no address
        return None
    finally:
        await close(client)


async def addresses(host: str, port: int) -> frozenset[Address | None]:
    """Sentinels that announce names give one instead of an address. None where it can't be resolved."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError:
        return frozenset()
    return frozenset(address_of(name) for *_, name in found)
