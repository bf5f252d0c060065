"""Other users, directories and commands than the guide's: one key each, and everything rendered from it."""

from __future__ import annotations

import os
import pwd
import subprocess
from pathlib import Path

import pytest

from fleetd.adapters.rendering.boot_links import BootLinks
from fleetd.adapters.rendering.rendered_files import RenderedFiles
from fleetd.adapters.rendering.worker_unit import WORKER_UNITS, worker_dropin
from fleetd.app.render import main, render
from fleetd.app.worker_command import command_problem
from fleetd.config import parse
from fleetd.errors import ConfigError
from tests.support.project import PROJECT

PROFILE = '[fleet]\nhost = "w1"\n[profiles.default-first]\ninstances = "1-2"\n[mastodon]\n'


def dropin(keys: str, home: str | None = "/home/masto") -> list[str]:
    text = worker_dropin(parse(PROFILE + keys), home)
    return [] if text is None else text.splitlines()[2:]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    subprocess.run([PROJECT / "units/install.sh", tmp_path], check=True, capture_output=True)
    return tmp_path


def rendered(root: Path, keys: str = "") -> list[str]:
    return render(parse(PROFILE + keys), RenderedFiles(root), BootLinks(root), root)


def program(root: Path, path: str) -> None:
    file = root / path.lstrip("/")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("#!/bin/sh\n")
    file.chmod(0o755)


@pytest.mark.parametrize("keys", ["", 'user = "mastodon"\n', 'directory = "/home/mastodon/live"\n'])
def test_the_guides_mastodon_needs_no_dropin(keys: str) -> None:
    assert dropin(keys) == []


@pytest.mark.parametrize(
    ("keys", "lines"),
    [
        (
            'user = "masto"\n',
            ["User=masto", "ExecStart=", "ExecStart=/home/masto/.rbenv/shims/bundle exec sidekiq $SIDEKIQ_ARGS"],
        ),
        (
            'exec = "/usr/local/bin/bundle exec sidekiq"\n',
            ["ExecStart=", "ExecStart=/usr/local/bin/bundle exec sidekiq $SIDEKIQ_ARGS"],
        ),
        ('exec = "/opt/mastodon/bin/sidekiq"\n', ["ExecStart=", "ExecStart=/opt/mastodon/bin/sidekiq $SIDEKIQ_ARGS"]),
        (
            'directory = "/opt/mastodon"\n',
            ["WorkingDirectory=/opt/mastodon", "ReadWritePaths=", 'ReadWritePaths="/opt/mastodon"'],
        ),
        (
            'env_file = "/srv/masto/live/.env.production"\n',
            ["WorkingDirectory=/srv/masto/live", "ReadWritePaths=", 'ReadWritePaths="/srv/masto/live"'],
        ),
        ('env_file = "/etc/mastodon/env"\n', []),  # says nothing of where Mastodon is
        ('env_file = ""\n', []),
        (
            "directory = '/srv/my 100%/\"a\"'\n",
            ['WorkingDirectory=/srv/my 100%%/"a"', "ReadWritePaths=", 'ReadWritePaths="/srv/my 100%%/\\"a\\""'],
        ),
        (
            'exec = "/usr/bin/env RUBYOPT=--yjit /usr/bin/bundle exec sidekiq"\n',
            ["ExecStart=", "ExecStart=/usr/bin/env RUBYOPT=--yjit /usr/bin/bundle exec sidekiq $SIDEKIQ_ARGS"],
        ),
    ],
)  # fmt: skip
def test_each_key_changes_what_it_names(keys: str, lines: list[str]) -> None:
    assert dropin(keys) == lines


@pytest.mark.parametrize("user", ["masto", "1001", "_m-1.x"])
@pytest.mark.parametrize("command", [None, "/home/m/.asdf/shims/bundle exec sidekiq", "/opt/rubies/r-3/bin/sidekiq"])
def test_systemd_takes_what_is_rendered(root: Path, user: str, command: str | None) -> None:
    keys = f'user = "{user}"\ndirectory = "/srv/my masto"\n' + (f'exec = "{command}"\n' if command else "")
    rendered(root, keys)
    for unit in WORKER_UNITS:
        path = root / f"etc/systemd/system/{unit}.d/40-fleetd.conf"
        assert path.stat().st_mode & 0o777 == 0o644
        shown = subprocess.run(
            ["systemd-analyze", f"--root={root}", "verify", "--recursive-errors=no", unit.replace("@", "@1")],
            capture_output=True, text=True, check=False,
        ).stderr  # fmt: skip
        assert "40-fleetd.conf" not in shown, shown


def test_the_dropin_goes_with_the_keys(root: Path) -> None:
    said = rendered(root, 'directory = "/srv/m"\n')
    assert any("have a new drop-in" in sentence for sentence in said)
    assert not any("have a new drop-in" in sentence for sentence in rendered(root, 'directory = "/srv/m"\n'))
    rendered(root)
    assert not list(root.glob("etc/systemd/system/*/40-fleetd.conf"))


@pytest.mark.parametrize(
    "keys",
    [
        'exec = "bundle exec sidekiq"\n',
        "exec = \"/bin/sh -c 'exec bundle exec sidekiq $SIDEKIQ_ARGS'\"\n",
        'exec = "/usr/bin/bundle exec sidekiq; reboot"\n',
        'exec = "/usr/bin/bundle\\nExecStartPost=/bin/x"\n',
        'exec = "+/usr/bin/bundle"\n',
        'exec = ""\n',
        'user = "two words"\n',
        'user = "root\\nGroup=x"\n',
        'user = "-m"\n',
        'directory = "srv"\n',
    ],
)
def test_what_systemd_would_read_as_something_else_is_refused(keys: str) -> None:
    with pytest.raises(ConfigError):
        parse(PROFILE + keys)


@pytest.mark.parametrize(
    ("there", "cure"),
    [
        ("/home/mastodon/.asdf/shims/bundle", "/home/mastodon/.asdf/shims/bundle exec sidekiq"),
        ("/home/mastodon/.local/share/mise/shims/bundle", "/home/mastodon/.local/share/mise/shims/bundle exec sidekiq"),
        ("/usr/bin/bundle", "/usr/bin/bundle exec sidekiq"),
        ("/usr/local/bin/bundle", "/usr/local/bin/bundle exec sidekiq"),
        ("/opt/rubies/ruby-3.4.1/bin/bundle", "/opt/rubies/ruby-3.4.1/bin/bundle exec sidekiq"),
        ("/home/mastodon/.rubies/ruby-3.3.6/bin/bundle", "/home/mastodon/.rubies/ruby-3.3.6/bin/bundle exec sidekiq"),
        ("/home/mastodon/live/bin/sidekiq", "/home/mastodon/live/bin/sidekiq"),
    ],
)
def test_a_command_that_is_missing_is_noticed_with_the_one_that_is_there(root: Path, there: str, cure: str) -> None:
    (root / "home/mastodon/live").mkdir(parents=True)
    program(root, there)
    problem = command_problem(parse(PROFILE), root)
    assert "their command is /home/mastodon/.rbenv/shims/bundle, which does not exist" in problem
    assert f'Set mastodon.exec, for instance to "{cure}"' in problem
    assert f"Warning: {problem}" in rendered(root)
    assert command_problem(parse(PROFILE + f'exec = "{cure}"\n'), root) == ""


def test_a_directory_that_is_missing_is_noticed(root: Path) -> None:
    program(root, "/home/mastodon/.rbenv/shims/bundle")
    assert "/home/mastodon/live is no directory" in command_problem(parse(PROFILE), root)
    (root / "opt/mastodon").mkdir(parents=True)
    assert command_problem(parse(PROFILE + 'directory = "/opt/mastodon"\n'), root) == ""


def test_a_file_that_may_not_be_run_is_no_command(root: Path) -> None:
    (root / "home/mastodon/live").mkdir(parents=True)
    program(root, "/usr/local/bin/bundle")
    (root / "usr/local/bin/bundle").chmod(0o644)
    problem = command_problem(parse(PROFILE + 'exec = "/usr/local/bin/bundle exec sidekiq"\n'), root)
    assert "which does not exist or which user" in problem


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_it_is_looked_for_with_the_workers_rights(tmp_path: Path) -> None:
    """Root may run everything; the workers may not enter root's directories."""
    nobody = pwd.getpwnam("nobody").pw_name
    tmp_path.chmod(0o700)
    program(tmp_path, "/bundle")
    keys = f'user = "{nobody}"\nexec = "{tmp_path}/bundle exec sidekiq"\ndirectory = "/tmp"\n'
    assert "which user nobody may not run" in command_problem(parse(PROFILE + keys))
    keys = f'user = "{nobody}"\nexec = "/bin/true exec sidekiq"\ndirectory = "/tmp"\n'
    assert command_problem(parse(PROFILE + keys)) == ""


def second(root: Path, config: str, directory: str) -> int:
    file = root / config
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(PROFILE + f'directory = "{directory}"\n')
    try:
        main(["--config", str(file), "--root", str(root)])
    except SystemExit as exit_:
        return int(exit_.code or 0)
    return 0


def test_a_second_mastodon_is_refused_and_the_first_ones_settings_stay(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert second(root, "etc/fleetd/fleetd.toml", "/home/mastodon/live") == 0
    before = {p.name: p.read_bytes() for p in (root / "var/lib/mastodon-sidekiq").iterdir()}
    assert second(root, "etc/fleetd/second.toml", "/srv/other/live") == 1
    said = capsys.readouterr().err
    assert "fleetd runs one Mastodon on a VM" in said
    assert "Give the second Mastodon a VM of its own" in said
    assert before == {p.name: p.read_bytes() for p in (root / "var/lib/mastodon-sidekiq").iterdir()}


def test_one_mastodon_may_move_and_may_be_configured_elsewhere(root: Path) -> None:
    assert second(root, "etc/fleetd/fleetd.toml", "/home/mastodon/live") == 0
    assert second(root, "etc/fleetd/fleetd.toml", "/srv/mastodon") == 0
    assert second(root, "etc/other.toml", "/srv/mastodon") == 0


@pytest.mark.parametrize(
    ("unit", "text", "other"),
    [
        ("mastodon-b-sidekiq.service", "WorkingDirectory=/srv/b/live\nExecStart=/x/bundle exec sidekiq -c 5\n", True),
        ("sidekiq@.service", "WorkingDirectory=/srv/b\nExecStart=/bin/sh -lc 'bundle exec sidekiq'\n", True),
        ("mastodon-sidekiq.service", "WorkingDirectory=/home/mastodon/live\nExecStart=/x/bundle exec sidekiq\n", False),
        ("current-sidekiq.service", "WorkingDirectory=/srv/current/\nExecStart=/x/bundle exec sidekiq\n", False),
        ("mastodon-sidekiq@second.service", "WorkingDirectory=/srv/b\nExecStart = /x/bundle exec sidekiq\n", True),
        ("b.service", "WorkingDirectory=/srv/b\nExecStart=/x/bundle \\\n  exec sidekiq\n", True),
        ("c.service", "ExecStart=/bin/bash -lc 'cd /srv/c && bundle exec sidekiq'\n", True),
        ("d.service", "ExecStart=/bin/bash -lc 'cd /home/mastodon/live; bundle exec sidekiq'\n", False),
        ("sidekiq-exporter.service", "WorkingDirectory=/srv/x\nExecStart=/usr/bin/sidekiq-exporter\n", False),
        ("mastodon-b-web.service", "WorkingDirectory=/srv/b/live\nExecStart=/usr/bin/bundle exec puma\n", False),
    ],
)  # fmt: skip
def test_units_of_another_mastodon_are_noticed(root: Path, unit: str, text: str, other: bool) -> None:
    (root / "home/mastodon/live").mkdir(parents=True)
    (root / "srv").mkdir()
    (root / "srv/current").symlink_to("../home/mastodon/live")
    (root / "etc/systemd/system").mkdir(parents=True, exist_ok=True)
    (root / "etc/systemd/system" / unit).write_text(f"[Service]\n{text}")
    assert any(f"{unit} runs another Sidekiq" in sentence for sentence in rendered(root)) is other
