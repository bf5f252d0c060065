"""A whole fleet for tests: `main` has Redis and Postgres, `worker1` has fleetd, started as the README says.

    @pytest.fixture(scope="module")
    def fleet() -> Iterator[Fleet]:
        with started(CONFIG) as fleet:
            yield fleet

Tests read what fleetd reports (`status`, `said`), what systemd and Postgres report (`up`, `postgres`) and what became
of the jobs (`tally`). They wait with a time limit (`wait`, `hosts.worker.wait_until`).
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

#: One strict profile and one weighted one. Windows are short, so that a test needn't wait for minutes.
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
FLEETCTL = "/opt/fleetd/bin/fleetctl"
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

    # Reading

    def status(self) -> Status:
        """The status that `fleetctl status` gets. Raises LabError when fleetd does not answer."""
        # Asked from here, over the host's own bus: starting a fleetctl for every poll would overload a small machine.
        try:
            answer = fetch_status(_ANSWER_SECONDS, bus_address=bus_address(self.worker))
        except FleetdError as error:
            raise LabError(f"{self.worker.name}: {error}") from None
        return msgspec.json.decode(answer, type=Status)

    def wait(self, what: str, check: Callable[[Status], bool], timeout: float = PATIENCE_SECONDS) -> Status:
        """Wait for a status that passes `check`, and return it. Goes on waiting while fleetd does not answer."""
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
        """The numbers of the instances that are active in systemd (READY, not stopping)."""
        listed = self.worker.run(
            ["systemctl", "list-units", "--state=active", "--plain", "--no-legend", "mastodon-sidekiq@*"]
        ).stdout
        return {int(line.split("@")[1].split(".")[0]) for line in listed.splitlines()}

    def said(self, unit: str = "fleetd") -> list[Said]:
        """All that a unit, and systemd about it, wrote to the worker host's journal, oldest first."""
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
        """(Unix time, number) of each start or stop of an instance that systemd completed, oldest first."""
        return [
            (int(e["__REALTIME_TIMESTAMP"]) / 1e6, int(e["UNIT"].partition("@")[2].removesuffix(".service")))
            for e in self._journal("mastodon-sidekiq@*")
            if (e.get("JOB_TYPE"), e.get("JOB_RESULT")) == (verb, "done")
        ]

    def _journal(self, unit: str, *fields: str) -> list[dict[str, Any]]:
        lines = self.worker.journalctl("-o", "json", "--unit", unit, *fields)
        return [json.loads(line) for line in lines.splitlines()]

    def postgres(self, query: str) -> str:
        """What Postgres on main answers the superuser, for whom a few connections are reserved."""
        return self.main.run(["psql", "-Atqc", query, "postgres"], user="postgres").stdout.strip()

    def tally(self) -> records.Tally:
        """What became of all jobs."""
        return records.tally(self.main)

    def settled(self, timeout: float = PATIENCE_SECONDS) -> records.Tally:
        """What became of all jobs, once none waits or runs."""
        found: list[records.Tally] = []

        def passed() -> bool:
            found[:] = [self.tally()]
            return found[0].settled

        self.worker.wait_until("no job waits or runs", passed, timeout)
        return found[0]

    def story(self) -> str:
        """For the message of a failed test: fleetd's status and the end of its journal."""
        if not self.worker.running:
            return "The worker host is not running."
        shown = self.worker.run([FLEETCTL, "status"], check=False)
        return f"{shown.stdout}{shown.stderr}\n{self.worker.journal('fleetd', lines=60)}"

    # Acting

    def configure(self, config: str) -> None:
        """Write fleetd.toml. A running fleetd reads it on reload.

        The virtual hosts share this machine's cores with other tests, so their pressure says nothing about the fleet.
        """
        off = "" if "[pressure]" in config else "\n[pressure]\ncpu_max = 1.0\nmemory_max = 1.0\n"
        self.worker.write(_FLEETD_TOML, config + off, mode=0o640)
        self.worker.run(["chgrp", "fleetd", _FLEETD_TOML])

    def start(self) -> None:
        """Start fleetd and whatever a boot would start, and wait for fleetd's first decision."""
        self.worker.run(["systemctl", "enable", "--now", "fleetd"])
        self.worker.run(["systemctl", "enable", "--now", "mastodon-sidekiq.target"])


@contextmanager
def booted(
    config: str = CONFIG,
    *,
    settings: Mapping[str, str] | None = None,
    boot_seconds: float = 0.5,
    **hosts: Any,
) -> Iterator[Fleet]:
    """A fleet with both hosts up, and fleetd configured but not started. `hosts`: see `lab.topologies.two_hosts`.

    `settings` go into `.env.production` on the worker host, such as `{"RAILS_LOG_LEVEL": "info"}`.
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
    """As `booted`, but fleetd runs, each profile's `min` serves, and so does the scheduler if it belongs here."""
    with booted(config, **more) as fleet:
        fleet.start()
        fleet.wait("each profile has its min", _calm)
        yield fleet


def bus_address(host: Host) -> str:
    """A host's bus, reached through its file tree. Whoever runs the lab is root there as well."""
    return f"unix:path=/proc/{host.pid}/root/run/dbus/system_bus_socket"


def _calm(status: Status) -> bool:
    return all(s.ok for s in status.sources) and all(
        (p.serving_instances or 0) >= p.min_instances for p in status.profiles
    )
