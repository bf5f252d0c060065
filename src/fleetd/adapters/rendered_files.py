"""Root's files for the workers: environment files, the stamp of Mastodon's code, drop-ins for units of ours (law 5).

Every file is replaced whole, so that a worker that starts in the middle sees the old settings or the new ones, and a
full disk or a power cut leaves the old. Nothing here starts, stops or signals a unit.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from fleetd.core.decision import SCHEDULER_UNIT, instance_unit
from fleetd.core.facts import CodeStamp
from fleetd.core.settings import Number, settings_file_name
from fleetd.errors import FleetdError

SETTINGS_DIRECTORY = Path("/var/lib/mastodon-sidekiq")
#: What fleetd reads of Mastodon's code, which it can't read itself.
CODE_FILE = "code.json"
_SETTINGS_FILE = re.compile(r"(scheduler|[1-9][0-9]{0,3})\.env")
_LOCK_SECONDS = 10.0
_SYSTEMCTL_SECONDS = 30.0
ENV_FILE_BYTES_MAX = 1024 * 1024


class RenderError(FleetdError):
    """The files can't be written; the old ones stay."""


class RenderedFiles:
    """The files below `root` ("/" but in tests)."""

    def __init__(self, root: Path = Path("/"), directory: Path = SETTINGS_DIRECTORY) -> None:
        self._root = root
        self._directory = below(root, directory)
        self._dropins = below(root, Path("/run/systemd/system"))
        self._systemd_runs = root == Path("/") and Path("/run/systemd/system").is_dir()

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep a second render out for the time of the block; raises RenderError after 10 s."""
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
                        raise RenderError("Another fleetd-render is at work; try again.") from None
                    time.sleep(0.05)
            yield
        finally:
            os.close(descriptor)

    def write(self, number: Number, text: str) -> bool:
        """Replace the settings of one number, readable by everyone; False: they were so already."""
        return replace_file(self._directory / settings_file_name(number), text)

    def numbers(self) -> tuple[Number, ...]:
        """The numbers that have settings on disk."""
        found = (_SETTINGS_FILE.fullmatch(entry.name) for entry in sorted(self._directory.iterdir()))
        return tuple(_number(match[1]) for match in found if match)

    def remove(self, number: Number) -> None:
        """Remove the settings of a number that the configuration no longer has."""
        (self._directory / settings_file_name(number)).unlink(missing_ok=True)

    def runs(self, number: Number) -> bool:
        """Whether the unit is up or on its way; where systemd does not answer, it may be."""
        if not self._systemd_runs:
            return False
        state = _systemctl("show", "--property=ActiveState", "--value", unit_name(number))
        return state is None or state.strip() not in ("inactive", "failed")

    def write_code(self, stamp: CodeStamp | None) -> bool:
        """Replace the stamp of Mastodon's code, or remove it; False: it was so already."""
        path = self._directory / CODE_FILE
        if stamp is None:
            existed = path.exists()
            path.unlink(missing_ok=True)
            return existed
        return replace_file(path, msgspec.json.encode(stamp).decode() + "\n")

    def set_env_file(self, path: str, default: str) -> bool:
        """Let systemd hand another .env.production than the unit's own to fleetd; False: it does so already."""
        load = f"LoadCredential=env.production:{path.replace('%', '%%')}\n" if path else ""
        lines = (
            f"# From mastodon.env_file in fleetd.toml, by fleetd-render.\n[Service]\nLoadCredential=\n{load}"
        )
        return self._set_dropin("fleetd.service.d/50-env-file.conf", None if path == default else lines)

    def set_directory(self, path: str, default: str, watched: Iterable[str], git: str) -> bool:
        """Let systemd watch another directory of Mastodon's than the units' own; False: it does so already.

        `watched`: directories below it; `git`: one that may be missing, so it has its own unit. Its parent as well: a
        watch on a symbolic link does not see that it is replaced.
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

    def _set_dropin(self, name: str, text: str | None) -> bool:
        path = self._dropins / name
        if text is None:
            existed = path.exists()
            path.unlink(missing_ok=True)
            return existed
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        return replace_file(path, text)

    def reload_systemd(self) -> bool:
        """`systemctl daemon-reload`, where systemd runs; False: it failed."""
        return not self._systemd_runs or _systemctl("daemon-reload") is not None

    def read_env_file(self, path: str) -> str | None:
        """Mastodon's .env.production; None when there is none that can be read."""
        return _read_bounded(below(self._root, Path(path)))


def replace_file(path: Path, text: str) -> bool:
    """Write `text` to `path` (mode 0644) in one step that survives a power cut; False: it was there already."""
    content = text.encode()
    with contextlib.suppress(FileNotFoundError):
        if path.read_bytes() == content and stat.S_IMODE(path.stat().st_mode) == 0o644:
            return False
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fchmod(stream.fileno(), 0o644)
            os.fsync(stream.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    sync_directory(path.parent)
    return True


def below(root: Path, path: Path) -> Path:
    return root / path.relative_to("/") if path.is_absolute() else root / path


def _number(text: str) -> Number:
    return "scheduler" if text == "scheduler" else int(text)


def unit_name(number: Number) -> str:
    return SCHEDULER_UNIT if number == "scheduler" else instance_unit(number)


def sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read_bounded(path: Path) -> str | None:
    """A text file of somebody else: it may be a fifo or huge, and root neither hangs nor swells for it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as stream:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return None
            content = stream.read(ENV_FILE_BYTES_MAX + 1)
        return content.decode() if len(content) <= ENV_FILE_BYTES_MAX else None
    except (OSError, UnicodeDecodeError):
        return None


def _systemctl(*arguments: str) -> str | None:
    """What systemctl printed; None when it failed or did not answer in time."""
    try:
        done = subprocess.run(
            ["systemctl", "--no-ask-password", *arguments],
            capture_output=True,
            text=True,
            timeout=_SYSTEMCTL_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout
