"""A connection to Redis as the settings say."""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from typing import Any

from redis import exceptions
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff

from fleetd.adapters.redis.bounded import Allowance, BoundedParser
from fleetd.config.connections import RedisSettings

_CLOSE_SECONDS = 1.0


class RedisConnection:
    """One client, made when first used and thrown away after any failure.

    It is thrown away because a reply that comes after its deadline would be read as the next command's, and because a
    new connection asks the Sentinels anew.
    """

    def __init__(self, settings: RedisSettings, *, timeout_seconds: float) -> None:
        self._settings = settings
        self._options: dict[str, Any] = {
            "socket_connect_timeout": timeout_seconds,
            "socket_timeout": timeout_seconds,
            "retry": Retry(NoBackoff(), 0),  # the next tick is the retry
            "protocol": 2,  # HELLO needs Redis 6
        }
        self.allowance = Allowance()
        self._client: Redis | None = None
        self._sentinel_clients: tuple[Redis, ...] = ()

    def client(self) -> Redis:
        """The client; connects when a command is sent."""
        if self._client is None:
            self._client = self._open()
            for client in (self._client, *self._sentinel_clients):
                # The clients' own arguments have no place for it; no connection has been made yet.
                client.connection_pool.connection_kwargs["parser_class"] = partial(BoundedParser, self.allowance)
        return self._client

    async def drop(self) -> None:
        """Close every connection, even one that waits for a reply; takes a second at most, and never raises."""
        clients = [client for client in (self._client, *self._sentinel_clients) if client is not None]
        self._client, self._sentinel_clients = None, ()
        for client in clients:
            with contextlib.suppress(exceptions.RedisError, OSError, TimeoutError):
                async with asyncio.timeout(_CLOSE_SECONDS):
                    await client.connection_pool.disconnect(inuse_connections=True)

    def _open(self) -> Redis:
        settings = self._settings
        options = self._options | {
            "client_name": "fleetd",  # for whoever looks at CLIENT LIST
            "username": settings.username,
            "password": settings.password,
            "db": settings.db,
        }
        if settings.unix_socket:
            return Redis(unix_socket_path=settings.unix_socket, **options)
        if settings.sentinel_master:
            sentinel_options = self._options | {
                "username": settings.sentinel_username,
                "password": settings.sentinel_password,
            }
            sentinel = Sentinel(  # type: ignore[no-untyped-call]
                list(settings.sentinels), sentinel_kwargs=sentinel_options | self._tls(), **options, **self._tls()
            )
            self._sentinel_clients = tuple(sentinel.sentinels)
            client: Redis = sentinel.master_for(settings.sentinel_master)
            return client
        return Redis(host=settings.host, port=settings.port, **options, **self._tls())

    def _tls(self) -> dict[str, Any]:
        if not self._settings.tls:
            return {}
        return {
            "ssl": True,
            "ssl_cert_reqs": "required",
            "ssl_check_hostname": True,
            "ssl_ca_certs": self._settings.tls_ca_file,
        }
