"""Which files of a unit count, in what order, and which edits change the digest."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fleetd.adapters.host.as_account import as_account
from fleetd.adapters.host.unit_files import UnitFiles
from fleetd.adapters.host.worker_account import Account
from fleetd.core.model.facts import UnitRule
from fleetd.core.model.identity import SCHEDULER_UNIT, TEMPLATE_UNIT
from tests.support.project import PROJECT

ETC, RUN = "etc/systemd/system", "run/systemd/system"
LOCAL, LIB = "usr/local/lib/systemd/system", "usr/lib/systemd/system"
UNIT = "# A comment.\n[Service]\nExecStart=/bin/sidekiq $ARGS\n\n; Another.\nRestart=always\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write(tmp_path, f"{LIB}/{TEMPLATE_UNIT}", UNIT)
    return tmp_path


def write(root: Path, path: str, content: str | bytes) -> Path:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


def digest(root: Path, unit: str = TEMPLATE_UNIT) -> str | None:
    return UnitFiles(root).digest(unit)


def drop_ins(root: Path, unit: str = TEMPLATE_UNIT) -> list[str]:
    return [str(path.relative_to(root)) for path in UnitFiles(root).drop_ins(unit)]


def test_without_a_unit_there_is_no_digest(root: Path) -> None:
    assert len(digest(root) or "") == 16
    assert digest(root, SCHEDULER_UNIT) is None
    write(root, f"{ETC}/{SCHEDULER_UNIT}.d/x.conf", "[Service]\nNice=1\n")
    assert digest(root, SCHEDULER_UNIT) is None


@pytest.mark.parametrize(
    "same",
    [
        UNIT,
        UNIT.replace("A comment", "Another comment"),
        UNIT.replace("\n\n", "\n# new\n\n\n   ; too\n"),
        UNIT.replace("\n", "  \r\n"),
    ],
)
def test_comments_blank_lines_times_and_directories_are_no_change(root: Path, same: str) -> None:
    before = digest(root)
    write(root, f"{LIB}/{TEMPLATE_UNIT}", same)
    os.utime(root / LIB / TEMPLATE_UNIT, (1, 1))
    assert digest(root) == before
    shutil.move(root / LIB / TEMPLATE_UNIT, write(root, f"{ETC}/{TEMPLATE_UNIT}", ""))
    assert digest(root) == before


@pytest.mark.parametrize("changed", [UNIT + "Nice=5\n", UNIT.replace("always", "no"), UNIT.replace("$ARGS", "#")])
def test_a_setting_is_a_change(root: Path, changed: str) -> None:
    before = digest(root)
    write(root, f"{LIB}/{TEMPLATE_UNIT}", changed)
    assert digest(root) != before


def test_the_highest_directory_wins(root: Path) -> None:
    digests = [digest(root)]
    for directory in (LOCAL, RUN, ETC):
        write(root, f"{directory}/{TEMPLATE_UNIT}", UNIT + f"# in {directory}\nNice=1\n[{directory}]\n")
        digests.append(digest(root))
    assert len(set(digests)) == 4
    write(root, f"{LIB}/{TEMPLATE_UNIT}", "[Service]\n")
    assert digest(root) == digests[-1]


def test_drop_ins_in_systemds_order(root: Path) -> None:
    """By name, whatever the directory. For equal names the higher directory wins, then the longer unit name."""
    for path in (
        f"{LIB}/{TEMPLATE_UNIT}.d/20-b.conf",
        f"{RUN}/{TEMPLATE_UNIT}.d/10-a.conf",
        f"{ETC}/mastodon-.service.d/30-c.conf",
        f"{LIB}/{TEMPLATE_UNIT}.d/30-c.conf",
        f"{LOCAL}/service.d/05-all.conf",
        f"{ETC}/service.d/20-b.conf",
        f"{ETC}/{TEMPLATE_UNIT}.d/40-d.conf",
        f"{ETC}/mastodon-.service.d/40-d.conf",
        f"{ETC}/{TEMPLATE_UNIT}.d/README",
        f"{ETC}/{TEMPLATE_UNIT}.d/.hidden.conf",
        f"{ETC}/{TEMPLATE_UNIT}.d/x.conf~",
        f"{ETC}/mastodon-sidekiq@3.service.d/x.conf",
        f"{ETC}/mastodon-sidekiq-.service.d/50-dash.conf",
        f"{ETC}/mastodon-@.service.d/60-e.conf",
        f"{ETC}/mastodon-@3.service.d/70-f.conf",
    ):
        write(root, path, f"[Service]\nEnvironment=FROM={path}\n")
    assert drop_ins(root) == [
        f"{LOCAL}/service.d/05-all.conf",
        f"{RUN}/{TEMPLATE_UNIT}.d/10-a.conf",
        f"{LIB}/{TEMPLATE_UNIT}.d/20-b.conf",
        f"{ETC}/mastodon-.service.d/30-c.conf",
        f"{ETC}/{TEMPLATE_UNIT}.d/40-d.conf",
        f"{ETC}/mastodon-@.service.d/60-e.conf",
    ]
    assert f"{ETC}/mastodon-@3.service.d/70-f.conf" in drop_ins(root, "mastodon-sidekiq@3.service")
    assert drop_ins(root, "mastodon-sidekiq@3.service")[-1] == f"{ETC}/mastodon-sidekiq@3.service.d/x.conf"
    assert f"{ETC}/mastodon-sidekiq-.service.d/50-dash.conf" in drop_ins(root, SCHEDULER_UNIT)


def test_a_drop_in_is_a_change_unless_it_is_empty(root: Path) -> None:
    before = digest(root)
    write(root, f"{ETC}/{TEMPLATE_UNIT}.d/empty.conf", "# Nothing.\n\n")
    (root / ETC / f"{TEMPLATE_UNIT}.d/null.conf").symlink_to("/dev/null")
    (root / ETC / f"{TEMPLATE_UNIT}.d/dangling.conf").symlink_to("/no/such/file")
    assert digest(root) == before
    write(root, f"{LIB}/{TEMPLATE_UNIT}.d/x.conf", "[Service]\nNice=5\n")
    with_drop_in = digest(root)
    assert with_drop_in != before
    (root / ETC / f"{TEMPLATE_UNIT}.d/x.conf").symlink_to("/dev/null")  # masks the package's drop-in
    assert digest(root) == before
    (root / ETC / f"{TEMPLATE_UNIT}.d/x.conf").unlink()
    assert digest(root) == with_drop_in


def test_a_setting_that_moves_to_another_file_is_a_change(root: Path) -> None:
    """A section ends with its file, so a setting in another file is another setting."""
    write(root, f"{ETC}/{TEMPLATE_UNIT}.d/a.conf", "[Service]\nNice=1\n")
    write(root, f"{ETC}/{TEMPLATE_UNIT}.d/b.conf", "[Unit]\nNice=2\n")
    before = digest(root)
    write(root, f"{ETC}/{TEMPLATE_UNIT}.d/a.conf", "[Service]\nNice=1\n[Unit]\n")
    write(root, f"{ETC}/{TEMPLATE_UNIT}.d/b.conf", "Nice=2\n")
    assert digest(root) != before


def test_an_unreadable_file_makes_the_digest_unknown(root: Path) -> None:
    """It is not another digest: nothing may be replaced because a file can't be read for a while."""
    big = write(root, f"{ETC}/{TEMPLATE_UNIT}.d/big.conf", "#" * 70_000)
    assert digest(root) is None
    big.unlink()
    assert digest(root) is not None
    os.mkfifo(big)
    assert digest(root) is None
    big.unlink()
    big.mkdir()
    assert digest(root) is None
    big.rmdir()
    big.symlink_to(big)
    assert digest(root) is None


def test_a_masked_unit_has_no_digest(root: Path) -> None:
    write(root, f"{ETC}/x", "")
    (root / ETC / TEMPLATE_UNIT).symlink_to("/dev/null")
    assert digest(root) is None


def test_symlinked_files_and_directories_count(root: Path) -> None:
    before = digest(root)
    elsewhere = write(root, "opt/ours/x.conf", "[Service]\nNice=5\n")
    (root / ETC).mkdir(parents=True)
    (root / ETC / f"{TEMPLATE_UNIT}.d").symlink_to(elsewhere.parent)
    assert digest(root) != before
    assert drop_ins(root) == ["opt/ours/x.conf"]  # named as systemd names it


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(unit=st.binary(max_size=200), drop_in=st.binary(max_size=200))
def test_no_file_content_raises(root: Path, unit: bytes, drop_in: bytes) -> None:
    write(root, f"{ETC}/{TEMPLATE_UNIT}", unit)
    write(root, f"{ETC}/{TEMPLATE_UNIT}.d/x.conf", drop_in)
    assert len(digest(root) or "") in (0, 16)


def test_a_drop_in_that_systemd_has_not_loaded(root: Path) -> None:
    files, one = UnitFiles(root), "mastodon-sidekiq@1.service"
    assert not files.lacks(one, [])
    path = write(root, f"{ETC}/{TEMPLATE_UNIT}.d/override.conf", "[Service]\nNice=5\n")
    assert files.lacks(one, [])
    assert not files.lacks(one, [str(path)])
    own = write(root, f"{ETC}/{one}.d/override.conf", "[Service]\nNice=6\n")  # replaces the drop-in for one instance
    assert not files.lacks(one, [str(own)])
    assert files.lacks(one, [str(path)])
    assert not files.lacks("mastodon-sidekiq@2.service", [str(path)])


def test_a_drop_in_that_systemd_loads_from_elsewhere_is_not_missing(root: Path) -> None:
    """Generators and `set-property` use higher directories. Not every systemd lists empty files and masks."""
    files, one = UnitFiles(root), "mastodon-sidekiq@1.service"
    write(root, f"{ETC}/{TEMPLATE_UNIT}.d/50-CPUWeight.conf", "[Service]\nCPUWeight=5\n")
    assert not files.lacks(one, [f"/etc/systemd/system.control/{one}.d/50-CPUWeight.conf"])
    write(root, f"{ETC}/{TEMPLATE_UNIT}.d/empty.conf", "# nothing\n")
    assert not files.lacks(one, [f"/etc/systemd/system.control/{one}.d/50-CPUWeight.conf", "/run/x.conf"])


# -- whether fleetd runs them (the rules themselves: tests/core/model/test_unit_rules.py)


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    for unit in (TEMPLATE_UNIT, SCHEDULER_UNIT):
        write(tmp_path, f"{LOCAL}/{unit}", (PROJECT / "units" / unit).read_bytes())
    return tmp_path


def unfit(root: Path) -> dict[str, tuple[str, bool, set[UnitRule]]]:
    found = UnitFiles(root).unfit("/home/mastodon/live")
    return {unit: (one.file, one.foreign, {fault.rule for fault in one.faults}) for unit, one in found.items()}


def test_what_we_install_is_fit_and_so_is_a_copy_in_etc(installed: Path) -> None:
    assert unfit(installed) == {}
    write(installed, f"{ETC}/{TEMPLATE_UNIT}", (PROJECT / "units" / TEMPLATE_UNIT).read_bytes())
    assert unfit(installed) == {}


def test_without_a_unit_or_with_a_masked_one_nothing_is_said(installed: Path) -> None:
    """systemd refuses to start those itself."""
    (installed / f"{LOCAL}/{SCHEDULER_UNIT}").unlink()
    (installed / ETC).mkdir(parents=True)
    (installed / f"{ETC}/{TEMPLATE_UNIT}").symlink_to("/dev/null")
    assert unfit(installed) == {}


@pytest.mark.parametrize("directory", [ETC, RUN])
@pytest.mark.parametrize("unit", [TEMPLATE_UNIT, SCHEDULER_UNIT])
def test_somebody_elses_hides_ours(installed: Path, directory: str, unit: str) -> None:
    write(installed, f"{directory}/{unit}", "[Service]\nUser=mastodon\nExecStart=/bin/sidekiq -q %i\n")
    [(found, (file, foreign, rules))] = unfit(installed).items()
    assert (found, file, foreign) == (unit, f"/{directory}/{unit}", True)
    assert {UnitRule.SETTINGS, UnitRule.ARGUMENTS, UnitRule.TYPE} <= rules


def test_what_ours_hides_does_not_count(installed: Path) -> None:
    write(installed, f"{LIB}/{TEMPLATE_UNIT}", "[Service]\nExecStart=/bin/sidekiq\n")
    assert unfit(installed) == {}


def test_drop_ins_of_all_of_one_and_of_a_prefix_count(installed: Path) -> None:
    write(installed, f"{ETC}/mastodon-sidekiq@3.service.d/x.conf", "[Service]\nKillMode=none\n")
    one = ("/usr/local/lib/systemd/system/mastodon-sidekiq@.service", False, {UnitRule.KILL_MODE})
    assert unfit(installed) == {"mastodon-sidekiq@3.service": one}
    write(installed, f"{ETC}/mastodon-.service.d/x.conf", "[Service]\nWatchdogSec=10\n")
    assert set(unfit(installed)) == {TEMPLATE_UNIT, SCHEDULER_UNIT, "mastodon-sidekiq@3.service"}
    write(installed, f"{ETC}/{TEMPLATE_UNIT}.d/y.conf", "[Service]\nWatchdogSec=0\n")
    assert set(unfit(installed)) == {SCHEDULER_UNIT, "mastodon-sidekiq@3.service"}


def test_a_unit_of_a_single_instance_counts_for_that_one(installed: Path) -> None:
    write(installed, f"{ETC}/mastodon-sidekiq@2.service", "[Service]\nExecStart=/bin/sidekiq\n")
    write(installed, f"{ETC}/mastodon-sidekiq@default.service", "[Service]\nExecStart=/bin/sidekiq\n")  # not ours
    [(unit, (file, foreign, _))] = unfit(installed).items()
    assert (unit, file, foreign) == (
        "mastodon-sidekiq@2.service",
        "/etc/systemd/system/mastodon-sidekiq@2.service",
        True,
    )


def test_lines_that_go_on_and_other_sections_are_read_as_systemd_does(installed: Path) -> None:
    write(
        installed,
        f"{ETC}/{TEMPLATE_UNIT}.d/x.conf",
        "[Service]\nExecStart=\nExecStart=/bin/sidekiq \\\n# in between\n  $SIDEKIQ_ARGS\n[Install]\nType=simple\n",
    )
    assert unfit(installed) == {}


@pytest.fixture
def ours(tmp_path: Path) -> Path:
    for unit in (TEMPLATE_UNIT, SCHEDULER_UNIT):
        write(tmp_path, f"{LOCAL}/{unit}", (PROJECT / "units" / unit).read_bytes())
    return tmp_path


def faults(root: Path, unit: str = TEMPLATE_UNIT, directory: str | None = None) -> set[UnitRule]:
    found = UnitFiles(root).unfit(directory).get(unit)
    return set() if found is None else {fault.rule for fault in found.faults}


@pytest.mark.skipif(os.geteuid() != 0, reason="root alone can close a directory to fleetd")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
@pytest.mark.parametrize("closed", [f"{ETC}/{TEMPLATE_UNIT}.d", ETC])
def test_what_fleetd_may_not_search_is_unknown(ours: Path, closed: str) -> None:
    """As umask 077 leaves it: fleetd would not see a drop-in without our settings, and start it on every queue."""
    write(ours, f"{ETC}/{TEMPLATE_UNIT}.d/x.conf", "[Service]\nEnvironmentFile=\n")
    for above in (
        ours,
        *(
            parent
            for parent in ours.parents
            if parent != Path(tempfile.gettempdir()) and parent.is_relative_to(tempfile.gettempdir())
        ),
    ):
        above.chmod(0o755)
    (ours / closed).chmod(0o700)
    nobody = Account(name="nobody", uid=65534, gid=65534, groups=(65534,))
    seen = as_account(nobody, lambda: ",".join(faults(ours)).encode()).decode()
    (ours / closed).chmod(0o755)
    assert seen == UnitRule.UNREADABLE
    assert faults(ours) == {UnitRule.SETTINGS}


@pytest.mark.parametrize(
    ("content", "mode", "found"),
    [
        ("MALLOC_ARENA_MAX=2\n# DB_POOL=5\n", 0o644, set()),
        (None, 0o644, set()),
        ("MALLOC_ARENA_MAX=2\n", 0o640, {UnitRule.SETTINGS_LATER}),
        ("A=1\n  export DB_POOL = 25\n", 0o644, {UnitRule.SETTINGS_LATER}),
        ("SIDEKIQ_ARGS=-q default\n", 0o644, {UnitRule.SETTINGS}),  # other queues: a boot must not start it
    ],
)
def test_a_later_settings_file_must_be_seen_to_leave_ours_alone(
    ours: Path, content: str | None, mode: int, found: set[UnitRule]
) -> None:
    if content is not None:
        write(ours, "etc/default/x", content).chmod(mode)
    write(ours, f"{ETC}/{TEMPLATE_UNIT}.d/x.conf", "[Service]\nEnvironmentFile=-/etc/default/x\n")
    ours.chmod(0o755)
    assert faults(ours) == found


def test_a_link_to_mastodons_directory_is_that_directory(ours: Path) -> None:
    (ours / "opt").mkdir()
    (ours / "home/mastodon/live").mkdir(parents=True)
    (ours / "opt/mastodon").symlink_to("../home/mastodon/live")
    assert faults(ours, directory="/opt/mastodon") == set()
    assert faults(ours, directory="/opt/other") == {UnitRule.DIRECTORY}


def test_comments_alone_do_not_mask_and_an_empty_file_does(ours: Path) -> None:
    write(ours, f"{ETC}/{TEMPLATE_UNIT}", "# Nothing yet.\n")
    assert UnitRule.SETTINGS in faults(ours)
    write(ours, f"{ETC}/{TEMPLATE_UNIT}", "")
    assert faults(ours) == set()


def test_what_an_installation_wrote_is_told_from_what_people_added(ours: Path) -> None:
    place = "usr/local/lib/systemd/system"
    write(ours, f"{place}/{TEMPLATE_UNIT}", "[Service]\nNice=1\n")
    for path in (ours / ETC).glob("mastodon-sidekiq*.service"):
        path.unlink()
    first = UnitFiles(ours).shipped_digests()
    write(ours, f"{ETC}/{TEMPLATE_UNIT}.d/mine.conf", "[Service]\nNice=2\n")
    assert UnitFiles(ours).shipped_digests() == first
    write(ours, f"{place}/{TEMPLATE_UNIT}", "[Service]\nNice=3\n")
    changed = UnitFiles(ours).shipped_digests()
    assert changed.keys() == first.keys()
    assert changed[TEMPLATE_UNIT] != first[TEMPLATE_UNIT]
    write(ours, f"{ETC}/{TEMPLATE_UNIT}", "[Service]\nNice=4\n")
    assert TEMPLATE_UNIT not in UnitFiles(ours).shipped_digests(), "a person's own hides it"


def test_masked_units_are_listed(ours: Path) -> None:
    assert UnitFiles(ours).masked() == ()
    (ours / ETC).mkdir(parents=True, exist_ok=True)
    (ours / f"{ETC}/mastodon-sidekiq@3.service").symlink_to("/dev/null")
    (ours / f"{ETC}/{SCHEDULER_UNIT}").symlink_to("/dev/null")
    assert UnitFiles(ours).masked() == (SCHEDULER_UNIT, "mastodon-sidekiq@3.service")
