"""Waits for real servers, always with a time limit, and never by just sleeping."""

import time
from collections.abc import Callable

from lab.errors import LabError

PATIENCE_SECONDS = 90.0
"""A limit for things that come sooner or later. Only a slow and busy machine needs much of it."""


def wait_until(what: str, check: Callable[[], bool], timeout: float = PATIENCE_SECONDS, every: float = 0.1) -> None:
    """Wait until `check` is true, at most `timeout` seconds. Then a LabError says that `what` did not come."""
    deadline = time.monotonic() + timeout
    while not check():
        if time.monotonic() >= deadline:
            raise LabError(f"Waited {timeout:g} s in vain for this: {what}.")
        time.sleep(every)
