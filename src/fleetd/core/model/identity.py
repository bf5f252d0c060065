"""Rendered settings carry an identity: Sidekiq's tag (``-g``) says which unit a heartbeat belongs to.

Host names and pids are not trusted for that: containers and cloned machines break both. Format:
``fleetd:HOST:NUMBER:pPOOL:DIGEST``; NUMBER is the instance number or ``scheduler``; DIGEST is the first 8 hex
digits of the SHA-256 of the rendered settings without the tag.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Literal

from fleetd.core.model.facts import Value

_TAG = re.compile(r"fleetd:([A-Za-z0-9._-]{1,64}):(scheduler|[0-9]{1,4}):p([0-9]{1,5}):([0-9a-f]{8})")


class WorkerTag(Value, frozen=True, kw_only=True):
    """Which unit a Sidekiq process is, and what it was started with."""

    host: str
    number: int | Literal["scheduler"]
    db_pool: int
    digest: str

    def __str__(self) -> str:
        return f"fleetd:{self.host}:{self.number}:p{self.db_pool}:{self.digest}"


@lru_cache(maxsize=1024)  # every tick asks for each process several times
def parse_tag(tag: str) -> WorkerTag | None:
    """The identity in a Sidekiq tag; None when the process is not one that fleetd rendered."""
    match = _TAG.fullmatch(tag)
    if match is None:
        return None
    host, number, pool, digest = match.groups()
    return WorkerTag(
        host=host,
        number="scheduler" if number == "scheduler" else int(number),
        db_pool=int(pool),
        digest=digest,
    )


@lru_cache(maxsize=1024)  # every tick asks for each instance
def application_name(number: int | Literal["scheduler"], host: str) -> str:
    """The name of a worker's connections in pg_stat_activity, at most Postgres's 63 bytes."""
    unit = "mastodon-sidekiq-scheduler" if number == "scheduler" else f"mastodon-sidekiq@{number}"
    return f"{unit}.{host}"[:63]


#: Every application_name of ours begins so.
APPLICATION_NAME_PREFIX = "mastodon-sidekiq"
