"""Mastodon's code on disk as one digest, which an upgrade in place changes under the running workers.

These are files of somebody else, who may be hostile: root reads them with the workers' rights, nothing is executed, no
symbolic link below the directory is followed (the digest takes the link's text), every file is bounded, and nothing
that blocks is read.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
from pathlib import Path

import msgspec

from fleetd.adapters.host.as_account import as_account
from fleetd.adapters.host.worker_account import Account, AccountError, workers_account
from fleetd.core.model.facts import CodeStamp, Value
from fleetd.errors import FleetdError

#: What an upgrade changes, whether by git, an archive or a release directory.
FILES = ("lib/mastodon/version.rb", "Gemfile.lock", "REVISION", "db/schema.rb", "config/sidekiq.yml", ".ruby-version")
#: Where systemd watches, beside Mastodon's directory itself: see fleetd-stamp.path.
WATCHED = ("lib/mastodon", "db", "config")
#: And with a unit of its own, because it may be missing.
WATCHED_GIT = ".git"
_HEAD = ".git/HEAD"

FILE_BYTES_MAX = 1024 * 1024
_PACKED_REFS_BYTES_MAX = 16 * 1024 * 1024
_DIGEST_LETTERS = 16

_REF = re.compile(rb"ref: (refs/[A-Za-z0-9._/@+-]{1,200})")
_COMMIT = re.compile(rb"[0-9a-f]{40,64}")
#: `def major` and the like with a number as the body; `flags` before 4.2 and `default_prerelease` since, with a text.
_PART = re.compile(
    rb"^[ \t]*def[ \t]+(major|minor|patch|default_prerelease|flags)\s+"
    rb"""(\d{1,4}|(['"])([0-9A-Za-z.-]{0,40})\3)[ \t]*(?:#.*)?\s+end""",
    re.MULTILINE,
)


class CodeUnreadableError(FleetdError):
    """It is unknown whether the code changed."""


class _Answer(Value, frozen=True, kw_only=True):
    """What is read in another process."""

    stamp: CodeStamp | None = None
    why: str = ""  # it can't be read


def read_workers_code(directory: Path, root: Path = Path("/")) -> CodeStamp | None:
    """As read_code; as root, with the workers' rights. `root`: another root directory."""
    try:
        account = workers_account(root)
        answer = as_account(account, lambda: _read(root / str(directory).lstrip("/"), account))
    except AccountError as error:
        raise _unreadable(directory, str(error), "that user") from None
    read = msgspec.json.decode(answer, type=_Answer)
    if read.why:
        raise CodeUnreadableError(read.why)
    return read.stamp


def _read(directory: Path, account: Account | None) -> bytes:
    reader = "its reader" if account is None else f"user {account.name}, as whom the workers run,"
    try:
        return msgspec.json.encode(_Answer(stamp=read_code(directory, reader)))
    except CodeUnreadableError as error:
        return msgspec.json.encode(_Answer(why=str(error)))


def read_code(directory: Path, reader: str = "its reader") -> CodeStamp | None:
    """The code in Mastodon's directory; None: there is none of Mastodon's.

    The directory itself may be a symbolic link, as with release directories. Raises CodeUnreadableError for something
    that is there and can't be read: then the code is unknown, not absent. `reader`: who that sentence says may not.
    """
    try:
        folder = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise _unreadable(directory, error.strerror, reader) from None
    found: dict[str, _Entry] = {}
    try:
        for name in (*FILES, _HEAD):
            found[name] = _commit(folder) if name == _HEAD else _entry(folder, name)
    except OSError as error:
        raise _unreadable(directory / name, error.strerror, reader) from None
    finally:
        os.close(folder)
    if all(entry == _MISSING for entry in found.values()):
        return None
    whole = hashlib.sha256()
    for name, (kind, content) in found.items():
        whole.update(f"{name}\0{kind}\0{len(content)}\0".encode() + content)
    return CodeStamp(digest=whole.hexdigest()[:_DIGEST_LETTERS], version=version_in(found[FILES[0]][1]))


def version_in(source: bytes) -> str:
    """The version in Mastodon's lib/mastodon/version.rb, such as "4.5.3" or "4.6.0-alpha.4"; "": unknown.

    What version.rb takes from the environment (nightly builds, forks' metadata) is left out.
    """
    parts: dict[bytes, str] = {}
    for match in _PART.finditer(source):
        parts.setdefault(match[1], (match[4] if match[3] else match[2]).decode())
    numbers = [parts.get(name, "") for name in (b"major", b"minor", b"patch")]
    if not all(number.isdecimal() for number in numbers):
        return ""
    before_release = parts.get(b"default_prerelease", "")
    return ".".join(numbers) + (f"-{before_release}" if before_release else parts.get(b"flags", ""))


#: What was found under a name: its kind and its content.
_Entry = tuple[str, bytes]
_MISSING: _Entry = ("missing", b"")


def _entry(folder: int, path: str, bytes_max: int = FILE_BYTES_MAX) -> _Entry:
    """What is at a path below an open directory. Raises OSError when it is there and can't be read."""
    *parents, name = path.split("/")
    opened: list[int] = []
    try:
        for parent in parents:
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            try:
                opened.append(os.open(parent, flags, dir_fd=opened[-1] if opened else folder))
            except NotADirectoryError:
                return _link(parent, opened[-1] if opened else folder)
        return _file(name, opened[-1] if opened else folder, bytes_max)
    except FileNotFoundError:
        return _MISSING
    finally:
        for descriptor in opened:
            os.close(descriptor)


def _file(name: str, folder: int, bytes_max: int) -> _Entry:
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    except OSError as error:
        if error.errno == errno.ELOOP:
            return _link(name, folder)
        if error.errno == errno.ENXIO:  # a socket
            return "no file", b""
        raise
    about = os.fstat(descriptor)
    if not stat.S_ISREG(about.st_mode):
        os.close(descriptor)
        return "no file", b""
    with os.fdopen(descriptor, "rb") as stream:
        content = stream.read(bytes_max + 1)
    if len(content) > bytes_max:
        return "too large", str(about.st_size).encode()
    return "file", content


def _link(name: str, folder: int) -> _Entry:
    """The text of a symbolic link; missing when it is none, such as a file in place of a directory."""
    try:
        return "link", os.readlink(name.encode(), dir_fd=folder)
    except OSError:
        return _MISSING


def _commit(folder: int) -> _Entry:
    """The commit that git has checked out, so that the same commit under another name, or packed, is the same code."""
    kind, head = _entry(folder, _HEAD)
    head = head.strip()
    named = _REF.fullmatch(head)
    if kind != "file" or named is None:
        return kind, head
    ref = named[1].decode()
    if any(part in {"", ".", ".."} for part in ref.split("/")):
        return kind, head
    kind, commit = _entry(folder, f".git/{ref}")
    if kind == "file":
        return kind, commit.strip()
    _, packed = _entry(folder, ".git/packed-refs", _PACKED_REFS_BYTES_MAX)
    for line in packed.splitlines():
        sha, _, name = line.partition(b" ")
        if name.strip() == named[1] and _COMMIT.fullmatch(sha):
            return "file", sha
    return "file", head


def _unreadable(path: Path, why: str | None, reader: str) -> CodeUnreadableError:
    return CodeUnreadableError(
        f"{path}: {why}. It is unknown whether Mastodon's code changed, so the last stamp stays. Let {reader} read "
        "that directory, or set mastodon.directory in fleetd.toml to another one."
    )
