"""Other ways to set a fleet up: Redis users with just the documented rights, a PgBouncer per host, mixed releases."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager

from lab.jobs import load
from lab.observers.timeline import Timeline
from lab.setup import install, services
from tests.support.lab.fleet_faults import laws
from tests.support.lab.fleet_faults.cut_off import failover_that_all_survive
from tests.support.lab.fleet_faults.lost import leader_killed, taken_over
from tests.support.lab.fleet_faults.people import maintenance_of_a_follower
from tests.support.lab.fleet_faults.played import Figures
from tests.support.lab.fleet_faults.stage import CALM_SECONDS, MAX_CONNECTIONS, SIZES, Play
from tests.support.lab.many_hosts import Many, started
from tests.support.project import PROJECT

BEFORE = "0.2.0"
POOL_SIZE = 10
_PASSWORD = "lab-fleetd-redis"
_REDIS = f"""
[redis]
username = "fleetd"
password = "{_PASSWORD}"
sentinel_master = "{services.SENTINEL_MASTER}"
sentinels = ["main:{services.SENTINEL_PORT}", "redis1:{services.SENTINEL_PORT}", "redis2:{services.SENTINEL_PORT}"]
"""
_PGBOUNCER = f"""
[pgbouncer]
url = "postgresql://fleetd_stats:{services.STATS_PASSWORD}@localhost"
"""


def documented_user() -> str:
    """fleetd's Redis user with the rights in docs/operations.md for several hosts, as ACL SETUSER takes it."""
    text = (PROJECT / "docs/operations.md").read_text()
    reading = re.search(r"ACL SETUSER fleetd on >PASSWORD ((?:.|\n)+?)\n\n", text)
    sharing = re.search(r"ACL SETUSER fleetd (\+hgetall .*)", text)
    assert reading is not None
    assert sharing is not None
    words = [*reading[1].replace("\\\n", " ").split(), *sharing[1].split()]
    return " ".join(["fleetd", "on", f">{_PASSWORD}", *words])


@contextmanager
def with_the_documented_user() -> Iterator[Many]:
    """Three hosts whose fleetd has a Redis user of its own."""
    with started(more_config=_REDIS, redis_users=[documented_user()], **SIZES) as many:
        yield many


def documented_rights_suffice(play: Play) -> Figures:
    """A leader killed, a failover, a host emptied: Redis refuses fleetd nothing."""
    figures = leader_killed(play)
    play.calm()
    figures |= failover_that_all_survive(play)
    play.calm()
    figures |= maintenance_of_a_follower(play)
    for host in play.many.hosts.redis:
        with load.connect(host) as connection:
            refused = connection.command("ACL", "LOG")
        assert refused == [], "Redis refused a user something"
    for worker in play.many.workers:
        assert "NOPERM" not in worker.journal("fleetd", lines=2000)
    return figures


@contextmanager
def with_a_pgbouncer_each() -> Iterator[Many]:
    """Three hosts whose workers reach Postgres through their own host's PgBouncer."""
    with started(more_config=_PGBOUNCER, pool_size=POOL_SIZE, **SIZES) as many:
        yield many


def pools_fit(seen: Timeline, many: Many) -> None:
    """Behind PgBouncers, what they have open in Postgres is what counts."""
    assert seen.most_open_at_once("") <= MAX_CONNECTIONS - laws.RESERVED


def pgbouncer_on_each_host(play: Play) -> Figures:
    """Each PgBouncer is a source of its own, and all stand before one Postgres. The leader dies, Redis fails over."""
    told = play.many.wait("each reads both", lambda told: all(len(s.connections.sources) == 2 for s in told.values()))
    assert {source.name for s in told.values() for source in s.connections.sources} == {"postgres", "pgbouncer"}
    figures = leader_killed(play)
    play.calm()
    figures |= failover_that_all_survive(play)
    return {**figures, "connections open at most": play.seen().most_open_at_once("")}


@contextmanager
def with_one_of_the_release_before() -> Iterator[Many]:
    """The configured host has the release before this one."""
    with started(releases={"w1": install.release(BEFORE)}, **SIZES) as many:
        yield many


def release_before_among_others(play: Play) -> Figures:
    """A host of the release before has the scheduler, is lost in a surge, taken over from, and comes back.

    It asks nobody before it grows, so it grows first, and the others have what its claims leave. Its unit
    asks nobody at a boot, so it may start a second scheduler there, which ends.
    """
    many = play.many
    old = many.workers[0]
    assert play.holder() is old
    told = many.wait("its scheduler is seen", lambda told: all(s.scheduler.where == ("w1",) for s in told.values()))
    assert told["w1"].fleet is None
    play.work()
    gone = time.monotonic()
    many.power_off(old)
    figures = {"takeover after s": taken_over(play, old, gone)}
    laws.no_start_beside_another(play.seen())
    assert play.seen().together(frozen=True) == []
    booted = time.monotonic()
    old.boot()
    many.see("it serves again", lambda seen: "w1" in seen.alive(), CALM_SECONDS)
    many.pass_ticks(10)
    many.see("one scheduler is left", lambda seen: len(seen.scheduler_hosts()) == 1)
    return {**figures, "two schedulers after its boot for s": laws.surplus_ends(play.seen(), booted)}
