"""What scripts/prepare.sh tells a newcomer, on machines simulated by stand-ins for `id`, `sudo` and `apt-get`."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.project import PROJECT

#: Ends the script at its first step as root, so that no test installs anything.
SUDO = 'echo "[sudo $*]" >&2; exit 3'


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A directory for use as the whole PATH. It has only what the script needs to find its own place."""
    dirname = shutil.which("dirname")
    assert dirname is not None
    (tmp_path / "dirname").symlink_to(dirname)
    return tmp_path


def stub(programs: Path, name: str, script: str) -> None:
    (programs / name).write_text(f"#!/bin/sh\n{script}\n")
    (programs / name).chmod(0o755)


def run(programs: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=PROJECT,
        env={"PATH": str(programs)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_without_root_and_sudo_the_exact_command_is_shown(programs: Path) -> None:
    """Through make, which knows the target."""
    make = shutil.which("make")
    assert make is not None
    stub(programs, "id", "echo 1000")
    stub(programs, "apt-get", "exit 3")
    done = run(programs, make, "--no-print-directory", "demo")
    assert done.returncode != 0
    assert "which needs root, and sudo is not installed" in done.stderr
    assert "Run it as root: su -c 'make demo'\n" in done.stderr


def test_on_another_system_the_requirements_are_shown(programs: Path) -> None:
    stub(programs, "id", "echo 0")
    done = run(programs, "scripts/prepare.sh", "lab", "test")
    assert done.returncode == 1
    assert "this is not Debian or Ubuntu. The lab needs, from your distribution:" in done.stderr
    assert all(name in done.stderr for name in ("systemd 252+", "polkit 0.106+", "redis", "sidekiq 6.4"))
    assert "sudo" not in done.stderr, "root needs none"


def test_the_purpose_of_sudo_is_shown_before_it_asks(programs: Path) -> None:
    stub(programs, "id", "echo 1000")
    stub(programs, "sudo", SUDO)
    stub(programs, "apt-get", "exit 3")
    done = run(programs, "scripts/prepare.sh", "lab", "test")
    assert done.returncode == 3
    said, asked, _ = done.stderr.partition("[sudo ")
    assert asked
    assert "sudo is needed to install Debian packages and to boot virtual hosts" in said


def test_what_a_package_is_built_with_is_named(programs: Path) -> None:
    stub(programs, "id", "echo 0")
    done = run(programs, "scripts/prepare.sh", "deb", "trixie")
    assert done.returncode == 1
    assert "a package is built on Debian or Ubuntu, with dpkg and: lintian debootstrap" in done.stderr


def test_the_virtual_environment_alone_needs_neither_root_nor_debian(programs: Path) -> None:
    """On a machine that is already prepared, as this one must be to run this test."""
    for name in ("sha256sum", "cut", "cat"):
        program = shutil.which(name)
        assert program is not None
        (programs / name).symlink_to(program)
    stub(programs, "id", "echo 1000")
    done = run(programs, "scripts/prepare.sh", "python", "test-unit")
    assert (done.returncode, done.stderr) == (0, "")
