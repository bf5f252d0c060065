"""Workers whose connections bear no name, and a PgBouncer that no port gives away: nobody is shed, everybody starts.

One fleet goes from setup to setup, in the order of this file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack

import psycopg
import pytest

from fleetd.core.model.status import Status
from lab.jobs import load
from lab.setup import mastodon, services
from lab.waiting import PATIENCE_SECONDS
from tests.support.lab.fleet import FLEETCTL, Fleet, booted

pytestmark = pytest.mark.lab

THREADS, CLAIM, RESERVE = 5, 7, 4
LIMIT = 60 - 3
#: Beside four workers that are counted once these fit, and beside four that are counted twice they don't.
WEB = 12

CONFIG = f"""
[scheduler]
place = "elsewhere"

[profiles.only]
order = "default-first"
threads = {THREADS}
instances = "1-4"
min = 1

[connections]
reserve = {RESERVE}

[memory]
instance = "100 MiB"

[pace]
tick_seconds = 1
"""
#: Takes the name away where no setting shows it, as an admin's own wrapper may.
NAMELESS = f"[Service]\nExecStart=\nExecStart=/usr/bin/env -u PGOPTIONS {mastodon.PROGRAM} $SIDEKIQ_ARGS\n"
NO_NAME = "no connection in Postgres bears the name of"


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with booted(CONFIG, max_connections=LIMIT + 3) as fleet:
        fleet.worker.write("/etc/systemd/system/mastodon-sidekiq@.service.d/60-nameless.conf", NAMELESS)
        fleet.worker.reload_systemd()
        fleet.start()
        yield fleet


def restart_workers(fleet: Fleet) -> None:
    fleet.worker.run(["systemctl", "restart", "fleetd"])
    fleet.worker.run(["systemctl", "restart", "mastodon-sidekiq.target"])


def doctor_says(fleet: Fleet) -> dict[str, str]:
    """By subject: all that `fleetctl doctor` saw."""
    checks = json.loads(fleet.worker.run([FLEETCTL, "doctor", "--json"], check=False).stdout)["checks"]
    said: dict[str, str] = {}
    for check in checks:
        said[check["subject"]] = f"{said.get(check['subject'], '')} {check['what']}"
    return said


def all_serve(status: Status) -> bool:
    return status.profiles[0].serving_instances == 4


def test_four_workers_without_names_are_not_counted_twice(fleet: Fleet) -> None:
    assert 4 * CLAIM + WEB <= LIMIT - RESERVE < 4 * CLAIM + 4 * THREADS + WEB
    load.enqueue(fleet.main, "default", [1.0] * 900)
    fleet.wait("four serve", all_serve)
    with ExitStack() as web, fleet.hosts.lab.network():
        for _ in range(WEB):
            client = psycopg.connect(
                host=fleet.main.address,
                dbname=services.DATABASE,
                user="mastodon",
                password=services.DB_PASSWORD,
                application_name="puma",
                connect_timeout=int(PATIENCE_SECONDS),
            )
            web.callback(client.close)
        said = fleet.wait("it says that names are missing", lambda s: any(NO_NAME in warning for warning in s.warnings))
        named = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'mastodon-sidekiq%'"
        assert fleet.postgres(named) == "0"
        assert all_serve(said)
        seen = fleet.wait("web is counted", lambda s: s.connections.sources[0].open_connections >= WEB + 4)
        assert seen.connections.sources[0].others_bound_connections >= WEB
    assert fleet.steps("quiet") == [], "nobody was shed"


@pytest.mark.parametrize(("port", "mode"), [(6543, "session")])
def test_workers_start_behind_a_pgbouncer_that_no_port_gives_away(fleet: Fleet, port: int, mode: str) -> None:
    services.pgbouncer(fleet.main, stats_users="fleetd_stats, mastodon", port=port, pool_mode=mode, pool_size=40)
    fleet.main.run(["systemctl", "restart", "pgbouncer"])
    mastodon.write_settings(fleet.worker, mastodon.environment("main", boot_seconds=0.5, port=port))
    checks = doctor_says(fleet)
    assert f"PgBouncer at main:{port}, because it answers as PgBouncer 1." in checks["configuration"]
    assert "that the profiles claim at min" in checks["PgBouncer"], "before fleetd has asked"
    restart_workers(fleet)
    fleet.wait("PgBouncer is watched", lambda s: [c.name for c in s.connections.sources] == ["pgbouncer"])
    assert any(f"PgBouncer at main:{port}, because it answers as PgBouncer 1." in line.message for line in fleet.said())
    assert "PGOPTIONS" not in fleet.worker.read("/var/lib/mastodon-sidekiq/1.env")
    load.enqueue(fleet.main, "default", [1.0] * 300)
    fleet.wait("workers work", lambda s: s.connections.sources[0].open_connections > 2)
    said = "\n".join(line.message for line in fleet.said("mastodon-sidekiq@1"))
    assert "unsupported startup parameter" not in said
