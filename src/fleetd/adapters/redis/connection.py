"""A connection to Redis as the settings say, with or without Sentinels."""

from __future__ import annotations

from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff

from fleetd.adapters.redis.bounded import Allowance
from fleetd.adapters.redis.clients import Peers, close, prepare
from fleetd.adapters.redis.sentinel_look import SentinelSeen, seen_of
from fleetd.adapters.redis.sentinels import SentinelView, view_of
from fleetd.config.connections import RedisSettings


class RedisConnection:
    """One client, made when first used and thrown away after any failure.

    It is thrown away because a reply that comes after its deadline would be read as the next command's, and because a
    new connection asks the Sentinels anew.
    """

    def __init__(self, settings: RedisSettings, *, timeout_seconds: float, bare: bool = False) -> None:
        """`bare`: it logs in and sends nothing else by itself, for which a user may lack the right."""
        self._settings = settings
        self._bare = bare
        self._options: dict[str, Any] = {
            "socket_connect_timeout": timeout_seconds,
            "socket_timeout": timeout_seconds,
            "retry": Retry(NoBackoff(), 0),  # the next tick is the retry
            "protocol": 2,  # HELLO needs Redis 6
        }
        self.allowance = Allowance()
        self._client: Redis | None = None
        self._peers = Peers()
        self._sentinel_clients: tuple[Redis, ...] = ()

    def client(self) -> Redis:
        """The client; connects when a command is sent."""
        if self._client is None:
            self._client = self._open()
            self._peers = prepare(self._client, self.allowance)
            for sentinel in self._sentinel_clients:
                prepare(sentinel, self.allowance)
        return self._client

    async def drop(self) -> None:
        """Close every connection, even one that waits for a reply; takes a second a client, and never raises."""
        clients = [client for client in (self._client, *self._sentinel_clients) if client is not None]
        self._client, self._peers, self._sentinel_clients = None, Peers(), ()
        for client in clients:
            await close(client)

    async def sentinels_agree(self) -> SentinelView | None:
        """What the Sentinels say of the server that this is connected to now; None: none are configured.

        Asks each of them at once, over connections of its own, and is over within two seconds. Never raises.
        """
        settings = self._settings
        if settings.unix_socket or not settings.sentinel_master:
            return None
        ours = self._peers.the_one()
        return await view_of(settings.sentinels, settings.sentinel_master, ours, self._sentinel_options())

    async def look_at_sentinels(self) -> tuple[SentinelSeen, ...]:
        """Every configured Sentinel, and what it says of the server that this is connected to; (): there are none.

        Asks each at once, as sentinels_agree does. Never raises.
        """
        settings = self._settings
        if settings.unix_socket or not settings.sentinel_master:
            return ()
        ours = self._peers.the_one()
        return await seen_of(settings.sentinels, settings.sentinel_master, ours, self._sentinel_options())

    def _open(self) -> Redis:
        settings = self._settings
        options = self._options | {
            "client_name": None if self._bare else "fleetd",  # for whoever looks at CLIENT LIST
            "username": settings.username,
            "password": settings.password,
            "db": 0 if self._bare else settings.db,
        }
        if settings.unix_socket:
            return Redis(unix_socket_path=settings.unix_socket, **options)
        if settings.sentinel_master:
            sentinel = Sentinel(  # type: ignore[no-untyped-call]
                list(settings.sentinels), sentinel_kwargs=self._sentinel_options(), **options, **self._tls()
            )
            self._sentinel_clients = tuple(sentinel.sentinels)
            client: Redis = sentinel.master_for(settings.sentinel_master)
            return client
        return Redis(host=settings.host, port=settings.port, **options, **self._tls())

    def _sentinel_options(self) -> dict[str, Any]:
        login = {"username": self._settings.sentinel_username, "password": self._settings.sentinel_password}
        return self._options | login | self._tls()

    def _tls(self) -> dict[str, Any]:
        if not self._settings.tls:
            return {}
        return {
            "ssl": True,
            "ssl_cert_reqs": "required",
            "ssl_check_hostname": True,
            "ssl_ca_certs": self._settings.tls_ca_file,
        }
