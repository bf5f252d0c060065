"""What a boot starts, and in which order (law 5: without a working fleetd too).

The links in mastodon-workers-boot.target.wants/ are those that `systemctl enable` and `disable` make. The target itself
is never started, or all workers would boot at once: mastodon-workers-boot.service starts what is linked, in the order
of `boot.list`. The list also remembers what we linked, so a link that is missing was removed by a person (law 6).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from fleetd.adapters.host.files import sync_directory
from fleetd.adapters.host.readings import SETTINGS_DIRECTORY
from fleetd.adapters.rendering.rendered_files import RenderError, below, replace_if_changed
from fleetd.core.model.identity import (
    SCHEDULER,
    SCHEDULER_UNIT,
    TARGET_UNIT,
    TEMPLATE_UNIT,
    InstanceKey,
    key_of_unit,
    unit_of,
)

BOOT_TARGET = "mastodon-workers-boot.target"
UNIT_DIRECTORIES = (Path("/etc/systemd/system"), Path("/usr/local/lib/systemd/system"), Path("/usr/lib/systemd/system"))


class BootLinks:
    """The links and the list below `root` ("/" but in tests)."""

    def __init__(self, root: Path = Path("/"), directory: Path = SETTINGS_DIRECTORY) -> None:
        self._root = root
        self._units = below(root, UNIT_DIRECTORIES[0])
        self._wants = self._units / f"{BOOT_TARGET}.wants"
        self._list = below(root, directory) / "boot.list"

    def linked(self) -> tuple[InstanceKey, ...]:
        """What a boot starts."""
        return _ours(sorted(entry.name for entry in self._wants.iterdir())) if self._wants.is_dir() else ()

    def listed(self) -> tuple[InstanceKey, ...]:
        """What a boot should start, as of the last render."""
        try:
            lines = self._list.read_text().splitlines()
        except FileNotFoundError:
            return ()
        return _ours(lines)

    def write_list(self, keys: Sequence[InstanceKey], at_once: int) -> None:
        """Write the order. Do this after linking: a crash in between must not look like a person's `disable`."""
        lines = [
            "# Written by fleetd-render: what mastodon-workers-boot.service starts, in this order, at_once at a time.",
            "# It starts only what is enabled as well: systemctl enable or disable mastodon-sidekiq@N.",
            f"at_once {at_once}",
            *map(unit_of, keys),
        ]
        replace_if_changed(self._list, "\n".join(lines) + "\n")

    def link(self, keys: Iterable[InstanceKey]) -> None:
        """Link units as `systemctl enable` does."""
        for key in keys:
            fragment = self._fragment(SCHEDULER_UNIT if key == SCHEDULER else TEMPLATE_UNIT)
            self._wants.mkdir(mode=0o755, parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError):
                (self._wants / unit_of(key)).symlink_to(fragment)
        _sync(self._wants)

    def unlink(self, keys: Iterable[InstanceKey]) -> None:
        """Remove their links; running units are not touched."""
        for key in keys:
            (self._wants / unit_of(key)).unlink(missing_ok=True)
        _sync(self._wants)

    def boot_starts_target(self) -> bool:
        """Whether mastodon-sidekiq.target is enabled."""
        return (self._units / "multi-user.target.wants" / TARGET_UNIT).is_symlink()

    def _fragment(self, unit: str) -> Path:
        for directory in UNIT_DIRECTORIES:
            if (below(self._root, directory) / unit).is_file():
                return directory / unit
        raise RenderError(
            f"{unit} is not installed: run `fleetctl install-units` (or reinstall the package), then fleetd-render."
        )


def _ours(units: Iterable[str]) -> tuple[InstanceKey, ...]:
    return tuple(key for key in map(key_of_unit, units) if key is not None)


def _sync(directory: Path) -> None:
    if directory.is_dir():
        sync_directory(directory)
