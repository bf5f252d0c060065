"""The Debian package of this checkout: built once for each state of it, however many tests want it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

from lab.setup import cache
from tests.support.project import PROJECT

EPOCH_SECONDS = 1767225600
_PARTS = ("deb", "docs", "src", "units", "config.example.toml", "pyproject.toml", "requirements.lock")
_PAGES = ("README.md", "SECURITY.md", "CHANGELOG.md", "LICENSE")


def build(folder: Path, umask: str = "0022") -> None:
    """Build it into `folder`, as whoever has that umask."""
    command = f'umask {umask}; TMPDIR=$1 SOURCE_DATE_EPOCH={EPOCH_SECONDS} exec nice "$2" "$1"'
    done = subprocess.run(
        ["sh", "-c", command, "sh", folder, PROJECT / "deb/build.sh"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def package() -> Path:
    """The package."""
    return in_folder(cache.once(f"deb-{cache.digest(*_contents())}", build))


def in_folder(folder: Path) -> Path:
    """The one package in a folder. Its name has the version."""
    [found] = folder.glob("fleetd_*.deb")
    return found


def of_another_version(deb: Path, version: str, changed: dict[str, tuple[str, str]], folder: Path) -> Path:
    """The same package as another release would be: `changed` has by path what is replaced by what."""
    tree = folder / "tree"
    subprocess.run(["dpkg-deb", "--raw-extract", deb, tree], check=True)
    edits = {"DEBIAN/control": ("\nVersion: ", f"\nVersion: {version}~"), **changed}
    for path, (old, new) in edits.items():
        text = (tree / path).read_text()
        assert old in text
        (tree / path).write_text(text.replace(old, new))
    made = folder / "fleetd.deb"
    subprocess.run(
        ["dpkg-deb", "--root-owner-group", "-Znone", "--build", tree, made], check=True, stdout=subprocess.DEVNULL
    )
    return made


def _contents() -> Iterator[str | bytes]:
    for part in (*_PARTS, *_PAGES):
        top = PROJECT / part
        for path in sorted(top.rglob("*")) if top.is_dir() else [top]:
            if path.is_file() and "__pycache__" not in path.parts:
                yield str(path.relative_to(PROJECT))
                yield path.read_bytes()
