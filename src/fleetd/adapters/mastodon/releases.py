"""Which of Mastodon's releases set the rules by which its settings are read."""

from __future__ import annotations

import re
from typing import TypeAlias

#: Major and minor number.
Release: TypeAlias = tuple[int, int]

OLDEST: Release = (4, 2)
NEWEST: Release = (4, 6)


def release_of(version: str) -> Release | None:
    """The release of a version such as "4.5.3" or "4.6.0-alpha.4+glitch", from OLDEST to NEWEST; None: unknown.

    Older and newer ones are read by the rules of the nearest that is known.
    """
    match = re.match(r"(\d{1,3})\.(\d{1,3})(?!\d)", version, re.ASCII)
    return min(max((int(match[1]), int(match[2])), OLDEST), NEWEST) if match else None
