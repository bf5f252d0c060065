"""What a Redis user of fleetd's own has to be allowed for several hosts, besides what reading needs (Redis 7)."""

from __future__ import annotations

from typing import Final

from fleetd.adapters.ledger.ledger import LEDGER_KEY
from fleetd.adapters.redis.server_look import Trial

#: Commands, which key_right allows on one key only.
RIGHTS: Final = ("+hgetall", "+hset", "+hdel")


def key_right(key_prefix: str) -> str:
    """`key_prefix`: "" or "NAMESPACE:"."""
    return f"%RW~{key_prefix}{LEDGER_KEY}"


def trials(key_prefix: str) -> tuple[Trial, ...]:
    """One for each of these rights, of fields that lack a value or that no ledger has; and a script with the key."""
    key, allowed = key_prefix + LEDGER_KEY, key_right(key_prefix)
    return (
        Trial(words=("HGETALL", key), right="+hgetall", key_right=allowed),
        Trial(words=("HSET", key, "doctor", "", "doctor"), right="+hset", key_right=allowed),
        Trial(words=("HDEL", key, "doctor"), right="+hdel", key_right=allowed),
        Trial(words=("EVAL", "return 1", "1", key), right="+eval", key_right=allowed),
    )
