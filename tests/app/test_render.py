"""fleetd-render on a made-up root directory: files, links, and what it leaves alone."""

import json
import os
import socket
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fleetd.adapters.host.found_file import write_found
from fleetd.adapters.host.readings import SETTINGS_DIRECTORY
from fleetd.adapters.mastodon.code import CodeUnreadableError
from fleetd.adapters.mastodon.env_file import ENV_FILE_BYTES_MAX, EnvFile
from fleetd.adapters.rendering.boot_links import BootLinks
from fleetd.adapters.rendering.rendered_files import ENV_COPY, RenderedFiles, RenderError
from fleetd.app.render import main, render
from fleetd.config import parse
from fleetd.core.model.found_pooler import FoundPooler
from tests.support.project import PROJECT

UNITS = PROJECT / "units"
ENV_FILE = "/home/mastodon/live/.env.production"
CONFIG = """
[fleet]
host = "worker1"
[profiles.default-first]
instances = "1-3"
min = 2
[profiles.push-first]
order = "push-first"
instances = "5,6"
[scheduler]
place = "here"
"""


class Machine:
    """A root directory with the units installed, and a list of units that "run"."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.settings = root / SETTINGS_DIRECTORY.relative_to("/")
        self.wants = root / "etc/systemd/system/mastodon-workers-boot.target.wants"
        self.dropins = root / "run/systemd/system"
        self.copy = root / ENV_COPY.relative_to("/")
        self.config = root / "etc/fleetd/fleetd.toml"

    def render(self, config: str = CONFIG) -> list[str]:
        return render(parse(config), RenderedFiles(self.root), BootLinks(self.root), self.root)

    def files(self) -> set[str]:
        """The rendered files, without the list of what a boot starts."""
        return {path.name for path in self.settings.iterdir()} - {"boot.list"}

    def found(self, **found: Any) -> None:
        """Leave what fleetd found where the workers connect."""
        state = self.root / "var/lib/fleetd"
        state.mkdir(parents=True, exist_ok=True)
        write_found(state, FoundPooler(**found))

    def handed_over(self) -> EnvFile:
        """What fleetd gets of Mastodon's settings."""
        return msgspec.json.decode(self.copy.read_bytes(), type=EnvFile)

    def boot_list(self) -> list[str]:
        lines = (self.settings / "boot.list").read_text().splitlines()
        return [line for line in lines if not line.startswith("#")]

    def dropin(self, name: str) -> list[str]:
        return (self.dropins / name).read_text().splitlines()

    def systemctl(self, *arguments: str) -> list[str]:
        """What systemctl prints, and does to the files below the root."""
        command = ["systemctl", "--quiet", f"--root={self.root}", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()

    def links(self) -> set[str]:
        return {path.name.removeprefix("mastodon-sidekiq").removesuffix(".service") for path in self.wants.iterdir()}

    def env_file(self, text: str, path: str = "home/mastodon/live/.env.production") -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text)

    def enable(self, unit: str) -> None:
        wants = self.root / "etc/systemd/system/multi-user.target.wants"
        wants.mkdir(parents=True, exist_ok=True)
        (wants / unit).symlink_to(f"/usr/local/lib/systemd/system/{unit}")

    def main(self, config: str) -> int:
        self.config.parent.mkdir(parents=True, exist_ok=True)
        self.config.write_text(config)
        try:
            main(["--config", str(self.config), "--root", str(self.root)])
        except SystemExit as exit_:
            return int(exit_.code or 0)
        return 0


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    subprocess.run([UNITS / "install.sh", tmp_path], check=True, capture_output=True)
    return Machine(tmp_path)


def test_every_number_and_the_scheduler_get_settings(machine: Machine) -> None:
    said = machine.render()
    assert machine.files() == {"1.env", "2.env", "3.env", "5.env", "6.env", "scheduler.env"}
    assert "Wrote the settings of 1, 2, 3, 5, 6 and the scheduler." in said
    text = (machine.settings / "5.env").read_text()
    assert "-q push -q default " in text
    assert 'FLEETD_PROFILE="push-first"' in text
    for path in machine.settings.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_a_boot_starts_min_of_each_profile_and_the_scheduler(machine: Machine) -> None:
    """Law 5."""
    said = machine.render()
    assert machine.links() == {"@1", "@2", "@5", "-scheduler"}
    assert "A boot starts the scheduler, 1, 2 and 5 from now on." in said
    link = machine.wants / "mastodon-sidekiq@1.service"
    assert link.readlink() == Path("/usr/local/lib/systemd/system/mastodon-sidekiq@.service")


def test_systemctl_calls_the_linked_units_enabled(machine: Machine) -> None:
    machine.render()
    asked = [
        f"--root={machine.root}",
        "mastodon-sidekiq@1",
        "mastodon-sidekiq@3",
        "mastodon-sidekiq-scheduler",
    ]
    done = subprocess.run(["systemctl", "is-enabled", *asked], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["enabled", "disabled", "enabled"]


def test_a_boot_starts_the_scheduler_first_and_then_by_importance(machine: Machine) -> None:
    machine.render(CONFIG + "[pace]\nbooting_max = 3\n")
    assert machine.boot_list() == [
        "at_once 3",
        "mastodon-sidekiq-scheduler.service",
        "mastodon-sidekiq@1.service",
        "mastodon-sidekiq@2.service",
        "mastodon-sidekiq@5.service",
    ]


def test_systemd_itself_starts_none_of_them(machine: Machine) -> None:
    """Otherwise all would boot at the same time."""
    machine.render()
    assert not (machine.root / "etc/systemd/system/mastodon-sidekiq.target.wants").exists()


def test_a_unit_that_a_person_disabled_stays_so_until_enabled(machine: Machine) -> None:
    """Law 6."""
    machine.render()
    machine.systemctl("disable", "mastodon-sidekiq@2", "mastodon-sidekiq-scheduler")
    for _ in range(2):
        said = machine.render()
        assert machine.links() == {"@1", "@5"}
        assert any("does not start 2, which was disabled by hand" in sentence for sentence in said)
    machine.systemctl("enable", "mastodon-sidekiq@2")
    assert not any("does not start 2," in sentence for sentence in machine.render())
    assert machine.links() == {"@1", "@2", "@5"}


def test_a_unit_that_a_person_enabled_stays_so_unless_it_is_a_scheduler(machine: Machine) -> None:
    """Law 6, except that law 1 takes precedence."""
    elsewhere = CONFIG.replace("here", "elsewhere")
    machine.render(elsewhere)
    machine.systemctl("enable", "mastodon-sidekiq@3", "mastodon-sidekiq-scheduler", "mastodon-sidekiq@4")
    machine.render(elsewhere)
    assert machine.links() == {"@1", "@2", "@3", "@5"}  # 4 is not configured
    machine.render(elsewhere.replace("min = 2", "min = 1"))
    assert machine.links() == {"@1", "@3", "@5"}


def test_rendering_again_changes_nothing(machine: Machine) -> None:
    machine.render()
    before = {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in machine.settings.iterdir()}
    assert "All settings are up to date." in machine.render()
    assert before == {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in machine.settings.iterdir()}


def test_only_what_changed_is_written(machine: Machine) -> None:
    machine.render()
    said = machine.render(CONFIG.replace('order = "push-first"', 'order = "pull-first"'))
    assert "Wrote the settings of 5 and 6." in said


def test_a_file_with_changed_content_or_mode_is_restored(machine: Machine) -> None:
    machine.render()
    (machine.settings / "1.env").write_text('SIDEKIQ_ARGS=""\n')
    (machine.settings / "2.env").chmod(0o600)
    assert "Wrote the settings of 1 and 2." in machine.render()


def test_numbers_no_longer_configured_lose_settings_and_links(machine: Machine) -> None:
    machine.render()
    (machine.settings / "notes.txt").write_text("mine")
    (machine.wants / "other.service").symlink_to("/dev/null")
    said = machine.render('[fleet]\nhost = "worker1"\n[profiles.default-first]\ninstances = "1-3"\nmin = 1\n')
    assert machine.files() == {"1.env", "2.env", "3.env", "scheduler.env", "notes.txt"}
    assert machine.links() == {"@1", "other"}
    assert "A boot no longer starts 2, 5 and the scheduler." in said or (
        "A boot no longer starts the scheduler, 2 and 5." in said
    )
    assert "Removed the settings of mastodon-sidekiq@5, which is no longer configured." in said


def test_a_running_instance_keeps_its_settings(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Law 5: systemd could not restart it without them."""
    machine.render()
    monkeypatch.setattr(RenderedFiles, "runs", lambda _, key: key == 5)
    said = machine.render(CONFIG.replace('"5,6"', "[6]"))
    assert "5.env" in machine.files()
    assert any("mastodon-sidekiq@5 is no longer configured but runs: fleetd drains it" in s for s in said)
    assert "@5" not in machine.links(), "no boot starts it again"


@pytest.mark.parametrize("place", ["auto", "elsewhere"])
def test_a_boot_starts_the_scheduler_only_where_it_belongs(machine: Machine, place: str) -> None:
    """Law 1: one scheduler."""
    machine.render()
    machine.render(CONFIG.replace("here", place))
    assert machine.links() == {"@1", "@2", "@5"}


def test_a_boot_starts_no_second_scheduler_beside_the_stock_unit(machine: Machine) -> None:
    """Law 1: the stock unit serves every queue."""
    machine.enable("mastodon-sidekiq.service")
    said = machine.render()
    assert machine.links() == {"@1", "@2", "@5"}
    assert any("mastodon-sidekiq.service is enabled" in s and "`fleetctl migrate`" in s for s in said)


PLACE = "WorkingDirectory=/home/mastodon/live"


@pytest.mark.parametrize(
    ("file", "command", "enabled", "rival"),
    [
        ("mastodon-sidekiq-all.service", "bundle exec sidekiq -c 5", "mastodon-sidekiq-all.service", True),
        ("mastodon-sidekiq-push.service", "bundle exec sidekiq -q push,2", "mastodon-sidekiq-push.service", False),
        ("mastodon-cron.service", "bundle exec sidekiq -q scheduler", "mastodon-cron.service", True),
        ("sidekiq@.service", "bundle exec sidekiq -q %i", "sidekiq@scheduler.service", True),
        ("sidekiq@.service", "bundle exec sidekiq -q %i", "sidekiq@push.service", False),
        ("mastodon-sidekiq@.service", "bundle exec sidekiq -q %i", "mastodon-sidekiq@scheduler.service", True),
        ("mastodon-sidekiq-all.service", "bundle exec sidekiq", "another.service", False),
    ],
)
def test_a_boot_starts_no_scheduler_beside_a_unit_that_may_serve_it(
    machine: Machine, file: str, command: str, enabled: str, rival: bool
) -> None:
    units = machine.root / "etc/systemd/system"
    units.mkdir(parents=True, exist_ok=True)
    (units / file).write_text(f"[Service]\n{PLACE}\nExecStart=/x/{command}\n")
    machine.enable(enabled)
    said = machine.render()
    assert (machine.wants / "mastodon-sidekiq-scheduler.service").is_symlink() is not rival
    assert any(f"{enabled} is enabled" in sentence for sentence in said) is rival


def test_a_boot_that_would_start_nothing_is_reported(machine: Machine) -> None:
    assert any("mastodon-sidekiq.target is not enabled" in sentence for sentence in machine.render())
    machine.enable("mastodon-sidekiq.target")
    assert not any("is not enabled" in sentence for sentence in machine.render())


def test_a_bad_configuration_changes_nothing(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    """Law 5."""
    assert machine.main(CONFIG) == 0
    before = {path: path.read_bytes() for path in machine.settings.iterdir()}
    bad = CONFIG.replace('"1-3"', '"1-x"').replace("here", "there") + '[redis]\nurl = "Geheim7"\n'
    assert machine.main(bad) == 1
    errors = capsys.readouterr().err
    for path in ("profiles.default-first.instances", "scheduler.place", "redis.url"):
        assert path in errors
    assert "Geheim7" not in errors
    assert "Traceback" not in errors
    assert before == {path: path.read_bytes() for path in machine.settings.iterdir()}
    assert machine.links() == {"@1", "@2", "@5", "-scheduler"}


def test_a_directory_that_cannot_be_written_gives_a_sentence(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.settings.parent.mkdir(parents=True)
    machine.settings.write_text("a file in its place")
    assert machine.main(CONFIG) == 1
    assert "mastodon-sidekiq" in capsys.readouterr().err


def test_units_that_are_not_installed_give_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert Machine(tmp_path).main(CONFIG) == 1
    assert "fleetctl install-units" in capsys.readouterr().err


PLACES = {
    "DB_HOST=10.0.0.2": "10.0.0.2:5432",
    "@h:5432": "h:5432",
    "@h:6432": "h:6432",
    "DB_PORT=6432": "localhost:6432",
}


@pytest.mark.parametrize(
    ("found", "named"),
    [
        ({"kind": "none", "takes_names": True, "place": "h:6543"}, True),
        ({"kind": "none", "takes_names": True, "place": "h:5432"}, False),
        ({"kind": "none", "takes_names": False, "place": "h:6543"}, False),
        ({"kind": "pgbouncer", "takes_names": False, "place": "h:6543"}, False),
        ({"kind": "unknown", "takes_names": False, "place": "h:6543"}, False),
    ],
)
@pytest.mark.parametrize("more", ["", "[mastodon]\nname_connections = true\n"])
def test_names_are_rendered_only_where_one_arrived(
    machine: Machine, found: dict[str, Any], named: bool, more: str
) -> None:
    machine.env_file("DB_HOST=h\nDB_PORT=6543\n")
    machine.found(**found)
    machine.render(CONFIG + more)
    insists = bool(more) and found["place"] != "h:6543"  # nothing is known of the right place
    assert ("PGOPTIONS" in (machine.settings / "1.env").read_text()) is (named or insists)


@pytest.mark.parametrize("text", ["", "{}", "[" * 500, '{"kind": "none", "takes_names": "yes"}', "x" * 2000, "\0"])
def test_what_fleetd_leaves_for_root_is_believed_only_if_it_is_well_formed(machine: Machine, text: str) -> None:
    machine.env_file("DB_HOST=h\n")
    machine.found(kind="none", takes_names=True, place="h:5432")
    (machine.root / "var/lib/fleetd/pooler.json").write_text(text)
    machine.render()
    assert "PGOPTIONS" not in (machine.settings / "1.env").read_text()


@pytest.mark.parametrize(
    ("env", "named"),
    [
        ("DB_HOST=10.0.0.2\n", True),
        ("DATABASE_URL=postgresql://u:p@h:5432/d\n", True),
        ("DB_PORT=6432\n", False),
        ("export DB_PORT='6432' # PgBouncer\n", False),
        ("DATABASE_URL=postgresql://u:p@h:6432/d\n", False),
        ("PREPARED_STATEMENTS=false\n", False),
        ("PREPARED_STATEMENTS=False\n", False),
        ("PGOPTIONS='-c statement_timeout=5s'\n", False),
        ("DB_PORT=nonsense\n", False),
        (None, False),
    ],
)
def test_connections_are_named_only_if_nothing_prevents_it(machine: Machine, env: str | None, named: bool) -> None:
    if env is not None:
        machine.env_file(env)
    machine.render()
    assert "PGOPTIONS" not in (machine.settings / "1.env").read_text(), "nobody has asked yet"
    place = next((place for word, place in PLACES.items() if word in (env or "")), "localhost:5432")
    machine.found(kind="none" if named else "pgbouncer", takes_names=named, place=place)
    machine.render()
    assert ("PGOPTIONS" in (machine.settings / "1.env").read_text()) is named


def test_the_configuration_decides_about_connection_names(machine: Machine) -> None:
    machine.env_file("DB_PORT=6432\n")
    machine.render(CONFIG + "[mastodon]\nname_connections = true\n")
    assert "PGOPTIONS" in (machine.settings / "1.env").read_text()


def test_mastodons_settings_are_handed_over_for_root_alone(machine: Machine) -> None:
    machine.env_file("DB_HOST=a\n")
    machine.render()
    assert machine.handed_over() == EnvFile(path=ENV_FILE, text="DB_HOST=a\n")
    assert stat.S_IMODE(machine.copy.stat().st_mode) == 0o600
    assert stat.S_IMODE(machine.copy.parent.stat().st_mode) == 0o700
    machine.env_file("DB_HOST=b\n", "srv/my 100%/.env")
    machine.render(CONFIG + '[mastodon]\nenv_file = "/srv/my 100%/.env"\n')
    assert machine.handed_over() == EnvFile(path="/srv/my 100%/.env", text="DB_HOST=b\n")
    machine.render(CONFIG + '[mastodon]\nenv_file = ""\n')
    assert machine.handed_over() == EnvFile()


def test_all_of_mastodons_files_and_its_version_are_handed_over(machine: Machine) -> None:
    machine.env_file("DB_HOST=a\n")
    machine.env_file("DB_PORT=1\n", f"{ENV_FILE}.local".lstrip("/"))
    machine.env_file("DB_PORT=2\n", ENV_FILE.replace(".env.production", ".env").lstrip("/"))
    given = machine.handed_over() if machine.render() else EnvFile()
    assert given.files == (
        (".env.production.local", "DB_PORT=1\n"),
        (".env.production", "DB_HOST=a\n"),
        (".env", "DB_PORT=2\n"),
    )
    version = machine.root / ENV_FILE.lstrip("/").replace(".env.production", "lib/mastodon/version.rb")
    version.parent.mkdir(parents=True)
    version.write_text("".join(f"def {name}\n  {n}\nend\n" for name, n in (("major", 4), ("minor", 3), ("patch", 7))))
    machine.render()
    assert machine.handed_over().version == "4.3.7", "at once, not with the next rendering"


@pytest.mark.parametrize(("query", "pool"), [("", 62), ("?pool=5", 5), ("?pool=200", 200)])
def test_workers_are_rendered_with_the_pool_that_they_will_have(machine: Machine, query: str, pool: int) -> None:
    machine.env_file(f"DATABASE_URL=postgresql://h/d{query}\n")
    profile = '[profiles.default-first]\ninstances = [1]\nthreads = 60\nmin = 1\n[scheduler]\nplace = "elsewhere"\n'
    sentences = machine.render(profile)
    text = (machine.settings / "1.env").read_text()
    assert f'DB_POOL="{pool}"' in text
    assert f":p{pool}:" in text
    assert any(f"pool={pool} in the address" in sentence for sentence in sentences) is bool(query)


def fifo(path: Path) -> None:
    os.mkfifo(path)


def dangling(path: Path) -> None:
    path.symlink_to("gone")


def to_zero(path: Path) -> None:
    path.symlink_to("/dev/zero")


def huge(path: Path) -> None:
    path.write_bytes(b"#" * (ENV_FILE_BYTES_MAX + 1))


def no_text(path: Path) -> None:
    path.write_bytes(b"\xff")


def listening(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


@pytest.mark.parametrize(
    ("plant", "why"),
    [
        (fifo, "it is no regular file"),
        (Path.mkdir, "it is no regular file"),
        (to_zero, "it is no regular file"),
        (listening, "it is no regular file"),
        (dangling, "it is a symbolic link to something that does not exist"),
        (huge, f"it has more than {ENV_FILE_BYTES_MAX} bytes"),
        (no_text, "it is not text in UTF-8"),
    ],
)
def test_whatever_is_planted_costs_a_sentence_and_the_last_settings_stay(
    machine: Machine, plant: Callable[[Path], None], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = machine.root / ENV_FILE.lstrip("/")
    machine.env_file("DB_HOST=a\n")
    machine.found(kind="none", takes_names=True, place="a:5432")
    machine.render()
    path.unlink()
    monkeypatch.chdir(path.parent)  # a socket's path must be short
    plant(Path(path.name))
    assert f"{ENV_FILE} can't be read: {why}. What was read before is still used." in machine.render()
    assert machine.handed_over() == EnvFile(path=ENV_FILE, text="DB_HOST=a\n", why=why, kept=True)
    assert "PGOPTIONS" in (machine.settings / "1.env").read_text(), "as it was"
    machine.copy.unlink()
    assert f"{ENV_FILE} can't be read: {why}." in machine.render()
    assert machine.handed_over() == EnvFile(path=ENV_FILE, why=why)


def test_settings_that_are_gone_or_of_another_file_are_not_kept(machine: Machine) -> None:
    machine.env_file("DB_HOST=a\n")
    machine.render()
    fifo(machine.root / "fifo")
    machine.render(CONFIG + '[mastodon]\nenv_file = "/fifo"\n')
    assert machine.handed_over() == EnvFile(path="/fifo", why="it is no regular file")
    machine.render()
    (machine.root / ENV_FILE.lstrip("/")).unlink()
    assert f"{ENV_FILE} can't be read: there is no such file." in machine.render()
    assert machine.handed_over() == EnvFile(path=ENV_FILE, why="there is no such file", missing=True)


def test_the_largest_settings_fit_into_a_credential(machine: Machine) -> None:
    """systemd 252 takes 1 MiB, and refuses the whole start for more."""
    machine.env_file("\1" * ENV_FILE_BYTES_MAX)
    machine.render()
    assert machine.copy.stat().st_size < 1024 * 1024
    assert machine.handed_over().text == "\1" * ENV_FILE_BYTES_MAX


@pytest.mark.parametrize("key", ["env_file = '/srv/my 100%/\"a\"/.env'", "directory = '/srv/my 100%/\"a\"/'"])
def test_another_directory_is_watched(machine: Machine, key: str) -> None:
    machine.render(CONFIG + f"[mastodon]\n{key}\n")
    watched = machine.dropin("fleetd-stamp.path.d/50-directory.conf")
    here = '/srv/my 100%%/"a"'
    assert watched[1:4] == ["[Path]", "PathChanged=", "PathChanged=/srv/my 100%%"]
    assert watched[4:] == [f"PathChanged={here}{name}" for name in ("", "/lib/mastodon", "/db", "/config")]
    git = machine.dropin("fleetd-stamp-git.path.d/50-directory.conf")
    assert git[1:] == ["[Path]", "PathChanged=", f"PathChanged={here}/.git"]
    for service in ("fleetd-stamp", "fleetd-stamp-again"):
        stamped = machine.dropin(f"{service}.service.d/50-directory.conf")
        assert stamped[1:] == ["[Service]", 'Environment="MASTODON_DIRECTORY=/srv/my 100%%/\\"a\\""']
    machine.render()
    assert not list(machine.dropins.glob("*/50-directory.conf"))


def test_rendering_stamps_mastodons_code(machine: Machine) -> None:
    machine.env_file("")
    machine.render()
    assert not (machine.settings / "code.json").exists()
    (machine.root / "home/mastodon/live/REVISION").write_text("abc\n")
    assert any("Mastodon's code on disk: version unknown" in sentence for sentence in machine.render())
    stamp = json.loads((machine.settings / "code.json").read_text())
    assert sorted(stamp) == ["digest", "version"]
    assert not any("code on disk" in sentence for sentence in machine.render())


def test_code_that_cannot_be_read_is_reported_and_all_else_is_rendered(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(*_: object) -> None:
        raise CodeUnreadableError("/home/mastodon/live: Input/output error.")

    monkeypatch.setattr("fleetd.adapters.mastodon.code.read_code", unreadable)
    assert "Warning: /home/mastodon/live: Input/output error." in machine.render()
    assert machine.links() == {"@1", "@2", "@5", "-scheduler"}


def test_two_renders_at_the_same_time_do_not_mix(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fleetd.adapters.rendering.rendered_files._LOCK_SECONDS", 0.0)
    with RenderedFiles(machine.root).locked(), pytest.raises(RenderError, match="Another fleetd-render"):
        machine.render()
    machine.render()


def test_each_process_gets_a_port_for_mastodons_exporter(machine: Machine) -> None:
    on = "MASTODON_PROMETHEUS_EXPORTER_ENABLED=true\nMASTODON_PROMETHEUS_EXPORTER_LOCAL=true\n"
    machine.env_file(on)
    machine.render()
    lines = {name: (machine.settings / name).read_text().splitlines()[-1] for name in machine.files()}
    assert lines["2.env"] == 'MASTODON_PROMETHEUS_EXPORTER_PORT="9396"'
    assert len(set(lines.values())) == len(lines) == 6
    machine.env_file("DB_HOST=h\n")
    machine.render()
    assert not any("EXPORTER" in (machine.settings / name).read_text() for name in machine.files())


def test_a_boot_starts_nothing_by_somebody_elses_unit_and_all_of_it_once_that_is_gone(machine: Machine) -> None:
    machine.render()
    assert machine.links() == {"-scheduler", "@1", "@2", "@5"}
    theirs = machine.root / "etc/systemd/system/mastodon-sidekiq@.service"
    theirs.write_text("[Service]\nUser=mastodon\nExecStart=/bin/sidekiq -q %i\n")
    said = machine.render()
    assert machine.links() == {"-scheduler"}
    assert any(f"/{theirs.relative_to(machine.root)} is not fleetd's" in sentence for sentence in said)
    theirs.unlink()
    said = machine.render()
    assert machine.links() == {"-scheduler", "@1", "@2", "@5"}
    assert not any("by hand" in sentence for sentence in said)


def test_a_boot_starts_no_scheduler_by_a_changed_unit(machine: Machine) -> None:
    dropin = machine.root / "etc/systemd/system/mastodon-sidekiq-scheduler.service.d/x.conf"
    dropin.parent.mkdir(parents=True)
    dropin.write_text("[Service]\nEnvironmentFile=\n")
    said = machine.render()
    assert machine.links() == {"@1", "@2", "@5"}
    assert any("mastodon-sidekiq-scheduler.service was changed" in sentence for sentence in said)


def test_a_boot_starts_what_is_changed_in_other_respects(machine: Machine) -> None:
    """fleetd leaves it alone, but a reboot must not leave the host without workers (law 5)."""
    dropin = machine.root / "etc/systemd/system/mastodon-sidekiq@.service.d/x.conf"
    dropin.parent.mkdir(parents=True)
    dropin.write_text("[Service]\nTimeoutStopSec=30\nRestart=on-failure\n")
    said = machine.render()
    assert machine.links() == {"-scheduler", "@1", "@2", "@5"}
    assert any("mastodon-sidekiq@.service was changed" in sentence for sentence in said)


OBSERVING = CONFIG.replace("[fleet]", '[fleet]\nmode = "observe"')


def test_whoever_only_observes_is_not_told_to_enable_the_workers_and_boots_what_is_enabled(machine: Machine) -> None:
    said = machine.render(OBSERVING)
    assert not any("is not enabled" in sentence for sentence in said)
    assert machine.links() == {"-scheduler", "@1", "@2", "@5"}
    assert "1.env" in machine.files()


def test_whoever_only_observes_puts_no_dropin_beside_a_unit_of_somebody_elses(machine: Machine) -> None:
    theirs = machine.root / "etc/systemd/system/mastodon-sidekiq@.service"
    theirs.parent.mkdir(parents=True, exist_ok=True)
    theirs.write_text("[Service]\nUser=masto\nExecStart=/bin/sidekiq -q %i\n")
    place = '[mastodon]\ndirectory = "/srv/live"\n'
    machine.render(OBSERVING + place)
    assert not list(theirs.parent.glob("mastodon-sidekiq*.service.d/*"))
    machine.render(CONFIG + place)
    assert list(theirs.parent.glob("mastodon-sidekiq@.service.d/*"))
