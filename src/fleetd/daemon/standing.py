"""What keeps the log from saying the same for ever: warnings that last, states that change too often, lines a minute.

Law 7: what is remembered here is bounded, whatever is read. Law 8: nothing is left out without a line that says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

#: A warning that lasts is said again after this long, and no sooner.
AGAIN_SECONDS = 3 * 3600.0
#: Warnings of one kind that are told apart; the others share one line.
WARNINGS_MAX = 30
#: How long a warning must be gone before it is over: the first, the second and the third time. After that it comes and
#: goes, and is over once it has been gone for AGAIN_SECONDS.
SETTLE_SECONDS = (0.0, 60.0, 600.0)
#: Lines of one minute besides steps and orders; of them those of readings and reasons, of which there are the most.
LINES_A_MINUTE, LINES_A_MINUTE_OF_READINGS = 30, 20
MINUTE_SECONDS = 60.0


class Line(NamedTuple):
    """A sentence to say."""

    key: str
    sentence: str
    warning: bool


class _Warning:
    def __init__(self) -> None:
        self.said_seconds = -math.inf
        self.seen_seconds = 0.0
        self.absent_seconds = -math.inf  # when it was last looked for and not there
        self.begun = 0  # how often, since it was steady for AGAIN_SECONDS
        self.over = True


class Standing:
    """Warnings of one kind: each is said when it begins, when it is over, and every AGAIN_SECONDS while it lasts."""

    def __init__(
        self,
        *,
        over: Callable[[str], str],
        more: Callable[[list[str]], str],
        settle_seconds: tuple[float, ...] = SETTLE_SECONDS,
    ) -> None:
        """`over` says that a key is well again; `more` speaks of all those keys that are beyond the bound."""
        self._over = over
        self._more = more
        self._settle_seconds = settle_seconds
        self._known: dict[str, _Warning] = {}
        self._more_said_seconds = -math.inf

    def look(self, now_seconds: float, there: Mapping[str, str], lines_max: int = WARNINGS_MAX + 1) -> list[Line]:
        """What to say. `there`: every warning that holds now, by key, with its sentence.

        What is beyond `lines_max` is not taken as said, so it comes with a later look.
        """
        lines: list[Line] = []
        beyond = [key for key, said in there.items() if not self._look_at(key, said, now_seconds, lines, lines_max)]
        if beyond and len(lines) < lines_max and now_seconds - self._more_said_seconds >= AGAIN_SECONDS:
            self._more_said_seconds = now_seconds
            lines.append(Line("", self._more(beyond), warning=True))
        self._look_for_gone(now_seconds, there, lines, lines_max)
        return lines

    def _look_at(self, key: str, said: str, now_seconds: float, lines: list[Line], lines_max: int) -> bool:
        """Add what is to be said of a warning that is there. False: it is beyond the bound."""
        if key not in self._known and len(self._known) >= WARNINGS_MAX:
            return False
        known = self._known.setdefault(key, _Warning())
        known.seen_seconds = now_seconds
        if now_seconds - known.absent_seconds >= AGAIN_SECONDS:
            known.begun = min(known.begun, 1)
        due = known.over or now_seconds - known.said_seconds >= AGAIN_SECONDS
        if due and len(lines) < lines_max:
            known.begun += known.over
            known.over, known.said_seconds = False, now_seconds
            lines.append(Line(key, said, warning=True))
        return True

    def _look_for_gone(self, now_seconds: float, there: Mapping[str, str], lines: list[Line], lines_max: int) -> None:
        for key, known in list(self._known.items()):
            if key in there:
                continue
            known.absent_seconds = now_seconds
            gone_seconds = now_seconds - known.seen_seconds
            if not known.over and gone_seconds >= self._settles_in(known) and len(lines) < lines_max:
                known.over = True
                lines.append(Line(key, self._over(key), warning=False))
            if known.over and gone_seconds >= AGAIN_SECONDS:
                del self._known[key]

    def _settles_in(self, known: _Warning) -> float:
        often = known.begun
        return self._settle_seconds[often - 1] if often <= len(self._settle_seconds) else AGAIN_SECONDS


class Seldom:
    """Whether a state that keeps changing may be told once more: `at_once` times, then once every `every_seconds`."""

    def __init__(self, at_once: int, every_seconds: float) -> None:
        self._at_once = at_once
        self._every_seconds = every_seconds
        self._left = float(at_once)
        self._at_seconds: float | None = None

    def may(self, now_seconds: float) -> bool:
        """Whether it may be told now; if so, it counts as told."""
        if self._at_seconds is not None:
            more = max(0.0, now_seconds - self._at_seconds) / self._every_seconds
            self._left = min(float(self._at_once), self._left + more)
        self._at_seconds = now_seconds
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True


class Budget:
    """How many lines a minute may have."""

    def __init__(self) -> None:
        self._since_seconds: float | None = None
        self._lines = self._of_readings = self._left_out = 0

    def left(self, *, of_readings: bool) -> int:
        """How many more lines may be said in this minute."""
        left = LINES_A_MINUTE - self._lines
        return min(left, LINES_A_MINUTE_OF_READINGS - self._of_readings) if of_readings else left

    def take(self, *, of_readings: bool) -> bool:
        """Whether one more line may be said in this minute; if not, it is counted."""
        if self.left(of_readings=of_readings) <= 0:
            self._left_out += 1
            return False
        self._lines += 1
        self._of_readings += of_readings
        return True

    def ended(self, now_seconds: float) -> int:
        """How many lines the minute that has ended left out, if one has; a new one begins then."""
        if self._since_seconds is not None and 0.0 <= now_seconds - self._since_seconds < MINUTE_SECONDS:
            return 0
        left_out = self._left_out
        self._since_seconds = now_seconds
        self._lines = self._of_readings = self._left_out = 0
        return left_out
