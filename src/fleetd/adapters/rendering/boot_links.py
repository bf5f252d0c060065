"""What a boot starts, and in which order (law 5: without a working fleetd too).

The links in mastodon-workers-boot.target.wants/ are those that `systemctl enable` and `disable` make. The target itself
is never started, or all workers would boot at once: mastodon-workers-boot.service starts what is linked, in the order
of `boot.list`. The list also remembers what we linked, so a link that is missing was removed by a person (law 6).
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from fleetd.adapters.host.files import sync_directory
from fleetd.adapters.host.readings import SETTINGS_DIRECTORY
from fleetd.adapters.rendering.rendered_files import (
    RenderError,
    below,
    replace_if_changed,
    unit_name,
)
from fleetd.core.model.decision import SCHEDULER_UNIT
from fleetd.core.model.worker_settings import Number

TARGET = "mastodon-sidekiq.target"
BOOT_TARGET = "mastodon-workers-boot.target"
TEMPLATE = "mastodon-sidekiq@.service"
STOCK_UNIT = "mastodon-sidekiq.service"
UNIT_DIRECTORIES = (
    Path("/etc/systemd/system"),
    Path("/usr/local/lib/systemd/system"),
    Path("/usr/lib/systemd/system"),
)
_OUR_UNIT = re.compile(r"mastodon-sidekiq(?:@([1-9][0-9]{0,3})|-(scheduler))\.service")


class BootLinks:
    """The links and the list below `root` ("/" but in tests)."""

    def __init__(self, root: Path = Path("/"), directory: Path = SETTINGS_DIRECTORY) -> None:
        self._root = root
        self._units = below(root, UNIT_DIRECTORIES[0])
        self._wants = self._units / f"{BOOT_TARGET}.wants"
        self._list = below(root, directory) / "boot.list"

    def linked(self) -> tuple[Number, ...]:
        """The numbers that a boot starts."""
        return _numbers_in(self._wants)

    def listed(self) -> tuple[Number, ...]:
        """The numbers that a boot should start, as of the last render."""
        try:
            lines = self._list.read_text().splitlines()
        except FileNotFoundError:
            return ()
        return tuple(_number(match) for match in map(_OUR_UNIT.fullmatch, lines) if match)

    def write_list(self, numbers: Sequence[Number], at_once: int) -> None:
        """Write the order. Do this after linking: a crash in between must not look like a person's `disable`."""
        lines = [
            "# Written by fleetd-render: what mastodon-workers-boot.service starts, in this order, at_once at a time.",
            "# It starts only what is enabled as well: systemctl enable or disable mastodon-sidekiq@N.",
            f"at_once {at_once}",
            *map(unit_name, numbers),
        ]
        replace_if_changed(self._list, "\n".join(lines) + "\n")

    def link(self, numbers: Iterable[Number]) -> None:
        """Link units as `systemctl enable` does."""
        for number in numbers:
            fragment = self._fragment(SCHEDULER_UNIT if number == "scheduler" else TEMPLATE)
            self._wants.mkdir(mode=0o755, parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError):
                (self._wants / unit_name(number)).symlink_to(fragment)
        _sync(self._wants)

    def unlink(self, numbers: Iterable[Number]) -> None:
        """Remove their links; running units are not touched."""
        for number in numbers:
            (self._wants / unit_name(number)).unlink(missing_ok=True)
        _sync(self._wants)

    def boot_starts_target(self) -> bool:
        """Whether mastodon-sidekiq.target is enabled."""
        return (self._units / "multi-user.target.wants" / TARGET).is_symlink()

    def stock_unit_enabled(self) -> bool:
        """Whether a boot starts Mastodon's own mastodon-sidekiq.service, which serves the scheduler queue as well."""
        return (self._units / "multi-user.target.wants" / STOCK_UNIT).is_symlink()

    def _fragment(self, unit: str) -> Path:
        for directory in UNIT_DIRECTORIES:
            if (below(self._root, directory) / unit).is_file():
                return directory / unit
        raise RenderError(f"{unit} is not installed: run units/install.sh, then fleetd-render.")


def _numbers_in(wants: Path) -> tuple[Number, ...]:
    if not wants.is_dir():
        return ()
    found = (_OUR_UNIT.fullmatch(name) for name in sorted(os.listdir(wants)))  # noqa: PTH208
    return tuple(_number(match) for match in found if match)


def _number(match: re.Match[str]) -> Number:
    return "scheduler" if match[2] else int(match[1])


def _sync(directory: Path) -> None:
    if directory.is_dir():
        sync_directory(directory)
