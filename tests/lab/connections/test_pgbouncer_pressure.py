"""Behind PgBouncer's pool the fleet grows into the free part, and its growth makes no client wait for long."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from lab.jobs import load
from lab.jobs.load import Load
from lab.setup import services
from tests.support.lab.fleet import Fleet, started

pytestmark = pytest.mark.lab

THREADS = 5
POOL_SIZE = 12
TICK_SECONDS = 2
#: A few ticks: a sign must last 10 s, then come a heartbeat of 5 s and the stop.
WAITING_SECONDS_MAX = 25.0
SECONDS = 50.0

CONFIG = f"""
[scheduler]
place = "elsewhere"
[profiles.only]
queues = ["default"]
threads = {THREADS}
instances = "1-6"
min = 1
[memory]
instance = "100 MiB"
[pace]
tick_seconds = {TICK_SECONDS}
[pgbouncer]
url = "postgresql://fleetd_stats:{services.STATS_PASSWORD}@main"
"""


@contextmanager
def console(fleet: Fleet) -> Iterator[psycopg.Connection[Any]]:
    with fleet.hosts.lab.network():
        connection = psycopg.connect(
            host=fleet.main.address,
            port=6432,
            dbname="pgbouncer",
            user="fleetd_stats",
            password=services.STATS_PASSWORD,
            autocommit=True,
            cursor_factory=psycopg.ClientCursor,
            row_factory=psycopg.rows.dict_row,
            prepare_threshold=None,
        )
    with connection:
        yield connection


def test_the_fleet_grows_into_the_pool_and_no_client_waits_for_long() -> None:
    with (
        started(CONFIG, through_pgbouncer=True, pool_size=POOL_SIZE, max_connections=100) as fleet,
        console(fleet) as pools,
    ):
        # Each job holds a server connection for nine tenths of its time, so two instances fill most of the pool.
        load.enqueue(fleet.main, "default", [0.5] * 6000, Load(phases=(), query_share=0.9))
        longest, since, sizes = 0.0, None, set()
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            rows = pools.execute("SHOW POOLS").fetchall()
            waits = any(row["cl_waiting"] for row in rows if row["user"] == "mastodon")
            since = (since or time.monotonic()) if waits else None
            longest = max(longest, time.monotonic() - since if since is not None else 0.0)
            status = fleet.status()
            sizes.add(status.profiles[0].serving_instances)
            time.sleep(0.4)
        assert longest <= WAITING_SECONDS_MAX, fleet.story()
        assert max(s for s in sizes if s is not None) >= 2, "it grew"
        assert len(fleet.up()) <= 3, "and no further than the pool carries"
        said = [c.sentence for c in status.clamps if c.code == "database_saturated"]
        assert said, fleet.story()
        print(f"longest wait seen {longest:.1f} s, sizes {sizes}: {said[0]}")
