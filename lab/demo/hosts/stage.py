"""Builds the hosts: main and two with Redis, and three workers with a fleetd each."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from fleetd.core.model.status import Status
from lab.demo.hosts.story import FIRST_SCHEDULER, INSTANCES_MIN, MAX_CONNECTIONS
from lab.demo.stage import Step, answers, configure, start_fleetd
from lab.demo.watch import ask_fleetd
from lab.faults import redis
from lab.hosts.host import Host
from lab.lab import Lab
from lab.observers.observer import Observer
from lab.observers.timeline import Timeline
from lab.topologies import ManyHosts, many_hosts

CONFIGURATION = Path(__file__).with_name("fleetd.toml")
_BOOT_SECONDS = 1.0


def configuration(host: str) -> str:
    """fleetd.toml of a host. One of them has the scheduler, the others may take it over."""
    text = CONFIGURATION.read_text()
    return text.replace('place = "auto"', 'place = "here"') if host == FIRST_SCHEDULER else text


def prepare(lab: Lab, step: Step) -> ManyHosts:
    """Prepare all hosts, not booted."""
    step("Installing fleetd, the stand-in Mastodon, Redis and Postgres on six hosts")
    hosts = many_hosts(lab, max_connections=MAX_CONNECTIONS, boot_seconds=_BOOT_SECONDS)
    for worker in hosts.workers:
        configure(worker, configuration(worker.name))
    return hosts


def start(hosts: ManyHosts, observer: Observer, step: Step) -> None:
    """Boot all hosts, start fleetd on the three workers, and wait until each has its min, and one the scheduler."""
    step("Booting them: a systemd, a D-Bus and a journal each")
    hosts.lab.boot()
    step("Waiting for Postgres, Redis, its replica and the Sentinels")
    hosts.main.wait_until("Postgres answers", lambda: answers(hosts.main, ["pg_isready"], "accepting"))
    redis.wait_ready(hosts)
    step("Starting fleetd, then mastodon-sidekiq.target, on w1, w2 and w3")
    with ThreadPoolExecutor(max_workers=len(hosts.workers)) as pool:
        for done in [pool.submit(start_fleetd, worker) for worker in hosts.workers]:
            done.result()
    step("Waiting for an instance on each of them, and the scheduler")
    names = [worker.name for worker in hosts.workers]
    observer.wait("each host has its min, and one the scheduler", lambda seen: _up(seen, names))
    step("Waiting until each has told what it runs, and one leads")
    hosts.lab.hosts[FIRST_SCHEDULER].wait_until("one of them leads", lambda: all(map(_has_plan, hosts.workers)))


def _has_plan(worker: Host) -> bool:
    status, _ = ask_fleetd(worker, "Status", Status)
    fleet = None if status is None else status.fleet
    return fleet is not None and fleet.gathering is None and fleet.leader != ""


def _up(seen: Timeline, names: Sequence[str]) -> bool:
    alive = seen.alive()
    return all(len(alive.get(name, ())) >= INSTANCES_MIN for name in names) and len(seen.scheduler_hosts()) == 1
