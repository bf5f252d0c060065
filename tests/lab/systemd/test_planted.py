"""What user mastodon may plant in place of its files, and what root then reads, hands to fleetd and shows to everybody.

Also that a reload renders in the renderer's own sandbox, whatever else happens at that moment.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import msgspec
import pytest
from msgspec import structs

from fleetd.adapters.mastodon.env_file import ENV_FILE_BYTES_MAX, EnvFile
from lab import Host
from lab.setup import mastodon
from lab.waiting import PATIENCE_SECONDS
from tests.support.lab.fleet import Fleet, started

pytestmark = pytest.mark.lab

CONFIG = """
[scheduler]
place = "elsewhere"
[profiles.local]
threads = 2
instances = "1-2"
min = 1
[pace]
tick_seconds = 1
"""
LIVE = mastodon.LIVE
ENV_FILE = f"{LIVE}/.env.production"
CODE = "/var/lib/mastodon-sidekiq/code.json"
CREDENTIAL = "/run/credentials/fleetd.service/mastodon.env"
DROPIN = "/run/systemd/system/{}.d/99-test.conf"
SECRET = "hidden-host"
#: A start waits for the renderer. It must be far from its timeout, also on a busy machine.
START_SECONDS = 15.0
NO_FILE = "it is no regular file"
MAY_NOT = "user mastodon may not, as whom the workers run (User= of mastodon-sidekiq@.service)"


@pytest.fixture(scope="module")
def module_fleet() -> Iterator[Fleet]:
    with started(CONFIG) as fleet:
        for path in ("/srv/root/.env", "/srv/root/live/REVISION"):
            fleet.worker.write(path, f"DB_HOST={SECRET}\nREDIS_HOST={SECRET}\n", mode=0o600)
        fleet.worker.path("/srv/root/live").chmod(0o700)
        fleet.worker.write("/srv/open/.env", "DB_HOST=open-host\nREDIS_HOST=open-host\n", mode=0o644)
        yield fleet


@pytest.fixture
def fleet(module_fleet: Fleet) -> Iterator[Fleet]:
    """fleetd runs with Mastodon's own settings. Restored after the test."""
    host = module_fleet.worker
    yield module_fleet
    for unit in ("mastodon-sidekiq@.service", "fleetd-render.service"):
        host.remove(DROPIN.format(unit))
    host.reload_systemd()
    module_fleet.configure(CONFIG)
    host.run(["rm", "-rf", ENV_FILE])
    mastodon.write_settings(host, mastodon.environment("main", boot_seconds=0.5))
    host.restart("fleetd")
    module_fleet.wait("it reads its sources", lambda s: all(source.ok for source in s.sources))


@pytest.fixture
def planted(module_fleet: Fleet) -> Iterator[Fleet]:
    """As `fleet`, for what costs fleetd nothing, so that it need not start again."""
    yield module_fleet
    module_fleet.worker.run(["rm", "-rf", ENV_FILE])
    mastodon.write_settings(module_fleet.worker, mastodon.environment("main", boot_seconds=0.5))


def plant(host: Host, script: str) -> None:
    """Run a script in Mastodon's directory as user mastodon, without the .env.production."""
    host.run(["sh", "-ec", f"cd {LIVE}; rm -f .env.production; umask 022; {script}"], user="mastodon")


def start(fleet: Fleet) -> EnvFile:
    """Start fleetd again, in bounded time. Returns what it was given of Mastodon's settings."""
    began = time.monotonic()
    fleet.worker.restart("fleetd")
    took = time.monotonic() - began
    assert took < START_SECONDS
    assert "Traceback" not in fleet.worker.journal("fleetd-render", 30)
    given = msgspec.json.decode(fleet.worker.path(CREDENTIAL).read_bytes(), type=EnvFile)
    return structs.replace(given, environment=(), user="", version="")  # not what these tests are about


def shown_to_everybody(fleet: Fleet) -> str:
    """The status that any user gets."""
    fleet.wait("an answer", lambda s: s.ticks_total > 0)
    return fleet.worker.run(["/opt/fleetd/bin/fleetctl", "status", "--json"], user="nobody").stdout


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("ln -s /etc/shadow .env.production", MAY_NOT),
        ("ln -s /srv/root/.env .env.production", MAY_NOT),
        ("ln -s /etc/fleetd/fleetd.toml .env.production", MAY_NOT),
        ("ln -s /run/fleetd-render/mastodon.env .env.production", MAY_NOT),
        ("ln -s /proc/self/environ .env.production", MAY_NOT),
        ("mkfifo .env.production", NO_FILE),
        ("ln -s /dev/zero .env.production", NO_FILE),
        ("ln -s /dev/tty .env.production", NO_FILE),
        ("mkdir .env.production", NO_FILE),
        ("ln -s gone .env.production", "it is a symbolic link to something that does not exist"),
        ("ln -s .env.production .env.production", "Too many levels of symbolic links"),
        ("head -c 2000000 /dev/zero > .env.production", f"it has more than {ENV_FILE_BYTES_MAX} bytes"),
    ],
)
def test_what_is_planted_shows_nothing_and_hangs_nothing(planted: Fleet, script: str, why: str) -> None:
    settings = planted.worker.read(ENV_FILE)
    plant(planted.worker, script)
    given = start(planted)
    assert (given.text, given.why, given.kept) == (settings, why, True)
    assert SECRET not in shown_to_everybody(planted)
    assert f"{ENV_FILE} can't be read: {why}. What was read before" in planted.worker.journal("fleetd", 60)


def test_after_a_boot_a_planted_link_leaves_a_sentence_that_names_the_cure(fleet: Fleet) -> None:
    """Nothing was read since the boot, so nothing can be kept."""
    host = fleet.worker
    host.run(["sh", "-c", f"chown root:root {ENV_FILE}; chmod 600 {ENV_FILE}; rm -r /run/fleetd-render"])
    host.run(["systemctl", "restart", "fleetd"], check=False)
    host.wait_until("it gave up", lambda: host.unit("fleetd").active_state == "failed")
    said = host.journal("fleetd", 30)
    assert f"Mastodon's {ENV_FILE} can't be read: {MAY_NOT}." in said
    assert f"chgrp mastodon {ENV_FILE}; chmod g+r {ENV_FILE}" in said
    checked = host.run(["/opt/fleetd/bin/fleetctl", "check-config"], check=False)
    assert checked.returncode == 1
    assert MAY_NOT in checked.stdout
    host.run(["sh", "-c", f"chgrp mastodon {ENV_FILE}; chmod g+r {ENV_FILE}"])
    assert host.run(["/opt/fleetd/bin/fleetctl", "check-config"], check=False).returncode == 0
    assert "DB_HOST=main\n" in (start(fleet).text or "")


def test_what_mastodon_can_read_is_mastodons_to_choose(fleet: Fleet) -> None:
    host, settings = fleet.worker, fleet.worker.read(ENV_FILE)
    host.write("/srv/releases/kept/.env.production", settings, mode=0o640, owner="mastodon")
    host.run(["sh", "-ec", "mkdir -p /srv/releases/1; ln -sfn releases/1 /srv/current"])
    host.run(["ln", "-sf", "../kept/.env.production", "/srv/releases/1/.env.production"])
    fleet.configure(CONFIG + '[mastodon]\nenv_file = "/srv/current/.env.production"\n')
    assert start(fleet) == EnvFile(path="/srv/current/.env.production", text=settings)
    fleet.configure(CONFIG)
    plant(host, "ln -s /srv/open/.env .env.production")
    assert "open-host" in (start(fleet).text or "")
    plant(host, f"head -c {ENV_FILE_BYTES_MAX} /dev/zero | tr '\\0' '\\1' > .env.production")
    assert start(fleet).text == "\1" * ENV_FILE_BYTES_MAX, "the largest that a credential takes"


def test_the_rights_are_those_of_the_workers_unit_with_its_drop_ins(fleet: Fleet) -> None:
    host, settings = fleet.worker, fleet.worker.read(ENV_FILE)
    host.run(["useradd", "--system", "sidekiq"], check=False)
    host.write(DROPIN.format("mastodon-sidekiq@.service"), "[Service]\nUser=sidekiq\n")
    host.reload_systemd()
    given = start(fleet)
    assert given.why == MAY_NOT.replace("user mastodon", "user sidekiq")
    assert given.cure.startswith(f"Let that user read it (chgrp sidekiq {ENV_FILE};")
    host.write(DROPIN.format("mastodon-sidekiq@.service"), "[Service]\nUser=sidekiq\nSupplementaryGroups=mastodon\n")
    host.reload_systemd()
    assert start(fleet) == EnvFile(path=ENV_FILE, text=settings)


def test_code_below_a_planted_link_is_not_stamped(fleet: Fleet) -> None:
    host = fleet.worker
    before = host.read(CODE)
    host.run(["mv", LIVE, f"{LIVE}.moved"])
    host.run(["ln", "-s", "/srv/root/live", LIVE])
    try:
        assert host.run(["systemctl", "start", "fleetd-stamp"], check=False).returncode != 0
        host.restart("fleetd-render")
        assert host.read(CODE) == before
        said = host.journal("fleetd-stamp", 20)
        assert f"{LIVE}: Permission denied." in said
        assert "Let user mastodon, as whom the workers run, read that directory" in said
    finally:
        host.run(["sh", "-ec", f"rm {LIVE}; mv {LIVE}.moved {LIVE}"])
        host.run(["systemctl", "reset-failed"])
    host.start("fleetd-stamp")
    assert host.read(CODE) == before


def test_a_reload_renders_in_the_sandbox_of_its_unit(fleet: Fleet) -> None:
    host, seen = fleet.worker, "/var/lib/mastodon-sidekiq/sandbox"
    show = (
        f"grep -E '^(CapBnd|NoNewPrivs|Seccomp):' /proc/self/status > {seen}; touch /etc/touched || echo ro >> {seen}"
    )
    host.write(DROPIN.format("fleetd-render.service"), f'[Service]\nExecStartPost=/bin/sh -c "{show}"\n')
    host.reload_systemd()
    host.run(["systemctl", "reload", "fleetd"])
    # 5, 6 and 7: CAP_KILL, CAP_SETGID and CAP_SETUID
    assert host.read(seen).split() == ["CapBnd:", "00000000000000e0", "NoNewPrivs:", "1", "Seccomp:", "2", "ro"]
    host.remove(seen)


@pytest.mark.parametrize("good", [True, False], ids=["good", "bad"])
def test_many_reloads_at_once_end_and_each_tells_how(fleet: Fleet, good: bool) -> None:
    """Also with a render that somebody starts in between, and more of them within ten seconds than systemd likes."""
    host, daemon = fleet.worker, fleet.worker.unit("fleetd").main_pid
    fleet.configure(CONFIG if good else CONFIG + "nonsense = 1\n")
    script = """
        for n in 1 2 3 4 5 6; do systemctl reload fleetd & all="$all $!"; done; systemctl start fleetd-render &
        failed=0
        for pid in $all; do wait $pid || failed=$((failed + 1)); done
        for n in 1 2 3 4 5 6; do systemctl reload fleetd || failed=$((failed + 1)); done
        echo $failed
    """
    done = host.run(["sh", "-c", script], timeout=2 * PATIENCE_SECONDS)
    assert done.stdout.strip() == ("0" if good else "12"), done.stderr
    assert "start-limit-hit" not in host.journal("fleetd-render", 100)
    fleet.wait("status tells", lambda s: bool(s.problems) is not good)
    assert host.unit("fleetd").main_pid == daemon


def test_a_restart_in_the_middle_of_a_reload_does_not_wait_for_it(fleet: Fleet) -> None:
    host = fleet.worker
    host.write(DROPIN.format("fleetd-render.service"), "[Service]\nExecStartPre=/bin/sleep 2\n")
    host.reload_systemd()
    reload = host.popen(["systemctl", "reload", "fleetd"])
    host.wait_until("it renders", lambda: host.unit("fleetd-render").sub_state == "start-pre")
    host.restart("fleetd")
    reload.wait(PATIENCE_SECONDS)
    fleet.wait("it is up", lambda s: s.ticks_total > 0)
