"""What a Redis user of fleetd's own has to be allowed, and nothing else (Redis 7)."""

from __future__ import annotations

from typing import Final

from fleetd.adapters.redis.server_look import Trial

#: What every reading needs, on every key.
READING: Final = (
    *("%R~*", "+eval", "+evalsha", "+info", "+select", "+client|setname", "+time", "+memory|usage"),
    *("+scard", "+smembers", "+sismember", "+sscan", "+exists", "+llen", "+lindex", "+zcard", "+get"),
    *("+hlen", "+hkeys", "+hvals", "+hget", "+hmget", "+hstrlen"),
)
#: Without these everything that decides is read all the same: how much a hash takes, counts for people, the probe.
_COMFORTS: Final = ("+memory|usage", "+zcard", "+set")


def rights(key_prefix: str) -> tuple[str, ...]:
    """The words of ACL SETUSER after the password. `key_prefix`: "" or "NAMESPACE:".

    The last two let it write one key, by which it knows that others can write.
    """
    return (*READING, "+set", _probe_right(key_prefix))


def comforts(key_prefix: str) -> tuple[str, ...]:
    """Those of them without which fleetd works, with less to show or to be sure of."""
    return (*_COMFORTS, _probe_right(key_prefix))


def trials(key_prefix: str, db: int) -> tuple[Trial, ...]:
    """One for each of these rights. The key that is read is named as a heartbeat is, and there is none of this name.

    Database 0 needs not be chosen.
    """
    key, probe = f"{key_prefix}doctor:0:0", f"{key_prefix}fleetd:probe"
    once = {
        "+eval": ("EVAL", "return 1", "0"),
        "+evalsha": ("EVALSHA", "0" * 40, "0"),
        "+info": ("INFO", "server"),
        "+select": ("SELECT", str(db)),
        "+client|setname": ("CLIENT", "SETNAME", "fleetd"),
        "+time": ("TIME",),
    }
    of_key = {
        "+memory|usage": ("MEMORY", "USAGE", key),
        "+sismember": ("SISMEMBER", key, ""),
        "+sscan": ("SSCAN", key, "0"),
        "+lindex": ("LINDEX", key, "0"),
        **{f"+{name}": (name.upper(), key, "") for name in ("hget", "hmget", "hstrlen")},
        "+exists": ("EXISTS", key, f"{key_prefix}queues", f"{key_prefix}stat:processed", f"{key_prefix}queue:default"),
    }
    found = []
    for right in READING[1:]:
        if right == "+select" and not db:
            continue
        if right in once:
            found.append(Trial(words=once[right], right=right))
        else:
            words = of_key.get(right, (right[1:].upper(), key))
            found.append(Trial(words=words, right=right, key_right=READING[0]))
    allowed = _probe_right(key_prefix)
    return (
        *found,
        Trial(words=("SET", probe, "1", "doctor"), right="+set", key_right=allowed),  # it has no such option
        Trial(words=("EVAL", "return 1", "1", probe), right="+eval", key_right=allowed),  # the key, if SET is refused
    )


def _probe_right(key_prefix: str) -> str:
    return f"%RW~{key_prefix}fleetd:probe"
