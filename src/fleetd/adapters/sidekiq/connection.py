"""A connection to Redis as the settings say, and its failures as sentences without secrets."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import Iterator
from typing import Any

from redis import exceptions
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import MasterNotFoundError, Sentinel
from redis.backoff import NoBackoff

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
        self._client: Redis | None = None
        self._sentinel_clients: tuple[Redis, ...] = ()

    def client(self) -> Redis:
        """The client; connects when a command is sent."""
        if self._client is None:
            self._client = self._open()
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


#: redis-py strips the codes of these replies and keeps them as classes.
_CODES = {
    exceptions.AuthenticationError: "NOAUTH",
    exceptions.AuthorizationError: "NOAUTH",
    exceptions.BusyLoadingError: "LOADING",
    exceptions.MasterDownError: "MASTERDOWN",
    exceptions.NoPermissionError: "NOPERM",
    exceptions.NoScriptError: "NOSCRIPT",
    exceptions.OutOfMemoryError: "OOM",
    exceptions.ReadOnlyError: "READONLY",
}
_WORDS = {
    "NOAUTH": "refuses the login; check user and password",
    "NOPERM": "does not let this user read; give it the rights that Sidekiq's user has, scripts included",
    "LOADING": "is still loading its data",
    "BUSY": "is busy with another script",
    "MASTERDOWN": "is a replica that has lost its primary",
    "READONLY": "has become a replica; looking for the primary again",
}


def sentence(error: BaseException, settings: RedisSettings, timeout_seconds: float) -> str:
    """What is wrong and what to do. Redis's own words are not repeated: they can quote what was sent to it."""
    server = f"Redis at {settings.endpoint}"
    for cause in _causes(error):  # while it connects, redis-py wraps what Redis said
        if isinstance(cause, MasterNotFoundError):
            return (
                f"No Sentinel names a primary for '{settings.sentinel_master}': check that they run, the name, and "
                "their password"
            )
        if isinstance(cause, exceptions.TimeoutError | TimeoutError):
            return f"{server} did not answer within {timeout_seconds:g} s"
        if isinstance(cause, (exceptions.ResponseError, *_CODES)):
            code = error_code(cause)
            return f"{server} {_WORDS.get(code, f'answers with an error ({code})')}"
    return f"{server} can't be reached: {_reason(error)}"


def error_code(error: BaseException) -> str:
    """The first word of an error reply, such as READONLY."""
    if scripts_lack_rights(str(error)):
        return "NOPERM"
    for kind, code in _CODES.items():
        if isinstance(error, kind):
            return code
    word = str(error).split(" ", 1)[0]
    return word if word.isascii() and word.isalpha() and word.isupper() and len(word) <= 20 else "ERR"


def scripts_lack_rights(why: str) -> bool:
    """Redis 7.0 says so in a sentence, later ones with NOPERM."""
    return "user executing the script can't" in why


def _reason(error: BaseException) -> str:
    """The operating system's words for what is behind the client library's error."""
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its TLS certificate is not accepted ({cause.verify_message})"
        if isinstance(cause, ssl.SSLError):
            return "it does not speak TLS, or another version of it"
        if isinstance(cause, socket.gaierror):
            return "its name can't be resolved"
        if isinstance(cause, OSError) and cause.errno:
            return os.strerror(cause.errno)
    return "the connection was closed"


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    for _ in range(8):
        if cause is not None:
            yield cause
            cause = cause.__cause__ or cause.__context__
