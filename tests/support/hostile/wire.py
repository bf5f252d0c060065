"""The simulated world as its sources write it down: each reading goes through the adapter's own parsing.

What is `Added` comes to what a healthy world writes, and is hostile.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fleetd.adapters.database.pgbouncer import PgBouncerConsole
from fleetd.adapters.database.postgres import facts_from
from fleetd.adapters.host.readings import LinuxHost
from fleetd.adapters.sidekiq.job_classes import JobClasses
from fleetd.adapters.sidekiq.records import Reading
from fleetd.adapters.systemd.unit_properties import SeenUnit
from fleetd.config.connections import PostgresSettings
from fleetd.core.model.decision import Step, StepResult
from fleetd.core.model.facts import DatabaseFacts, HostFacts, PgBouncerFacts, SidekiqFacts, SystemdFacts
from fleetd.core.model.worker_settings import all_settings, settings_file_name
from fleetd.errors import SourceUnavailableError
from tests.support.builders.database_rows import ConsoleAnswers, postgres_row
from tests.support.builders.pgbouncer_rows import recorded
from tests.support.builders.unit_rows import unit_properties
from tests.support.world.parts import Process
from tests.support.world.pgbouncer import pgbouncer_facts
from tests.support.world.ports import FakeUnits
from tests.support.world.readings import database_facts, systemd_facts
from tests.support.world.world import MIB, World

Record = list[Any]
MASTODON = ("mastodon", "mastodon")
MEMORY_TOTAL_BYTES = 64 * 1024 * MIB


class Added:
    """What others have written besides. Each part is empty at first."""

    def __init__(self) -> None:
        self.records: list[Record] = []  # of Redis
        self.jobs: dict[str, bytes] = {}  # by queue: the next job of it
        self.running: list[bytes] = []  # running jobs of the first process
        self.fields: dict[int, bytes | None] = {}  # of the first process's heartbeat, by place
        self.columns: dict[str, Any] = {}  # of Postgres's row
        self.replica: dict[str, Any] = {}  # of the replica's
        self.console: list[tuple[str, int, str, Any]] = []  # SHOW what, row, column, value
        self.properties: list[tuple[int, str, Any]] = []  # of units: number, name, value
        self.files: dict[str, str] = {}  # of the kernel and of root


def queue_records(world: World, added: Added) -> list[Record]:
    """`queue NAME LENGTH BYTES JOB HEAD`."""
    records: list[Record] = []
    for name, jobs in world.queues.items():
        job: bytes | None = b'{"jid":"%s","enqueued_at":%r}' % (b"a" * 24, jobs[0].enqueued_at) if jobs else None
        hostile = added.jobs.get(name)
        shown = hostile or job
        length = len(jobs) + (hostile is not None)
        records.append([b"queue", name.encode(), length, len(shown or b""), shown, b""])
    return records


def process_fields(world: World, process: Process) -> list[bytes | None]:
    """The fields of a heartbeat as Sidekiq 7.3 writes them: info, busy, beat, quiet, rss, concurrency."""
    assert process.beat_at is not None
    info = {
        "hostname": process.hostname,
        "started_at": max(process.started_at, process.ready_at - 1.0),
        "pid": process.pid,
        "tag": process.tag,
        "concurrency": process.threads,
        "queues": [queue for queue, _ in process.queues],
        "weights": [dict(process.queues)],
        "identity": process.identity,
        "version": "7.3.9",
    }
    quiet = b"true" if process.beat_quiet else b"false"
    busy, resident = process.beat_work.total(), world.resident_bytes // 1024
    return [json.dumps(info).encode(), b"%d" % busy, b"%r" % process.beat_at, quiet, b"%d" % resident, None]


def sidekiq_records(world: World, added: Added) -> list[Record]:
    """The records of reading.lua."""
    records: list[Record] = [[b"time", b"%d" % int(world.now), b"%d" % round(world.now % 1 * 1e6)]]
    records += [[b"counter", b"processed", b"%d" % world.done], [b"counter", b"failed", b"0"]]
    records += [[b"waiting", name, 0] for name in (b"retry", b"dead", b"schedule")]
    records.append([b"classes", b"j|251009|8:05", [b"LinkCrawlWorker", b"5", b"12"]])
    records += queue_records(world, added)
    running, replaced = added.running, added.fields
    for process in world.processes():
        if process.listed:
            identity = process.identity.encode()
            fields = [replaced.get(place, field) for place, field in enumerate(process_fields(world, process))]
            queues = [queue for queue, jobs in process.beat_work.items() for _ in range(jobs)]
            begun = process.beat_jobs
            entries = [
                json.dumps([queue, at, jid, "LinkCrawlWorker"]).encode()
                for queue, (jid, at) in zip(queues, begun, strict=True)
            ]
            entries += running
            records.append([b"process", identity, *fields, identity + b":work", len(entries), 9, entries])
            running, replaced = [], {}
    return [*records, *added.records]


class WireSidekiq:
    def __init__(self, world: World, added: Added) -> None:
        self.world, self.added = world, added

    async def read(self, *, without_jobs_of: frozenset[str] = frozenset()) -> SidekiqFacts:
        reading = Reading("", without_jobs_of=frozenset(map(str.encode, without_jobs_of)))
        reading.job_classes = JobClasses(1)
        for record in sidekiq_records(self.world, self.added):
            reading.take(record)
        return reading.facts(redis_run_id=self.world.run_id, writable=self.world.redis_writable)

    async def close(self) -> None: ...


class WireDatabase:
    """The primary, or a replica with the same clients."""

    def __init__(self, world: World, added: Added, *, standby: bool = False) -> None:
        self.world, self.added, self.standby = world, added, standby

    async def read(self) -> DatabaseFacts:
        facts = database_facts(self.world)
        row = postgres_row(
            max_connections=facts.max_connections,
            clients=facts.client_connections,
            of_role=facts.role_connections,
            of_database=facts.database_connections,
            workers=json.dumps(facts.worker_connections),
            consumers=json.dumps([["mastodon", "10.0.0.1", "puma", facts.others_connections]]),
            active=facts.active_backends,
            stalled=facts.stalled_backends,
        )
        added = self.added.replica if self.standby else self.added.columns
        return facts_from(row | {"in_recovery": self.standby} | added, "Postgres here", standby=self.standby)

    async def close(self) -> None: ...


class WirePgBouncer:
    def __init__(self, world: World, added: Added) -> None:
        self.world, self.added = world, added
        settings = PostgresSettings(host="127.0.0.1", port=6432, user="mastodon", dbname="pgbouncer")
        self.console = PgBouncerConsole(settings, mastodon=MASTODON, monotonic=lambda: 0.0)

    def rows(self) -> dict[str, Any]:
        facts, rows = pgbouncer_facts(self.world), recorded("1.25.1")
        numbers = {"max_client_conn": facts.client_limit_connections, "default_pool_size": self.world.pool_size or 20}
        rows["CONFIG"] = [row for row in rows["CONFIG"] if row["key"] not in numbers]
        rows["CONFIG"] += [{"key": key, "value": str(value)} for key, value in numbers.items()]
        for row in rows["LISTS"]:
            if row["list"] == "used_clients":
                row["items"] = facts.client_connections
        for row in rows["DATABASES"]:
            row["pool_size"] = self.world.pool_size or 20
        for row in rows["POOLS"]:
            if row["database"] == MASTODON[0]:
                row |= {"cl_active": facts.client_connections - 1, "cl_waiting": 0, "sv_active": 1}
                row |= {"maxwait": 0, "maxwait_us": 0}
        for what, index, column, value in self.added.console:
            row = rows[what][index % len(rows[what])]
            row[column if column in row else sorted(row)[index % len(row)]] = value
        return rows

    async def read(self) -> PgBouncerFacts:
        return await self.console._count(ConsoleAnswers(self.rows()))  # type: ignore[arg-type]

    async def close(self) -> None: ...


class WireUnits(FakeUnits):
    """systemd. `still`: it takes every step, but nothing happens."""

    def __init__(self, world: World, added: Added) -> None:
        super().__init__(world)
        self.added = added
        self.still = False

    async def read(self) -> SystemdFacts:
        now = self.world.now
        found = {}
        for key, facts in systemd_facts(self.world).units.items():
            properties = unit_properties(
                facts.name,
                ActiveState=facts.active_state,
                SubState=facts.sub_state,
                Result=facts.result,
                MainPID=facts.main_pid,
                NRestarts=facts.restarts,
                InvocationID=bytes.fromhex(facts.invocation_id),
                StateChangeTimestampMonotonic=round((now - facts.state_age_seconds) * 1e6),
            )
            properties |= {name: value for number, name, value in self.added.properties if number == key}
            try:
                found[key] = SeenUnit.from_properties(facts.name, properties).at(now)
            except (LookupError, TypeError, ValueError, AttributeError) as error:  # as SystemdUnits.read
                raise SourceUnavailableError(f"systemd's answer can't be understood ({error})") from error
        return SystemdFacts(units=found)

    async def carry_out(self, step: Step) -> StepResult:
        return StepResult(step=step, result="done") if self.still else await super().carry_out(step)


class WireHost:
    """LinuxHost below `root`, in which `written` has put what a healthy host has."""

    def __init__(self, world: World, added: Added, root: Path) -> None:
        self.world, self.added, self.root = world, added, root
        self.host = LinuxHost(root=root)

    async def read(self, systemd: SystemdFacts | None) -> HostFacts:
        healthy = {path: (self.root / path).read_text() for path in self.added.files if (self.root / path).exists()}
        try:
            for path, content in self.added.files.items():
                _write(self.root / path, content)
            return await self.host.read(systemd)
        finally:
            for path in self.added.files:
                if path in healthy:
                    _write(self.root / path, healthy[path])
                else:
                    (self.root / path).unlink()


def written(world: World, root: Path) -> Path:
    """What a healthy host has: memory, each unit's cgroup, the rendered settings, the stamp of the code."""
    available = MEMORY_TOTAL_BYTES // 2
    _write(root / "proc/meminfo", f"MemTotal: {MEMORY_TOTAL_BYTES // 1024} kB\nMemAvailable: {available // 1024} kB\n")
    _write(root / "proc/loadavg", "0.10 0.10 0.10 1/100 1\n")
    _write(root / "proc/vmstat", "oom_kill 0\n")
    for kind in ("memory", "cpu"):
        quiet = "avg10=0.00 avg60=0.00 avg300=0.00 total=0"
        _write(root / f"proc/pressure/{kind}", f"some {quiet}\nfull {quiet}\n")
    for unit in world.units.values():
        group = root / "sys/fs/cgroup/system.slice" / unit.name
        _write(group / "memory.current", f"{world.resident_bytes}\n")
        _write(group / "memory.stat", "file 0\nshmem 0\n")
    directory = root / "var/lib/mastodon-sidekiq"
    for settings in all_settings(world.policy, name_connections=True):
        _write(directory / settings_file_name(settings.key), settings.text)
    _write(directory / "code.json", json.dumps({"digest": world.code, "version": ""}))
    return root


def _write(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
