"""The lab raises the machine's limit of inotify instances, and never lowers it."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.hosts.limits import INOTIFY_INSTANCES, raise_inotify


@pytest.mark.parametrize(("before", "after"), [("128\n", f"{INOTIFY_INSTANCES}\n"), ("8192\n", "8192\n")])
def test_the_limit_is_raised_only_where_it_is_lower(tmp_path: Path, before: str, after: str) -> None:
    limit = tmp_path / "max_user_instances"
    limit.write_text(before)
    assert raise_inotify(limit) == (before != after)
    assert limit.read_text() == after


def test_where_it_can_not_be_read_nothing_happens(tmp_path: Path) -> None:
    assert not raise_inotify(tmp_path / "none")
