"""What `fleetctl init` finds, shortly: a test gives only what it is about."""

from __future__ import annotations

from typing import Any

from msgspec import structs

from fleetd.adapters.mastodon.services import MastodonService
from fleetd.adapters.mastodon.sidekiq_command import sidekiq_command
from fleetd.app.init.found import Found, MemoryFound, Servers, SourceFound
from fleetd.core.model.facts import ProcessFacts
from tests.support.builders.readings import process

GIB = 1024**3
BUNDLE = "/home/mastodon/.rbenv/shims/bundle"
ALL_QUEUES = "default push ingress mailers pull scheduler fasp"


def sidekiq_unit(name: str = "mastodon-sidekiq", arguments: str = "-c 25", **more: Any) -> MastodonService:
    command = sidekiq_command(BUNDLE, f"{BUNDLE} exec sidekiq {arguments}", {})
    return MastodonService(
        name=f"{name}.service",
        runs="sidekiq",
        active=more.pop("active", True),
        enabled=more.pop("enabled", True),
        user="mastodon",
        directory="/home/mastodon/live",
        sidekiq=command,
        **more,
    )


def web_unit(**sizes: int) -> MastodonService:
    return MastodonService(name="mastodon-web.service", runs="web", active=True, enabled=True, sizes=sizes)


def streaming_unit(port: int = 4000, **sizes: int) -> MastodonService:
    name = f"mastodon-streaming@{port}.service"
    return MastodonService(name=name, runs="streaming", active=True, enabled=True, sizes=sizes)


def beat(
    queues: str = ALL_QUEUES, *, threads: int = 25, hostname: str = "w1", label: str = "", held: int | None = None
) -> ProcessFacts:
    """A heartbeat of a Sidekiq that has run for two days."""
    one = process(label, queues=queues, threads=threads, hostname=hostname, started=2 * 86_400.0)
    return structs.replace(one, resident_bytes=held)


def postgres(limit: int = 97, *, seen: int = 30, others: int = 0) -> SourceFound:
    return SourceFound(
        source="postgres", limit_connections=limit, seen_connections=seen, other_roles_connections=others
    )


def pgbouncer(limit: int = 100, *, seen: int = 30, pool: int = 20) -> SourceFound:
    return SourceFound(source="pgbouncer", limit_connections=limit, seen_connections=seen, pool_connections=pool)


def stock(*services: MastodonService, cores: int = 4, total: float = 8.0, available: float = 4.0, **more: Any) -> Found:
    """A VM as the guide installs it, with Debian's max_connections; `total` and `available` in GiB.

    `services`: instead of the stock unit; web and streaming are there in any case.
    """
    memory = MemoryFound(
        total_bytes=int(total * GIB), available_bytes=int(available * GIB), held_bytes=more.pop("held", 0)
    )
    units = services or (sidekiq_unit(),)
    beats = more.pop("beats", (beat(),))
    return Found(
        host="w1",
        cores=cores,
        memory=memory,
        services=(*units, *more.pop("others", (web_unit(), streaming_unit()))),
        servers=more.pop("servers", Servers(processes=beats, sources=more.pop("sources", (postgres(),)))),
        **more,
    )
