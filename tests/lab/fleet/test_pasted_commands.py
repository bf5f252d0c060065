"""Every command that the documentation or a sentence tells people to paste is run, in the order of an admin's day."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fleetd.core.model.reasons.units import ReplaceCause
from fleetd.core.model.status import Status
from lab import LabError
from lab.setup import mastodon
from lab.waiting import wait_until
from tests.support.lab.fleet import Fleet, booted
from tests.support.pasted_runs import (
    AFTERWARDS,
    AGAIN,
    AT_LAST,
    BACK,
    BY_HAND,
    CHANGES,
    EDITS,
    ENDLESS,
    FIRST_CONFIGURATION,
    FIRST_DAY,
    LOOKING,
    MIGRATION,
    ON_MAIN,
    ORDERS,
    PAUSED,
)

pytestmark = pytest.mark.lab

#: The profiles are those of README and docs/operations.md.
CONFIG = """
[scheduler]
place = "elsewhere"

[profiles.default-first]
order = "default-first"
threads = 4
instances = "1-6"
min = 1

[profiles.default]
queues = ["default"]
threads = 4
instances = "11-16"
min = 0

[memory]
instance = "100 MiB"

[pace]
tick_seconds = 1
hold_down_seconds = 2
"""

#: What stands for something, and what it is here. The longer first.
_STANDS_FOR = {
    "set PROFILE": "set default",
    "[PROFILE]": "default-first",
    "PROFILE": "default-first",
    "TRACE.toml": "mine.toml",
    "mastodon-sidekiq@N": "mastodon-sidekiq@1",
    "release N": "release 3",
    "sudo ": "",
}
#: What an editor would leave: nothing that changes a worker.
_EDITED = "[Unit]\nDescription=edited\n"
_FOLDER = "/root/pasted"


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with booted(CONFIG, stock_unit_on_main=True) as fleet:  # which serves `scheduler`: place = "elsewhere"
        (fleet.worker.disk / "usr/local/bin/fleetctl").symlink_to("/opt/fleetd/bin/fleetctl")
        fleet.worker.run(["mkdir", _FOLDER])
        fleet.worker.write(f"{_FOLDER}/new.toml", CONFIG)
        fleet.worker.write(f"{_FOLDER}/edited", _EDITED)
        mastodon.install_stock_unit(fleet.worker)
        fleet.worker.reload_systemd()
        fleet.worker.start("mastodon-sidekiq")
        yield fleet


def failures(fleet: Fleet, commands: tuple[str, ...]) -> dict[str, str]:
    """Runs them in their order; returns what those said that did not end with 0."""
    found = {}
    for command in commands:
        line = command
        for word, stands_for in _STANDS_FOR.items():
            line = line.replace(word, stands_for)
        done = fleet.worker.run(["sh", "-c", f"cd {_FOLDER} && {line}"], check=False)
        if done.returncode != 0:
            found[command] = f"{done.returncode}: {done.stdout[-500:]}{done.stderr[-500:]}"
    return found


def asked_and_agreed(fleet: Fleet, commands: tuple[str, ...]) -> None:
    for command in commands:
        line = command.removeprefix("sudo ")
        done = fleet.worker.run(["script", "-qec", line, "/dev/null"], stdin="y\n", timeout=200, check=False)
        assert done.returncode == 0, done.stdout


def test_the_first_configuration(fleet: Fleet) -> None:
    for command in FIRST_CONFIGURATION:
        fleet.worker.remove("/etc/fleetd/fleetd.toml")
        assert failures(fleet, (command,)) == {}
    fleet.configure(CONFIG)


def test_the_first_day(fleet: Fleet) -> None:
    assert failures(fleet, FIRST_DAY) == {}
    asked_and_agreed(fleet, MIGRATION)
    assert failures(fleet, AGAIN) == {}
    assert not fleet.worker.unit("mastodon-sidekiq").active
    fleet.wait("min serves", lambda s: s.profiles[0].serving_instances == 1)


def test_looking(fleet: Fleet) -> None:
    assert failures(fleet, LOOKING) == {}
    for command in ENDLESS:
        done = fleet.worker.run(["timeout", "--signal=INT", "2", "sh", "-c", command], check=False)
        assert done.returncode in {124, 130}, done.stderr
        assert done.stderr == ""


def test_orders(fleet: Fleet) -> None:
    assert failures(fleet, PAUSED) == {}
    fleet.wait("@3 serves", lambda s: s.profiles[0].serving_instances == 2)
    assert failures(fleet, ORDERS) == {}


def test_changes(fleet: Fleet) -> None:
    assert failures(fleet, CHANGES) == {}
    for command in EDITS:
        fleet.worker.run(["script", "-qec", command, "/dev/null"], env={"SYSTEMD_EDITOR": f"cp {_FOLDER}/edited"})
    assert "Description=edited" in fleet.worker.run(["systemctl", "cat", "fleetd"]).stdout


def test_by_hand(fleet: Fleet) -> None:
    # The edits above are rolled out; a start by hand at the moment of fleetd's own stop would be cancelled by that.
    fleet.wait("the edits are rolled out", _edits_are_rolled_out)
    fleet.main.run(["systemctl", "stop", "mastodon-sidekiq"])  # beside a live scheduler ours would be stopped at once
    assert failures(fleet, BY_HAND) == {}


def _edits_are_rolled_out(status: Status) -> bool:
    rollout = status.rollout
    return rollout is not None and rollout.cause == ReplaceCause.OUTDATED and rollout.ended == "done"


def test_on_the_database_server(fleet: Fleet) -> None:
    fleet.main.run(["psql", "-c", "DROP ROLE fleetd"], user="postgres")  # the lab has made it already
    for command in ON_MAIN:
        user = "postgres" if "-u postgres" in command else None
        fleet.main.run(["sh", "-c", command.replace("sudo -u postgres ", "")], user=user)


def test_afterwards(fleet: Fleet) -> None:
    # Samples are written once a minute, and of less than a minute nothing can be made.
    wait_until("a minute is recorded", lambda: not failures(fleet, ("fleetctl replay",)), every=2.0)
    assert failures(fleet, AFTERWARDS) == {}
    asked_and_agreed(fleet, BACK)
    assert failures(fleet, AT_LAST) == {}
    with pytest.raises(LabError):
        fleet.status()
    assert fleet.worker.unit("mastodon-sidekiq").active
    assert fleet.up() == set()
    assert fleet.settled().lost == ()
