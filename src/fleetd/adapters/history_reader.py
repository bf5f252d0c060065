"""The history file as people ask it (port HistorySource): reads only, also while fleetd writes, or when it is gone."""

from __future__ import annotations

import contextlib
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from fleetd.adapters.history_file import code_of
from fleetd.adapters.history_schema import APPLICATION_ID, VERSION, unpacked_policy, unpacked_samples
from fleetd.core.history import Entry, PolicyChange, Recording, Sample, Spell
from fleetd.errors import SourceUnavailableError

#: A write of fleetd's takes milliseconds; a person's transaction may take for ever.
BUSY_SECONDS = 5.0
#: Samples this far apart: nobody was watching in between.
GAP_SECONDS = 90.0
#: Samples come a little early or late.
SLACK_SECONDS = 0.5
#: A SIGKILL in the middle of a write leaves a journal that only fleetd's next start can apply; reading as it is, is
#: better than not at all.
_NEWEST = "SELECT max(at) FROM (SELECT max(ends) AS at FROM readings UNION ALL SELECT max(at) FROM entries)"
_NEEDS_WRITER = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN)


class SqliteHistorySource:
    """The file at `path`."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self, since_seconds: float, *, samples: bool, apart_seconds: float = 0.0) -> Recording:
        """All since then; of the samples those that are at least so far apart.

        Raises SourceUnavailableError with what is wrong and what to do.
        """
        self._check()
        try:
            try:
                return self._read("mode=ro", since_seconds, samples, apart_seconds)
            except sqlite3.Error as error:
                if code_of(error) not in _NEEDS_WRITER:
                    raise
                return self._read("mode=ro&immutable=1", since_seconds, samples, apart_seconds)
        except sqlite3.OperationalError as error:
            if code_of(error) == sqlite3.SQLITE_BUSY:
                what = "is locked by somebody (sqlite3 open in a terminal?): try again, or end that"
            else:
                what = f"can't be read: {error}"
            raise SourceUnavailableError(f"{self._path} {what}") from None
        except sqlite3.Error:
            raise SourceUnavailableError(
                f"{self._path} is damaged or no history of fleetd's. A running fleetd puts it aside and begins a new "
                "one within a minute"
            ) from None

    def _check(self) -> None:
        try:
            mode = self._path.stat().st_mode
            with self._path.open("rb") if stat.S_ISREG(mode) else contextlib.nullcontext():
                pass
        except FileNotFoundError:
            raise SourceUnavailableError(
                f"There is no history at {self._path}: fleetd has not run here yet, or keeps it elsewhere "
                "([state] directory; name the file with --file), or keeps none ([history] days = 0)"
            ) from None
        except PermissionError:
            raise SourceUnavailableError(f"You may not read {self._path}: use sudo") from None
        except OSError as error:
            raise SourceUnavailableError(f"{self._path} can't be read: {error.strerror}") from None
        if not stat.S_ISREG(mode):
            raise SourceUnavailableError(f"{self._path} is no file")

    def _read(self, how: str, since_seconds: float, with_samples: bool, apart_seconds: float) -> Recording:
        with self._opened(how) as connection:
            connection.execute("BEGIN")  # one state of it, however long the reading takes
            entries = tuple(
                Entry(at_seconds=at, kind=kind, warning=bool(warning), sentence=sentence)
                for at, kind, warning, sentence in connection.execute(
                    "SELECT at, kind, warning, sentence FROM entries WHERE at >= ? ORDER BY id",
                    (since_seconds,),
                )
            )
            policies, bad = self._policies(connection, since_seconds)
            found: list[Sample] = []
            if with_samples:
                for (content,) in connection.execute(
                    "SELECT samples FROM readings WHERE ends >= ? ORDER BY id", (since_seconds,)
                ):
                    try:
                        for sample in unpacked_samples(content):
                            if sample.at_seconds >= since_seconds and _apart(found, sample, apart_seconds):
                                found.append(sample)
                    except ValueError:
                        bad += 1
            return Recording(
                samples=tuple(found),
                entries=entries,
                policies=policies,
                spells=self._spells(connection, since_seconds),
                newest_seconds=connection.execute(_NEWEST).fetchone()[0],
                unreadable_rows=bad,
            )

    @contextlib.contextmanager
    def _opened(self, how: str) -> Iterator[sqlite3.Connection]:
        address = f"file:{quote(str(self._path.absolute()))}?{how}"
        connection = sqlite3.connect(address, uri=True, timeout=BUSY_SECONDS, isolation_level=None)
        try:
            connection.execute("PRAGMA trusted_schema = OFF")
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            application = connection.execute("PRAGMA application_id").fetchone()[0]
            if (version, application) == (0, 0) and self._path.stat().st_size == 0:
                raise SourceUnavailableError(f"The history at {self._path} is empty: nothing was written yet")
            if application == APPLICATION_ID and version != VERSION:
                raise SourceUnavailableError(
                    f"{self._path} was written by another version of fleetd: use the fleetctl that is installed with it"
                )
            if application != APPLICATION_ID:
                raise sqlite3.DatabaseError("not ours")
            yield connection
        finally:
            connection.close()

    @staticmethod
    def _policies(
        connection: sqlite3.Connection, since_seconds: float
    ) -> tuple[tuple[PolicyChange, ...], int]:
        """From the one that was in force then."""
        found, bad = [], 0
        for at, content in connection.execute(
            "SELECT at, policy FROM policies "
            "WHERE id >= (SELECT coalesce(max(id), 0) FROM policies WHERE at <= ?) ORDER BY id",
            (since_seconds,),
        ):
            try:
                found.append(PolicyChange(at_seconds=at, policy=unpacked_policy(content)))
            except ValueError:
                bad += 1
        return tuple(found), bad

    @staticmethod
    def _spells(connection: sqlite3.Connection, since_seconds: float) -> tuple[Spell, ...]:
        spells: list[Spell] = []
        for begins, ends in connection.execute(
            "SELECT begins, ends FROM readings WHERE ends >= ? ORDER BY id", (since_seconds,)
        ):
            last = spells[-1] if spells else None
            if last is not None and begins - last.to_seconds <= GAP_SECONDS:
                spells[-1] = Spell(from_seconds=last.from_seconds, to_seconds=max(ends, last.to_seconds))
            else:
                spells.append(Spell(from_seconds=max(begins, since_seconds), to_seconds=ends))
        return tuple(spells)


def _apart(found: list[Sample], sample: Sample, apart_seconds: float) -> bool:
    """Also where the clock was set back."""
    return not found or abs(sample.at_seconds - found[-1].at_seconds) >= apart_seconds - SLACK_SECONDS
