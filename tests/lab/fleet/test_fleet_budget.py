"""Law 2 on a nearly full Postgres: claims never exceed the budget, and fleetd gives way when others come."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import psycopg
import pytest

from fleetd.core.model.status import Status
from lab.jobs import load
from lab.setup import services
from lab.waiting import PATIENCE_SECONDS
from tests.support.lab import ticks
from tests.support.lab.fleet import Fleet, started

pytestmark = pytest.mark.lab

MAX_CONNECTIONS = 60
LIMIT = MAX_CONNECTIONS - 3  # superuser_reserved_connections
RESERVE = 4
THREADS = 8
CLAIM = THREADS + 2
TICK_SECONDS = 2

CONFIG = f"""
[scheduler]
place = "elsewhere"

[profiles.only]
order = "default-first"
threads = {THREADS}
instances = "1-6"
min = 1

[connections]
reserve = {RESERVE}
others_peak_half_life_seconds = 1

[memory]
instance = "100 MiB"

[pace]
tick_seconds = {TICK_SECONDS}
hold_down_seconds = 60
"""


class Others:
    """Other clients of the same database: web, streaming, a person with psql."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._held: list[psycopg.Connection[tuple[object, ...]]] = []

    def come(self, count: int) -> None:
        with self._fleet.hosts.lab.network():
            for _ in range(count):
                self._held.append(
                    psycopg.connect(
                        host=self._fleet.main.address,
                        dbname=services.DATABASE,
                        user="mastodon",
                        password=services.DB_PASSWORD,
                        connect_timeout=int(PATIENCE_SECONDS),
                    )
                )

    def take_all(self) -> None:
        """Take every connection that an ordinary role can get."""
        with pytest.raises(psycopg.OperationalError, match="remaining connection slots are reserved"):
            self.come(MAX_CONNECTIONS)

    def go(self) -> None:
        while self._held:
            self._held.pop().close()


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with started(CONFIG, max_connections=MAX_CONNECTIONS) as fleet:
        yield fleet


@pytest.fixture(scope="module")
def others(fleet: Fleet) -> Iterator[Others]:
    others = Others(fleet)
    yield others
    others.go()


def budget(status: Status) -> int:
    c = status.connections
    assert c.limit_connections is not None
    assert c.reserve_connections is not None
    assert c.others_connections is not None
    return c.limit_connections - c.reserve_connections - c.others_connections


def too_many_clients(fleet: Fleet) -> int:
    log = fleet.main.read(f"/var/log/postgresql/postgresql-{services.postgres_version()}-main.log")
    return log.count("remaining connection slots are reserved") + log.count("too many clients")


def watch_the_budget(fleet: Fleet, check: Callable[[Status], bool]) -> Callable[[Status], bool]:
    """`check`, and on every look also that claims are within the budget, by fleetd's count and by systemd's."""

    def look(status: Status) -> bool:
        claims = status.connections.claims_connections
        assert claims is not None
        assert claims <= budget(status)
        assert CLAIM * len(fleet.up()) <= budget(status)
        return check(status)

    return look


def test_a_surge_grows_to_the_budget_and_not_beyond(fleet: Fleet, others: Others) -> None:
    others.come(LIMIT - RESERVE - 3 * CLAIM - 5)  # room for two and a half more instances
    fleet.wait("fleetd counts them", lambda s: s.connections.others_connections == 18)
    load.enqueue(fleet.main, "default", [1.5] * 2000)
    check = watch_the_budget(fleet, lambda s: s.profiles[0].serving_instances == 3)
    fleet.wait("two more serve", check)
    full = fleet.wait("six ticks more", watch_the_budget(fleet, ticks_from(fleet, 6)))
    assert (full.profiles[0].needed_instances or 0) > 3, "more are wanted"
    assert full.profiles[0].serving_instances == 3
    [clamp] = [c for c in full.clamps if c.code == "connections"]
    # A role that can't see the kind of an autovacuum worker counts it as a client while it runs.
    others_now = full.connections.others_connections or 0
    assert others_now in (18, 19)
    assert clamp.sentence == (
        f"one more needs {CLAIM} connections, {23 - others_now} are left: limit {LIMIT} ({MAX_CONNECTIONS} − 3 "
        f"reserved for superusers) − reserve {RESERVE} − others {others_now} − claimed {3 * CLAIM}"
    )
    assert fleet.up() == {1, 2, 3}
    assert too_many_clients(fleet) == 0


def ticks_from(fleet: Fleet, ticks: int) -> Callable[[Status], bool]:
    target = fleet.status().ticks_total + ticks
    return lambda s: s.ticks_total >= target


def test_the_fleet_gives_way_within_two_ticks(fleet: Fleet, others: Others) -> None:
    assert fleet.up() == {1, 2, 3}
    with ticks.watching(fleet) as watched:
        others.come(8)
        came = time.time()
        # Reported only while more must go than is leaving already: for the one tick in which the drain begins.
        tick = watched.wait("it gives way", lambda s: any("giving way" in c.sentence for c in s.clamps))
        quieted = watched.wait("a drain begins", ticks.did("quiet"))
    seen = tick.status
    [full] = [c for c in seen.clamps if c.code == "connections" and not c.profile]
    assert f" more than its limit of {LIMIT} ({MAX_CONNECTIONS} − 3 reserved for superusers)" in full.sentence
    assert "fleetd lets 1 instance go. The largest of them: " in full.sentence
    [clamp] = [c for c in seen.clamps if c.code == "connections" and c.profile]
    assert clamp.sentence == (f"all claims are {3 * CLAIM} connections, the budget is {budget(seen)}: giving way")
    assert clamp.after_instances == 2
    assert watched.since(came, quieted) <= 2

    fits = fleet.wait("claims fit again", lambda s: (s.connections.claims_connections or 99) <= budget(s))
    assert fits.connections.claims_connections == 2 * CLAIM
    assert len(fleet.steps("quiet")) == len(fleet.steps("stop")) == 1, "no more than had to"
    assert too_many_clients(fleet) == 0


def test_the_fleet_grows_again_when_others_leave(fleet: Fleet, others: Others) -> None:
    others.go()
    check = watch_the_budget(fleet, lambda s: s.profiles[0].serving_instances == 5)
    grown = fleet.wait("the room is used", check)
    assert [c for c in grown.clamps if c.code == "connections"], "a sixth would not fit"
    assert too_many_clients(fleet) == 0


def test_a_full_postgres_starts_nothing_and_stops_nothing(fleet: Fleet, others: Others) -> None:
    up = fleet.up()
    orders = [fleet.steps(verb) for verb in ("start", "quiet", "stop")]
    with ExitStack() as afterwards:
        # fleetd is stopped meanwhile, so that the database refuses its next reading.
        fleet.worker.kill("fleetd", signal.SIGSTOP)
        afterwards.callback(fleet.worker.kill, "fleetd", signal.SIGCONT)
        gone = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'fleetd'"
        assert fleet.postgres(gone) == "1"
        others.take_all()
    refused = fleet.wait(
        "it is refused",
        lambda s: any("Postgres refuses" in c.sentence for c in s.clamps if c.code == "connections"),
    )
    assert [s.ok for s in refused.sources if s.name == "postgres"] == [True], "no headroom is a known headroom"
    assert refused.connections.headroom_connections == 0
    assert too_many_clients(fleet) > 0, "refusals are in Postgres's log, so their absence above says something"
    held = fleet.wait("six ticks more", ticks_from(fleet, 6))
    assert any("Postgres refuses" in c.sentence for c in held.clamps)
    assert fleet.up() == up
    assert [fleet.steps(verb) for verb in ("start", "quiet", "stop")] == orders

    others.go()
    healed = fleet.wait("fleetd is let in again", lambda s: (s.connections.headroom_connections or 0) > 0)
    assert healed.connections.others_connections is not None
    assert fleet.up() == up
