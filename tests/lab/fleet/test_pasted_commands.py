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
from tests.support.pasted import pasted_commands
from tests.support.project import PROJECT

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

#: Where there is no configuration yet.
FIRST_CONFIGURATION = ("sudo fleetctl init", "fleetctl init", "fleetctl init --stdout")
FIRST_DAY = (
    "sudo fleetctl check-config",
    "fleetctl check-config",
    "fleetctl install-units",
    "sudo fleetctl install-units --dry-run",
    "sudo fleetctl install-units",
    "chgrp mastodon /home/mastodon/live/.env.production; chmod g+r /home/mastodon/live/.env.production",
    "sudo fleetctl doctor",
    "sudo fleetctl grants",
    "sudo fleetctl migrate --dry-run",
)
#: They ask, on a terminal.
MIGRATION = ("sudo fleetctl migrate", "fleetctl migrate")
BACK = ("sudo fleetctl migrate --undo",)
#: The same by hand.
AGAIN = (
    "systemctl start fleetd-render",
    "systemctl enable --now fleetd",
    "systemctl enable --now mastodon-sidekiq.target",
    "fleetctl doctor",
)
LOOKING = (
    "fleetctl status",
    "journalctl -u fleetd -e",
    "journalctl -u fleetd",
    "journalctl -u fleetd-render",
    "journalctl -u fleetd-render -u fleetd",
    "journalctl -u mastodon-sidekiq@N",
    "journalctl -u mastodon-sidekiq-scheduler",
    "journalctl -u 'fleetd-stamp*'",
    "curl -s localhost:9849/healthz",
    "fleetctl explain",
    "fleetctl explain PROFILE",
    "fleetctl explain [PROFILE]",
    "fleetctl connections",
    "fleetctl connections --json",
    "systemctl status dbus",
    "systemctl status mastodon-sidekiq@N",
    "systemctl status mastodon-sidekiq@1",
    "systemctl cat mastodon-sidekiq@0",
    "systemctl list-dependencies mastodon-workers-boot.target",
    "busctl introspect org.fleetd1 /org/fleetd1",
)
#: Paused, so that `set` starts nothing.
PAUSED = (
    'fleetctl pause --for 2h --reason "moving the database"',
    "fleetctl pause",
    'busctl call org.fleetd1 /org/fleetd1 org.fleetd1.Manager Pause ds 7200 "reason"',
    "fleetctl set default-first 6 --for 1h",
    "fleetctl set default-first auto",
    "fleetctl set default 6 --for 1h",
    "fleetctl set PROFILE auto",
    "fleetctl resume",
    "systemctl start mastodon-sidekiq@3",
)
ORDERS = (
    "fleetctl pin 3 --for 1d",
    "fleetctl drain 3 --wait",
    "fleetctl release 3",
    "fleetctl pin 3 --for 1d",
    "fleetctl release N",
    "fleetctl restart PROFILE",
    "fleetctl restart [PROFILE]",
    "fleetctl restart",
    "systemctl start mastodon-sidekiq@3",
    "fleetctl drain 3 --for 1d",
)
CHANGES = (
    "sudo systemctl reload fleetd",
    "systemctl reload fleetd",
    "systemctl daemon-reload",
    "sudo systemctl daemon-reload",
    "systemctl restart fleetd-render",
    "systemctl start fleetd-stamp",
    "systemctl restart fleetd",
    "sudo systemctl restart fleetd-render fleetd",
)
#: With an editor, and only on a terminal.
EDITS = (
    "systemctl edit fleetd",
    "systemctl edit mastodon-sidekiq@",
    "systemctl edit mastodon-sidekiq@3",
    "systemctl edit mastodon-sidekiq@ mastodon-sidekiq-scheduler",
)
BY_HAND = (
    "systemctl start mastodon-sidekiq@3",
    "systemctl kill --kill-who=main --signal=TSTP mastodon-sidekiq@3",
    "systemctl stop mastodon-sidekiq@3",
    "systemctl try-restart 'mastodon-sidekiq@*'",
    "systemctl restart 'mastodon-sidekiq@*'",
    "systemctl restart mastodon-sidekiq.target",
    "systemctl restart mastodon-sidekiq-scheduler",
    "systemctl stop mastodon-sidekiq-scheduler",
    "systemctl disable mastodon-sidekiq@2",
    "systemctl enable mastodon-sidekiq@9",
    "systemctl mask mastodon-sidekiq@2",
    "systemctl start mastodon-sidekiq.target",
)
AFTERWARDS = (
    "systemctl stop fleetd",
    "fleetctl history",
    "fleetctl history --since 2h",
    "fleetctl history --since 8h",
    "fleetctl history --since 8h --all",
    "fleetctl history --since 1d --json",
    "fleetctl replay",
    "fleetctl replay --since 24h",
    "fleetctl replay --since 24h --config new.toml",
    "fleetctl trace --since 24h > mine.toml",
    "fleetctl simulate TRACE.toml",
    "fleetctl simulate TRACE.toml --policy all",
)
AT_LAST = (
    "systemctl disable --now fleetd",
    "systemctl disable --now mastodon-sidekiq.target",
    "systemctl kill --kill-who=main --signal=TSTP mastodon-sidekiq",
    "systemctl disable --now mastodon-sidekiq",
    "systemctl enable --now mastodon-sidekiq",
    "sudo fleetctl install-units --remove",
)
ON_MAIN = ("sudo -u postgres psql -c 'CREATE ROLE fleetd LOGIN IN ROLE pg_monitor'", "systemctl reload pgbouncer")
#: Shown until Ctrl-C.
ENDLESS = ("fleetctl connections --watch",)

_FIND = "find /etc/systemd/system -lname '/etc/systemd/system/mastodon-sidekiq"
_NOT_A_BOOTS = "-not -path '*/mastodon-workers-boot.target.wants/*'"
_FOREIGN = "tests/lab/systemd/test_foreign_units.py"
_PACKAGE = "tests/lab/systemd/test_package.py"
_COPIES = "tests/adapters/database/test_pasted_lines.py"
#: Where it is run, or why it can't be.
ELSEWHERE = {
    "make demo": "tests/lab/long/test_demo.py",
    "make demo ARGS=--keep": "tests/lab/long/test_demo.py",
    "make test": "runs this",
    "make test-unit": "runs a part of this",
    "make test-pythons": "runs a part of this with other Pythons",
    "make test-long": "runs for an hour",
    "make venv": "a part of make test",
    "make lint": "a part of make test",
    "make lock": "renews the lock file",
    "git pull": "needs a server",
    "sudo apt-get install make git": "needs a server",
    "make deb": _PACKAGE,
    "make deb RELEASE=…": "stands for the next",
    "make deb RELEASE=trixie": "needs a server, and minutes; docs/operations.md says what was tried",
    "make deb-try RELEASE=…": "needs a server, and minutes; docs/operations.md says what was tried",
    "sudo apt-get install ./fleetd_VERSION_ARCH.deb": _PACKAGE,
    "sudo apt-get remove fleetd": _PACKAGE,
    "sudo apt-get purge fleetd": _PACKAGE,
    "git clone … fleetd && cd fleetd": "needs a server",
    "make install": "tests/lab/systemd/test_install.py",
    "sudo make install": "tests/lab/systemd/test_install.py",
    "sudoedit /etc/fleetd/fleetd.toml": "an editor",
    "fleetctl hurry N": "an example of a command that there is not",
    "fleetctl simulate": "lacks its argument: it is named, not to be run",
    "fleetctl pin": "lacks its argument: it is named, not to be run",
    "fleetctl drain": "lacks its argument: it is named, not to be run",
    "systemctl edit": "lacks its argument: it is named, not to be run",
    "systemctl edit --full": "lacks its argument: it is named, not to be run",
    "systemctl restart": "lacks its argument: it is named, not to be run",
    "systemctl stop": "lacks its argument: it is named, not to be run",
    "chmod a+rx": "lacks its argument: it is named, not to be run",
    "chmod a+r": "lacks its argument: it is named, not to be run",
    "systemctl restart {key:unit}": "has its argument at run time",
    "systemctl status fleetd-render": "ends with 3, since that unit does not stay",
    "fleetctl simulate benchmarks/traces/lab/sawtooth.toml --config benchmarks/traces/lab/fleetd.toml": (
        "tests/cli/commands/test_simulate.py"
    ),
    f"{_FIND}@.service' {_NOT_A_BOOTS} -delete": _FOREIGN,
    "mv /etc/systemd/system/mastodon-sidekiq@.service /root/": _FOREIGN,
    f"{_FIND}-scheduler.service' {_NOT_A_BOOTS} -delete": _FOREIGN,
    "mv /etc/systemd/system/mastodon-sidekiq-scheduler.service /root/": _FOREIGN,
    "systemctl try-restart mastodon-sidekiq-scheduler.service": _FOREIGN,
    "sudo install -D -o fleetd -m 0600 ~mastodon/.pgpass /var/lib/fleetd/.pgpass": _COPIES,
    "sudo install -D -o root -m 0644 ~mastodon/.postgresql/root.crt /var/lib/fleetd/.postgresql/root.crt": _COPIES,
}
_HERE = {
    *FIRST_CONFIGURATION,
    *FIRST_DAY,
    *MIGRATION,
    *BACK,
    *AGAIN,
    *AT_LAST,
    *LOOKING,
    *PAUSED,
    *ORDERS,
    *CHANGES,
    *EDITS,
    *BY_HAND,
    *AFTERWARDS,
    *ON_MAIN,
    *ENDLESS,
}
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


def test_every_command_that_is_written_somewhere_is_run_somewhere() -> None:
    written = pasted_commands()
    assert len(written) > 80
    assert {command: place for command, place in written.items() if command not in _HERE | ELSEWHERE.keys()} == {}
    assert (_HERE | ELSEWHERE.keys()) - written.keys() == set(), "none is left over"
    for place in ELSEWHERE.values():
        assert " " in place or (PROJECT / place).is_file()


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
