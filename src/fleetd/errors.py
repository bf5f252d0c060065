"""Errors that are shown to an operator.

Every foreseeable failure is one of these, with a sentence that says what is wrong, where, and what to do. A message
never contains a secret: it names the setting, not its value.
"""

from __future__ import annotations


class FleetdError(Exception):
    """A foreseeable failure; ``str(error)`` is a sentence for the operator."""


class ConfigProblem:
    """One thing wrong in a configuration: where (key path), what, and the cure."""

    __slots__ = ("cure", "path", "what")

    def __init__(self, path: str, what: str, cure: str) -> None:
        self.path = path
        self.what = what
        self.cure = cure

    def __str__(self) -> str:
        return f"{self.path}: {self.what}. {self.cure}" if self.path else f"{self.what}. {self.cure}"


class ConfigError(FleetdError):
    """A configuration that can't be used; carries every problem found, not only the first."""

    def __init__(self, file: str, problems: list[ConfigProblem]) -> None:
        self.file = file
        self.problems = problems
        how_many = f"{len(problems)} {'problem' if len(problems) == 1 else 'problems'}"
        super().__init__("\n".join([f"{file}: {how_many}", *(f"  {p}" for p in problems)]))


class SourceUnavailableError(FleetdError):
    """Redis, Postgres or systemd can't be read or commanded now; the reading is unknown, never zero."""


class MemoryUnsavedError(FleetdError):
    """What fleetd remembers can't be written to its file; the sentence names it and says why.

    `kept_in`: another file that holds it meanwhile, which a restart of fleetd keeps and a reboot does not; None: none.
    """

    def __init__(self, why: str, kept_in: str | None = None) -> None:
        self.kept_in = kept_in
        super().__init__(why)


class OrderRefusedError(FleetdError):
    """A person's order can't be carried out; the sentence says why, and what is possible instead."""
