"""Which classes' jobs failed in the last minute; read once a minute, in the first script of a reading.

With each beat a process of Sidekiq 7 or later adds what it has done since the last beat to the hash of the minute.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fleetd.adapters.sidekiq.formats import WireError, failing_class
from fleetd.core.model.bounds import real
from fleetd.core.model.facts import FailingClass

#: How long after its end a minute is read: the workers' clocks may be a little behind Redis's.
SETTLE_SECONDS = 5.0
#: Classes kept, those with the most failures.
FAILING_MAX = 10


def last_whole_minute(redis_seconds: float) -> int | None:
    """The minute to read at this time of Redis's clock, in minutes since 1970; None: that clock is not set."""
    settled = real(redis_seconds - SETTLE_SECONDS - 60.0, "unix_seconds")
    return None if settled is None else int(settled // 60)


class JobClasses:
    """What was counted in one minute, over the hashes of all versions of Sidekiq."""

    def __init__(self, unix_minutes: int) -> None:
        self.unix_minutes = unix_minutes
        self.faults: list[tuple[str, str]] = []  # key and why; not empty: nothing is known
        self._counted = False
        self._failing: dict[str, FailingClass] = {}  # by name

    def take(self, shown_key: str, fields: Sequence[Any]) -> None:
        """One hash: name, failed and processed jobs of each class with failures."""
        self._counted = True
        try:
            for place in range(0, len(fields), 3):
                self._add(failing_class(*fields[place : place + 3]))
        except WireError as error:
            self.faults.append((shown_key, str(error)))

    def _add(self, found: FailingClass) -> None:
        before = self._failing.get(found.name, FailingClass(name=found.name, failed_jobs=0, processed_jobs=0))
        known = before.processed_jobs is not None and found.processed_jobs is not None
        self._failing[found.name] = FailingClass(
            name=found.name,
            failed_jobs=before.failed_jobs + found.failed_jobs,
            processed_jobs=(before.processed_jobs or 0) + (found.processed_jobs or 0) if known else None,
        )

    def failing(self) -> tuple[FailingClass, ...] | None:
        """The classes with the most failures; None: unknown, or nothing counts classes there."""
        if self.faults or not self._counted:
            return None
        failing = [one for one in self._failing.values() if one.failed_jobs]
        return tuple(sorted(failing, key=lambda one: (-one.failed_jobs, one.name))[:FAILING_MAX])
