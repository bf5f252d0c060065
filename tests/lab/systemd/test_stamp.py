"""Root notices when Mastodon's code changes under running workers, however it changes, and logs it once."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from fleetd.adapters.mastodon.code import FILES
from lab import Host
from lab.setup import mastodon
from lab.topologies import TwoHosts
from lab.waiting import PATIENCE_SECONDS

pytestmark = pytest.mark.lab

CONFIG = '[profiles.default-first]\ninstances = [1]\n[scheduler]\nplace = "elsewhere"\n'
CODE = "/var/lib/mastodon-sidekiq/code.json"
RELEASES = "/srv/mastodon"
WATCHES = ("fleetd-stamp.path", "fleetd-stamp-git.path")
UNITS = (*WATCHES, "fleetd-stamp.timer")
SERVICES = ("fleetd-stamp.service", "fleetd-stamp-again.service")
TIMER = "/run/systemd/system/fleetd-stamp.timer.d/99-test.conf"
WATCH = "/run/systemd/system/fleetd-stamp.path.d/99-test.conf"
END = "/run/systemd/system/{}.d/99-test.conf"


@pytest.fixture
def worker(two_hosts: TwoHosts) -> Iterator[Host]:
    """The worker VM with its code stamped and watched. The timer is a day away, so only the watch notices changes."""
    host = two_hosts.worker
    timer(host, "1d")
    watch(host, CONFIG)
    yield host
    # The services too: they go on looking for some seconds, and what they need is removed below.
    host.run(["systemctl", "stop", *UNITS, *SERVICES])
    for path in (TIMER, WATCH, RELEASES, *(END.format(service) for service in SERVICES)):
        host.remove(path)
    mastodon.install(host, mastodon.environment("main", boot_seconds=0.5))
    host.write("/etc/fleetd/fleetd.toml", CONFIG)
    host.restart("fleetd-render")
    host.run(["rm", "-r", "/var/lib/mastodon-sidekiq", "/etc/fleetd/fleetd.toml"])
    host.run(["systemd-tmpfiles", "--create", "fleetd.conf"])
    host.remove("/etc/systemd/system/mastodon-workers-boot.target.wants")
    host.reload_systemd()


def timer(host: Host, every: str) -> None:
    """Let the timer fire this often."""
    lines = ("OnActiveSec=", "OnUnitInactiveSec=", f"OnActiveSec={every}", f"OnUnitInactiveSec={every}")
    host.write(TIMER, "\n".join(["[Timer]", *lines, "AccuracySec=100ms"]) + "\n")
    host.reload_systemd()


def watch(host: Host, config: str) -> None:
    host.write("/etc/fleetd/fleetd.toml", config)
    host.restart("fleetd-render")
    host.run(["systemctl", "start", *UNITS])


def version(host: Host) -> str:
    return str(json.loads(host.read(CODE))["version"])


def digest(host: Host) -> str:
    return str(json.loads(host.read(CODE))["digest"])


def becomes(host: Host, wanted: str) -> None:
    """Wait until the stamp has this version, and then the journal, which is written after it."""
    host.wait_until(f"the stamp says {wanted}", lambda: version(host) == wanted)
    line = f"Mastodon's code on disk: {wanted} ({digest(host)})."
    host.wait_until(f"it is told: {line}", lambda: line in said_with_rendering(host))


def git(host: Host, *arguments: str) -> None:
    author = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main"]
    host.run(["git", *author, "-C", mastodon.LIVE, *arguments], user="mastodon")


def said(host: Host) -> list[str]:
    """What the stamp's services, and systemd about them, have logged since the host was made."""
    return host.journalctl(*(f"--unit={service}" for service in SERVICES), "-o", "cat").splitlines()


def said_with_rendering(host: Host) -> list[str]:
    """The same, and what rendering has logged, which stamps as well."""
    units = (*SERVICES, "fleetd-render.service")
    return host.journalctl(*(f"--unit={service}" for service in units), "-o", "cat").splitlines()


def test_everyone_can_read_the_stamp_and_fleetd_cannot_write_it(worker: Host) -> None:
    assert worker.run(["cat", CODE], user="fleetd").stdout == worker.read(CODE)
    assert version(worker) == "4.5.3"
    assert worker.run(["sh", "-c", f"echo > {CODE}"], user="fleetd", check=False).returncode != 0


def test_an_upgrade_in_place_is_noticed_by_the_watch(worker: Host) -> None:
    before = len(said(worker))
    for number in range(1, 6):
        mastodon.upgrade(worker, f"4.6.{number}")
        becomes(worker, f"4.6.{number}")
    mastodon.install_gems(worker)
    assert worker.failed_units() == []
    since = said(worker)[before:]
    assert [line for line in since if "Mastodon's code on disk: 4.6.5" in line]
    assert all(line.startswith("Mastodon's code on disk: ") for line in since), since


@pytest.mark.parametrize("with_git", [False, True])
def test_a_change_of_each_single_file_is_noticed(worker: Host, with_git: bool) -> None:
    """Each file is replaced as programs do it: a new file is renamed over it. Some are missing at first."""
    if with_git:
        git(worker, "init")
    worker.wait_until("nobody looks", lambda: not set(worker.units("fleetd-stamp*")) & set(SERVICES))
    for name in FILES:
        before = digest(worker)
        worker.write(f"{mastodon.LIVE}/{name}", f"another {name}\n", owner="mastodon")
        worker.wait_until(f"{name} is noticed", lambda before=before: digest(worker) != before)  # type: ignore[misc]
        # A change that is noticed only because a look is still under way proves nothing.
        worker.stop("fleetd-stamp.service")
        worker.wait_until("nobody looks", lambda: not set(worker.units("fleetd-stamp*")) & set(SERVICES))


def test_a_checkout_and_a_pull_are_noticed(worker: Host) -> None:
    git(worker, "init")
    git(worker, "add", ".")
    git(worker, "commit", "-m", "4.5.3")
    mastodon.upgrade(worker, "4.6.0", gems_missing=False)
    git(worker, "commit", "-a", "-m", "4.6.0")
    becomes(worker, "4.6.0")
    git(worker, "checkout", "main~1")
    becomes(worker, "4.5.3")
    git(worker, "checkout", "main")
    becomes(worker, "4.6.0")
    before = digest(worker)
    git(worker, "commit", "--allow-empty", "-m", "as a pull that touches other files only")
    worker.wait_until("it is noticed", lambda: digest(worker) != before)


def test_another_release_directory_is_noticed(worker: Host) -> None:
    version_file = "lib/mastodon/version.rb"
    source = worker.read(f"{mastodon.LIVE}/{version_file}")
    worker.run(["mkdir", "-p", f"{RELEASES}/releases"])
    for number in ("1", "2"):
        release = f"{RELEASES}/releases/{number}"
        worker.run(["cp", "-a", mastodon.LIVE, release])
        worker.write(f"{release}/{version_file}", source.replace("      3\n", f"      {number}\n"))
    current = f"{RELEASES}/cur rent"
    worker.run(["ln", "-s", "releases/1", current])
    watch(worker, CONFIG + f'[mastodon]\ndirectory = "{current}"\n')
    becomes(worker, "4.5.1")
    worker.run(["ln", "-s", "releases/2", f"{RELEASES}/new"])
    worker.run(["mv", "-T", f"{RELEASES}/new", current])
    becomes(worker, "4.5.2")
    worker.run(["ln", "-sfn", "releases/1", current])
    becomes(worker, "4.5.1")


def test_a_change_that_the_watch_missed_is_found_later_and_logged_once(worker: Host) -> None:
    worker.write(WATCH, "[Path]\nPathChanged=\nPathChanged=/srv\n")
    timer(worker, "1s")
    worker.run(["systemctl", "restart", *UNITS])
    mastodon.upgrade(worker, "4.6.0")
    becomes(worker, "4.6.0")
    before = said(worker)
    for _ in range(3):
        last = stamping(worker)
        worker.wait_until("one more run", lambda last=last: stamping(worker) != last)  # type: ignore[misc]
    assert said(worker) == before


def stamping(host: Host) -> str:
    """The latest run of the service that the timer starts."""
    return host.unit("fleetd-stamp").properties["InvocationID"]


def test_a_change_while_a_look_ends_is_not_left_to_the_timer(worker: Host) -> None:
    """systemd does not watch while the service that it started still runs. Here it runs until the test ends it."""
    over = "/run/look-is-over"
    worker.write(
        END.format("fleetd-stamp.service"),
        f"[Service]\nExecStartPost=/bin/sh -c 'until [ -e {over} ]; do sleep 0.1; done'\n",
    )
    worker.reload_systemd()
    mastodon.upgrade(worker, "4.6.0")
    worker.wait_until("it has looked", lambda: worker.unit("fleetd-stamp").sub_state == "start-post")
    assert version(worker) == "4.6.0"
    mastodon.upgrade(worker, "4.6.1")
    assert worker.unit("fleetd-stamp").sub_state == "start-post"
    assert version(worker) == "4.6.0", "nobody looks yet"
    worker.write(over, "")
    becomes(worker, "4.6.1")
    worker.remove(over)


def test_a_watch_that_gave_up_is_started_again(worker: Host) -> None:
    worker.run(["systemctl", "stop", *WATCHES])
    worker.start("fleetd-stamp.service")
    assert all(worker.unit(unit).active for unit in WATCHES)
    mastodon.upgrade(worker, "4.6.0")
    becomes(worker, "4.6.0")


def test_a_storm_of_changes_ends_with_the_last(worker: Host) -> None:
    """A service that is started too often, or a watch that triggers too often, would stay failed."""
    file = f"{mastodon.LIVE}/lib/mastodon/version.rb"
    change = f'sed "s/^      3$/      $i/" /tmp/v > {file}.n; mv {file}.n {file}'
    storm = f"cp {file} /tmp/v; for i in $(seq 1000 -1 0); do {change}; done"
    worker.run(["sh", "-c", storm], timeout=3 * PATIENCE_SECONDS)
    becomes(worker, "4.5.0")
    assert worker.failed_units() == []
    assert all(worker.unit(unit).active for unit in WATCHES)


def test_without_code_there_is_no_stamp(worker: Host) -> None:
    worker.run(["mv", mastodon.LIVE, f"{mastodon.LIVE}.away"])
    worker.wait_until("the stamp is gone", lambda: not worker.path(CODE).exists())
    worker.run(["mv", f"{mastodon.LIVE}.away", mastodon.LIVE])
    worker.wait_until("it is back", worker.path(CODE).exists)


def test_the_watch_stops_with_fleetd(worker: Host) -> None:
    """It also begins with fleetd: see fleetd.service. A stop of fleetd leaves nothing of its own running."""
    worker.stop("fleetd")
    worker.wait_until("all are down", lambda: not any(worker.unit(unit).active for unit in UNITS))


@pytest.mark.parametrize("service", SERVICES)
def test_a_watch_that_is_stopped_during_a_look_does_not_come_back(worker: Host, service: str) -> None:
    """When a look is stopped systemd takes it for finished, and would start the next one."""
    worker.run(["systemctl", "stop", *UNITS])
    worker.write(END.format(service), "[Service]\nExecStartPost=/bin/sleep infinity\n")
    worker.reload_systemd()
    worker.run(["systemctl", "start", *UNITS])
    mastodon.upgrade(worker, "4.6.0")
    worker.wait_until("it looks", lambda: worker.unit(service).sub_state == "start-post")
    worker.stop("fleetd")
    worker.stop(service)
    assert worker.units("fleetd*") == []
    assert worker.failed_units() == []
