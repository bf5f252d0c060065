"""The Debian package's parts: units with other paths, maintainer scripts, man pages, completion and licences.

tests/lab/systemd/test_package.py builds it and installs it on a host.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from importlib.metadata import distribution
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from packaging.requirements import Requirement

from deb import completion, licences, man_pages
from fleetd.cli.commands.install_units import install_units
from fleetd.cli.main import cli
from tests.support.project import PROJECT

DEB, UNITS = PROJECT / "deb", PROJECT / "units"
ALL_SH = sorted(path.name for path in DEB.glob("*.sh"))
SCRIPTS = ("preinst", "postinst", "prerm", "postrm")
#: What is moved, as it stands in units/ and in the package.
PATHS = {
    "/opt/fleetd/": "/usr/lib/fleetd/",
    "/usr/local/lib/": "/usr/lib/",
    "/etc/dbus-1/system.d/": "/usr/share/dbus-1/system.d/",
}
PLACES = {
    "sysusers.conf": "usr/lib/sysusers.d/fleetd.conf",
    "tmpfiles.conf": "usr/lib/tmpfiles.d/fleetd.conf",
    "boot.sh": "usr/lib/mastodon-workers/boot.sh",
    "50-fleetd.rules": "usr/share/polkit-1/rules.d/50-fleetd.rules",
    "org.fleetd1.conf": "usr/share/dbus-1/system.d/org.fleetd1.conf",
    "needrestart.conf": "etc/needrestart/conf.d/50-fleetd.conf",
    "mastodon-sidekiq.stop.conf": "usr/lib/systemd/system/mastodon-sidekiq.service.d/50-fleetd.conf",
}


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What units/install.sh installs, where the package has it."""
    stage = tmp_path_factory.mktemp("stage")
    subprocess.run([DEB / "place_units.sh", stage], check=True, capture_output=True)
    return stage


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the package bundles, from this environment: fleetd and what it runs with, but not what tests need."""
    site = tmp_path_factory.mktemp("site")
    mine = Path(str(distribution("click").locate_file("")))
    names = {name.replace("-", "_") for name in bundled()}
    wanted = [p for p in mine.iterdir() if re.split(r"[-.]", p.name)[0] in names | {"markdown_it", "dbus_next"}]
    for path in wanted:
        (site / path.name).symlink_to(path)
    return site


def bundled() -> set[str]:
    """The distributions of requirements.lock that apply here, but for the build backend; and fleetd."""
    lines = re.findall(r"^(\S+==[^\\]+)\\$", (PROJECT / "requirements.lock").read_text(), re.MULTILINE)
    needs = [Requirement(line) for line in lines]
    return {n.name for n in needs if n.name != "flit-core" and (n.marker is None or n.marker.evaluate())} | {"fleetd"}


def test_the_packages_units_are_the_projects_but_for_their_paths(stage: Path) -> None:
    for source in UNITS.iterdir():
        if source.name != "install.sh":
            text = source.read_text()
            for here, there in PATHS.items():
                text = text.replace(here, there)
            assert (stage / PLACES.get(source.name, f"usr/lib/systemd/system/{source.name}")).read_text() == text
    assert (stage / "usr/share/fleetd/config.example.toml").read_text() == (PROJECT / "config.example.toml").read_text()


def test_nothing_in_the_package_is_or_names_where_make_install_puts_things(stage: Path) -> None:
    files = [path for path in stage.rglob("*") if path.is_file()]
    assert len(files) == len(list(UNITS.iterdir()))  # with the example, without install.sh
    for path in files:
        assert not str(path.relative_to(stage)).startswith(("usr/local", "opt", "etc/polkit-1", "etc/dbus-1"))
        if path.name != "config.example.toml":
            assert not re.search("/opt/fleetd|/usr/local", path.read_text()), path


def test_units_name_programs_that_the_package_has(stage: Path) -> None:
    scripts = set(tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["scripts"])
    named = re.findall(r"/usr/lib/fleetd/bin/([a-z-]+)", "".join(p.read_text() for p in stage.rglob("*.service")))
    assert set(named) == {"fleetd", "fleetd-render", "fleetd-stamp", "fleetd-may-schedule"}
    assert set(named) < scripts


def test_systemd_finds_nothing_wrong_with_them(stage: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    shutil.copytree(stage, root)
    names = [p.name for p in (stage / "usr/lib/systemd/system").iterdir() if p.is_file()]
    for program in (
        *(f"usr/lib/fleetd/bin/{name}" for name in ("fleetd", "fleetd-render", "fleetd-stamp")),
        *("usr/bin/busctl", "bin/sh", "bin/systemctl", "home/mastodon/.rbenv/shims/bundle"),
    ):
        (root / program).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy("/usr/bin/true", root / program)
    shutil.copytree("/usr/lib/systemd/system", root / "usr/lib/systemd/system", symlinks=True, dirs_exist_ok=True)
    units = [name.replace("@.", "@1.") for name in names]
    done = subprocess.run(
        ["systemd-analyze", f"--root={root}", "verify", *units], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_a_removal_keeps_all_units_of_the_workers_and_none_of_fleetd(stage: Path) -> None:
    """Law 5."""
    units = stage / "usr/lib/systemd/system"
    theirs = {path.name for path in units.glob("mastodon-*") if path.is_file()}
    text = (DEB / "maintainer/prerm").read_text()
    kept = re.search(r'^workers="([^"]+)"', text, re.MULTILINE)
    assert kept is not None
    assert set(kept[1].split()) == theirs
    for unit in theirs:  # but for a question that may be asked of nobody
        text_of_unit = (units / unit).read_text().replace("ask=/usr/lib/fleetd/bin/fleetd-may-schedule;", "")
        assert "/usr/lib/fleetd" not in text_of_unit
    # The script that they name stays too, under another path.
    named = {
        line for unit in theirs for line in re.findall(r"/usr/lib/mastodon-workers/\S+", (units / unit).read_text())
    }
    assert named == {"/usr/lib/mastodon-workers/boot.sh"}
    assert "s#/usr/lib/mastodon-workers/boot.sh#$state/boot.sh#g" in text


def function(script: str, name: str) -> str:
    """A shell function of a maintainer script."""
    found = re.search(rf"^{name}\(\).*?^}}", (DEB / "maintainer" / script).read_text(), re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[0]


def run_in_sh(script: str, folder: Path) -> int:
    head = f"set -e\nunits={folder}/units\nstate={folder}/state\nkept={folder}/kept\nis_booted() {{ true; }}\n"
    return subprocess.run(["sh", "-c", head + script], check=False, capture_output=True).returncode


@pytest.mark.parametrize(
    ("systemctl", "needed"),
    [
        ("systemctl() { echo mastodon-sidekiq@1.service loaded active; }", True),
        ("systemctl() { :; }", False),
        ("systemctl() { return 1; }", True),  # unknown is not "none runs"
    ],
)
def test_units_stay_unless_systemd_says_that_no_worker_runs(tmp_path: Path, systemctl: str, needed: bool) -> None:
    code = run_in_sh(f"{systemctl}\n{function('prerm', 'are_needed')}\nare_needed", tmp_path)
    assert (code == 0) is needed


def test_a_copy_is_there_whole_with_its_sum_or_not_at_all(tmp_path: Path) -> None:
    unit, copy = tmp_path / "unit", tmp_path / "copy"
    unit.write_text("ExecStart=/usr/lib/mastodon-workers/boot.sh\nmore\n")
    keep = function("prerm", "keep")
    full = 'sed() { head -c 9 "$2"; return 4; }\n'  # as on a full disk
    assert run_in_sh(f"{full}{keep}\nkeep {unit} {copy}", tmp_path) != 0
    assert [path.name for path in tmp_path.iterdir()] == ["unit"]
    assert run_in_sh(f"{keep}\nkeep {unit} {copy}", tmp_path) == 0
    assert copy.read_text() == f"ExecStart={tmp_path}/state/boot.sh\nmore\n"
    assert subprocess.run(["sha256sum", "--check", "--quiet", tmp_path / "kept"], check=False).returncode == 0
    unit.write_text("another")
    assert run_in_sh(f"{keep}\nkeep {unit} {copy}", tmp_path) == 0
    assert "another" not in copy.read_text(), "what is there is somebody's"


def test_a_script_that_asks_whether_workers_run_asks_as_the_other_does() -> None:
    def words(script: str, name: str) -> str:
        return re.sub(" *#.*", "", function(script, name))

    assert words("prerm", "are_needed") == words("postrm", "are_needed")
    assert words("prerm", "made_by_hand") == words("postrm", "made_by_hand") == words("postinst", "made_by_hand")


def test_no_script_starts_stops_or_restarts_a_worker() -> None:
    """Law 5: the only unit that a maintainer script acts on is fleetd's own."""
    for script in SCRIPTS:
        text = re.sub(r'say ".*', "", (DEB / "maintainer" / script).read_text())
        acts = re.findall(
            r"(?:systemctl|deb-systemd-invoke)[^\n]* (?:start|stop|restart|try-restart|disable|kill) .*", text
        )
        assert all("fleetd" in act and "mastodon" not in act for act in acts), acts


@pytest.mark.parametrize("script", [*(f"maintainer/{s}" for s in SCRIPTS), "remove-make-install", *ALL_SH])
def test_the_scripts_are_plain_sh(script: str) -> None:
    subprocess.run(["sh", "-n", DEB / script], check=True)
    if shutil.which("shellcheck") is not None:
        subprocess.run(["shellcheck", DEB / script], check=True)


@pytest.mark.parametrize(("version", "taken"), [("0.105", False), ("0.106", True), ("0.120", True), ("122", True)])
def test_an_old_polkit_is_refused_with_the_reason(tmp_path: Path, version: str, taken: bool) -> None:
    stub = tmp_path / "pkaction"
    stub.write_text(f"#!/bin/sh\necho pkaction version {version}\n")
    stub.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", DEB / "maintainer/preinst", "install"], env={"PATH": path}, capture_output=True, text=True, check=False
    )
    assert (done.returncode == 0) == taken
    assert taken or f"this host has polkit {version}. Before 0.106 it knows no JavaScript rules" in done.stderr


@pytest.mark.parametrize("option", ["--dry-run", "--remove"])
def test_the_packages_fleetctl_installs_and_removes_no_units(option: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """They would hide the package's, or be the package's."""
    monkeypatch.setattr(sys, "prefix", "/usr/lib/fleetd")
    result = CliRunner().invoke(install_units, [option])
    assert "this fleetd is the Debian package's" in str(result.exception)


def test_what_the_package_depends_on() -> None:
    (depends,) = re.findall(r"^Depends: (.+)$", (DEB / "control.in").read_text(), re.MULTILINE)
    assert {
        "python3 (>= @PYTHON@)",
        "python3 (<< @NEXT_PYTHON@)",
        "dbus",
        "polkitd (>= 0.106)",
        "systemd (>= 252)",
    } <= set(depends.split(", "))


# Man pages


def plain(roff: str) -> str:
    return roff.replace("\\-", "-").replace("\\e", "\\").replace("\\&", "")


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    return man_pages.pages((PROJECT / "config.example.toml").read_text())


def test_the_page_of_fleetctl_has_every_command_and_option(pages: dict[str, str]) -> None:
    text = plain(pages["man1/fleetctl.1"])
    for name, command in cli.commands.items():
        _, found, section = text.partition(f"\n.SS {name} ")
        assert found
        section = section.partition("\n.SS ")[0]
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert all(option in section for option in parameter.opts), (name, parameter.opts)
        for line in (command.help or "").splitlines():
            assert line.strip().replace("\b", "") in section


def test_the_page_of_the_configuration_has_every_key_and_table(pages: dict[str, str]) -> None:
    example = (PROJECT / "config.example.toml").read_text()
    text = plain(pages["man5/fleetd.toml.5"])
    lines = re.findall(r"^#?(?:[a-z_]+ = .+|\[.+\])$", example, re.MULTILINE)
    assert len(lines) > 100
    for line in lines:
        key, equals, value = line.removeprefix("#").partition(" = ")
        assert line.removeprefix("#") in text or f"\\fB{key}\\fR{equals}{value}" in text, line
    for sentence in re.findall(r"^# (\w.+)$", example, re.MULTILINE)[1:]:
        assert sentence in text or sentence.partition(" -")[0].upper() in text, sentence


def test_the_page_of_fleetd_has_its_options(pages: dict[str, str]) -> None:
    source = (PROJECT / "src/fleetd/app/run.py").read_text()
    options = re.findall(r'add_argument\("(--[a-z-]+)"', source)
    assert len(options) == 2
    assert all(option in plain(pages["man8/fleetd.8"]) for option in options)


@pytest.mark.skipif(shutil.which("man") is None, reason="no man")
@pytest.mark.parametrize("page", ["man1/fleetctl.1", "man5/fleetd.toml.5", "man8/fleetd.8"])
def test_man_shows_them_without_complaint(pages: dict[str, str], page: str, tmp_path: Path) -> None:
    file = tmp_path / Path(page).name
    file.write_text(pages[page])
    environment = {**os.environ, "MANWIDTH": "80", "MANROFFSEQ": "", "LC_ALL": "C.UTF-8"}
    done = subprocess.run(
        ["man", "--warnings", "-l", file], env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    # Lines that stay as they are may be wider than the page.
    assert [line for line in done.stderr.splitlines() if "break line" not in line and "adjust line" not in line] == []
    assert "NAME" in done.stdout


# Completion


@pytest.fixture
def shells(tmp_path: Path) -> dict[str, Path]:
    found = {}
    for path, text in completion.scripts().items():
        file = tmp_path / Path(path).name
        file.write_text(text)
        found[path.split("/")[2].partition("-")[0]] = file
    return found


def test_completion_parses(shells: dict[str, Path]) -> None:
    assert set(shells) == {"bash", "zsh", "fish"}
    for shell, file in shells.items():
        if shutil.which(shell) is not None:
            subprocess.run([shell, "-n", file], check=True)


def completed(file: Path, folder: Path, fleetctl: str) -> tuple[str, float]:
    """What bash offers after `fleetctl explain `, with everything it prints, and how long it took."""
    program = folder / "fleetctl"
    program.write_text(f"#!/bin/sh\n{fleetctl}\n")
    program.chmod(0o755)
    script = (
        f'source {file}; COMP_WORDS=(fleetctl explain ""); COMP_CWORD=2; '
        '_fleetctl_completion fleetctl "" explain 2>&1; echo "${COMPREPLY[@]}"'
    )
    began = time.monotonic()
    done = subprocess.run(
        ["bash", "--norc", "-c", script],
        env={**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=60,
    )
    return done.stdout.strip(), time.monotonic() - began


def test_completion_offers_names_and_neither_hangs_nor_prints_errors(shells: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    names = 'echo "plain,default-first"; echo "plain,push-first"; echo "Traceback" >&2'
    assert completed(shells["bash"], folder, names)[0] == "default-first push-first"
    said, seconds = completed(shells["bash"], folder, "echo stuck >&2; exec sleep 30")
    assert said == ""
    assert seconds < 15
    for file in shells.values():
        assert re.search(r"timeout 3 \S+ 2> /dev/null", file.read_text())


# Licences


def test_everything_that_is_bundled_has_its_licence(site: Path) -> None:
    names = {name.replace("-", "_").lower() for name in bundled()}
    assert {folder.name.partition("-")[0].lower() for folder in licences.folders(site)} == names
    text = licences.copyright_file(site, "usr/lib/site")
    stanzas = text.split("\nFiles: ")[1:]
    for name in names - {"fleetd"}:
        (stanza,) = [s for s in stanzas if f"usr/lib/site/{name}-" in s.partition("\n")[0]]
        (licence,) = re.findall(r"^License: (.+)$", stanza, re.MULTILINE)
        assert re.search("MIT|BSD|Apache|LGPL|PSF", licence), licence
        assert len(stanza.partition("\nLicense: ")[2].split()) > 15 or "common-licenses" in stanza, name
    assert stanzas[0].startswith("*\nCopyright: the authors of fleetd\nLicense: AGPL-3+\n")
    assert "GNU AFFERO GENERAL PUBLIC LICENSE" in stanzas[0]


def test_every_module_and_library_that_is_bundled_is_covered(site: Path) -> None:
    text = licences.copyright_file(site, "usr/lib/site")
    patterns = [p for line in re.findall(r"^Files: (.+)$", text, re.MULTILINE) for p in line.split()]
    covered = {pattern.removeprefix("usr/lib/site/").removesuffix("/*") for pattern in patterns}
    for path in site.iterdir():
        if not path.name.startswith("fleetd") and path.suffix not in {".libs", ".pth"}:
            assert path.name in covered, path.name
    assert len(licences.libraries(site)) > 10
    for library in licences.libraries(site):
        assert any(Path(f"psycopg_binary.libs/{library}").match(pattern) for pattern in covered), library


def test_a_library_that_nobody_has_written_down_ends_the_build(tmp_path: Path) -> None:
    (tmp_path / "new.libs").mkdir()
    (tmp_path / "new.libs/libnew-1234.so.1").touch()
    with pytest.raises(SystemExit, match="does not say whose these are: libnew"):
        licences.of_the_libraries(tmp_path, "x")
