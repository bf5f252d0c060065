"""Observe: read the ports into a snapshot.

Law 3 is kept here: what can't be read now is Unknown with its reason, never an old number.

The sources are read concurrently, each with a deadline, so that a slow database does not delay the reading of systemd.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Literal, Protocol, TypeVar

from msgspec import structs

from fleetd.core.model.facts import HostFacts, Known, Snapshot, SystemdFacts, Unknown
from fleetd.core.model.status import SourceStatus
from fleetd.daemon.bugs import Bugs
from fleetd.errors import FleetdError
from fleetd.ports import Clock, DatabaseSource, HostSource, Ledger, PgBouncerSource, SidekiqSource, UnitControl

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

Name = Literal["redis", "postgres", "pgbouncer", "replica", "systemd", "host"]
#: If a reading took, or waited for the others, longer than this many deadlines, fleetd was frozen meanwhile.
FROZEN_DEADLINES = 2.5


class _Source(Protocol[T_co]):
    async def read(self) -> T_co: ...


class Sources:
    """The ports that are read, and how the readings of each went."""

    def __init__(
        self,
        sidekiq: SidekiqSource,
        database: DatabaseSource | None,
        units: UnitControl,
        machine: HostSource,
        clock: Clock,
        *,
        deadline_seconds: float,
        pgbouncer: PgBouncerSource | None = None,
        replica: DatabaseSource | None = None,
        ledger: Ledger | None = None,
        bugs: Bugs | None = None,
    ) -> None:
        """`ledger`: what the hosts of a fleet share; its beat travels with the reading of `sidekiq`.

        `bugs`: takes what a source raises although nobody foresaw it; None: that is raised, as tests want.
        """
        self.sidekiq = sidekiq
        self.database = database
        self.pgbouncer = pgbouncer
        self.replica = replica
        self.ledger = ledger
        self.units = units
        self.machine = machine
        self.clock = clock
        self.deadline_seconds = deadline_seconds
        self.bugs = bugs
        # The simulator replaces both, because none of its readings waits.
        self.together: Callable[..., Awaitable[Any]] = asyncio.gather
        self.timeout: Callable[[float], AbstractAsyncContextManager[object]] = asyncio.timeout
        self._last_good: dict[Name, float] = {}
        self._errors: Counter[Name] = Counter()
        self._why: dict[Name, str] = {}

    async def observe(self, host: str, without_jobs_of: frozenset[str] = frozenset()) -> Snapshot:
        """One snapshot. `without_jobs_of`: see SidekiqSource."""
        sidekiq, database, pgbouncer, replica, (systemd, machine) = await self.together(
            self._read("redis", self.sidekiq.read(without_jobs_of=without_jobs_of)),
            self._read_if("postgres", self.database),
            self._read_if("pgbouncer", self.pgbouncer),
            self._read_if("replica", self.replica),
            self._units_then_host(),
        )
        now = self.clock.now_seconds()
        return Snapshot(
            host=host,
            now_seconds=now,
            boot_id=self.clock.boot_id(),
            sidekiq=self._aged("redis", sidekiq, now),
            database=None if database is None else self._aged("postgres", database, now),
            pgbouncer=None if pgbouncer is None else self._aged("pgbouncer", pgbouncer, now),
            replica=None if replica is None else self._aged("replica", replica, now),
            systemd=self._aged("systemd", systemd, now),
            machine=self._aged("host", machine, now),
        )

    def _aged(self, name: Name, reading: Known[T] | Unknown, now_seconds: float) -> Known[T] | Unknown:
        """The reading with its age at the snapshot; Unknown if it is too old, because we were frozen meanwhile."""
        if isinstance(reading, Unknown):
            return reading
        age = now_seconds - self._last_good[name]
        if age == 0.0:
            return reading
        if age > FROZEN_DEADLINES * self.deadline_seconds:
            return self._unknown(name, f"the reading of {name} is old: this host stood still")
        return structs.replace(reading, age_seconds=max(0.0, age))

    async def _units_then_host(self) -> tuple[Known[SystemdFacts] | Unknown, Known[HostFacts] | Unknown]:
        systemd = await self._read("systemd", self.units.read())
        known = systemd.value if isinstance(systemd, Known) else None
        return systemd, await self._read("host", self.machine.read(known))

    async def _read_if(self, name: Name, source: _Source[T] | None) -> Known[T] | Unknown | None:
        return None if source is None else await self._read(name, source.read())

    async def _read(self, name: Name, reading: Awaitable[T]) -> Known[T] | Unknown:
        begun = self.clock.now_seconds()
        try:
            async with self.timeout(self.deadline_seconds):
                value = await reading
        except FleetdError as error:
            return self._unknown(name, str(error))
        except TimeoutError:
            return self._unknown(name, f"no answer from {name} within {self.deadline_seconds:.0f} s")
        except Exception as error:
            if self.bugs is None:
                raise
            return self._unknown(name, self.bugs.take(f"reading {name}", error))
        now = self.clock.now_seconds()
        if now - begun > FROZEN_DEADLINES * self.deadline_seconds:  # we were frozen meanwhile, so it is old
            return self._unknown(
                name, f"the reading of {name} took far longer than its deadline: this host stood still"
            )
        self._last_good[name] = now
        self._why.pop(name, None)
        return Known(value=value)

    def _unknown(self, name: Name, why: str) -> Unknown:
        self._errors[name] += 1
        self._why[name] = why
        return Unknown(why=why)

    def _age(self, name: Name) -> float | None:
        last = self._last_good.get(name)
        return None if last is None else max(0.0, self.clock.now_seconds() - last)

    def status(self) -> tuple[SourceStatus, ...]:
        """The status of each source now."""
        return tuple(self._status(name) for name in self._names())

    def _names(self) -> list[Name]:
        watched: dict[Name, object] = {"postgres": self.database, "pgbouncer": self.pgbouncer, "replica": self.replica}
        return ["redis", *(name for name, source in watched.items() if source is not None), "systemd", "host"]

    def _status(self, name: Name) -> SourceStatus:
        return SourceStatus(
            name=name,
            ok=name not in self._why and name in self._last_good,
            age_seconds=self._age(name),
            why=self._why.get(name, "" if name in self._last_good else "not read yet"),
            errors_total=self._errors[name],
        )
