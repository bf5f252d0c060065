"""Looks once a second at Redis, systemd and Postgres, independently of fleetd, and asks fleetd for its status."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
import psycopg
import redis

from fleetd.core.model.status import Status
from lab.demo.samples import Sample
from lab.errors import LabError
from lab.hosts.host import Host
from lab.lab import Lab
from lab.setup import mastodon, services
from lab.topologies import TwoHosts

EVERY_SECONDS = 1.0
_ANSWER_SECONDS = 3.0
_BUS = ("busctl", "--json=short", "call", "org.fleetd1", "/org/fleetd1", "org.fleetd1.Manager")
_UNITS = ("systemctl", "list-units", "--all", "--plain", "--no-legend", "--full", "mastodon-sidekiq@*.service")

Answer = TypeVar("Answer")


class Servers:
    """Asks Redis and Postgres. What can't be read is unknown. Only for a thread that is in the lab's network."""

    def __init__(self, redis_host: Host, postgres_host: Host) -> None:
        self._redis = redis.Redis(
            host=redis_host.address,
            decode_responses=True,
            socket_timeout=_ANSWER_SECONDS,
            socket_connect_timeout=_ANSWER_SECONDS,
        )
        self._address = postgres_host.address
        self._postgres: psycopg.Connection[tuple[Any, ...]] | None = None

    def queues(self) -> dict[str, Any]:
        """The fields of a Sample that come from Redis; none, if it does not answer."""
        try:
            with self._redis.pipeline(transaction=True) as ask:
                ask.time()
                for queue in mastodon.QUEUES:
                    ask.llen(f"queue:{queue}")
                    ask.lindex(f"queue:{queue}", -1)
                for name in ("retry", "schedule", "dead"):
                    ask.zcard(name)
                ask.smembers("processes")
                (seconds, micros), *answers = ask.execute()
            with self._redis.pipeline(transaction=False) as ask:
                for process in answers.pop():
                    ask.hmget(process, "info", "busy")
                processes = ask.execute()
        except (redis.RedisError, OSError):
            return {}
        now = seconds + micros / 1e6
        lengths, oldest = answers[0:-3:2], answers[1:-3:2]
        waits = [max(0.0, now - json.loads(job)["enqueued_at"]) if job else 0.0 for job in oldest]
        alive = [(json.loads(info), int(busy or 0)) for info, busy in processes if info]
        return {
            "waiting_jobs": dict(zip(mastodon.QUEUES, lengths, strict=True)),
            "waits_seconds": dict(zip(mastodon.QUEUES, waits, strict=True)),
            "retries_jobs": sum(answers[-3:]),
            "busy_threads": sum(busy for _, busy in alive),
            "schedulers": sum("scheduler" in info["queues"] for info, _ in alive),
        }

    def connections(self) -> int | None:
        """All client connections of Postgres."""
        try:
            if self._postgres is None or self._postgres.closed:
                self._postgres = psycopg.connect(
                    host=self._address,
                    dbname=services.DATABASE,
                    user="fleetd",
                    password=services.MONITOR_PASSWORD,
                    application_name="fleetd-demo",
                    connect_timeout=int(_ANSWER_SECONDS),
                    options=f"-c statement_timeout={int(_ANSWER_SECONDS * 1000)}",
                    autocommit=True,
                )
            row = self._postgres.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"
            ).fetchone()
        except (psycopg.Error, OSError):
            return None
        return None if row is None else int(row[0])

    def close(self) -> None:
        """End both connections."""
        if self._postgres is not None:
            self._postgres.close()
        self._redis.close()


class Watcher:
    """Looks once a second in its own thread, which is in the lab's network."""

    def __init__(self, lab: Lab, servers: Servers, look: Callable[[float], None]) -> None:
        """`look` is called in that thread with the seconds since the beginning. It may use `servers`."""
        self._lab = lab
        self._servers = servers
        self._look = look
        self._began = time.monotonic()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watcher", daemon=True)

    def start(self) -> None:
        """Begin. Time counts from here."""
        self._began = time.monotonic()
        self._thread.start()

    def stop(self) -> None:
        """End within a few seconds."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(timeout=4 * _ANSWER_SECONDS)

    def _run(self) -> None:
        with self._lab.network():
            while not self._ended.is_set():
                due = time.monotonic() + EVERY_SECONDS
                self._look(time.monotonic() - self._began)
                self._ended.wait(max(0.0, due - time.monotonic()))
            self._servers.close()


def watcher(hosts: TwoHosts, take: Callable[[Sample, Status | None, str], None]) -> Watcher:
    """`take` is called with each sample, fleetd's newest status, and why there is none."""
    servers = Servers(hosts.main, hosts.main)

    def look(at_seconds: float) -> None:
        status, silence = ask_fleetd(hosts.worker, "Status", Status)
        units: dict[str, Any] = _units(hosts.worker)
        sample = Sample(at_seconds=at_seconds, connections=servers.connections(), **units, **servers.queues())
        take(sample, status, silence)

    return Watcher(hosts.lab, servers, look)


def ask_fleetd(host: Host, method: str, kind: type[Answer]) -> tuple[Answer | None, str]:
    """What the fleetd of a host answers on the bus, or None and why there is no answer."""
    try:
        said = host.run([*_BUS, method], timeout=_ANSWER_SECONDS, check=False)
        if said.returncode != 0:
            return None, f"fleetd does not answer: {said.stderr.strip()[:200]}"
        return msgspec.json.decode(json.loads(said.stdout)["data"][0], type=kind), ""
    except (LabError, OSError, ValueError, msgspec.MsgspecError) as error:
        return None, f"fleetd does not answer: {str(error)[:200]}"


def _units(worker: Host) -> dict[str, int]:
    try:
        listed = worker.run(_UNITS, timeout=_ANSWER_SECONDS).stdout
    except (LabError, OSError):
        return {}
    return unit_counts(listed)


def unit_counts(listed: str) -> dict[str, int]:
    """How many instances serve, start and stop, from the output of `systemctl list-units --plain`."""
    states = [fields[2] for fields in (line.split() for line in listed.splitlines()) if len(fields) > 3]
    return {
        "serving_instances": states.count("active") + states.count("reloading"),
        "starting_instances": states.count("activating"),
        "stopping_instances": states.count("deactivating"),
    }
