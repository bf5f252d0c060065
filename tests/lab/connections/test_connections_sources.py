"""What fleetd reads about connections in each setup that admins have: Postgres, a replica, PgBouncer, both.

One fleet goes from setup to setup, in the order of this file. Mostly that takes a reload, as it does for an admin.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import psycopg
import pytest

from fleetd.core.model.status import ConnectionSourceStatus, Status
from lab.setup import mastodon, services
from lab.waiting import PATIENCE_SECONDS
from tests.support.lab.fleet import Fleet, started

pytestmark = pytest.mark.lab

MAX_CONNECTIONS = 80
RESERVED = 3  # superuser_reserved_connections
REPLICA_MAX_CONNECTIONS = 100
MAX_CLIENTS = 100  # the lab's PgBouncer allows this many
POOL_SIZE = 7
RESERVE = 4

CONFIG = f"""
[scheduler]
place = "elsewhere"

[profiles.only]
order = "default-first"
threads = 5
instances = "1-2"
min = 1

[connections]
reserve = {RESERVE}

[memory]
instance = "100 MiB"

[pace]
tick_seconds = 1
"""
REPLICA = f'\n[replica]\nurl = "postgresql://fleetd:{services.MONITOR_PASSWORD}@replica/{services.DATABASE}"\n'
POSTGRES = f'\n[postgres]\nurl = "postgresql://fleetd:{services.MONITOR_PASSWORD}@main/{services.DATABASE}"\n'
CONSOLE = f'\n[pgbouncer]\nurl = "postgresql://fleetd_stats:{services.STATS_PASSWORD}@main"\n'


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with started(CONFIG, max_connections=MAX_CONNECTIONS, pool_size=POOL_SIZE, replica=True) as fleet:
        yield fleet


def configure(fleet: Fleet, more: str) -> None:
    fleet.configure(CONFIG + more)
    fleet.worker.run(["systemctl", "reload", "fleetd"])


def wait(
    fleet: Fleet, names: set[str], check: Callable[[dict[str, ConnectionSourceStatus]], bool]
) -> dict[str, ConnectionSourceStatus]:
    """Wait until exactly these sources are read and what they say passes `check`."""

    def by_name(status: Status) -> dict[str, ConnectionSourceStatus]:
        return {source.name: source for source in status.connections.sources}

    def holds(status: Status) -> bool:
        sources = by_name(status)
        return set(sources) == names and check(sources)

    return by_name(fleet.wait(f"{', '.join(sorted(names))} as expected", holds))


@contextmanager
def clients(fleet: Fleet, count: int, host: str, port: int = 5432, name: str = "puma") -> Iterator[None]:
    """This many connections of Mastodon's web, each of which has run a query."""
    with ExitStack() as stack, fleet.hosts.lab.network():
        for _ in range(count):
            connection = psycopg.connect(
                host=host,
                port=port,
                dbname=services.DATABASE,
                user="mastodon",
                password=services.DB_PASSWORD,
                application_name=name,
                connect_timeout=int(PATIENCE_SECONDS),
                autocommit=True,
                prepare_threshold=None,
            )
            stack.callback(connection.close)
            connection.execute("SELECT 1")
        yield


def observed(source: ConnectionSourceStatus, word: str) -> int:
    return sum(c.observed_connections or 0 for c in source.consumers if word in c.name)


def said(fleet: Fleet, sentence: str) -> bool:
    return any(sentence in line.message for line in fleet.said())


def test_postgres_directly(fleet: Fleet) -> None:
    with clients(fleet, 6, fleet.main.address):
        read = wait(
            fleet,
            {"postgres"},
            # An autovacuum worker counts while it runs, if the role can't see what it is.
            lambda s: observed(s["postgres"], "puma") == s["postgres"].others_seen_connections == 6,
        )["postgres"]
    assert read.limit_connections == MAX_CONNECTIONS - RESERVED
    assert read.reserve_connections == RESERVE
    assert read.others_seen_connections == observed(read, "puma"), "our workers are told apart by name"
    assert observed(read, "mastodon from") == 6
    assert said(fleet, "watched at: Postgres at main:5432, as .env.production says.")


def test_postgres_with_a_replica(fleet: Fleet) -> None:
    assert fleet.hosts.replica is not None
    configure(fleet, REPLICA)
    with clients(fleet, 5, fleet.hosts.replica.address):
        read = wait(
            fleet,
            {"postgres", "replica"},
            lambda s: observed(s["replica"], "puma") == s["replica"].others_seen_connections == 5,
        )
    assert read["replica"].limit_connections == REPLICA_MAX_CONNECTIONS - RESERVED
    assert read["replica"].others_seen_connections == 5
    assert read["postgres"].limit_connections == MAX_CONNECTIONS - RESERVED
    assert said(fleet, "the replica at replica:5432, as [replica] says.")


def test_pgbouncer_and_postgres_behind_it(fleet: Fleet) -> None:
    configure(fleet, POSTGRES + CONSOLE)
    with clients(fleet, 4, fleet.main.address, 6432):
        read = wait(
            fleet,
            {"postgres", "pgbouncer"},
            lambda s: s["pgbouncer"].others_bound_connections >= 4,
        )
    assert read["pgbouncer"].limit_connections == MAX_CLIENTS
    assert read["pgbouncer"].pool_connections == POOL_SIZE
    assert read["pgbouncer"].waiting_clients == 0
    assert read["postgres"].limit_connections == MAX_CONNECTIONS - RESERVED
    assert said(fleet, "PgBouncer at main:6432, because there is a [pgbouncer] table; Postgres at main:5432")


def test_pgbouncer_alone_as_read_from_mastodons_own_settings(fleet: Fleet) -> None:
    """Includes what an admin meets first there: a user that may not look at the console."""
    mastodon.write_settings(fleet.worker, mastodon.environment("main", boot_seconds=0.5, port=6432))
    configure(fleet, "")
    fleet.worker.run(["systemctl", "restart", "mastodon-sidekiq.target", "fleetd"])
    cure = re.compile(r"stats_users = (\S+) \(no quotes\), and RELOAD")
    told = fleet.wait("it says how to be let in", lambda s: any(cure.search(source.why) for source in s.sources))
    [user] = [found[1] for source in told.sources if (found := cure.search(source.why))]

    services.pgbouncer(fleet.main, pool_size=POOL_SIZE, stats_users=f"fleetd_stats, {user}")
    fleet.main.run(["systemctl", "reload", "pgbouncer"])
    with clients(fleet, 3, fleet.main.address, 6432):
        read = wait(fleet, {"pgbouncer"}, lambda s: s["pgbouncer"].open_connections >= 3 + 1)["pgbouncer"]
    assert read.limit_connections == MAX_CLIENTS
    assert read.pool_connections == POOL_SIZE
    assert said(fleet, "PgBouncer at main:6432, because it answers as PgBouncer")
    assert said(fleet, "Postgres behind PgBouncer is not watched: name it under [postgres].")
