"""Which connections leave this host without TLS, in sentences: said once at start, and by `fleetctl check-config`.

A VPN is as good as TLS, and fleetd can't tell one from any other network: `network.private` names it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence

from fleetd.config.connections import PostgresSettings, RedisSettings

_WHAT = "whoever is on the way can read and change what goes over it"
_OR_PRIVATE = "or, if only you can reach that network (a VPN), name it in network.private"
#: libpq's modes that go on without TLS when the server refuses it.
_CLEAR_MODES = {"disable", "allow", "prefer"}


def unencrypted_redis(redis: RedisSettings, private: Sequence[str]) -> list[str]:
    """A sentence if Redis, or a Sentinel, is on another host and reached without TLS."""
    hosts = [host for host, _ in redis.sentinels] if redis.sentinel_master else [redis.host]
    if redis.tls or redis.unix_socket or not _exposed(hosts, private):
        return []
    secret = ", the password too" if redis.password or redis.sentinel_password else ""
    return [f"Redis at {redis.endpoint} is reached without TLS: {_WHAT}{secret}. Use rediss://, {_OR_PRIVATE}."]


def unencrypted_postgres(name: str, at: str, settings: PostgresSettings, private: Sequence[str]) -> list[str]:
    """A sentence if this server (`name` at `at`) is on another host and may be reached without TLS."""
    hosts = dict(settings.more).get("hostaddr") or settings.host or "/"  # libpq prefers the address
    if settings.sslmode not in _CLEAR_MODES or not _exposed(hosts.split(","), private):
        return []
    how = "without TLS" if settings.sslmode == "disable" else f"with sslmode {settings.sslmode}, so perhaps without TLS"
    return [f'{name} at {at} is reached {how}: {_WHAT}. Use sslmode = "verify-full" with sslrootcert, {_OR_PRIVATE}.']


def _exposed(hosts: Iterable[str], private: Sequence[str]) -> bool:
    return any(not _on_this_host(host) and not _is_private(host, private) for host in hosts)


def _on_this_host(host: str) -> bool:
    if host.startswith(("/", "@")) or host == "localhost":  # libpq: a directory, or an abstract unix socket
        return True
    address = _address(host)
    return address is not None and address.is_loopback


def _is_private(host: str, private: Sequence[str]) -> bool:
    if host in private:
        return True
    address = _address(host)
    networks = (ipaddress.ip_network(entry, strict=False) for entry in private if "/" in entry)
    return address is not None and any(address in network for network in networks)


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None
