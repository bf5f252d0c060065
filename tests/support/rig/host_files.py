"""A made-up root directory for LinuxHost."""

from __future__ import annotations

import asyncio
from pathlib import Path

from fleetd.adapters.host.readings import LinuxHost
from fleetd.core.model.facts import HostFacts, SystemdFacts

MEMINFO = "MemTotal:       16384000 kB\nMemFree:          100 kB\nMemAvailable:    8192000 kB\nHugePages_Total: 0\n"


def made_up_root(directory: Path) -> Path:
    """The fewest files that a reading needs."""
    (directory / "proc").mkdir()
    (directory / "proc/meminfo").write_text(MEMINFO)
    (directory / "var/lib/mastodon-sidekiq").mkdir(parents=True)
    return directory


def read(root: Path, systemd: SystemdFacts | None = None) -> HostFacts:
    return asyncio.run(LinuxHost(root=root).read(systemd))


def env(root: Path, name: str, content: str | bytes) -> None:
    data = content if isinstance(content, bytes) else content.encode()
    (root / "var/lib/mastodon-sidekiq" / name).write_bytes(data)
