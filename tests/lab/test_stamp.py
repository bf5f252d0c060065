"""Root notices that Mastodon's code changed under running workers, however it changed, and says it once."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from lab import Host, mastodon
from lab.topologies import TwoHosts

pytestmark = pytest.mark.lab

CONFIG = '[profiles.default-first]\ninstances = "1"\n[scheduler]\nplace = "elsewhere"\n'
CODE = "/var/lib/mastodon-sidekiq/code.json"
RELEASES = "/srv/mastodon"
UNITS = ("fleetd-stamp.path", "fleetd-stamp.timer")
SERVICES = ("fleetd-stamp.service", "fleetd-stamp-again.service")
TIMER = "/run/systemd/system/fleetd-stamp.timer.d/99-test.conf"
SLOW_END = "/run/systemd/system/fleetd-stamp.service.d/99-test.conf"
#: Far less than the minute that the timer takes.
MOMENT_SECONDS = 10.0


@pytest.fixture
def worker(two_hosts: TwoHosts) -> Iterator[Host]:
    """The worker VM with its code stamped and watched."""
    host = two_hosts.worker
    watch(host, CONFIG)
    yield host
    # The service too: it looks on for some seconds, and the next test's change could fall into its very end.
    host.run(["systemctl", "stop", *UNITS, *SERVICES])
    host.remove(TIMER)
    host.remove(SLOW_END)
    host.remove(RELEASES)
    mastodon.install(host, mastodon.environment("main", boot_seconds=0.5))
    host.write("/etc/fleetd/fleetd.toml", CONFIG)
    host.restart("fleetd-render")
    host.run(["rm", "-r", "/var/lib/mastodon-sidekiq", "/etc/fleetd/fleetd.toml"])
    host.run(["systemd-tmpfiles", "--create", "fleetd.conf"])
    host.remove("/etc/systemd/system/mastodon-workers-boot.target.wants")
    host.reload_systemd()


def watch(host: Host, config: str) -> None:
    host.write("/etc/fleetd/fleetd.toml", config)
    host.restart("fleetd-render")
    host.run(["systemctl", "start", *UNITS])


def version(host: Host) -> str:
    return str(json.loads(host.read(CODE))["version"])


def digest(host: Host) -> str:
    return str(json.loads(host.read(CODE))["digest"])


def becomes(host: Host, wanted: str, timeout: float = MOMENT_SECONDS) -> None:
    host.wait_until(f"the stamp says {wanted}", lambda: version(host) == wanted, timeout)


def git(host: Host, *arguments: str) -> None:
    author = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main"]
    host.run(["git", *author, "-C", mastodon.LIVE, *arguments], user="mastodon")


def said(host: Host) -> list[str]:
    """What the stamp and systemd about it wrote since the watch began, by rendering or not."""
    units = [f"--unit={service}" for service in SERVICES]
    lines = host.run(["journalctl", *units, "-o", "cat", "--no-pager"]).stdout
    return lines.splitlines()


def test_everyone_can_read_it_and_fleetd_not_write_it(worker: Host) -> None:
    assert worker.run(["cat", CODE], user="fleetd").stdout == worker.read(CODE)
    assert version(worker) == "4.5.3"
    assert worker.run(["sh", "-c", f"echo > {CODE}"], user="fleetd", check=False).returncode != 0


def test_an_upgrade_in_place_is_noticed_within_a_moment(worker: Host) -> None:
    before = len(said(worker))
    for number in range(1, 6):
        mastodon.upgrade(worker, f"4.6.{number}")
        becomes(worker, f"4.6.{number}")
    mastodon.install_gems(worker)
    assert worker.failed_units() == []
    told = said(worker)[before:]
    assert [line for line in told if "Mastodon's code on disk: 4.6.5" in line]
    assert all(line.startswith("Mastodon's code on disk: ") for line in told), told


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
    worker.wait_until("it is noticed", lambda: digest(worker) != before, MOMENT_SECONDS)


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


def test_what_the_watch_missed_is_found_later_without_a_line_each_time(worker: Host) -> None:
    often = (
        "OnActiveSec=",
        "OnUnitInactiveSec=",
        "OnActiveSec=1",
        "OnUnitInactiveSec=1",
        "AccuracySec=100ms",
    )
    worker.write(TIMER, "\n".join(["[Timer]", *often]) + "\n")
    worker.run(["systemctl", "mask", "--runtime", "fleetd-stamp.path"])
    worker.run(["systemctl", "stop", "fleetd-stamp.path"])
    try:
        worker.reload_systemd()
        worker.restart("fleetd-stamp.timer")
        mastodon.upgrade(worker, "4.6.0")
        becomes(worker, "4.6.0")
        before = said(worker)
        for _ in range(3):
            last = stamping(worker)
            worker.wait_until("one more run", lambda last=last: stamping(worker) != last)  # type: ignore[misc]
        assert said(worker) == before
    finally:
        worker.run(["systemctl", "unmask", "--runtime", "fleetd-stamp.path"])


def stamping(host: Host) -> str:
    """Which run of what the timer starts was the last."""
    return host.unit("fleetd-stamp-again").properties["InvocationID"]


def test_a_change_between_the_last_look_and_its_end_is_not_left_to_the_timer(worker: Host) -> None:
    """systemd does not watch while what it started still runs; here that takes seconds after the last look."""
    worker.write(SLOW_END, "[Service]\nExecStartPost=/bin/sleep 5\n")
    worker.reload_systemd()
    mastodon.upgrade(worker, "4.6.0")
    becomes(worker, "4.6.0")
    worker.wait_until(
        "it has looked", lambda: worker.unit("fleetd-stamp").properties["SubState"] == "start-post"
    )
    mastodon.upgrade(worker, "4.6.1")
    assert version(worker) == "4.6.0", "nobody looks yet"
    becomes(worker, "4.6.1")


def test_a_watch_that_gave_up_comes_back(worker: Host) -> None:
    worker.stop("fleetd-stamp.path")
    worker.start("fleetd-stamp.service")
    assert worker.unit("fleetd-stamp.path").active
    mastodon.upgrade(worker, "4.6.0")
    becomes(worker, "4.6.0")


def test_a_storm_of_changes_ends_with_the_last(worker: Host) -> None:
    """A service that is started too often, or a watch triggered too often, would stay failed."""
    file = f"{mastodon.LIVE}/lib/mastodon/version.rb"
    change = f'sed "s/^      3$/      $i/" /tmp/v > {file}.n; mv {file}.n {file}'
    worker.run(["sh", "-c", f"cp {file} /tmp/v; for i in $(seq 1000 -1 0); do {change}; done"], timeout=60)
    becomes(worker, "4.5.0")
    assert worker.failed_units() == []
    assert worker.unit("fleetd-stamp.path").active


def test_no_code_is_no_stamp(worker: Host) -> None:
    worker.run(["mv", mastodon.LIVE, f"{mastodon.LIVE}.away"])
    worker.wait_until("the stamp is gone", lambda: not worker.path(CODE).exists(), MOMENT_SECONDS)
    worker.run(["mv", f"{mastodon.LIVE}.away", mastodon.LIVE])
    worker.wait_until("it is back", worker.path(CODE).exists, MOMENT_SECONDS)


def test_the_watch_stops_with_fleetd(worker: Host) -> None:
    """And begins with it: see fleetd.service. A stop of fleetd leaves nothing of its own running."""
    worker.stop("fleetd")
    worker.wait_until("both are down", lambda: not any(worker.unit(unit).active for unit in UNITS))
