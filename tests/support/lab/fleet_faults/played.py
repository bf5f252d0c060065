"""What came of each fault that was played, in a file, so that an interrupted `make test-long` goes on where it was.

The file is /var/cache/fleetd-lab/played/many_hosts.jsonl, or FLEETD_PLAYED. What passed with other sources counts for
nothing. `python -m tests.support.lab.fleet_faults.played` prints a table of what the present sources made of it, for
benchmarks/hosts.md.
"""

from __future__ import annotations

import functools
import json
import os
import random
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lab.setup import cache
from tests.support.project import PROJECT

Figures = dict[str, float]
FILE = Path(os.environ.get("FLEETD_PLAYED", cache.CACHE / "played/many_hosts.jsonl"))
#: A change of these makes another thing of a fault.
_SOURCES = ("src/fleetd", "units", "lab", "tests/support/lab")
#: How often each fault is played.
TIMES = int(os.environ.get("FLEETD_TIMES", "5"))


@contextmanager
def kept(fault: str, number: int) -> Iterator[tuple[random.Random, Figures]]:
    """Play a fault within the block, by the chance given and with figures to be filled; skip it if it passed before."""
    if passed(fault, number):
        pytest.skip(f"{fault}, number {number}, has passed with these sources: {FILE}")
    seed = f"{fault}/{number}"
    print(f"seed: {seed}")
    figures: Figures = {}
    begun, well = time.monotonic(), False
    try:
        yield random.Random(seed), figures
        well = True
    finally:
        record(fault, number, time.monotonic() - begun, figures, passed=well)
    print(f"{fault}, number {number}: {figures}")


def passed(fault: str, number: int) -> bool:
    """Whether this was played well with the present sources."""
    return any((line["fault"], line["number"], line["passed"]) == (fault, number, True) for line in _lines())


def record(fault: str, number: int, seconds: float, figures: Mapping[str, float], *, passed: bool) -> None:
    """Keep what came of it."""
    FILE.parent.mkdir(parents=True, exist_ok=True)
    line = {"fault": fault, "number": number, "sources": present(), "passed": passed, "seconds": round(seconds, 1)}
    with FILE.open("a") as file:
        file.write(json.dumps({**line, "figures": {k: round(v, 1) for k, v in figures.items()}}) + "\n")


@functools.cache
def present() -> str:
    """A digest of all that plays and is played with."""
    files = sorted(
        path
        for folder in _SOURCES
        for path in (PROJECT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    )
    return cache.digest(*(part for path in files for part in (str(path.relative_to(PROJECT)), path.read_bytes())))


def table() -> str:
    """A row for each fault: how often it was played and passed, and the least and the most of each figure."""
    by_fault: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for line in _lines():
        by_fault[line["fault"]].append(line)
    rows = ["| fault | played | passed | figures |", "|---|---|---|---|"]
    for fault, found in sorted(by_fault.items()):
        well = [line for line in found if line["passed"]]
        rows.append(f"| {fault} | {len(found)} | {len(well)} | {_ranges([line['figures'] for line in well])} |")
    return "\n".join(rows)


def _ranges(figures: list[Figures]) -> str:
    names = list(dict.fromkeys(name for one in figures for name in one))
    found = {name: [one[name] for one in figures if name in one] for name in names}
    return "; ".join(
        f"{name} {min(values):g}" + (f" to {max(values):g}" if min(values) < max(values) else "")
        for name, values in found.items()
    )


def _lines() -> list[dict[str, Any]]:
    text = FILE.read_text() if FILE.exists() else ""
    lines = [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
    return [line for line in lines if line["sources"] == present()]


if __name__ == "__main__":
    print(table())
