"""The observers' own process: `python -m lab.observers.program CONTROL_GROUP FILE [POSTGRES_ADDRESS]`.

Runs in the lab's network. Writes a line of JSON for each look, with the monotonic times at which it began and ended.
"""

import contextlib
import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import IO, Any

import psycopg

from lab.observers.cgroups import Looker
from lab.setup import services

EVERY_SECONDS = 0.1
_ANSWER_SECONDS = 3
_NICE = -10
_OPEN = """
SELECT application_name, count(*) FROM pg_stat_activity
WHERE datname = %s AND backend_type = 'client backend' GROUP BY 1
"""


class Record:
    """The file that both threads write to."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file
        self._lock = threading.Lock()

    def write(self, **fields: Any) -> None:
        """Write one look as one line."""
        with self._lock:
            self._file.write(json.dumps(fields, separators=(",", ":")) + "\n")
            self._file.flush()


class Pace:
    """Waits for the next tenth of a second. Looks that are late are left out, not made up for."""

    def __init__(self) -> None:
        self._due = time.monotonic()

    def wait(self) -> float:
        """Wait, and return the monotonic time."""
        now = time.monotonic()
        self._due = max(self._due + EVERY_SECONDS, now - EVERY_SECONDS)
        time.sleep(max(0.0, self._due - now))
        return time.monotonic()


def watch_processes(group: Path, record: Record) -> None:
    """Look at the control groups for ever."""
    looker, pace = Looker(group), Pace()
    while True:
        begun = pace.wait()
        alive = looker.look()
        record.write(begun=begun, ended=time.monotonic(), alive=alive)


def watch_postgres(address: str, record: Record) -> None:
    """Ask Postgres for ever, by one connection, which is in another database than those it counts."""
    pace = Pace()
    while True:
        with contextlib.suppress(psycopg.Error), _connect(address) as connection:
            while True:
                begun = pace.wait()
                rows = connection.execute(_OPEN, [services.DATABASE]).fetchall()
                record.write(begun=begun, ended=time.monotonic(), open=dict(rows))
        pace.wait()


def _connect(address: str) -> psycopg.Connection[tuple[Any, ...]]:
    return psycopg.connect(
        host=address,
        dbname="postgres",
        user="fleetd",
        password=services.MONITOR_PASSWORD,
        application_name="lab-observer",
        connect_timeout=_ANSWER_SECONDS,
        tcp_user_timeout=_ANSWER_SECONDS * 1000,
        autocommit=True,
    )


def main() -> None:
    group, path, *postgres = sys.argv[1:]
    os.nice(_NICE)  # a look that comes late has missed something
    with Path(path).open("w") as file:
        record = Record(file)
        for address in postgres:
            threading.Thread(target=watch_postgres, args=[address, record], daemon=True).start()
        watch_processes(Path(group), record)


if __name__ == "__main__":
    main()
