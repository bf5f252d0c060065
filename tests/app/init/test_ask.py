"""What Redis and the databases say, as far as a first configuration depends on it."""

from __future__ import annotations

import os

import pytest
from msgspec import structs

from fleetd.adapters.mastodon.env_file import EnvFile
from fleetd.app.endpoints import find_endpoints
from fleetd.app.init.ask import ask_servers, servers_from
from fleetd.app.init.found import MastodonFound, SourceFound, SourceUnknown
from fleetd.app.init.mastodon_table import settings_for
from fleetd.config import parse
from fleetd.core.model.facts import Known, RunningJob, Unknown
from tests.support.builders.readings import bouncer, database, process, sidekiq, snapshot

SETTINGS = parse("[profiles.a]\ninstances = [1]\n", machine_host="w1")
PASSWORD = "hunter2-and-more"
GUIDE = "REDIS_HOST=localhost\nDB_HOST=/var/run/postgresql\nDB_USER=mastodon\n"
REMOTE = (
    f"REDIS_HOST=127.0.0.1\nREDIS_PORT=1\nREDIS_PASSWORD={PASSWORD}\nDB_HOST=127.0.0.1\nDB_PORT=1\nDB_PASS={PASSWORD}\n"
)


def test_a_limit_what_is_seen_and_other_roles() -> None:
    """By the guide's socket fleetd has a role of its own, whose connection is neither Mastodon's nor another's."""
    facts = structs.replace(
        database(maximum=100, clients=31, workers={"mastodon-sidekiq@1.w1": 5}), role_connections=20, own_connections=1
    )
    shot = structs.replace(snapshot(SETTINGS.policy), database=Known(value=facts))
    servers = servers_from(find_endpoints(SETTINGS, EnvFile(text=GUIDE)), shot)
    [source] = servers.sources
    assert source == SourceFound(
        source="postgres", limit_connections=97, seen_connections=25, other_roles_connections=10
    )


def test_a_heartbeat_is_kept_without_its_jobs() -> None:
    one = structs.replace(process("", busy=3), jobs=(RunningJob(jid="x", run_age_seconds=1.0),))
    shot = structs.replace(snapshot(SETTINGS.policy), sidekiq=Known(value=sidekiq(processes=(one,))))
    [kept] = servers_from(find_endpoints(SETTINGS, EnvFile(text=GUIDE)), shot).processes or ()
    assert (kept.jobs, kept.threads) == ((), 5)


def test_pgbouncer_and_what_does_not_answer() -> None:
    shot = structs.replace(
        snapshot(SETTINGS.policy),
        sidekiq=Unknown(why="no Redis"),
        database=Unknown(why="no Postgres"),
        pgbouncer=Known(value=bouncer(limit=100, clients=40, size=20)),
        replica=Known(value=database(refused=True)),
    )
    servers = servers_from(find_endpoints(SETTINGS, EnvFile(text=GUIDE)), shot)
    assert (servers.processes, servers.redis_why) == (None, "no Redis")
    assert [(s.source, s.limit_connections, s.pool_connections) for s in servers.sources] == [("pgbouncer", 100, 20)]
    assert servers.unknown == (
        SourceUnknown(source="postgres", why="no Postgres"),
        SourceUnknown(source="replica", why="it lets no more clients in"),
    )


def test_servers_that_are_not_there_are_said_without_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    servers = ask_servers(settings_for(MastodonFound()), EnvFile(text=REMOTE), None)
    assert servers.processes is None
    assert "127.0.0.1:1" in servers.redis_why
    assert PASSWORD not in repr(servers)
    assert [lost.source for lost in servers.unknown] == ["postgres"]


def test_settings_that_can_not_be_read_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    servers = ask_servers(settings_for(MastodonFound()), EnvFile(path="/x", why="you may not", forbidden=True), None)
    assert servers.processes is None
    assert "you may not" in servers.redis_why
    assert servers.unknown[0].source == "postgres"
