"""Everything that is installed comes from a lock file with hashes: complete, without an index, and used everywhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.support.project import PROJECT

LOCKS = ("requirements.lock", "requirements-dev.lock")
#: What a `pip install` must say: either every file is known by its hash, or no index is asked for anything.
LOCKED = "--require-hashes --only-binary :all: -r requirements"
ITSELF = "--no-deps --no-index --no-build-isolation"
_ENTRY = re.compile(
    r"([a-z0-9-]+)(?:\[[a-z,]+\])?==([0-9][0-9a-z.+]*)(?: ; ([^\\]+))? \\\n((?:    --hash=\S+(?: \\)?\n)+)"
)
_HASH = re.compile(r"    --hash=sha256:[0-9a-f]{64}(?: \\)?")


def text(lock: str) -> str:
    """Without comments."""
    return re.sub(r"^ *#.*\n", "", (PROJECT / lock).read_text(), flags=re.MULTILINE)


def versions(lock: str) -> dict[str, Version]:
    return {name: Version(version) for name, version, _, _ in _ENTRY.findall(text(lock))}


def project() -> dict[str, Any]:
    return tomllib.loads((PROJECT / "pyproject.toml").read_text())


def wanted(lock: str) -> list[Requirement]:
    """What pyproject.toml asks for."""
    tables = project()
    needs = [*tables["project"]["dependencies"], *tables["build-system"]["requires"]]
    if lock == "requirements-dev.lock":
        needs += tables["project"]["optional-dependencies"]["dev"]
    return [Requirement(need) for need in needs]


@pytest.mark.parametrize("lock", LOCKS)
def test_every_entry_is_one_version_with_the_hashes_of_its_files(lock: str) -> None:
    """And nothing else is in the file, such as an index or a path."""
    assert _ENTRY.sub("", text(lock)) == ""
    for name, _, _, hashes in _ENTRY.findall(text(lock)):
        assert all(_HASH.fullmatch(line) for line in hashes.splitlines()), name


@pytest.mark.parametrize("lock", LOCKS)
def test_the_lock_has_what_the_project_asks_for(lock: str) -> None:
    locked = versions(lock)
    for need in wanted(lock):
        assert need.specifier.contains(locked[canonicalize_name(need.name)]), f"{need}: run `make lock`"
    assert "psycopg-binary" in locked, "which psycopg[binary] stands for"


def test_the_tests_run_on_the_versions_that_are_installed() -> None:
    dev = versions(LOCKS[1])
    assert versions(LOCKS[0]).items() <= dev.items()


def commands() -> list[tuple[str, str]]:
    """Each line of a script, the Makefile or the lab that installs Python packages, continued and expanded."""
    files = [*sorted((PROJECT / "scripts").iterdir()), PROJECT / "Makefile", *sorted((PROJECT / "lab").rglob("*.py"))]
    files += sorted((PROJECT / "deb").glob("*.sh"))
    lines = [(str(f.relative_to(PROJECT)), line.strip()) for f in files for line in f.read_text().splitlines()]
    installs = re.compile(r"^(?:if ! )?(\$pip|.*\{_pip\(\)\}|.*\bpip3?\b.* (install|download|wheel)\b)")
    return [(name, line) for name, line in lines if installs.match(line) and not line.startswith("#")]


def test_nothing_is_installed_but_by_hash_or_from_the_checkout() -> None:
    found = commands()
    definitions = [line for _, line in found if re.match(r'(pip=|return f)"\S+python -I -m pip install [^"]*"$', line)]
    uses = [(name, line.replace("{LOCK}", LOCKS[0])) for name, line in found if line not in definitions]
    assert [(name, line) for name, line in uses if LOCKED not in line and ITSELF not in line] == []
    for place in ("scripts/install.sh", "scripts/prepare.sh", "lab/setup/install.py", "deb/build.sh"):
        assert sorted(LOCKED in line for name, line in uses if name == place) == [False, True]


def wheel(folder: Path, name: str = "tiny") -> Path:
    """A package as small as they get."""
    path, info = folder / f"{name}-1.0-py3-none-any.whl", f"{name}-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}.py", "")
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return path


def install(folder: Path, entry: str) -> subprocess.CompletedProcess[str]:
    """Install from a lock with this entry, with the options that the scripts have."""
    (folder / "requirements.lock").write_text(entry)
    options = LOCKED.replace("-r requirements", "-r requirements.lock").split()
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--isolated",
            "--no-cache-dir",
            "--no-index",
            "--find-links=.",
            "--target=to",
            *options,
        ],
        cwd=folder,
        env=clean,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_a_file_with_another_hash_is_not_installed(tmp_path: Path) -> None:
    good = sha256(wheel(tmp_path).read_bytes()).hexdigest()
    done = install(tmp_path, f"tiny==1.0 --hash=sha256:{good[:-1]}{'0' if good[-1] != '0' else '1'}\n")
    assert done.returncode != 0
    assert "DO NOT MATCH THE HASHES" in done.stderr
    assert not (tmp_path / "to/tiny.py").exists()
    assert install(tmp_path, f"tiny==1.0 --hash=sha256:{good}\n").returncode == 0
    assert (tmp_path / "to/tiny.py").exists()


def test_an_entry_without_a_hash_and_a_source_archive_are_not_installed(tmp_path: Path) -> None:
    """A source archive would run its own code while it is built."""
    wheel(tmp_path)
    assert "all requirements must have their versions pinned" in install(tmp_path, "tiny\n").stderr.lower()
    assert install(tmp_path, "tiny==1.0\n").returncode != 0
    source = tmp_path / "source-1.0.tar.gz"
    source.write_bytes(b"")
    done = install(tmp_path, f"source==1.0 --hash=sha256:{sha256(b'').hexdigest()}\n")
    assert "No matching distribution found" in done.stderr
