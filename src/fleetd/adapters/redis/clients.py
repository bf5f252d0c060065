"""redis-py's clients as fleetd uses them: bounded in what they take, known whom they are with, and closed soon."""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any
from weakref import WeakKeyDictionary

from redis import exceptions
from redis.asyncio import Redis

from fleetd.adapters.redis.bounded import Allowance, BoundedParser

CLOSE_SECONDS = 1.0

#: Of a server: where a connection to it really leads, whatever name it was asked for by.
Address = tuple[IPv4Address | IPv6Address, int]


def address_of(socket_name: Any) -> Address | None:
    """Of what the operating system or a resolver calls an address; None: a unix socket's."""
    if not isinstance(socket_name, tuple):
        return None
    address = ip_address(socket_name[0].partition("%")[0])
    return getattr(address, "ipv4_mapped", None) or address, socket_name[1]


class Peers:
    """Whom the open connections of one client are with."""

    def __init__(self) -> None:
        self._of: WeakKeyDictionary[object, Address | None] = WeakKeyDictionary()

    def the_one(self) -> Address | None:
        """The one server that there are connections with; None: no server, or several."""
        found = set(self._of.values())
        return found.pop() if len(found) == 1 else None

    def begin(self, connection: object, address: Address | None) -> None:
        self._of[connection] = address

    def end(self, connection: object) -> None:
        self._of.pop(connection, None)


class _Parser(BoundedParser):
    """A connection has one parser for all of its life, which hears when it connects and when that ends."""

    def __init__(self, allowance: Allowance, peers: Peers, **options: Any) -> None:
        super().__init__(allowance, **options)
        self._peers = peers

    def on_connect(self, connection: Any) -> None:
        super().on_connect(connection)
        peer = connection._writer.get_extra_info("peername")  # noqa: SLF001 - older versions offer no other way
        self._peers.begin(self, address_of(peer))

    def on_disconnect(self) -> None:
        super().on_disconnect()  # type: ignore[no-untyped-call]
        self._peers.end(self)


def prepare(client: Redis, allowance: Allowance) -> Peers:
    """For a client that has no connection yet: its own arguments have no place for this."""
    peers = Peers()
    client.connection_pool.connection_kwargs["parser_class"] = partial(_Parser, allowance, peers)
    return peers


async def close(client: Redis) -> None:
    """Close every connection, even one that waits for a reply; takes a second at most, and never raises."""
    with contextlib.suppress(exceptions.RedisError, OSError, TimeoutError):
        async with asyncio.timeout(CLOSE_SECONDS):
            await client.connection_pool.disconnect(inuse_connections=True)
