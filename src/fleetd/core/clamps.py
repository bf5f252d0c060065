"""The clamps of one decision, in order (law 8).

For each profile they form a chain: the first one's wanted is the raw want, each one's granted is the next one's
wanted, the last one's granted is what is decided. So an admin can read from want to grant without a gap.
"""

from __future__ import annotations

from fleetd.core.decision import Clamp, ClampCode


class Clamps:
    """Collects clamps, in the order of what they did."""

    def __init__(self) -> None:
        self._said: list[Clamp] = []

    def say(
        self,
        code: ClampCode,
        sentence: str,
        profile: str = "",
        *,
        wanted: int | None = None,
        granted: int | None = None,
    ) -> None:
        """Add one. Said twice in a row for a profile, it becomes one, from the first want to the last grant."""
        before = next((c for c in reversed(self._said) if c.profile == profile), None)
        if before is not None and before.code == code:
            self._said.remove(before)
            wanted = before.wanted_instances if before.wanted_instances is not None else wanted
        self._said.append(
            Clamp(
                code=code,
                sentence=sentence,
                profile=profile,
                wanted_instances=wanted,
                granted_instances=granted,
            )
        )

    def all(self) -> tuple[Clamp, ...]:
        return tuple(self._said)
