"""Builds the demo's two hosts with all that runs on them, and starts fleetd as the README says."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from lab.demo.story import INSTANCES_MIN, MAX_CONNECTIONS, WEB_CONNECTIONS
from lab.errors import LabError
from lab.hosts.host import Host
from lab.lab import Lab
from lab.setup import services
from lab.topologies import TwoHosts, two_hosts

WEB_UNIT = "mastodon-web.service"
CONFIGURATION = Path(__file__).with_name("fleetd.toml")
_WEB_PROGRAM = "/usr/local/lib/mastodon-web.rb"
_WEB_PASSWORD = "/etc/mastodon-web.password"  # noqa: S105 - a path

Step = Callable[[str], None]
"""Called with a description of the next step."""


def build(lab: Lab, step: Step) -> TwoHosts:
    """Prepare and boot both hosts, start fleetd on worker1, and wait until each profile's min serves."""
    step("Putting fleetd and the stand-in Mastodon on two virtual hosts")
    hosts = two_hosts(lab, max_connections=MAX_CONNECTIONS)
    _install_web(hosts)
    configure(hosts.worker, CONFIGURATION.read_text())
    step("Booting both: a systemd, a D-Bus and a journal each")
    lab.boot()
    step("Waiting for Redis, Postgres and Mastodon's web on main")
    hosts.main.wait_until("Redis answers", lambda: answers(hosts.main, ["redis-cli", "ping"], "PONG"))
    hosts.main.wait_until("Postgres answers", lambda: answers(hosts.main, ["pg_isready"], "accepting"))
    hosts.main.wait_until(
        f"{WEB_UNIT} holds its {WEB_CONNECTIONS} connections", lambda: connections(hosts) >= WEB_CONNECTIONS
    )
    step("Starting fleetd on worker1: systemctl enable --now fleetd, then mastodon-sidekiq.target")
    start_fleetd(hosts.worker)
    step(f"Waiting for {INSTANCES_MIN} Sidekiq instances and the scheduler")
    hosts.worker.wait_until("the first instances serve", lambda: _serving(hosts))
    return hosts


def configure(worker: Host, configuration: str) -> None:
    """Write fleetd.toml, and put fleetctl where people find it. The host need not run."""
    worker.write("/etc/fleetd/fleetd.toml", configuration, mode=0o640)
    (worker.disk / "usr/local/bin/fleetctl").symlink_to("/opt/fleetd/bin/fleetctl")
    worker.on_disk("systemd-tmpfiles", "--create", "fleetd.conf")  # for that file's group


def start_fleetd(worker: Host) -> None:
    """Start fleetd and whatever a boot would start, from now on at each boot. Raises LabError with the journal."""
    # Rendered first, as on a boot. fleetd before the target, so that it finds that workers may name their connections.
    _systemctl(worker, "start", "fleetd-render.service")
    _systemctl(worker, "enable", "--now", "fleetd.service")
    _systemctl(worker, "enable", "--now", "mastodon-sidekiq.target")


def _systemctl(worker: Host, *arguments: str) -> None:
    """Run systemctl. If it fails, raise what the journal says."""
    if worker.run(["systemctl", *arguments], check=False).returncode != 0:
        said = worker.journal("fleetd", 8) + worker.journal("fleetd-render", 8)
        raise LabError(f"`systemctl {' '.join(arguments)}` failed on {worker.name}. The journal:\n{said}")


def connections(hosts: TwoHosts) -> int:
    """The number of client connections of Mastodon's role in Postgres now."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'mastodon'"
    done = hosts.main.run(["psql", "-Atqc", query], user="postgres", check=False)
    return int(done.stdout) if done.returncode == 0 else 0


def answers(host: Host, command: list[str], word: str) -> bool:
    """Whether a server on this host answers its own client with this word."""
    return word in host.run(command, check=False).stdout


def _serving(hosts: TwoHosts) -> bool:
    worker = hosts.worker
    up = [name for name in worker.units("mastodon-sidekiq@*") if worker.unit(name).active]
    return len(up) >= INSTANCES_MIN and worker.unit("mastodon-sidekiq-scheduler").active


def _install_web(hosts: TwoHosts) -> None:
    main = hosts.main
    main.write(_WEB_PROGRAM, Path(__file__).with_name("web.rb").read_text())
    main.write(_WEB_PASSWORD, f"{services.DB_PASSWORD}\n", mode=0o600, owner="postgres")
    command = f"{shutil.which('ruby') or '/usr/bin/ruby'} {_WEB_PROGRAM} {WEB_CONNECTIONS} {services.DATABASE}"
    main.write(
        f"/etc/systemd/system/{WEB_UNIT}",
        "[Unit]\nDescription=Mastodon's web, as far as the database sees it\nAfter=postgresql.service\n"
        "StartLimitIntervalSec=0\n"
        f"[Service]\nUser=postgres\nExecStart={command} {_WEB_PASSWORD}\nRestart=always\nRestartSec=1\n"
        "[Install]\nWantedBy=multi-user.target\n",
    )
    main.enable(WEB_UNIT)
