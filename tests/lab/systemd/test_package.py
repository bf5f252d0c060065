"""The Debian package on a real host: two builds are the same; no step of its life touches a worker (law 5).

The steps are those of an admin: over an earlier `make install`, an upgrade, a purge, a reboot without fleetd, a new
installation, and the way back to the stock unit. `deb/try_in_root.sh` does the same in roots of other releases, without
systemd.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.setup import mastodon
from tests.support.lab.fleet import Fleet, started
from tests.support.lab.outages import runs, worker_runs
from tests.support.lab.package import build, in_folder, package
from tests.support.project import PROJECT

pytestmark = pytest.mark.lab

CONFIG = """
[scheduler]
place = "here"
threads = 2
[profiles.local]
threads = 3
instances = "1-4"
min = 2
[pace]
tick_seconds = 1
"""
AT_BOOT = {"mastodon-sidekiq@1.service", "mastodon-sidekiq@2.service", "mastodon-sidekiq-scheduler.service"}
AT_BOOT_LINK = "/etc/systemd/system/multi-user.target.wants/mastodon-sidekiq.target"
DEB = "/root/fleetd.deb"
PACKAGED = {f"/usr/lib/systemd/system/{name}" for name in ("fleetd.service", "mastodon-sidekiq@.service")}


@pytest.fixture(scope="module")
def builds(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two builds, as different people would make them."""
    another = tmp_path_factory.mktemp("another")
    build(another, umask="0077")
    return package(), in_folder(another)


@pytest.fixture(scope="module")
def fleet(builds: tuple[Path, Path]) -> Iterator[Fleet]:
    """With fleetd as `make install` leaves it."""
    with started(CONFIG) as fleet:
        (fleet.worker.disk / "usr/local/bin/fleetctl").symlink_to("/opt/fleetd/bin/fleetctl")
        shutil.copy(builds[0], fleet.worker.disk / DEB.lstrip("/"))
        mastodon.install_stock_unit(fleet.worker, enable=False)
        fleet.worker.reload_systemd()
        fleet.worker.remove("/usr/sbin/policy-rc.d")  # in some images it forbids packages to restart anything
        fleet.worker.remove("/var/lib/man-db/auto-update")  # man-db's index takes seconds for each installation
        all_up(fleet)
        yield fleet


def all_up(fleet: Fleet) -> None:
    fleet.worker.wait_until("min and the scheduler are up", lambda: worker_runs(fleet).keys() == AT_BOOT)


def file_of(fleet: Fleet, unit: str) -> str:
    """Where systemd has a unit from. Debian 12's says /lib, which is /usr/lib."""
    path = fleet.worker.unit(unit).properties["FragmentPath"]
    return f"/usr{path}" if path.startswith("/lib/") else path


def dpkg(fleet: Fleet, *arguments: str) -> str:
    """What the maintainer scripts say."""
    done = fleet.worker.run(["dpkg", *arguments], timeout=120, env={"DEBIAN_FRONTEND": "noninteractive"})
    assert "warning" not in done.stderr, done.stderr
    return "\n".join(line.removeprefix("fleetd: ") for line in done.stdout.splitlines() if line.startswith("fleetd: "))


def commands(said: str) -> list[str]:
    """The lines to be pasted."""
    lines = [re.sub(r"\s+#.*", "", line.strip()) for line in said.splitlines()]
    return [line.removeprefix("sudo ") for line in lines if line.startswith("sudo ")]


def left(fleet: Fleet) -> set[str]:
    """Files and directories of fleetd's, by their names; nothing below a directory of its own."""
    names = ["*fleetd*", "mastodon-sidekiq*", "mastodon-workers*"]
    tests = " -o ".join(f"-name '{name}'" for name in names)
    where = "/etc /usr /opt /run /var/lib"
    found = fleet.worker.run(["sh", "-c", f"find {where} -xdev \\( {tests} \\) -prune -print"], timeout=120).stdout
    labs = {f"/etc/systemd/system/{name}" for name in ("mastodon-sidekiq.service", "mastodon-sidekiq.service.d")}
    labs |= {"/etc/systemd/system/multi-user.target.wants/mastodon-sidekiq.service"}
    labs |= {
        f"/etc/systemd/system/{name}.d" for name in ("mastodon-sidekiq@.service", "mastodon-sidekiq-scheduler.service")
    }
    systemds = ("/var/lib/dpkg/", "/run/systemd/")
    return {line for line in found.splitlines() if not line.startswith(systemds)} - labs


def test_two_builds_are_the_same_to_the_byte(builds: tuple[Path, Path]) -> None:
    one, another = builds
    assert one.name == another.name
    assert one.read_bytes() == another.read_bytes()
    listed = subprocess.check_output(["dpkg-deb", "--contents", one], text=True)
    assert "__pycache__" not in listed
    assert str(PROJECT) not in listed
    for folder in (one.parent, PROJECT):
        with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", one], stdout=subprocess.PIPE) as tar:
            assert tar.stdout is not None
            assert str(folder).encode() not in tar.stdout.read()


def test_over_make_install_it_takes_over_when_told_to(fleet: Fleet) -> None:
    before, workers = runs(fleet), worker_runs(fleet)
    said = dpkg(fleet, "--install", DEB)
    assert "an earlier `make install` is still here" in said
    assert runs(fleet) == before, "not even fleetd is restarted, because nothing has changed for it"
    (command,) = commands(said)
    fleet.worker.run(command.split())
    fleet.wait("the package's fleetd runs", lambda s: s.ticks_total > 2)
    assert worker_runs(fleet) == workers
    assert {file_of(fleet, unit) for unit in ("fleetd", "mastodon-sidekiq@1")} == PACKAGED
    program = fleet.worker.run(["readlink", "-f", "/usr/bin/fleetctl"]).stdout
    assert program.startswith("/usr/lib/fleetd/bin/")
    assert not [path for path in left(fleet) if path.startswith(("/opt", "/usr/local", "/etc/dbus-1", "/etc/polkit-1"))]
    links = fleet.worker.run(["find", "/etc/systemd/system", "-xtype", "l", "-name", "mastodon-*"]).stdout
    assert links == "", "what was enabled is linked to the package's units"
    assert fleet.worker.run(["fleetctl", "status"]).returncode == 0


def test_an_upgrade_restarts_fleetd_and_no_worker(fleet: Fleet) -> None:
    before = runs(fleet)
    dpkg(fleet, "--install", DEB)
    fleet.wait("fleetd runs", lambda s: s.ticks_total > 1)
    after = runs(fleet)
    assert after.pop("fleetd.service") != before.pop("fleetd.service")
    assert after == before


def test_a_purge_leaves_workers_running_and_bootable(fleet: Fleet) -> None:
    before = worker_runs(fleet)
    said = dpkg(fleet, "--purge", "fleetd")
    assert worker_runs(fleet) == before
    assert fleet.worker.units("fleetd*") == []
    assert not fleet.worker.path("/run/fleetd-render").exists(), "it holds Mastodon's passwords"
    disable, enable, remove, _reload = commands(said)[-4:]
    assert remove.startswith("rm -r ")
    assert left(fleet) - {AT_BOOT_LINK} == set(remove.split()[2:])  # the first command removes that
    assert all(f"\n    {path}" in said for path in left(fleet))
    fleet.worker.reboot()
    all_up(fleet)
    assert fleet.worker.run(["systemctl", "is-enabled", "mastodon-sidekiq.target"]).stdout.strip() == "enabled"
    assert (disable, enable) == (
        "systemctl disable --now mastodon-sidekiq.target",
        "systemctl enable --now mastodon-sidekiq",
    )


def test_a_new_installation_takes_back_what_was_left(fleet: Fleet) -> None:
    before = worker_runs(fleet)
    said = dpkg(fleet, "--install", DEB)
    assert "nothing was started" in said
    assert not fleet.worker.unit("fleetd").active
    assert file_of(fleet, "mastodon-sidekiq@1") in PACKAGED
    assert not [path for path in left(fleet) if path.startswith("/etc/systemd/system/") and path.endswith("service")]
    fleet.configure(CONFIG)
    fleet.worker.run(["systemctl", "enable", "--now", "fleetd"])
    fleet.wait("fleetd has looked around", lambda s: s.ticks_total > 2 and s.scheduler.processes == 1)
    assert worker_runs(fleet) == before


def test_a_removal_that_is_broken_off_is_undone(fleet: Fleet) -> None:
    before, installed = worker_runs(fleet), left(fleet)
    for script in ("prerm remove", "prerm remove", "postinst abort-remove", "postinst abort-remove"):
        fleet.worker.run(["sh", "-c", f"/var/lib/dpkg/info/fleetd.{script}"])
    assert worker_runs(fleet) == before
    assert file_of(fleet, "mastodon-sidekiq@1") in PACKAGED
    gone = {path for path in installed if path.startswith("/run/") or path.endswith("wants/fleetd.service")}
    assert installed - gone <= left(fleet) <= installed, "no copy is left; fleetd was stopped"


def test_the_way_back_to_the_stock_unit_leaves_nothing(fleet: Fleet) -> None:
    said = dpkg(fleet, "--remove", "fleetd")
    assert worker_runs(fleet).keys() == AT_BOOT
    for command in commands(said):
        fleet.worker.run(["sh", "-c", command], timeout=120)
    assert fleet.worker.unit("mastodon-sidekiq").active
    fleet.worker.wait_until(
        "the others have stopped", lambda: worker_runs(fleet).keys() == {"mastodon-sidekiq.service"}
    )
    fleet.worker.write("/var/lib/mastodon-sidekiq/before-fleetd/mastodon-sidekiq@.service", "[Service]\n")
    assert "before-fleetd stays: unit files of yours" in dpkg(fleet, "--purge", "fleetd")
    assert fleet.worker.run(["ls", "-R", "/var/lib/mastodon-sidekiq"]).stdout.count("mastodon-sidekiq@.service") == 1
    fleet.worker.remove("/var/lib/mastodon-sidekiq")
    assert left(fleet) == set()
