"""What `fleetctl install-units` writes, mends, says is missing, and takes away again."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fleetd.app.installing.apply import LINK, is_workers, remove, write
from fleetd.app.installing.needs import polkit_version, reachable
from fleetd.app.installing.staged import MANIFEST, installed_before, staged
from tests.support.project import PROJECT

PROGRAMS = ("fleetd", "fleetd-render", "fleetd-stamp", "fleetctl")
SERVICE = "/usr/local/lib/systemd/system/fleetd.service"
TEMPLATE = "/usr/local/lib/systemd/system/mastodon-sidekiq@.service"


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    folder = tmp_path / "opt/fleetd/bin"
    folder.mkdir(parents=True)
    for name in PROGRAMS:
        (folder / name).write_text("#!/bin/sh\n")
        (folder / name).chmod(0o755)
    return folder


def changes(root: Path, programs: Path) -> dict[str, str]:
    return {file.path: file.change for file in staged(programs, root)}


def installed(root: Path, programs: Path) -> list[str]:
    return list(write(staged(programs, root), programs, root))


def test_every_file_in_units_is_shipped_with_the_package() -> None:
    shipped = {path.name for path in (PROJECT / "src/fleetd/units").iterdir()}
    assert shipped == {*(path.name for path in (PROJECT / "units").iterdir()), "config.example.toml"}


def test_the_first_time_all_is_new_then_nothing_is_to_be_done(tmp_path: Path, programs: Path) -> None:
    assert set(changes(tmp_path, programs).values()) == {"new"}
    said = installed(tmp_path, programs)
    assert f"new: {SERVICE}" in said
    assert set(changes(tmp_path, programs).values()) == {"same"}
    assert installed(tmp_path, programs) == []
    assert (tmp_path / LINK.lstrip("/")).readlink() == programs / "fleetctl"


def test_units_name_the_programs_that_are_installed(tmp_path: Path, programs: Path) -> None:
    installed(tmp_path, programs)
    units = [path.read_text() for path in (tmp_path / "usr/local/lib/systemd/system").glob("fleetd*.service")]
    lines = [line for unit in units for line in unit.splitlines() if line.startswith("ExecStart=")]
    assert lines
    assert all(line.startswith(f"ExecStart={programs}/fleetd") for line in lines)
    assert not any("/opt/fleetd/bin" in line.replace(str(programs), "") for line in lines)


def test_a_strict_umask_closes_nothing(tmp_path: Path, programs: Path) -> None:
    before = os.umask(0o077)
    try:
        installed(tmp_path, programs)
    finally:
        os.umask(before)
    for folder in ("usr", "etc"):
        for path in (tmp_path / folder).rglob("*"):
            assert path.stat().st_mode & 0o044 == 0o044, path
            assert path.is_file() or path.stat().st_mode & 0o011 == 0o011, path


@pytest.mark.parametrize("damage", ["content", "mode", "link"])
def test_damage_is_mended(tmp_path: Path, programs: Path, damage: str) -> None:
    installed(tmp_path, programs)
    place = tmp_path / TEMPLATE.lstrip("/")
    if damage == "mode":
        place.chmod(0o600)
    else:
        place.unlink()
        place.write_text("[Service]\n") if damage == "content" else place.symlink_to("/dev/null")
    assert changes(tmp_path, programs)[TEMPLATE] == "changed"
    assert installed(tmp_path, programs) == [f"changed: {TEMPLATE}"]
    assert not place.is_symlink()


def test_what_a_new_version_has_no_more_is_taken_away(tmp_path: Path, programs: Path) -> None:
    installed(tmp_path, programs)
    old = "/usr/local/lib/systemd/system/fleetd-old.service"
    (tmp_path / old.lstrip("/")).write_text("")
    with (tmp_path / MANIFEST.lstrip("/")).open("a") as manifest:
        manifest.write(f"{old}\n")
    assert installed(tmp_path, programs) == [f"removed: {old}, which an earlier version had"]
    assert old not in installed_before(tmp_path)


def test_removing_leaves_what_workers_run_from(tmp_path: Path, programs: Path) -> None:
    installed(tmp_path, programs)
    said = list(remove(installed_before(tmp_path), tmp_path))
    left = {
        f"/{path.relative_to(tmp_path)}"
        for path in tmp_path.rglob("*")
        if not path.is_dir() and path.parent != programs
    }
    assert f"removed: {SERVICE}" in said
    assert left
    assert all(map(is_workers, left))
    assert {TEMPLATE, "/usr/local/lib/mastodon-workers/boot.sh"} <= left
    assert list(remove(tuple(left), tmp_path)) == []


def test_somebody_elses_fleetctl_is_left_alone(tmp_path: Path, programs: Path) -> None:
    link = tmp_path / LINK.lstrip("/")
    link.parent.mkdir(parents=True)
    link.write_text("mine")
    assert any(sentence.startswith(f"left alone: {LINK}") for sentence in installed(tmp_path, programs))
    assert link.read_text() == "mine"


def test_a_link_to_another_program_of_that_name_is_left_alone(tmp_path: Path, programs: Path) -> None:
    other = tmp_path / "opt/other/bin/fleetctl"
    other.parent.mkdir(parents=True)
    other.write_text("fleets of another kind")
    link = tmp_path / LINK.lstrip("/")
    link.parent.mkdir(parents=True)
    link.symlink_to(other)
    assert any(sentence.startswith(f"left alone: {LINK}") for sentence in installed(tmp_path, programs))
    list(remove(installed_before(tmp_path), tmp_path))
    assert link.samefile(other)


def test_a_removal_takes_mastodons_passwords_along(tmp_path: Path, programs: Path) -> None:
    installed(tmp_path, programs)
    copy = tmp_path / "run/fleetd-render/mastodon.env"
    copy.parent.mkdir(parents=True)
    copy.write_text("DB_PASS=hunter2")
    list(remove(installed_before(tmp_path), tmp_path))
    assert not copy.parent.exists()


def opened(place: Path) -> None:
    """As for everybody, up to the tests' own directory."""
    for above in (place, *place.parents):
        if above.owner() == place.owner() and os.access(above, os.W_OK) and not above.stat().st_mode & 0o001:
            above.chmod(0o755)


def test_programs_that_user_fleetd_can_not_run_are_refused(programs: Path) -> None:
    opened(programs)
    assert list(reachable(programs)) == []
    programs.parent.chmod(0o700)
    [problem] = reachable(programs)
    assert "203/EXEC" in problem.what
    assert problem.cure == f"chmod -R a+rX {programs.parent}"
    programs.parent.chmod(0o755)
    (programs / "fleetd-stamp").unlink()
    [problem] = reachable(programs)
    assert "lacks fleetd-stamp" in problem.what


def test_a_closed_directory_above_is_what_is_to_be_opened(programs: Path) -> None:
    opened(programs)
    above = programs.parent.parent
    above.chmod(0o700)
    try:
        [problem] = reachable(programs)
    finally:
        above.chmod(0o755)
    assert problem.cure == f"chmod a+rX {above}"


@pytest.mark.parametrize("name", ["my apps", "a&b", "a|b"])
def test_a_place_that_a_unit_can_not_name_is_refused(programs: Path, name: str) -> None:
    place = programs.parent / name
    programs.rename(place)
    [problem] = reachable(place)
    assert "can't name" in problem.what


@pytest.mark.parametrize(
    ("said", "version"),
    [("pkaction version 122\n", (122,)), ("pkaction version 0.105\n", (0, 105)), ("what?\n", None)],
)
def test_polkits_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, version: tuple[int, ...] | None
) -> None:
    program = tmp_path / "pkaction"
    program.write_text(f"#!/bin/sh\necho '{said.strip()}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert polkit_version() == version
