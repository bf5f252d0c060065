"""The HTTP listener as the daemon has it: tried before each tick until it listens.

What was feared: that a port which another program has, or an address that is not there yet (a VPN), keeps fleetd from
the queues; and that a name which nobody resolves holds up each tick.
"""

from __future__ import annotations

import asyncio

import structlog

from fleetd.adapters.http.listener import HttpListener
from fleetd.errors import FleetdError

#: A tick waits so long for an attempt; one that takes longer goes on beside the ticks.
ATTEMPT_SECONDS = 1.0

_log = structlog.get_logger("fleetd")


class Listening:
    """Keeps trying; `problem` is the sentence for status while it doesn't listen, else ""."""

    def __init__(self, listener: HttpListener | None) -> None:
        """None: nothing is to be listened on."""
        self._listener = listener
        self._listens = listener is None
        self._attempt: asyncio.Task[None] | None = None
        self.problem = ""

    async def ensure(self) -> None:
        """Begin to listen if that has not worked yet."""
        if self._listens or self._listener is None:
            return
        if self._attempt is None:  # in a thread: it may have to resolve a name
            self._attempt = asyncio.create_task(asyncio.to_thread(self._listener.start))
        await asyncio.wait({self._attempt}, timeout=ATTEMPT_SECONDS)
        if not self._attempt.done():
            self._say("http.listen: its name is not resolved yet")
            return
        attempt, self._attempt = self._attempt, None
        try:
            attempt.result()
        except FleetdError as error:
            self._say(str(error))
            return
        self._listens = True
        if self.problem:
            _log.info("http.listen: now it listens")
        self.problem = ""

    def _say(self, why: str) -> None:
        problem = f"{why}. Until then there are no metrics; everything else goes on"
        if problem != self.problem:
            _log.warning(problem)
        self.problem = problem

    def stop(self) -> None:
        """End listening; takes at most about a second."""
        if self._listener is not None:
            self._listener.stop()
