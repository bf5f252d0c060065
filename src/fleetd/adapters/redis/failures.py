"""Failures of Redis as sentences without secrets: what is wrong, and what to do."""

from __future__ import annotations

import os
import re
import socket
import ssl
from collections.abc import Iterator

from redis import exceptions
from redis.asyncio.sentinel import MasterNotFoundError

from fleetd.adapters.redis.bounded import ROUND_BYTES_MAX, NotRedisError, TooMuchSentError
from fleetd.config.connections import RedisSettings

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
    exceptions.ClusterDownError: "CLUSTERDOWN",
    exceptions.MovedError: "MOVED",
    exceptions.AskError: "MOVED",
    exceptions.ClusterCrossSlotError: "CROSSSLOT",
}
_CLUSTER = (
    "is a Redis Cluster, which Sidekiq can't use: give the address of the Redis that the workers use, without "
    "cluster-enabled"
)
_RENAMED = (
    "does not know a command that fleetd needs: it is older than 4.0, or the command is renamed or disabled there "
    "(rename-command); docs/operations.md lists the commands"
)
_FULL = "takes no more clients: raise its maxclients, or see with CLIENT LIST who holds so many connections"
_WORDS = {
    "NOAUTH": "refuses the login: see that user and password are right (REDIS_PASSWORD or REDIS_URL in "
    ".env.production, or [redis] in the configuration), then `systemctl restart fleetd`, which reads them again",
    "NOPERM": "does not let this user read; give it the rights listed in docs/operations.md, scripts included",
    "LOADING": "is still loading its data; it answers by itself when that is done",
    "BUSY": "is busy with another script; if that does not end, its log and SCRIPT KILL help",
    "MASTERDOWN": "is a replica that has lost its primary; start the primary again, or promote this replica",
    "READONLY": "has become a replica; looking for the primary again",
    "DENIED": "is in protected mode and takes no connections from other hosts; set its bind, a password and "
    "protected-mode no",
    "UNKNOWN": _RENAMED,
    "MAXCLIENTS": _FULL,
    **dict.fromkeys(("MOVED", "CROSSSLOT", "CLUSTERDOWN"), _CLUSTER),
}
#: Why a write is refused to whoever has the right.
_REFUSALS = {
    "READONLY": "this Redis is a replica; give fleetd and the workers the address of the primary",
    "OOM": "Redis has reached its maxmemory; raise that, or find what takes so much",
    "MISCONF": "Redis can't save its data to disk and so refuses writes; its log says why",
    "NOREPLICAS": "Redis has fewer replicas than min-replicas-to-write asks for",
}
#: Codes with which Redis refuses writes only; any other concerns reading as well.
WRITE_REFUSALS = frozenset({*_REFUSALS, "NOPERM"})


def sentence(error: BaseException, settings: RedisSettings, timeout_seconds: float) -> str:
    """What is wrong and what to do. Redis's own words are not repeated: they can quote what was sent to it."""
    server = f"Redis at {settings.endpoint}"
    for cause in _causes(error):  # while it connects, redis-py wraps what Redis said
        if isinstance(cause, MasterNotFoundError):
            return (
                f"No Sentinel names a primary for '{settings.sentinel_master}' that is up: start Redis, or the "
                "Sentinels; if they run, check the name and the Sentinels' password, then `systemctl restart fleetd`"
            )
        if isinstance(cause, TooMuchSentError):
            return (
                f"{server} sent more than the {ROUND_BYTES_MAX // 1024**2} MiB that an answer may have, and was cut "
                "off: is that the right server?"
            )
        if isinstance(cause, NotRedisError):
            return f"{server} does not answer as Redis does: is that Redis?"
        if isinstance(cause, exceptions.TimeoutError | TimeoutError):
            return f"{server} did not answer within {timeout_seconds:g} s"
        if "max number of clients" in str(cause):  # redis-py makes a connection error of this reply
            return f"{server} {_FULL}"
        if isinstance(cause, (exceptions.ResponseError, *_CODES)):
            code = error_code(cause)
            return f"{server} {_WORDS.get(code, f'answers with an error ({code})')}"
    return f"{server} can't be reached: {_reason(error)}"


def cluster_sentence(settings: RedisSettings) -> str:
    return f"Redis at {settings.endpoint} {_CLUSTER}"


def write_refusal(error: BaseException, *, without_right: str) -> str:
    """Why a write was refused, and what to do. `without_right`: the same where the user may not write."""
    code = error_code(error)
    return without_right if code == "NOPERM" else _REFUSALS.get(code, f"Redis answers {code}")


def error_code(error: BaseException) -> str:
    """The first word of an error reply, such as READONLY; UNKNOWN: see `code_of`."""
    for kind, code in _CODES.items():
        if isinstance(error, kind):
            return code
    return code_of(str(error))


def code_of(reply: str) -> str:
    """The first word of an error reply; UNKNOWN: a command that is renamed, disabled, or newer than this Redis."""
    if scripts_lack_rights(reply):
        return "NOPERM"
    if "unknown command" in reply.lower() or "unknown redis command" in reply.lower():
        return "UNKNOWN"
    word = reply.split(" ", 1)[0]
    return word if word.isascii() and word.isalpha() and word.isupper() and len(word) <= 20 else "ERR"


def scripts_lack_rights(why: str) -> bool:
    """Redis 7.0 and Valkey say so in sentences of their own, others with NOPERM."""
    return "user executing the script can't" in why or "ACL failure in script" in why


#: A name with several addresses, as localhost usually is, gives one error of asyncio's that lists theirs as text.
_ERRNO = re.compile(r"\[Errno (\d{1,4})\]")


_OWN_CA = (
    ". For an authority of your own, as SSL_CERT_FILE names it for workers: sudo install -m 0644 CA.pem "
    "/usr/local/share/ca-certificates/redis.crt && sudo update-ca-certificates, then restart fleetd"
)


def _reason(error: BaseException) -> str:
    """The operating system's words for what is behind the client library's error."""
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its TLS certificate is not accepted ({cause.verify_message}){_OWN_CA}"
        if isinstance(cause, ssl.SSLError):
            return "it does not speak TLS, or another version of it"
        if isinstance(cause, socket.gaierror):
            return "its name can't be resolved"
        if isinstance(cause, OSError) and cause.errno:
            return os.strerror(cause.errno)
        if isinstance(cause, OSError) and (found := _ERRNO.search(str(cause))):
            return os.strerror(int(found[1]))
    return "the connection was closed; Redis's log may say why, such as too many clients (maxclients)"


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    for _ in range(8):
        if cause is not None:
            yield cause
            cause = cause.__cause__ or cause.__context__
