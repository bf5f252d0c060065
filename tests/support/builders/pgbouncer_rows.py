"""Rows of PgBouncer's console: recorded from 1.18, and written by hand with the columns of newer versions."""

from __future__ import annotations

import json
from typing import Any

from tests.support.project import PROJECT

RECORDED = PROJECT / "tests/support/fixtures" / "pgbouncer"


VERSIONS = sorted(path.stem for path in RECORDED.glob("*.json"))


def recorded(version: str) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((RECORDED / f"{version}.json").read_text())
    return read
