"""Waiting for real servers: always with a bound, never a sleep for luck."""

import time
from collections.abc import Callable

from lab.errors import LabError

PATIENCE_SECONDS = 90.0
"""For what comes sooner or later: some of it on a slow and busy machine, next to none where all is well."""


def wait_until(what: str, check: Callable[[], bool], timeout: float = PATIENCE_SECONDS, every: float = 0.1) -> None:
    """Wait until `check` is true, at most `timeout` seconds; else a LabError says that `what` did not come."""
    deadline = time.monotonic() + timeout
    while not check():
        if time.monotonic() >= deadline:
            raise LabError(f"Waited {timeout:g} s in vain for this: {what}.")
        time.sleep(every)
