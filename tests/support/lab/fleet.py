"""A whole fleet for tests: `main` with Redis and Postgres, `worker1` with fleetd started the way README says.

    @pytest.fixture(scope="module")
    def fleet() -> Iterator[Fleet]:
        with started(CONFIG) as fleet:
            yield fleet

Tests read what fleetd tells (`status`, `said`), what systemd and Postgres have (`up`, `postgres`) and what became of
the jobs (`tally`), and wait with a bound (`wait`, `hosts.worker.wait_until`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import msgspec

from fleetd.adapters.bus.client import fetch_status
from fleetd.core.model.status import Status
from fleetd.errors import FleetdError
from lab import Host, Lab, LabError
from lab.jobs import records
from lab.setup import mastodon
from lab.topologies import TwoHosts, two_hosts
from lab.waiting import PATIENCE_SECONDS, wait_until

#: One strict profile and one weighted one; windows are short, so that a test needn't wait for minutes.
CONFIG = """
[scheduler]
place = "here"
threads = 2

[profiles.default-first]
order = "default-first"
threads = 5
instances = "1-4"
min = 1

[profiles.weighted]
order = "weighted"
weights = { default = 8, push = 6, ingress = 4, mailers = 2, pull = 1, fasp = 1 }
threads = 5
instances = "5-6"
min = 1

[memory]
instance = "100 MiB"

[pace]
tick_seconds = 1
hold_down_seconds = 10
"""

_ANSWER_SECONDS = 10.0
_FLEETCTL = "/opt/fleetd/bin/fleetctl"
_FLEETD_TOML = "/etc/fleetd/fleetd.toml"


@dataclass(frozen=True)
class Said:
    """One line of the journal. `at`: Unix time in seconds."""

    at: float
    error: bool
    message: str


@dataclass(frozen=True)
class Fleet:
    """The hosts, and fleetd on `worker`."""

    hosts: TwoHosts

    @property
    def main(self) -> Host:
        return self.hosts.main

    @property
    def worker(self) -> Host:
        return self.hosts.worker

    # What is there

    def status(self) -> Status:
        """What fleetd says now, as `fleetctl status` is told it; LabError when it does not answer."""
        # Asked over the host's own bus, from here: polls that each start a fleetctl would take most of a small machine.
        try:
            told = fetch_status(_ANSWER_SECONDS, bus_address=bus_address(self.worker))
        except FleetdError as error:
            raise LabError(f"{self.worker.name}: {error}") from None
        return msgspec.json.decode(told, type=Status)

    def wait(self, what: str, check: Callable[[Status], bool], timeout: float = PATIENCE_SECONDS) -> Status:
        """Wait for a status that passes `check`, and return it. While fleetd does not answer none does."""
        last: list[Status] = []

        def passed() -> bool:
            try:
                last[:] = [self.status()]
            except LabError:
                if not self.worker.running:
                    raise
                return False
            return check(last[0])

        try:
            wait_until(what, passed, timeout, every=0.2)
        except LabError as error:
            raise LabError(f"{error}\n{self.story()}") from None
        return last[0]

    def up(self) -> set[int]:
        """Numbers of the instances that systemd has active (READY, not stopping)."""
        listed = self.worker.run(
            ["systemctl", "list-units", "--state=active", "--plain", "--no-legend", "mastodon-sidekiq@*"]
        ).stdout
        return {int(line.split("@")[1].split(".")[0]) for line in listed.splitlines()}

    def said(self, unit: str = "fleetd") -> list[Said]:
        """All that a unit (and systemd about it) wrote to the journal of the worker host, oldest first."""
        return [
            Said(int(e["__REALTIME_TIMESTAMP"]) / 1e6, int(e.get("PRIORITY", "6")) <= 3, str(e["MESSAGE"]))
            for e in self._journal(unit)
        ]

    def steps(self, verb: str) -> list[tuple[float, int | str]]:
        """(Unix time, number or "scheduler") of each start, quiet or stop that fleetd carried out, oldest first."""
        found: list[tuple[float, int | str]] = []
        for entry in self._journal("fleetd", f"FLEETD_STEP={verb}"):
            number = str(entry["FLEETD_UNIT"]).removesuffix(".service").partition("@")[2]
            at = int(entry["__REALTIME_TIMESTAMP"]) / 1e6
            found.append((at, int(number) if number else "scheduler"))
        return found

    def systemd_did(self, verb: str) -> list[tuple[float, int]]:
        """(Unix time, number) of each start or stop of an instance that systemd brought to its end, oldest first."""
        return [
            (int(e["__REALTIME_TIMESTAMP"]) / 1e6, int(e["UNIT"].partition("@")[2].removesuffix(".service")))
            for e in self._journal("mastodon-sidekiq@*")
            if (e.get("JOB_TYPE"), e.get("JOB_RESULT")) == (verb, "done")
        ]

    def _journal(self, unit: str, *fields: str) -> list[dict[str, Any]]:
        lines = self.worker.journalctl("-o", "json", "--unit", unit, *fields)
        return [json.loads(line) for line in lines.splitlines()]

    def postgres(self, query: str) -> str:
        """The answer of Postgres on main, asked as superuser (for whom a few connections are reserved)."""
        return self.main.run(["psql", "-Atqc", query, "postgres"], user="postgres").stdout.strip()

    def tally(self) -> records.Tally:
        """What became of all jobs."""
        return records.tally(self.main)

    def settled(self, timeout: float = PATIENCE_SECONDS) -> records.Tally:
        """What became of all jobs, at a moment at which none waits or runs."""
        found: list[records.Tally] = []

        def passed() -> bool:
            found[:] = [self.tally()]
            return found[0].settled

        self.worker.wait_until("no job waits or runs", passed, timeout)
        return found[0]

    def story(self) -> str:
        """What a failed test needs to be understood: fleetd's own words and the latest of its journal."""
        if not self.worker.running:
            return "The worker host is not running."
        shown = self.worker.run([_FLEETCTL, "status"], check=False)
        return f"{shown.stdout}{shown.stderr}\n{self.worker.journal('fleetd', lines=60)}"

    # What is done to it

    def configure(self, config: str) -> None:
        """Write fleetd.toml; the running fleetd learns of it by a reload.

        The virtual hosts share this machine's cores with the other tests: their pressure says nothing about the fleet.
        """
        off = "" if "[pressure]" in config else "\n[pressure]\ncpu_max = 1.0\nmemory_max = 1.0\n"
        self.worker.write(_FLEETD_TOML, config + off, mode=0o640)
        self.worker.run(["chgrp", "fleetd", _FLEETD_TOML])

    def start(self) -> None:
        """Start fleetd and what a boot would start, and wait until fleetd has decided for the first time."""
        self.worker.run(["systemctl", "enable", "--now", "mastodon-sidekiq.target", "fleetd"])


@contextmanager
def booted(
    config: str = CONFIG,
    *,
    settings: Mapping[str, str] | None = None,
    boot_seconds: float = 0.5,
    **hosts: Any,
) -> Iterator[Fleet]:
    """Both hosts up, fleetd configured but not started. `hosts`: for `lab.topologies.two_hosts`.

    `settings` change `.env.production` on the worker host, such as `{"RAILS_LOG_LEVEL": "info"}`.
    """
    with Lab() as lab:
        fleet = Fleet(two_hosts(lab, boot_seconds=boot_seconds, **hosts))
        if settings:
            usual = mastodon.environment("main", boot_seconds=boot_seconds)
            mastodon.write_settings(fleet.worker, {**usual, **settings})
        lab.boot()
        fleet.configure(config)
        yield fleet


@contextmanager
def started(config: str = CONFIG, **more: Any) -> Iterator[Fleet]:
    """As `booted`; fleetd runs, each profile's `min` serves and so does the scheduler, if it is to run here."""
    with booted(config, **more) as fleet:
        fleet.start()
        fleet.wait("each profile has its min", _calm)
        yield fleet


def bus_address(host: Host) -> str:
    """The bus of a host, by way of its file tree; whoever runs the lab is root there as well."""
    return f"unix:path=/proc/{host.pid}/root/run/dbus/system_bus_socket"


def _calm(status: Status) -> bool:
    return all(s.ok for s in status.sources) and all(
        (p.serving_instances or 0) >= p.min_instances for p in status.profiles
    )
