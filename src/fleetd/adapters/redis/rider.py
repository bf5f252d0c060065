"""What travels with a reading: commands of somebody else in its first round trip, which so cost no other one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol


class Rider(Protocol):
    """Whoever has commands to send. Each reading asks for them at most once, and then ends with `take` or `missed`."""

    def commands(self) -> tuple[tuple[Any, ...], ...]:
        """The commands, asked for just before they are sent; may be empty.

        A script is `Script.call`: it is sent whole where Redis does not know it. What comes back counts among what one
        round trip may send, so the rider bounds it.
        """
        ...

    def take(self, replies: list[Any]) -> None:
        """The replies as redis-py gives them, in the order of the commands; an error reply is an exception."""
        ...

    def missed(self) -> None:
        """There are no replies. Redis may have done what was sent, or may not."""
        ...


#: Takes what a rider raises although nobody foresaw it: what failed, and the exception.
BugTaker = Callable[[str, Exception], object]


class Ride:
    """One reading's ride, which never fails the reading. Without a rider nothing is sent."""

    def __init__(self, rider: Rider | None, bug: BugTaker | None = None) -> None:
        """`bug`: None: what the rider raises is raised, as tests want."""
        self._rider = rider
        self._bug = bug

    def commands(self) -> tuple[tuple[Any, ...], ...]:
        if self._rider is None:
            return ()
        try:
            return self._rider.commands()
        except Exception as error:  # of any kind
            self._take_bug(error)
            return ()

    def arrived(self, replies: list[Any]) -> None:
        """Every command has its reply."""
        rider, self._rider = self._rider, None
        if rider is not None:
            try:
                rider.take(replies)
            except Exception as error:  # of any kind
                self._take_bug(error)

    def end(self) -> None:
        """The reading is over. Whoever has no replies until now gets none."""
        rider, self._rider = self._rider, None
        if rider is not None:
            try:
                rider.missed()
            except Exception as error:  # of any kind
                self._take_bug(error)

    def _take_bug(self, error: Exception) -> None:
        if self._bug is None:
            raise error
        self._bug("what travels with a reading of Redis", error)
