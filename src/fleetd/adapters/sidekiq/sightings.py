"""The heartbeats that may be of a live scheduler, with what is left of their expiry: for one who asks once.

Plain commands in a few round trips, because whoever may run Sidekiq may use them; reading.py, which reads everything
each tick, needs the right to run scripts. A heartbeat that can't be understood is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from fleetd.adapters.sidekiq.formats import WireError, heartbeat, process_info, text
from fleetd.core.fleet.rival import Sighting

#: Members of `processes` that are looked at; those that were killed stay until somebody cleans up.
MEMBERS_MAX = 20_000
_AT_ONCE = 500
_NAME_MAX = 256
_INFO_MAX = 65_536

Ask = Callable[[Sequence[Sequence[str]]], list[Any]]


def sightings(ask: Ask, prefix: str, now_seconds: float) -> list[Sighting]:
    """All heartbeats that expire. `ask`: sends commands and returns their replies; `now_seconds`: Redis's clock."""
    found = []
    identities = _members(ask, prefix)
    for first in range(0, len(identities), _AT_ONCE):
        names = identities[first : first + _AT_ONCE]
        left = ask([("PTTL", prefix + name) for name in names])
        # Of what lives, the size first: whoever can write to Redis can make it as large as they like.
        alive = [(n, ms) for n, ms in zip(names, left, strict=True) if isinstance(ms, int) and ms > 0]
        sizes = ask([("HSTRLEN", prefix + name, "info") for name, _ in alive])
        fit = [one for one, size in zip(alive, sizes, strict=True) if isinstance(size, int) and 0 < size <= _INFO_MAX]
        fields = ("info", "busy", "beat", "quiet", "rss", "concurrency")
        for (name, ms), values in zip(fit, ask([("HMGET", prefix + n, *fields) for n, _ in fit]), strict=True):
            sighting = _sighting(name, values, ms, now_seconds)
            if sighting is not None:
                found.append(sighting)
    return found


def _members(ask: Ask, prefix: str) -> list[str]:
    found: dict[str, None] = {}
    cursor = "0"
    while True:
        [page] = ask([("SSCAN", f"{prefix}processes", cursor, "COUNT", "1000")])
        if not isinstance(page, list) or len(page) != 2 or not isinstance(page[0], bytes):
            return []
        for member in page[1]:
            if isinstance(member, bytes) and len(member) <= _NAME_MAX:
                found[member.decode("utf-8", "surrogateescape")] = None
        cursor = page[0].decode("ascii", "replace")
        if cursor == "0" or len(found) > MEMBERS_MAX:
            return list(found)[:MEMBERS_MAX]


def _sighting(name: str, values: Any, left_ms: int, now_seconds: float) -> Sighting | None:
    try:
        info, *fields = values
        process, _ = heartbeat(text(name.encode("utf-8", "surrogateescape")), process_info(info), fields, now_seconds)
    except (WireError, TypeError, ValueError):
        return None
    return Sighting(process=process, expires_seconds=left_ms / 1000)
