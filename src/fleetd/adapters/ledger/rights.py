"""What a Redis user of fleetd's own has to be allowed for several hosts, besides what reading needs (Redis 7)."""

from __future__ import annotations

from typing import Final

from fleetd.adapters.ledger.ledger import LEDGER_KEY

#: Commands, which key_right allows on one key only.
RIGHTS: Final = ("+hgetall", "+hset", "+hdel")


def key_right(key_prefix: str) -> str:
    """`key_prefix`: "" or "NAMESPACE:"."""
    return f"%RW~{key_prefix}{LEDGER_KEY}"
