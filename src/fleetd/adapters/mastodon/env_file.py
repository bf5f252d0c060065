"""Mastodon's `.env.production` itself: its text, or why there is none, and how root hands it to fleetd.

fleetd can't enter Mastodon's directory. fleetd-render reads the file with the workers' rights, because user mastodon
may put anything in its place, and writes a copy that only root reads. systemd hands that to fleetd as a credential.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
from msgspec import structs

from fleetd.adapters.host.as_account import as_account
from fleetd.adapters.host.files import read_file
from fleetd.adapters.host.worker_account import TEMPLATE, Account, AccountError, workers_account
from fleetd.core.model.facts import Value

#: A usual one has some kilobytes. As JSON it must be smaller than systemd's limit for credentials, 1 MiB: a byte
#: becomes six at most.
ENV_FILE_BYTES_MAX = 128 * 1024


class EnvFile(Value, frozen=True, kw_only=True):
    """What was read of it, or why it was not."""

    path: str = ""  # as configured; "": none is
    text: str | None = None
    why: str = ""  # half a sentence: why it can't be read; "": it was, or none is configured
    cure: str = ""  # what to do about that, as a sentence
    missing: bool = False  # there is no such file
    forbidden: bool = False  # it is there, and whoever reads it may not
    kept: bool = False  # the text is from an earlier reading

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
        return structs.replace(self, text=earlier.text, kept=earlier.text is not None)


def read_env_file(path: str, root: Path = Path("/")) -> EnvFile:
    """Read it, as root with the workers' rights. A FIFO or a device in its place is not waited for.

    `path` "": none is configured. `root`: another root directory.
    """
    if not path:
        return EnvFile()
    try:
        account = workers_account(root)
        answer = as_account(account, lambda: msgspec.json.encode(_read(path, root / path.lstrip("/"), account)))
    except AccountError as error:
        return EnvFile(path=path, why=str(error))
    return msgspec.json.decode(answer, type=EnvFile)


def env_file_from(content: bytes | None) -> EnvFile | None:
    """A copy that was written as JSON; None: it is not one."""
    try:
        return msgspec.json.decode(content or b"", type=EnvFile)
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return None


def _read(path: str, file: Path, account: Account | None) -> EnvFile:
    try:
        return EnvFile(path=path, text=read_file(file, ENV_FILE_BYTES_MAX).decode())
    except FileNotFoundError:
        if _is_link(file):
            return EnvFile(path=path, why="it is a symbolic link to something that does not exist")
        return EnvFile(path=path, why="there is no such file", missing=True)
    except PermissionError:
        return _forbidden(path, account)
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
