"""The usual sets of hosts, ready to boot."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.hosts.host import Host
from lab.lab import Lab
from lab.setup import install, mastodon, services


@dataclass(frozen=True)
class TwoHosts:
    """A main VM with Redis, PostgreSQL and PgBouncer, and a worker VM with Mastodon's code and fleetd.

    `replica`: a third VM with a replica of that PostgreSQL, if it was requested.
    """

    lab: Lab
    main: Host
    worker: Host
    replica: Host | None = None


def two_hosts(
    lab: Lab,
    *,
    max_connections: int = 100,
    boot_seconds: float = 3.0,
    cron_seconds: float = 10.0,
    through_pgbouncer: bool = False,
    pool_size: int = 20,
    redis_password: str = "",
    stock_unit_on_main: bool = False,
    replica: bool = False,
    fleetd: Path | None = install.PROJECT,
) -> TwoHosts:
    """Prepare `main` and `worker1`; call `lab.boot()` next.

    fleetd and its units are installed on worker1, but not enabled, and without a configuration. With
    `stock_unit_on_main` the main VM also runs upstream's unit, whose one process serves every queue. With
    `replica` there is a third host of that name, with a replica of the database. `fleetd` is its source; None: there is
    nothing of it, not even the workers' units.
    """
    main = lab.add_host("main", run=("redis-server", "postgresql", "pgbouncer"))
    services.redis(main, redis_password or None)
    services.postgres(main, max_connections)
    services.pgbouncer(main, pool_size=pool_size)
    port = 6432 if through_pgbouncer else 5432
    settings = mastodon.environment(
        "main", boot_seconds=boot_seconds, cron_seconds=cron_seconds, redis_password=redis_password, port=port
    )
    if stock_unit_on_main:
        mastodon.install(main, settings)
        mastodon.install_stock_unit(main)
    worker = add_worker(lab, "worker1", settings, fleetd=fleetd)
    standby = lab.add_host("replica", run=("postgresql",)) if replica else None
    if standby is not None:
        services.replica(standby, main.address, max(100, max_connections))
    return TwoHosts(lab, main, worker, standby)


@dataclass(frozen=True)
class ManyHosts:
    """Three worker VMs with Mastodon's code and fleetd, whose Redis is wherever three Sentinels say.

    Database, first primary and first replica are three VMs with a Sentinel each. So any one VM may be lost, and an
    isolated primary may take a worker with it, without the others losing their database or most of the Sentinels.
    """

    lab: Lab
    main: Host
    """PostgreSQL and a Sentinel."""
    redis: tuple[Host, Host]
    """The first primary and the first replica, with a Sentinel each."""
    workers: tuple[Host, ...]
    """w1, w2, w3"""

    @property
    def sentinels(self) -> tuple[Host, ...]:
        """The hosts with a Sentinel."""
        return (self.main, *self.redis)


def many_hosts(
    lab: Lab,
    *,
    workers: int = 3,
    max_connections: int = 100,
    boot_seconds: float = 0.5,
    cron_seconds: float = 10.0,
    down_after_seconds: float = 5.0,
    redis_users: Sequence[str] = (),
    pool_size: int = 0,
    releases: Mapping[str, Path] | None = None,
) -> ManyHosts:
    """Prepare `main`, `redis1`, `redis2` and the workers `w1` to `w3`; call `lab.boot()` next.

    As in `two_hosts`, fleetd is installed, but not enabled, and without a configuration. `down_after_seconds`: how long
    the Sentinels wait for an answer before they replace the primary. `redis_users`: see `services.redis`. `pool_size`:
    above 0 each worker has a PgBouncer of its own with such a pool. `releases`: the source of fleetd on some workers.
    """
    main = lab.add_host("main", run=("postgresql", "redis-sentinel"))
    services.postgres(main, max_connections)
    first, second = (lab.add_host(name, run=("redis-server", "redis-sentinel")) for name in ("redis1", "redis2"))
    services.redis(first, users=redis_users)
    services.redis(second, replica_of=first.address, users=redis_users)
    for host in (main, first, second):
        services.sentinel(host, first.address, down_after_seconds=down_after_seconds)
    database = ("localhost", 6432) if pool_size else ("main", 5432)
    settings = mastodon.environment(database[0], boot_seconds=boot_seconds, cron_seconds=cron_seconds, port=database[1])
    settings = mastodon.by_sentinels(settings, [host.name for host in (main, first, second)])
    added = []
    for name in [f"w{number + 1}" for number in range(workers)]:
        source = (releases or {}).get(name, install.PROJECT)
        run = ("pgbouncer",) if pool_size else ()
        worker = add_worker(lab, name, settings, fleetd=source, run=run)
        if pool_size:
            services.pgbouncer(worker, database_host=main.address, pool_size=pool_size)
        added.append(worker)
    return ManyHosts(lab, main, (first, second), tuple(added))


def one_host(lab: Lab, *, boot_seconds: float = 0.5) -> Host:
    """One VM as Mastodon's guide installs it: Redis and Postgres beside the workers, and no database password.

    Postgres goes by the operating system's user (peer). Nobody has made a role for fleetd.
    """
    host = lab.add_host("one", run=("redis-server", "postgresql"))
    services.redis(host)
    services.postgres(host)
    services.as_the_guide_says(host)
    settings = mastodon.environment("localhost", boot_seconds=boot_seconds)
    mastodon.install(host, {**settings, "DB_HOST": "/var/run/postgresql", "DB_PASS": ""})
    _install_fleetd(lab, host)
    return host


def add_worker(
    lab: Lab,
    name: str,
    settings: dict[str, str],
    *,
    fleetd: Path | None = install.PROJECT,
    hostname: str = "",
    run: Sequence[str] = (),
) -> Host:
    """Add a worker VM: Mastodon's code, and fleetd with its units from the source `fleetd`, if there is one."""
    host = lab.add_host(name, run=run, hostname=hostname)
    mastodon.install(host, settings)
    _install_fleetd(lab, host, fleetd)
    return host


def _install_fleetd(lab: Lab, host: Host, source: Path | None = install.PROJECT) -> None:
    if source is not None:
        lab.say(f"{host.name}: installing fleetd")
        install.place_units(host, source)
        install.place_programs(host, source)
    for unit in ("mastodon-sidekiq@.service", "mastodon-sidekiq-scheduler.service"):
        mastodon.run_with_stand_in(host, unit)
