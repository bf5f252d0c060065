"""What independent programs say of a fleet now: nothing in here uses fleetd's own readings."""

from __future__ import annotations

import json
import time
import tomllib
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from lab.hosts.host import Host
from lab.jobs import load
from lab.jobs.resp import RedisError, strings
from lab.setup import mastodon, services
from tests.support.lab.fleet import Fleet

SCHEDULER = "mastodon-sidekiq-scheduler.service"
TARGET = "mastodon-sidekiq.target"
#: Mastodon's own defaults for queues that the configuration does not name, as docs/operations.md has them.
TARGET_SECONDS = {"default": 5.0, "push": 30.0, "ingress": 30.0, "mailers": 60.0, "pull": 300.0, "fasp": 300.0}
_SHOWN = (
    "Id,LoadState,ActiveState,UnitFileState,MainPID,NRestarts,ActiveEnterTimestampMonotonic,"
    "InactiveEnterTimestampMonotonic"
)


@dataclass(frozen=True)
class Unit:
    """A worker's unit, as systemctl and /proc have it."""

    load: str
    active: str
    pid: int
    resident_bytes: int | None
    settings: dict[str, str]
    stopped_after_a_start: bool = False

    @property
    def is_up(self) -> bool:
        return self.active in {"active", "activating", "deactivating", "reloading"}


@dataclass(frozen=True)
class Beat:
    """One Sidekiq process that beats, as its hash in Redis has it."""

    host: str
    pid: int
    queues: tuple[str, ...]
    busy: int
    threads: int
    quiet: bool
    beat_seconds: float


@dataclass(frozen=True)
class Redis:
    lengths: dict[str, int]
    ages_seconds: dict[str, float]
    busy: Counter[str]
    beats: list[Beat]
    sets: dict[str, int]
    """How many jobs are in retry, dead and schedule."""
    ended: dict[str, int]
    """Sidekiq's own counts, of processed and failed jobs."""


@dataclass(frozen=True)
class Postgres:
    limit: int
    clients: int
    named: Counter[str]
    reserved: int


@dataclass(frozen=True)
class Seen:
    """All of it, at about one moment. None: that source does not answer."""

    at_seconds: float
    hostname: str
    version: str
    uptime_seconds: float
    code_version: str
    memory: dict[str, int]
    config: dict[str, Any]
    units: dict[str, Unit]
    redis: Redis | None
    postgres: Postgres | None
    marks: dict[str, Any] = field(default_factory=dict)

    def workers(self) -> dict[int, Unit]:
        return {int(name.split("@")[1].split(".")[0]): unit for name, unit in self.units.items() if "@" in name}

    def beat_of(self, unit: Unit) -> Beat | None:
        beats = self.redis.beats if self.redis is not None else []
        return next((b for b in beats if b.pid == unit.pid and b.host == self.hostname), None) if unit.pid else None

    def serves(self, unit: Unit) -> bool:
        beat = self.beat_of(unit)
        return unit.active == "active" and beat is not None and not beat.quiet

    def schedulers(self) -> list[Beat]:
        return [b for b in self.redis.beats if "scheduler" in b.queues and not b.quiet] if self.redis else []


def look(fleet: Fleet) -> Seen:
    """Ask all of them."""
    worker = fleet.worker
    numbers = sorted({*_numbers(tomllib.loads(worker.read("/etc/fleetd/fleetd.toml"))), *_loaded(worker)})
    names = [*(f"mastodon-sidekiq@{n}.service" for n in numbers), SCHEDULER, TARGET]
    shown = worker.run(["systemctl", "show", f"--property={_SHOWN}", *names]).stdout
    blocks = [dict(line.split("=", 1) for line in block.splitlines()) for block in shown.strip().split("\n\n")]
    clock = worker.run(["cat", "/proc/uptime"]).stdout.split()[0]
    began = worker.unit("fleetd").properties.get("ExecMainStartTimestampMonotonic", "0")
    memory = dict(line.split(":") for line in worker.read("/proc/meminfo").splitlines())
    return Seen(
        at_seconds=time.time(),
        hostname=worker.run(["hostname"]).stdout.strip(),
        version=next((worker.disk / "opt/fleetd/lib").glob("python3*/site-packages/fleetd-*.dist-info")).name[7:-10],
        uptime_seconds=float(clock) - int(began) / 1e6,
        code_version=_code_version(worker),
        memory={name: int(memory[name].split()[0]) * 1024 for name in ("MemTotal", "MemAvailable")},
        config=tomllib.loads(worker.read("/etc/fleetd/fleetd.toml")),
        units={block["Id"]: _unit(worker, block) for block in blocks},
        redis=_redis(fleet.main),
        postgres=_postgres(fleet),
    )


def numbers_of(profile: dict[str, Any]) -> list[int]:
    """The numbers that a profile of the configuration names."""
    given = profile["instances"]
    if isinstance(given, list):
        return given
    first, _, last = str(given).partition("-")
    return list(range(int(first), int(last or first) + 1))


def _numbers(config: dict[str, Any]) -> list[int]:
    return [number for profile in config["profiles"].values() for number in numbers_of(profile)]


def _loaded(worker: Host) -> list[int]:
    listed = worker.units("mastodon-sidekiq@*")
    return [int(name.split("@")[1].split(".")[0]) for name in listed]


def _unit(worker: Host, shown: dict[str, str]) -> Unit:
    pid = int(shown.get("MainPID", "0"))
    name = shown["Id"].removesuffix(".service").partition("@")[2] or "scheduler"
    file = worker.path(f"/var/lib/mastodon-sidekiq/{name}.env")
    try:
        settings = dict(line.split("=", 1) for line in file.read_text().splitlines() if "=" in line)
    except FileNotFoundError:
        settings = {}
    status = dict(line.split(":", 1) for line in _process_status(worker, pid).splitlines() if ":" in line)
    return Unit(
        load=shown["LoadState"],
        active=shown["ActiveState"],
        pid=pid,
        resident_bytes=int(status["VmRSS"].split()[0]) * 1024 if "VmRSS" in status else None,
        settings={key: value.strip('"') for key, value in settings.items()},
        stopped_after_a_start=shown["ActiveState"] == "inactive" and shown["InactiveEnterTimestampMonotonic"] != "0",
    )


def _process_status(worker: Host, pid: int) -> str:
    if not pid:
        return ""
    done = worker.run(["cat", f"/proc/{pid}/status"], check=False)
    return done.stdout if done.returncode == 0 else ""


def _code_version(worker: Host) -> str:
    text = worker.read(f"{mastodon.LIVE}/lib/mastodon/version.rb")
    found = {}
    for part in ("major", "minor", "patch"):
        tail = text.split(f"def {part}", 1)[1]
        found[part] = tail.split()[0]
    return ".".join(found[part] for part in ("major", "minor", "patch"))


def _redis(main: Host) -> Redis | None:
    try:
        with load.connect(main) as redis:
            queues = sorted({*strings(redis.command("SMEMBERS", "queues"))})
            lengths = {queue: int(str(redis.command("LLEN", f"queue:{queue}"))) for queue in queues}
            ages, busy, beats = {}, Counter[str](), []
            for queue in queues:
                oldest = redis.command("LINDEX", f"queue:{queue}", "-1")
                if oldest is not None:
                    ages[queue] = time.time() - float(json.loads(str(oldest))["enqueued_at"])
            for member in strings(redis.command("SMEMBERS", "processes")):
                info, count, quiet, beat = (
                    redis.command("HGET", member, name) for name in ("info", "busy", "quiet", "beat")
                )
                if info is None:
                    continue
                said = json.loads(str(info))
                works = [json.loads(work) for work in strings(redis.command("HVALS", f"{member}:workers"))]
                busy.update(work["queue"] for work in works)
                beats.append(
                    Beat(
                        host=said["hostname"],
                        pid=int(said["pid"]),
                        queues=tuple(said["queues"]),
                        busy=int(str(count)),
                        threads=int(said["concurrency"]),
                        quiet=str(quiet) == "true",
                        beat_seconds=float(str(beat)),
                    )
                )
            sets = {name: int(str(redis.command("ZCARD", name))) for name in ("retry", "dead", "schedule")}
            ended = {name: int(str(redis.command("GET", f"stat:{name}") or 0)) for name in ("processed", "failed")}
            return Redis(lengths, ages, busy, beats, sets, ended)
    except (RedisError, OSError):
        return None


def _postgres(fleet: Fleet) -> Postgres | None:
    reserved = "current_setting('superuser_reserved_connections')::int"
    query = (
        f"SELECT 'limit', current_setting('max_connections')::int - {reserved}"
        f" UNION ALL SELECT 'reserved', {reserved}"
        f" UNION ALL SELECT 'of ' || application_name, count(*) FROM pg_stat_activity"
        f" WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() AND datname = '{services.DATABASE}'"
        " GROUP BY application_name"
        " UNION ALL SELECT 'clients', count(*) FROM pg_stat_activity"
        " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
    )
    done = fleet.main.run(["psql", "-Atqc", query, "postgres"], user="postgres", check=False)
    if done.returncode != 0:
        return None
    rows = [line.rpartition("|") for line in done.stdout.splitlines()]
    said = {name: int(count) for name, _, count in rows}
    named = Counter({name[3:]: count for name, count in said.items() if name.startswith("of ")})
    return Postgres(said["limit"], said["clients"], named, said["reserved"])
