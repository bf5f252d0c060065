"""What `fleetctl init` found, as values. None of them holds a secret."""

from __future__ import annotations

from fleetd.adapters.mastodon.services import MastodonService
from fleetd.core.model.facts import ProcessFacts, Value
from fleetd.core.model.reasons.base import ConnectionSource


class SourceFound(Value, frozen=True, kw_only=True):
    """One limit of connections, as its server said."""

    source: ConnectionSource
    limit_connections: int  # less what is reserved for superusers, and at most what the role and database may have
    seen_connections: int  # now open, without fleetd's own and those that bear a name of fleetd's workers
    other_roles_connections: int = 0  # of `seen`: surely neither web's, streaming's nor workers'
    pool_connections: int | None = None  # PgBouncer: server connections for Mastodon; None: it is another source


class SourceUnknown(Value, frozen=True, kw_only=True):
    """A server that could not be asked, and why."""

    source: ConnectionSource
    why: str


class Servers(Value, frozen=True, kw_only=True):
    """What Redis and the databases said."""

    processes: tuple[ProcessFacts, ...] | None = None  # None: Redis could not be asked
    redis_why: str = ""
    sources: tuple[SourceFound, ...] = ()
    unknown: tuple[SourceUnknown, ...] = ()
    workers_pool: int | None = None  # pool= in the address of Mastodon's database, which beats db_pool
    strange_pooler: bool = False  # one that fleetd does not know

    @property
    def watched(self) -> frozenset[ConnectionSource]:
        """What there is, whether it could be asked or not."""
        return frozenset([*(found.source for found in self.sources), *(lost.source for lost in self.unknown)])


class MastodonFound(Value, frozen=True, kw_only=True):
    """Where Mastodon is, and how it is run."""

    directory: str = "/home/mastodon/live"
    user: str = "mastodon"
    exec: str | None = None  # what starts Sidekiq; None: rbenv in the user's home, as fleetd's units have it
    env_why: str = ""  # why .env.production can't be read; "": it was read
    sizes: dict[str, int] = {}  # of adapters/mastodon/services.py's SIZES, what .env.production says


class MemoryFound(Value, frozen=True, kw_only=True):
    """This host's memory, or its container's."""

    total_bytes: int
    available_bytes: int
    held_bytes: int = 0  # by the Sidekiqs that fleetd's workers replace: theirs once those stop


class Found(Value, frozen=True, kw_only=True):
    """Everything. `services`: of the Mastodon in `mastodon.directory`; None: systemd does not answer."""

    host: str
    cores: int
    memory: MemoryFound | None = None  # None: /proc does not say
    mastodon: MastodonFound = MastodonFound()
    services: tuple[MastodonService, ...] | None = ()
    other_mastodons: tuple[str, ...] = ()  # units that run a Sidekiq of another directory
    servers: Servers = Servers()

    def running(self, runs: str) -> tuple[MastodonService, ...]:
        """The units that run, or that a boot starts; fleetd's own are left out."""
        return tuple(s for s in self.services or () if s.runs == runs and (s.active or s.enabled) and not s.fleetds)
