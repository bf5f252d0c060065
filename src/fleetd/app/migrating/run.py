"""Carry a migration out: look, do the next step, look again, until it is done or nothing can be done."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final

from fleetd.app.migrating.plan import NextStep
from fleetd.errors import FleetdError

#: Between two looks. Sidekiq beats every 10 s.
LOOK_AGAIN_SECONDS: Final = 2.0
#: What is waited for is said again, if it has changed, after this time.
SAY_AGAIN_SECONDS: Final = 10.0
#: A step that was done is not done again for so long: a quiet is seen with the next heartbeat, 10 s later at most.
AGAIN_SECONDS: Final = 25.0
#: A step that so often had no effect has none.
REPEATS_MAX: Final = 3
#: Starting a unit waits for Mastodon to boot.
_COMMAND_SECONDS: Final = 900.0


class Runner:
    """`step` looks, and returns the next step; `tell` says one; `perform` runs a command, or raises FleetdError."""

    def __init__(
        self,
        step: Callable[[], NextStep],
        tell: Callable[[NextStep], None],
        perform: Callable[[str], None],
        *,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._step = step
        self._tell = tell
        self._perform = perform
        self._monotonic = monotonic
        self._sleep = sleep
        self._done: dict[tuple[str, ...], float] = {}
        self._times: Counter[tuple[str, ...]] = Counter()
        self._said, self._say_again_at = "", float("-inf")

    def run(self) -> NextStep:
        """The last step: done or stuck. Raises FleetdError when a command fails; run again, it goes on from there."""
        while True:
            step = self._step()
            if step.kind in ("done", "stuck"):
                return step
            if step.kind == "do" and not self._was_done(step):
                if self._times[step.commands] == REPEATS_MAX:
                    says = f"this was done {REPEATS_MAX} times without an effect: {'; '.join(step.commands)}"
                    return NextStep(kind="stuck", says=says)
                self._tell(step)
                for command in step.commands:
                    self._perform(command)
                self._done[step.commands] = self._monotonic()
                self._times[step.commands] += 1
                continue
            if step.kind == "wait" and step.says != self._said and self._monotonic() >= self._say_again_at:
                self._tell(step)
                self._said, self._say_again_at = step.says, self._monotonic() + SAY_AGAIN_SECONDS
            self._sleep(LOOK_AGAIN_SECONDS)

    def _was_done(self, step: NextStep) -> bool:
        at = self._done.get(step.commands)
        return at is not None and self._monotonic() - at < AGAIN_SECONDS


def perform(command: str) -> None:
    """Run one of the plan's commands as root. Raises FleetdError with what it said."""
    try:
        done = subprocess.run(
            ["/bin/sh", "-c", command],
            capture_output=True,
            text=True,
            timeout=_COMMAND_SECONDS,
            check=False,
            env={**os.environ, "PATH": f"{os.environ.get('PATH', os.defpath)}:{Path(sys.argv[0]).parent}"},
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise FleetdError(f"`{command}` could not be run: {error}") from None
    if done.returncode != 0:
        said = " ".join((done.stderr or done.stdout).split())[:500]
        raise FleetdError(f"`{command}` failed: {said}. Run this again once that is mended: it goes on from there")
