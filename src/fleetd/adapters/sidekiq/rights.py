"""What a Redis user of fleetd's own has to be allowed, and nothing else (Redis 7)."""

from __future__ import annotations

from typing import Final

#: What every reading needs, on every key.
READING: Final = (
    *("%R~*", "+eval", "+evalsha", "+info", "+select", "+client|setname", "+time", "+memory|usage"),
    *("+scard", "+smembers", "+sismember", "+sscan", "+exists", "+llen", "+lindex", "+zcard", "+get"),
    *("+hlen", "+hkeys", "+hvals", "+hget", "+hmget", "+hstrlen"),
)


def rights(key_prefix: str) -> tuple[str, ...]:
    """The words of ACL SETUSER after the password. `key_prefix`: "" or "NAMESPACE:".

    The last two let it write one key, by which it knows that others can write.
    """
    return (*READING, "+set", f"%RW~{key_prefix}fleetd:probe")
