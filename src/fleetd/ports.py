"""Protocols: what the daemon needs from the outside.

The real adapters and the fakes in the tests pass the same contract tests. Every call has its own deadline inside the
adapter. A reading that fails raises SourceUnavailableError with a sentence for the operator (never a secret); nothing
else foreseeable is raised.
"""

from __future__ import annotations

from typing import Protocol

from fleetd.core.fleet.calls import Admit, Admitted, Beat, BeatReply, Commit, Refusal
from fleetd.core.fleet.state import LedgerState
from fleetd.core.model.decision import Step, StepResult
from fleetd.core.model.facts import DatabaseFacts, HostFacts, PgBouncerFacts, SidekiqFacts, SystemdFacts
from fleetd.core.model.history import Batch, Recording
from fleetd.core.model.status import Status


class SidekiqSource(Protocol):
    """Sidekiq's own bookkeeping in Redis."""

    async def read(self, *, without_jobs_of: frozenset[str] = frozenset()) -> SidekiqFacts:
        """One reading, with a write that shows whether others can write now (laws 1 and 4).

        `without_jobs_of`: processes, by identity, whose running jobs are not asked for. What is known of them without
        asking may be told all the same; else the process says that they are missing.
        """
        ...

    async def close(self) -> None: ...


class DatabaseSource(Protocol):
    """Connections of Postgres: the primary, or a replica."""

    async def read(self) -> DatabaseFacts: ...

    async def close(self) -> None: ...


class PgBouncerSource(Protocol):
    """PgBouncer's client slots and pools."""

    async def read(self) -> PgBouncerFacts: ...

    async def close(self) -> None: ...


class UnitControl(Protocol):
    """systemd, for our units only."""

    async def read(self) -> SystemdFacts: ...

    async def carry_out(self, step: Step) -> StepResult:
        """Do one step: start, stop (systemd's ordinary stop), or quiet (SIGTSTP to the main process).

        A stop of a unit whose stop is under way sends SIGTERM to its main process once more.
        Returns once systemd has taken the job, not once it is finished: a boot or a drain takes long, and the next
        readings show how it went. Raises nothing foreseeable: what went wrong is in the result.
        """
        ...

    async def close(self) -> None: ...


class HostSource(Protocol):
    """This host's memory, and the settings rendered on it."""

    async def read(self, systemd: SystemdFacts | None) -> HostFacts:
        """One reading. `systemd` says which units there are; None: unknown, and so is the memory of each."""
        ...


class Ledger(Protocol):
    """What the hosts of a fleet share; core/fleet has its rules. A call that can't be made raises nothing in a beat.

    A beat travels with the reading of Sidekiq, so that a host alone, or one that follows, needs one round trip a tick.
    """

    def say(self, call: Beat) -> None:
        """What the next reading tells the ledger."""
        ...

    def heard(self) -> BeatReply | Refusal | None:
        """The answer to what the last reading told; None: there was none."""
        ...

    def fault(self) -> str | None:
        """Why there was no answer, for the operator; None: there was one, or nothing was sent."""
        ...

    async def admit(self, call: Admit) -> Admitted:
        """Ask for leave to start. Raises SourceUnavailableError: then nothing is granted."""
        ...

    async def commit(self, call: Commit) -> Refusal | None:
        """Write the leader's plan; None: it was taken. Raises SourceUnavailableError."""
        ...

    async def order(self, about: str, what: str | None) -> Refusal | None:
        """Write a person's order to the fleet, or end it (None). Raises SourceUnavailableError."""
        ...

    async def forget(self, host: str) -> Refusal | None:
        """Free what a host had that will not come back. Raises SourceUnavailableError."""
        ...

    async def read(self) -> LedgerState | None:
        """The whole ledger; None: there is none. Changes nothing. Raises SourceUnavailableError."""
        ...

    async def close(self) -> None: ...


class MemoryStore(Protocol):
    """Host memory in the StateDirectory: small, written atomically."""

    def load(self) -> bytes | None:
        """What was saved last; None: nothing was, or it can't be trusted."""
        ...

    def save(self, content: bytes) -> None:
        """Write it atomically: after a crash, either it or the content before it is found.

        Raises MemoryUnsavedError each time it can't be written where it belongs; the caller must try again. The error
        says whether it is kept elsewhere meanwhile: then `load` of the next process finds it all the same.
        """
        ...


class History(Protocol):
    """Where samples and sentences are kept. Nothing depends on them, so no call raises or blocks a tick."""

    @property
    def problem(self) -> str:
        """Why the history is not kept now, as a short sentence; "": it is."""
        ...

    def append(self, batch: Batch) -> None:
        """Queue a batch to be written soon. If writing fails for long, the oldest that wait are dropped."""
        ...

    def close(self) -> None:
        """Write what still waits within a few seconds, or drop it."""
        ...


class HistorySource(Protocol):
    """Reads the history for people who ask later, whether fleetd runs or not."""

    def read(self, since_seconds: float, *, samples: bool) -> Recording:
        """Everything since this Unix time; samples only if `samples`. Raises SourceUnavailableError with the reason."""
        ...


class Clock(Protocol):
    def now_seconds(self) -> float:
        """CLOCK_BOOTTIME in seconds."""
        ...

    def boot_id(self) -> str: ...


class Teller(Protocol):
    """Gets the Status of each tick, to show it; such as the metrics."""

    def tell(self, status: Status) -> None: ...


class ServiceManager(Protocol):
    """What fleetd says to systemd about itself (sd_notify). Never raises, never blocks."""

    def ready(self) -> None: ...

    def status(self, sentence: str) -> None: ...

    def watchdog(self) -> None: ...

    def watchdog_interval_seconds(self) -> float | None:
        """How often to ping: half of WatchdogSec; None: no watchdog."""
        ...

    def reloading(self) -> None: ...

    def stopping(self) -> None: ...
