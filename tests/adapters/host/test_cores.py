"""Cores, with the quota of a container."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleetd.adapters.host.cores import usable_cores


@pytest.mark.parametrize(
    ("quota", "expected"),
    [("max 100000\n", 8), ("200000 100000\n", 2), ("250000 100000", 3), ("10000 100000", 1), ("", 8), ("x y", 8)],
)
def test_the_lower_of_cores_and_quota(tmp_path: Path, quota: str, expected: int) -> None:
    file = tmp_path / "cpu.max"
    file.write_text(quota)
    assert usable_cores(8, file) == expected


def test_this_host_has_one_at_least(tmp_path: Path) -> None:
    assert usable_cores(None, tmp_path / "none") >= 1
