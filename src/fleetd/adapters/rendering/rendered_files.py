"""Root's files for the workers: environment files, the stamp of Mastodon's code, drop-ins for our units (law 5).

Every file is replaced as a whole: a worker that starts meanwhile sees the old settings or the new ones, and a full disk
or a power cut leaves the old ones. Nothing here starts, stops or signals a unit.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from fleetd.adapters.host.files import read_small_file, replace_file
from fleetd.adapters.host.readings import CODE_FILE, SETTINGS_DIRECTORY, read_stamp
from fleetd.adapters.host.systemctl import systemctl
from fleetd.adapters.rendering.worker_unit import DROPIN, WORKER_UNITS
from fleetd.core.model.facts import CodeStamp, Value
from fleetd.core.model.identity import InstanceKey, key_of, unit_of
from fleetd.core.model.worker_settings import settings_file_name
from fleetd.errors import FleetdError

#: The copy of Mastodon's settings for fleetd: below /run, so that no disk and no backup has a second one.
ENV_COPY = Path("/run/fleetd-render/mastodon.env")
ENV_COPY_BYTES_MAX = 1024 * 1024
MASTODON_FILE = "mastodon.json"
_LOCK_SECONDS = 10.0


class RenderError(FleetdError):
    """The files can't be written; the old ones stay."""


class RenderedMastodon(Value, frozen=True, kw_only=True):
    """Whose workers are rendered: where its code is, and by which configuration file."""

    directory: str
    config: str


class RenderedFiles:
    """The files below `root` ("/" but in tests)."""

    def __init__(self, root: Path = Path("/"), directory: Path = SETTINGS_DIRECTORY) -> None:
        self._root = root
        self._directory = below(root, directory)
        self._dropins = below(root, Path("/run/systemd/system"))
        self._lasting_dropins = below(root, Path("/etc/systemd/system"))
        self._env_copy = below(root, ENV_COPY)
        self._systemd_runs = root == Path("/") and Path("/run/systemd/system").is_dir()

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep a second fleetd-render out meanwhile. Raises RenderError when one runs for more than 10 s."""
        self._directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        descriptor = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
        deadline = time.monotonic() + _LOCK_SECONDS
        try:
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise RenderError("Another fleetd-render is running: try again.") from None
                    time.sleep(0.05)
            yield
        finally:
            os.close(descriptor)

    def write(self, key: InstanceKey, text: str) -> bool:
        """Replace the settings of one unit, readable for everyone; False: they were so already."""
        return replace_if_changed(self._directory / settings_file_name(key), text)

    @property
    def mastodon_file(self) -> Path:
        return self._directory / MASTODON_FILE

    def mastodon(self) -> RenderedMastodon | None:
        """Whose workers these files are for; None: it is not known yet."""
        try:
            return msgspec.json.decode(read_small_file(self.mastodon_file) or b"", type=RenderedMastodon)
        except (msgspec.MsgspecError, ValueError):
            return None

    def write_mastodon(self, mastodon: RenderedMastodon) -> None:
        self._directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        replace_if_changed(self.mastodon_file, msgspec.json.encode(mastodon).decode() + "\n")

    def keys(self) -> tuple[InstanceKey, ...]:
        """The units that have settings on disk."""
        entries = sorted(self._directory.iterdir())
        found = (key_of(entry.stem) for entry in entries if entry.suffix == ".env")
        return tuple(key for key in found if key is not None)

    def remove(self, key: InstanceKey) -> None:
        """Remove the settings of a unit that the configuration no longer has."""
        (self._directory / settings_file_name(key)).unlink(missing_ok=True)

    def runs(self, key: InstanceKey) -> bool:
        """Whether the unit is up or changing; True as well where systemd does not answer."""
        if not self._systemd_runs:
            return False
        state = systemctl("show", "--property=ActiveState", "--value", unit_of(key))
        return state is None or state.strip() not in ("inactive", "failed")

    def write_code(self, stamp: CodeStamp | None) -> bool:
        """Replace the stamp of Mastodon's code, or remove it; False: it was so already."""
        text = None if stamp is None else msgspec.json.encode(stamp).decode() + "\n"
        return _replace_or_remove(self._directory / CODE_FILE, text)

    def code(self) -> CodeStamp | None:
        """The stamp of Mastodon's code; None: there is none."""
        return read_stamp(self._directory / CODE_FILE)

    def env_copy(self) -> bytes | None:
        """What was last handed over of Mastodon's `.env.production`; None: nothing since the host has booted."""
        return read_small_file(self._env_copy, ENV_COPY_BYTES_MAX)

    def hand_over_env(self, content: bytes) -> None:
        """Write what fleetd.service hands to fleetd of `.env.production`, readable for root alone."""
        self._env_copy.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace_file(self._env_copy, content, mode=0o600)

    def set_directory(self, path: str, default: str, watched: Iterable[str], git: str) -> bool:
        """Let systemd watch another directory of Mastodon's than the units say; False: it does so already.

        `watched`: directories below it; `git`: one that may be missing, so it has its own unit. Its parent is watched
        as well, because a watch on a symbolic link does not see that the link is replaced.
        """
        origin = "# From mastodon.directory in fleetd.toml, by fleetd-render.\n"
        specified = path.replace("%", "%%")
        above = (str(Path(specified).parent), specified)
        paths = "".join(f"PathChanged={name}\n" for name in (*above, *(f"{specified}/{n}" for n in watched)))
        quoted = specified.replace("\\", "\\\\").replace('"', '\\"')
        service = f'{origin}[Service]\nEnvironment="MASTODON_DIRECTORY={quoted}"\n'
        dropins = {
            "fleetd-stamp.path": f"{origin}[Path]\nPathChanged=\n{paths}",
            "fleetd-stamp-git.path": f"{origin}[Path]\nPathChanged=\nPathChanged={specified}/{git}\n",
            "fleetd-stamp.service": service,
            "fleetd-stamp-again.service": service,
        }
        changed = [
            self._set_dropin(f"{unit}.d/50-directory.conf", None if path == default else text)
            for unit, text in dropins.items()
        ]
        return any(changed)

    def set_worker_unit(self, text: str | None) -> bool:
        """Write or remove the drop-in of the workers' units (worker_unit.py); False: it was so already."""
        changed = [self._set_dropin(f"{unit}.d/{DROPIN}", text, self._lasting_dropins) for unit in WORKER_UNITS]
        return any(changed)

    def _set_dropin(self, name: str, text: str | None, directory: Path | None = None) -> bool:
        path = (directory or self._dropins) / name
        if text is not None:
            path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        return _replace_or_remove(path, text)

    def reload_systemd(self) -> bool:
        """`systemctl daemon-reload`, where systemd runs; False: it failed."""
        return not self._systemd_runs or systemctl("daemon-reload") is not None


def _replace_or_remove(path: Path, text: str | None) -> bool:
    """As replace_if_changed; None: remove it."""
    if text is not None:
        return replace_if_changed(path, text)
    existed = path.exists()
    path.unlink(missing_ok=True)
    return existed


def replace_if_changed(path: Path, text: str) -> bool:
    """Replace a file that everyone may read; False: it was so already."""
    content = text.encode()
    with contextlib.suppress(FileNotFoundError):
        if path.read_bytes() == content and stat.S_IMODE(path.stat().st_mode) == 0o644:
            return False
    replace_file(path, content, mode=0o644)
    return True


def below(root: Path, path: Path) -> Path:
    return root / path.relative_to("/") if path.is_absolute() else root / path
