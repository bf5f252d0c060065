"""What the adapters see under fleetd's own confinement, and what systemd says of a process that was killed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from fleetd.core.model.facts import CodeStamp, EndCause, Ending, HostFacts, SystemdFacts, UnitFacts
from fleetd.core.model.identity import InstanceKey
from lab import Host, Lab
from lab.setup import install
from tests.support.project import PROJECT

pytestmark = pytest.mark.lab

_UNITS = "/usr/local/lib/systemd/system"
_DROP_IN = "/etc/systemd/system/mastodon-sidekiq@.service.d/test.conf"
_TEMPLATE = "mastodon-sidekiq@.service"
_WORKER = "[Service]\nExecStart=/bin/sleep infinity\nRestart=always\nRestartSec=4\n"
_TELL_FACTS = PROJECT / "tests/support/lab/tell_facts.py"
#: All parts of fleetd.service that are not its confinement.
_NOT_KEPT = r"^(Wants|After|Type|BusName|ExecReload|WatchdogSec|Restart\w*|LoadCredential|SetCredential)=.*\n"


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with Lab() as lab:
        host = lab.add_host("worker1")
        install.install(host)
        host.write(f"/etc/systemd/system/{_TEMPLATE}", _WORKER)
        unit = re.sub(_NOT_KEPT, "", host.read(f"{_UNITS}/fleetd.service"), flags=re.MULTILINE)
        unit = unit.replace("RuntimeDirectory=fleetd", "RuntimeDirectory=facts")
        command = "ExecStart=/opt/fleetd/bin/python /usr/local/lib/tell_facts.py"
        host.write(f"{_UNITS}/facts.service", re.sub(r"ExecStart=.*", command, unit))
        host.write("/usr/local/lib/tell_facts.py", _TELL_FACTS.read_text())
        lab.boot()
        host.start("facts")
        yield host


def facts(host: Host) -> tuple[SystemdFacts, HostFacts]:
    content = host.path("/run/facts/facts.json").read_bytes()
    return msgspec.json.decode(content, type=tuple[SystemdFacts, HostFacts])


def wait_for(
    host: Host, what: str, check: Callable[[UnitFacts | None, HostFacts], bool]
) -> tuple[UnitFacts | None, HostFacts]:
    """Wait for facts that pass `check`, and return them. Later ones may differ."""
    last: list[tuple[UnitFacts | None, HostFacts]] = []

    def holds() -> bool:
        if not host.path("/run/facts/facts.json").exists():
            return False
        systemd, machine = facts(host)
        last[:] = [(systemd.units.get(InstanceKey(1)), machine)]
        return check(*last[0])

    try:
        host.wait_until(what, holds)
    except Exception as error:
        raise AssertionError(f"{error} Journal: {host.journal('facts', 20)}") from error
    return last[0]


def test_the_confined_daemon_sees_all_that_it_needs(host: Host) -> None:
    host.write("/var/lib/mastodon-sidekiq/code.json", '{"digest":"0a1b2c3d4e5f6071","version":"4.5.3"}\n')
    confined = host.unit("facts").properties
    assert (confined["User"], confined["ProtectProc"], confined["ProtectSystem"]) == (
        "fleetd",
        "invisible",
        "strict",
    )
    _, machine = wait_for(host, "the stamp is read", lambda _, machine: machine.code is not None)
    assert machine.code == CodeStamp(digest="0a1b2c3d4e5f6071", version="4.5.3")
    assert machine.oom_kills_total is not None
    if Path("/proc/pressure/memory").exists():
        assert machine.pressure is not None
    assert set(machine.unit_digests) == {_TEMPLATE, "mastodon-sidekiq-scheduler.service"}


def test_a_killed_process_is_known_before_and_after_its_restart(host: Host) -> None:
    """systemd 252 forgets how a process ended as soon as it has started the next one."""
    host.start("mastodon-sidekiq@1")
    wait_for(host, "it runs", lambda unit, _: unit is not None and unit.active_state == "active")
    host.kill("mastodon-sidekiq@1")
    dead, _ = wait_for(host, "systemd waits", lambda unit, _: unit is not None and unit.sub_state == "auto-restart")
    assert dead is not None
    assert (dead.ending, dead.result) == (Ending(cause=EndCause.SIGNAL, signal=9), "signal")
    again, _ = wait_for(host, "it runs again", lambda unit, _: unit is not None and unit.active_state == "active")
    assert again is not None
    assert (again.ending, again.restarts, again.result) == (dead.ending, 1, "success")
    host.stop("mastodon-sidekiq@1")
    host.start("mastodon-sidekiq@1")
    wait_for(host, "a clean life", lambda unit, _: unit is not None and unit.ending != dead.ending)
    host.stop("mastodon-sidekiq@1")


def test_unit_files_that_systemd_has_not_read(host: Host) -> None:
    """Including a drop-in in a new directory, for which systemd 252 says that no reload is needed."""
    host.start("mastodon-sidekiq@1")
    _, machine = wait_for(host, "it runs", lambda unit, _: unit is not None and not unit.need_daemon_reload)
    before = machine.unit_digests[_TEMPLATE]

    host.write(_DROP_IN, "[Service]\nNice=5\n")
    assert host.unit("mastodon-sidekiq@1").properties["NeedDaemonReload"] == "no"
    # Units are read a moment before digests.
    wait_for(
        host,
        "the change is told",
        lambda unit, m: (
            unit is not None and unit.need_daemon_reload and m.unit_digests.get(_TEMPLATE, before) != before
        ),
    )
    host.reload_systemd()
    wait_for(host, "systemd has read it", lambda unit, _: unit is not None and not unit.need_daemon_reload)
    host.write(_DROP_IN, "[Service]\nNice=6\n")
    wait_for(host, "systemd says so", lambda unit, _: unit is not None and unit.need_daemon_reload)
    host.remove(_DROP_IN)
    host.reload_systemd()
    wait_for(host, "the old digest", lambda _, machine: machine.unit_digests.get(_TEMPLATE) == before)
    wait_for(host, "all is read", lambda unit, _: unit is not None and not unit.need_daemon_reload)
    host.stop("mastodon-sidekiq@1")
