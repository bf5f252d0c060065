"""Mastodon's dotenv files and what the workers' unit sets: their text, or why there is none; root hands it over.

fleetd can't enter Mastodon's directory. fleetd-render reads the files with the workers' rights, because user mastodon
may put anything in their place, and writes a copy that only root reads. systemd hands that to fleetd as a credential.
"""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
from msgspec import structs

from fleetd.adapters.host.as_account import as_account
from fleetd.adapters.host.files import read_file
from fleetd.adapters.host.readings import SETTINGS_DIRECTORY
from fleetd.adapters.host.worker_account import (
    TEMPLATE,
    Account,
    AccountError,
    WorkersUnit,
    workers_unit,
)
from fleetd.adapters.mastodon.dotenv import NAMES
from fleetd.adapters.mastodon.unit_environment import environment_of, file_of, read_environment_file
from fleetd.core.model.facts import Value

#: All that is read together. A usual file has some kilobytes. As JSON it must be smaller than systemd's limit for
#: credentials, 1 MiB: a byte becomes six at most.
ENV_FILE_BYTES_MAX = 128 * 1024
#: Variables of a unit that can stand for a whole file.
_OURS = re.compile(r"(?:SIDEKIQ_)?REDIS_|(?:PRIMARY_)?DATABASE_URL|DB_(?!POOL)")


class EnvFile(Value, frozen=True, kw_only=True):
    """What was read of it, or why it was not."""

    path: str = ""  # as configured; "": none is
    text: str | None = None
    why: str = ""  # half a sentence: why it can't be read; "": it was, or none is configured
    cure: str = ""  # what to do about that, as a sentence
    missing: bool = False  # there is no such file
    forbidden: bool = False  # it is there, and whoever reads it may not
    kept: bool = False  # the text is from an earlier reading
    beside: tuple[tuple[str, str], ...] = ()  # (name, text) of the dotenv files beside it that Rails loads as well
    environment: tuple[tuple[str, str], ...] = ()  # what the workers' unit sets, which comes before all files
    unit_problem: str = ""  # a sentence: what the unit sets that can't be known; "": nothing
    user: str = ""  # as whom the workers run; "": not known
    version: str = ""  # Mastodon's, from the stamp of its code; "": not known

    @property
    def files(self) -> tuple[tuple[str, str], ...] | None:
        """(name, text) in the order in which Rails loads them; None: they can't be read, or nothing is set anywhere."""
        own = Path(self.path).name or ".env.production"
        elsewhere = self.beside or any(_OURS.match(name) for name, _ in self.environment)
        if self.text is None and not (self.missing and elsewhere):
            return None
        texts = dict(self.beside)
        if self.text is not None:
            texts[own] = self.text
        return tuple((name, texts[name]) for name in dict.fromkeys((*NAMES, own)) if name in texts)

    @property
    def problem(self) -> str:
        """Why it can't be read and what to do, as sentences; "": there is none."""
        if not self.why:
            return ""
        kept = " What was read before is still used." if self.kept else ""
        return f"{self.path} can't be read: {self.why}.{kept} {self.cure}".rstrip()

    def or_kept(self, earlier: EnvFile | None) -> EnvFile:
        """With the text of an earlier reading of the same file, if it is there now and can't be read."""
        if earlier is None or earlier.path != self.path or self.text is not None or not self.why or self.missing:
            return self
        if earlier.text is None:
            return self
        kept = structs.replace(self, text=earlier.text, beside=earlier.beside, kept=True)
        if self.user:  # the unit was read
            return kept
        return structs.replace(kept, environment=earlier.environment, user=earlier.user)


def read_env_file(path: str, root: Path = Path("/"), *, user: str | None = None) -> EnvFile:
    """Read it, as root with the workers' rights. A FIFO or a device in its place is not waited for.

    `path` "": none is configured. `root`: another root directory. `user`: as whom workers will run once that is
    rendered; None: as whom the unit says.
    """
    if not path:
        return EnvFile()
    try:
        unit = workers_unit(root, user)
        answer = as_account(unit.account, lambda: msgspec.json.encode(_Reader(path, root, unit).all()))
    except AccountError as error:
        return EnvFile(path=path, why=str(error))
    return msgspec.json.decode(answer, type=EnvFile)


def env_file_from(content: bytes | None) -> EnvFile | None:
    """A copy that was written as JSON; None: it is not one."""
    try:
        return msgspec.json.decode(content or b"", type=EnvFile)
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return None


class _Reader:
    """Reads all of it, in the child with the workers' rights."""

    def __init__(self, path: str, root: Path, unit: WorkersUnit) -> None:
        self._path = path
        self._root = root
        self._unit = unit
        self._left_bytes = ENV_FILE_BYTES_MAX

    def all(self) -> EnvFile:
        found = self._read(self._path)
        environment, problem = self._environment()
        found = structs.replace(
            found, environment=tuple(environment.items()), unit_problem=problem, user=self._unit.user
        )
        name = Path(self._path).name
        if name not in NAMES or (found.why and not found.missing):
            return found
        beside = []
        for other in NAMES:
            if other == name:
                continue
            path = str(Path(self._path).with_name(other))
            one = self._read(path)
            if one.text is not None:
                beside.append((other, one.text))
            elif not one.missing:
                # Mastodon does not start without it either.
                why = f"{other} beside it, which Mastodon loads too, can't be: {one.why}"
                return structs.replace(found, text=None, missing=False, why=why, cure=one.cure)
        return structs.replace(found, beside=tuple(beside))

    def _environment(self) -> tuple[dict[str, str], str]:
        environment = environment_of(self._unit.environment)
        problem = ""
        for shown in self._unit.environment_files:
            path, may_be_missing = file_of(shown)
            if Path(path).parent == SETTINGS_DIRECTORY:
                continue
            one = self._read(path)
            if one.text is not None:
                environment |= read_environment_file(one.text, comments_continue=self._unit.comments_continue)
            elif not (one.missing and may_be_missing):
                problem = (
                    f"EnvironmentFile={path} of {TEMPLATE} can't be read: {one.why}. What it sets is not known to "
                    f"fleetd: let the workers' user read it, or write Environment= with `systemctl edit {TEMPLATE}`."
                )
        return environment, problem

    def _read(self, path: str) -> EnvFile:
        file = self._root / path.lstrip("/")
        try:
            content = read_file(file, self._left_bytes)
            self._left_bytes -= len(content)
            return EnvFile(path=path, text=content.decode())
        except FileNotFoundError:
            if _is_link(file):
                return EnvFile(path=path, why="it is a symbolic link to something that does not exist")
            return EnvFile(path=path, why="there is no such file", missing=True)
        except PermissionError:
            return _forbidden(path, self._unit.account)
        except UnicodeDecodeError:
            return EnvFile(path=path, why="it is not text in UTF-8")
        except ValueError:
            return EnvFile(path=path, why="that is no path")
        except OSError as error:
            return EnvFile(path=path, why=error.strerror or "of an unknown error")


def _is_link(file: Path) -> bool:
    try:
        return file.is_symlink()
    except OSError:  # its owner goes on changing it
        return False


def _forbidden(path: str, account: Account | None) -> EnvFile:
    if account is None:
        return EnvFile(path=path, why="you may not", forbidden=True, cure="Try sudo.")
    return EnvFile(
        path=path,
        why=f"user {account.name} may not, as whom the workers run (User= of {TEMPLATE})",
        forbidden=True,
        cure=f"Let that user read it (chgrp {account.group} {path}; chmod g+r {path}) and enter the directories above "
        "it, or name another file under mastodon.env_file; then restart fleetd.",
    )
