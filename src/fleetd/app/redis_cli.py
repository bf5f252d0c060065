"""How redis-cli reaches the Redis that is configured, for commands that people paste."""

from __future__ import annotations

from fleetd.config.connections import RedisSettings


def redis_cli(redis: RedisSettings, primary: str = "") -> list[str]:
    """Its first words, without a login. `primary`: of Sentinels, "HOST:PORT"; "": it is run on the server itself."""
    where: list[str] = []
    if redis.unix_socket:
        where = ["-s", redis.unix_socket]
    elif not redis.sentinel_master:
        where = ["-h", redis.host, "-p", str(redis.port)]
    elif primary:
        host, _, port = primary.rpartition(":")
        where = ["-h", host, "-p", port]
    return ["redis-cli", *where, *(["--tls"] if redis.tls else [])]
