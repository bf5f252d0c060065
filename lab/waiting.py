"""Waiting for real servers: always with a bound, never a sleep for luck."""

import time
from collections.abc import Callable

from lab.errors import LabError


def wait_until(what: str, check: Callable[[], bool], timeout: float = 30.0, every: float = 0.1) -> None:
    """Wait until `check` is true, at most `timeout` seconds; else a LabError says that `what` did not come."""
    deadline = time.monotonic() + timeout
    while not check():
        if time.monotonic() >= deadline:
            raise LabError(f"Waited {timeout:g} s in vain for this: {what}.")
        time.sleep(every)
