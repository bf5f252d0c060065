"""Redis and the databases, asked as the daemon's account or, before there is one, with the workers' own login."""

from __future__ import annotations

import asyncio
import os

import msgspec
from msgspec import structs

from fleetd.adapters.host.as_account import as_account
from fleetd.adapters.host.worker_account import Account, AccountError
from fleetd.adapters.mastodon.database_rules import database_settings
from fleetd.adapters.mastodon.env import read_env, release_from
from fleetd.adapters.mastodon.env_file import EnvFile
from fleetd.app.daemons_view import daemons_account
from fleetd.app.endpoints import Endpoints, find_endpoints
from fleetd.app.init.found import Servers, SourceFound, SourceUnknown
from fleetd.app.pooler_search import who_answers
from fleetd.app.route import OWN_ROLE, goes_by_user, login_of
from fleetd.app.sources import observe_once
from fleetd.config import Settings
from fleetd.core.capacity.budget import connection_limit
from fleetd.core.model.facts import DatabaseFacts, Known, PgBouncerFacts, ProcessFacts, Snapshot, Unknown
from fleetd.core.model.reasons.base import ConnectionSource
from fleetd.errors import ConfigError

#: All servers together, with their deadlines, and the question who answers before them.
ASK_SECONDS = 30.0
#: Heartbeats that are looked at; a fleet has fewer.
_PROCESSES_MAX = 200
_FULL = "it lets no more clients in"


def ask_servers(settings: Settings, env: EnvFile, workers: Account | None) -> Servers:
    """What they say to user fleetd, and where they say nothing to it, to `workers`. Never raises for what can be wrong.

    Who is not root asks with their own rights.
    """
    if os.geteuid() != 0:
        return _ask(settings, env)
    found: Servers | None = None
    why = "no user could ask"
    for account in (_daemons(), workers):
        if account is None:
            continue
        own = account.name != OWN_ROLE

        def look(own: bool = own) -> bytes:
            return msgspec.json.encode(_ask(_with_workers_login(settings, env) if own else settings, env))

        try:
            answer = msgspec.json.decode(as_account(account, look, ASK_SECONDS), type=Servers)
        except (AccountError, msgspec.MsgspecError) as error:
            why = str(error)
            continue
        found = answer if found is None else _better(found, answer)
        if found.processes is not None and not found.unknown:
            break
    return found or Servers(redis_why=why, unknown=(SourceUnknown(source="postgres", why=why),))


def _daemons() -> Account | None:
    """None: there is no such user yet."""
    try:
        return daemons_account()
    except AccountError:
        return None


def _with_workers_login(settings: Settings, env: EnvFile) -> Settings:
    """Over a local socket without a password, Postgres lets the workers' user in by its own role only."""
    variables = read_env(env)
    database = None if variables is None else database_settings(variables, [], release_from(env))
    if database is None or not goes_by_user(login := login_of(database, env)):
        return settings
    return structs.replace(settings, postgres=login)


def _better(first: Servers, second: Servers) -> Servers:
    """What either was told; why not, as the first heard it."""
    told = second if len(second.sources) > len(first.sources) else first
    redis = first if first.processes is not None or second.processes is None else second
    known = {source.source for source in told.sources}
    unknown = tuple(lost for lost in first.unknown if lost.source not in known)
    return structs.replace(told, processes=redis.processes, redis_why=redis.redis_why, unknown=unknown)


def _ask(settings: Settings, env: EnvFile) -> Servers:
    try:
        found = asyncio.run(who_answers(settings, env))
        endpoints = find_endpoints(settings, env, found)
    except ConfigError as error:
        why = error.problems[0].what
        return Servers(redis_why=why, unknown=(SourceUnknown(source="postgres", why=why),))
    return servers_from(endpoints, asyncio.run(observe_once(settings, endpoints)))


def servers_from(endpoints: Endpoints, snapshot: Snapshot) -> Servers:
    """Of a snapshot, what a first configuration depends on."""
    sidekiq = snapshot.sidekiq
    sources: list[SourceFound] = []
    unknown: list[SourceUnknown] = []
    readings: tuple[tuple[ConnectionSource, Known[DatabaseFacts] | Known[PgBouncerFacts] | Unknown | None], ...] = (
        ("postgres", snapshot.database),
        ("pgbouncer", snapshot.pgbouncer),
        ("replica", snapshot.replica),
    )
    for source, reading in readings:
        if isinstance(reading, Unknown):
            unknown.append(SourceUnknown(source=source, why=reading.why))
        elif reading is not None and reading.value.refused:
            unknown.append(SourceUnknown(source=source, why=_FULL))
        elif reading is not None and isinstance(reading.value, PgBouncerFacts):
            sources.append(_pgbouncer(reading.value))
        elif reading is not None and isinstance(reading.value, DatabaseFacts):
            sources.append(_postgres(source, reading.value, endpoints))
    return Servers(
        processes=tuple(map(_small, sidekiq.value.processes[:_PROCESSES_MAX])) if isinstance(sidekiq, Known) else None,
        redis_why=sidekiq.why if isinstance(sidekiq, Unknown) else "",
        sources=tuple(sources),
        unknown=tuple(unknown),
        workers_pool=endpoints.route.pool,
        strange_pooler=endpoints.route.strange,
    )


def _small(process: ProcessFacts) -> ProcessFacts:
    """Without its jobs, which may be many."""
    return structs.replace(process, jobs=(), busy_by_queue=None, young_by_queue={})


def _postgres(source: ConnectionSource, facts: DatabaseFacts, endpoints: Endpoints) -> SourceFound:
    login = endpoints.replica if source == "replica" else endpoints.postgres
    role = endpoints.limits_of[0] if source == "postgres" else None
    own_is_mastodons = login is None or role in (None, login.user)
    own = 0 if own_is_mastodons else facts.own_connections
    return SourceFound(
        source=source,
        limit_connections=connection_limit(None, facts),
        seen_connections=facts.others_connections,
        other_roles_connections=max(0, facts.client_connections - facts.role_connections - own),
    )


def _pgbouncer(facts: PgBouncerFacts) -> SourceFound:
    pool = facts.mastodon_pool
    return SourceFound(
        source="pgbouncer",
        limit_connections=facts.client_limit_connections,
        seen_connections=max(0, facts.client_connections - facts.own_connections),
        pool_connections=None if pool is None else pool.size_connections,
    )
