"""The hosts of a campaign: up to nine instances, under the project's units or with upstream's settings."""

from lab.hosts.host import Host
from lab.lab import Lab
from lab.setup import mastodon, services
from lab.topologies import TwoHosts, two_hosts

INSTANCES_MAX = 9
INSTANCES_MIN = 3
THREADS = 20
TEMPLATE = "mastodon-sidekiq@.service"
DRAIN_SECONDS_MAX = 8
PATIENCE_SECONDS = 5
"""Sidekiq's `-t`, which is 25 in production. What still runs 13 s after its instance was quieted is pushed back."""

_CONFIG = """
[profiles.default-first]
order = "default-first"
threads = {threads}
instances = "1-6"
min = 2

[profiles.weighted]
weights = {{ default = 8, push = 6, ingress = 4, mailers = 2, pull = 1, fasp = 1 }}
threads = {threads}
instances = "7-9"
min = 1

[targets]
default = 2
push = 5
ingress = 5
mailers = 5
pull = 10
fasp = 10

[scheduler]
place = "elsewhere"

[memory]
instance = "150 MiB"

[pace]
tick_seconds = 1
hold_down_seconds = 10
drain_seconds_max = {drain_seconds}
"""
_STOCK = """# What Mastodon's documentation has for mastodon-sidekiq.service, where it differs.
[Service]
Type=simple
NotifyAccess=none
TimeoutSec=15
KillMode=control-group
RestartSec=100ms
"""


def config(threads: int = THREADS) -> str:
    """fleetd.toml of a campaign."""
    return _CONFIG.format(threads=threads, drain_seconds=DRAIN_SECONDS_MAX)


def build(lab: Lab, *, stock: bool, boot_seconds: float) -> TwoHosts:
    """Boots both hosts. On worker1 runs fleetd or, with `stock`, three instances with upstream's settings."""
    hosts = two_hosts(lab, boot_seconds=boot_seconds, max_connections=(INSTANCES_MAX + 3) * (THREADS + 2))
    worker = hosts.worker
    if stock:
        worker.write(f"/etc/systemd/system/{TEMPLATE}.d/60-campaign.conf", _STOCK)
    else:
        # A drop-in as an admin would write it. Like the lab's own, but with a shorter -t.
        program = mastodon.PROGRAM
        worker.write(
            f"/etc/systemd/system/{TEMPLATE}.d/60-campaign.conf",
            f"[Service]\nExecStart=\nExecStart={program} $SIDEKIQ_ARGS -t {PATIENCE_SECONDS}\n",
        )
    lab.boot()
    configure(worker, THREADS)
    worker.start("fleetd-render")
    units = ["mastodon-sidekiq.target"] if stock else ["mastodon-sidekiq.target", "fleetd"]
    for unit in units:
        worker.start(unit)
    worker.wait_until("the first instances are up", lambda: len(up(worker)) >= INSTANCES_MIN)
    hosts.main.wait_until("Postgres answers", lambda: _database_answers(hosts.main))
    return hosts


def configure(worker: Host, threads: int) -> None:
    """Write fleetd.toml. The caller reloads whatever must read it."""
    worker.write("/etc/fleetd/fleetd.toml", config(threads), mode=0o640)
    worker.run(["chgrp", "fleetd", "/etc/fleetd/fleetd.toml"])


def up(worker: Host) -> list[int]:
    """The numbers of the instances that are active in systemd, ascending."""
    listed = worker.run(
        ["systemctl", "list-units", "--state=active", "--plain", "--no-legend", "mastodon-sidekiq@*"]
    ).stdout
    return sorted(int(line.split("@")[1].split(".")[0]) for line in listed.splitlines())


def _database_answers(main: Host) -> bool:
    done = main.run(["psql", "-Atqc", "SELECT 1", services.DATABASE], user="postgres", check=False)
    return done.returncode == 0
