"""A cache of things that are slow to make, in /var/cache/fleetd-lab, named by the digest of their recipe."""

import fcntl
import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

CACHE = Path("/var/cache/fleetd-lab")


def digest(*parts: str | bytes) -> str:
    """A short name for a recipe."""
    made = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        made.update(len(data).to_bytes(8, "big") + data)
    return made.hexdigest()[:16]


def once(name: str, make: Callable[[Path], None], keep: int = 12) -> Path:
    """The cached directory `name`. If it does not exist, `make(directory)` makes it now.

    If two programs want it at the same time it is made only once. Of directories whose names differ only after the
    last "-", the `keep` most recent ones stay.
    """
    CACHE.mkdir(parents=True, exist_ok=True)
    path = CACHE / name
    with (CACHE / f".{name}.lock").open("a") as lock:  # one lock for each name: making one may need another
        fcntl.flock(lock, fcntl.LOCK_EX)
        if path.is_dir():
            path.touch()  # its modification time is when it was last wanted
            return path
        draft = CACHE / f".{name}.new"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir()
        make(draft)
        draft.rename(path)
        kin = sorted(CACHE.glob(f"{name.rpartition('-')[0]}-*"), key=_wanted)
        for old in kin[:-keep]:
            shutil.rmtree(old, ignore_errors=True)
            (CACHE / f".{old.name}.lock").unlink(missing_ok=True)
    return path


def _wanted(path: Path) -> float:
    """When a directory was last wanted. Counts as never if somebody else is just removing it."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
