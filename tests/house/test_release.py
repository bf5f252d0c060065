"""What a release builds has everything in it, and what may not be released is refused before anything is built."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.support.project import PROJECT

VERSION = "9.8.7"
UNITS = {f"fleetd/units/{path.name}": path.read_bytes() for path in (PROJECT / "units").iterdir()}


def built(kind: str, folder: Path, source: Path = PROJECT) -> Path:
    code = f"from flit_core import buildapi; print(buildapi.build_{kind}({str(folder)!r}))"
    env = {**os.environ, "SOURCE_DATE_EPOCH": "1767225600"}
    done = subprocess.run([sys.executable, "-c", code], cwd=source, env=env, check=True, capture_output=True, text=True)
    return folder / done.stdout.split()[-1]


def test_a_wheel_has_the_units_and_is_the_same_each_time(tmp_path: Path) -> None:
    (tmp_path / "again").mkdir()
    wheel = built("wheel", tmp_path)
    with zipfile.ZipFile(wheel) as archive:
        assert {name: archive.read(name) for name in UNITS} == UNITS
        assert archive.read("fleetd/units/config.example.toml") == (PROJECT / "config.example.toml").read_bytes()
    assert built("wheel", tmp_path / "again").read_bytes() == wheel.read_bytes()


def test_from_a_source_archive_the_same_wheel_is_built(tmp_path: Path) -> None:
    with tarfile.open(built("sdist", tmp_path)) as archive:
        archive.extractall(tmp_path / "source")  # noqa: S202 - made here
    [source] = (tmp_path / "source").iterdir()
    with zipfile.ZipFile(built("wheel", tmp_path, source)) as archive:
        assert {name: archive.read(name) for name in UNITS} == UNITS


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """With a stand-in for make, which tells whether a release got that far."""
    here = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", "--no-hardlinks", "--no-tags", PROJECT, here], check=True)
    shutil.copy2(PROJECT / "scripts/release.sh", here / "scripts/release.sh")
    # A version of its own: this runs in the release of any other one too.
    project, package = here / "pyproject.toml", here / "src/fleetd/__init__.py"
    project.write_text(re.sub(r'^version = ".*"', f'version = "{VERSION}"', project.read_text(), flags=re.MULTILINE))
    package.write_text(f'__version__ = "{VERSION}"\n')
    (here / "CHANGELOG.md").write_text("# Changes\n\n## Unreleased\n\n- A change.\n")
    commit(here)
    (here / ".venv/bin").mkdir(parents=True)
    (here / ".venv/bin/python").symlink_to(sys.executable)
    make = tmp_path / "programs/make"
    make.parent.mkdir()
    make.write_text("#!/bin/sh\nexit 42\n")
    make.chmod(0o755)
    return here


def release(clone: Path) -> tuple[int, str]:
    path = f"{clone.parent}/programs:{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "PYTHONPATH": str(clone / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(["scripts/release.sh"], cwd=clone, env=env, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


def commit(clone: Path) -> None:
    who = ["-c", "user.name=x", "-c", "user.email=x@example.com"]
    subprocess.run(["git", "add", "-A"], cwd=clone, check=True)
    subprocess.run(["git", *who, "commit", "-qm", "x"], cwd=clone, check=False, capture_output=True)


def test_what_may_not_be_released(clone: Path) -> None:
    changes = clone / "CHANGELOG.md"
    text = changes.read_text().replace("## Unreleased", f"## {VERSION} (2026-11-29)")
    changes.write_text(text)
    assert "not committed" in release(clone)[1]
    commit(clone)
    assert release(clone) == (42, ""), "then come the tests"
    subprocess.run(["git", "tag", f"v{VERSION}"], cwd=clone, check=True)
    assert f"v{VERSION} is there already" in release(clone)[1]
    subprocess.run(["git", "tag", "-d", f"v{VERSION}"], cwd=clone, check=True, capture_output=True)
    changes.write_text(text.replace(f"## {VERSION} (2026-11-29)", "## Unreleased"))
    commit(clone)
    assert f"has no section '## {VERSION} (DATE)'" in release(clone)[1]
