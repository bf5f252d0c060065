"""Asks Sentinels for the Redis that is the primary now."""

from collections.abc import Sequence

from lab.jobs.resp import Connection, RedisError, strings
from lab.setup.services import SENTINEL_MASTER, SENTINEL_PORT

_ANSWER_SECONDS = 2.0


def primary_address(sentinels: Sequence[str]) -> str:
    """The address that the first Sentinel to answer names. Raises OSError if none answers."""
    for address in sentinels:
        try:
            with Connection(address, SENTINEL_PORT, timeout=_ANSWER_SECONDS) as sentinel:
                found = strings(sentinel.command("SENTINEL", "get-master-addr-by-name", SENTINEL_MASTER))
        except (OSError, RedisError):
            continue
        if found:
            return found[0]
    raise ConnectionError(f"No Sentinel answers at {', '.join(sentinels)}")
