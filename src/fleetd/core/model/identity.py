"""The identity in rendered settings: Sidekiq's tag (``-g``) says which unit a heartbeat belongs to.

Host names and pids are not trusted for that: containers and cloned machines break both. Format:
``fleetd:HOST:NUMBER:pPOOL:DIGEST``; NUMBER is the instance number or ``scheduler``; DIGEST is the first 8 hex
digits of the SHA-256 of the rendered settings without the tag.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, NewType

import msgspec

#: Which of our units: an instance's number, 1 to 9999, or SCHEDULER.
InstanceKey = NewType("InstanceKey", int)
SCHEDULER: Final = InstanceKey(0)
NUMBER_MAX: Final = 9999

SCHEDULER_UNIT: Final = "mastodon-sidekiq-scheduler.service"
TEMPLATE_UNIT: Final = "mastodon-sidekiq@.service"
#: All workers of a host: its stop stops each of them. fleetd reads it and never touches it.
TARGET_UNIT: Final = "mastodon-sidekiq.target"
#: Every application_name of ours begins with this.
APPLICATION_NAME_PREFIX: Final = "mastodon-sidekiq"

_KEY = re.compile(r"scheduler|[1-9][0-9]{0,3}")
_UNIT = re.compile(r"mastodon-sidekiq(?:@([1-9][0-9]{0,3})|-(scheduler))\.service")
_TAG = re.compile(rf"fleetd:([A-Za-z0-9._-]{{1,64}}):({_KEY.pattern}):p([0-9]{{1,5}}):([0-9a-f]{{8}})")


def key_text(key: InstanceKey) -> str:
    """`3`, or `scheduler`: as it is written in tags, file names and orders."""
    return "scheduler" if key == SCHEDULER else str(key)


def key_of(text: str) -> InstanceKey | None:
    """The key for which `key_text` writes this; None for anything else, such as 0, which no unit of ours has."""
    if _KEY.fullmatch(text) is None:
        return None
    return SCHEDULER if text == "scheduler" else InstanceKey(int(text))


def unit_name(key: InstanceKey) -> str:
    """The unit without `.service`, as people call it."""
    return "mastodon-sidekiq-scheduler" if key == SCHEDULER else f"mastodon-sidekiq@{key}"


def unit_of(key: InstanceKey) -> str:
    """The unit as systemd calls it."""
    return f"{unit_name(key)}.service"


def key_of_unit(unit: str) -> InstanceKey | None:
    """The key for which `unit_of` writes this; None for any other unit."""
    match = _UNIT.fullmatch(unit)
    return None if match is None else key_of(match[1] or match[2])


class WorkerTag(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Which unit a Sidekiq process is, and what it was started with."""

    host: str
    key: InstanceKey
    db_pool: int
    digest: str

    def __str__(self) -> str:
        return f"fleetd:{self.host}:{key_text(self.key)}:p{self.db_pool}:{self.digest}"


@lru_cache(maxsize=4096)  # every tick asks for each process several times
def parse_tag(tag: str) -> WorkerTag | None:
    """The identity in a Sidekiq tag; None when the process is not one that fleetd rendered."""
    match = _TAG.fullmatch(tag)
    if match is None:
        return None
    host, text, pool, digest = match.groups()
    key = key_of(text)
    return None if key is None else WorkerTag(host=host, key=key, db_pool=int(pool), digest=digest)


@lru_cache(maxsize=4096)  # every tick asks for each instance
def application_name(key: InstanceKey, host: str) -> str:
    """The name of a worker's connections in pg_stat_activity, at most Postgres's 63 bytes."""
    return f"{unit_name(key)}.{host}"[:63]
