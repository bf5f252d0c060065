"""SystemdUnits and ControlBus with the real systemd, dbus-daemon and polkit of a lab host."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator

import pytest

from fleetd.adapters.systemd.units import FinishedJob, SystemdUnits
from fleetd.core.model.decision import Step, StepResult, Verb
from fleetd.core.model.facts import UnitFacts
from fleetd.core.model.identity import SCHEDULER, InstanceKey
from fleetd.errors import SourceUnavailableError
from lab import Host, Lab
from lab.setup import install
from lab.waiting import PATIENCE_SECONDS
from tests.support.project import PROJECT
from tests.support.rig.systemd_units import WHY

pytestmark = pytest.mark.lab

_TEMPLATE = """[Unit]
StartLimitIntervalSec=60
StartLimitBurst=3
[Service]
Type=notify
NotifyAccess=all
ExecStart=/usr/local/bin/pretend-sidekiq %i
Restart=always
RestartSec=0.1
KillMode=mixed
TimeoutStopSec=20
"""
# /run/boot-N, /run/broken-N and /run/slow-N control how instance N behaves; with /run/loses-N it loses the next TERM.
# It writes /run/quiet-N on a TSTP.
_PROGRAM = """#!/bin/sh
trap 'touch /run/quiet-$1' TSTP
trap 'rm /run/loses-$1 2>/dev/null || { while [ -e /run/slow-$1 ]; do sleep 0.05; done; exit 0; }' TERM
[ ! -e /run/broken-$1 ] || exit 3
while [ -e /run/boot-$1 ]; do sleep 0.05; done
systemd-notify --ready
while :; do sleep 1 & wait $!; done
"""
_AS_FLEETD = PROJECT / "tests/support/lab/as_fleetd.py"


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with Lab() as lab:
        host = lab.add_host("worker1")
        install.place_units(host)
        # These override the units installed above. The tests here need no Ruby.
        host.write("/etc/systemd/system/mastodon-sidekiq@.service", _TEMPLATE)
        host.write("/usr/local/bin/pretend-sidekiq", _PROGRAM, mode=0o755)
        lab.boot()
        yield host


def play(host: Host, numbers: list[int], story: Callable[[SystemdUnits], Awaitable[None]]) -> None:
    async def run() -> None:
        # The host's bus, reached through the host's file tree. We are root there as well.
        address = f"unix:path=/proc/{host.pid}/root/run/dbus/system_bus_socket"
        units = SystemdUnits(
            map(InstanceKey, numbers),
            bus_address=address,
            read_deadline_seconds=PATIENCE_SECONDS,
            step_deadline_seconds=PATIENCE_SECONDS,
        )
        try:
            await asyncio.wait_for(story(units), 3 * PATIENCE_SECONDS)
        finally:
            await units.close()

    asyncio.run(run())


async def carry_out(units: SystemdUnits, verb: Verb, number: int) -> StepResult:
    return await units.carry_out(Step(verb=verb, key=InstanceKey(number), why=WHY))


async def until(
    units: SystemdUnits, number: int, state: str, timeout_seconds: float = PATIENCE_SECONDS
) -> UnitFacts | None:
    """Read until the instance is in this state. Returns its facts, or None if it is not loaded."""
    async with asyncio.timeout(timeout_seconds):
        while True:
            unit = (await units.read()).units.get(InstanceKey(number))
            if (unit.active_state if unit else "inactive") == state:
                return unit
            await asyncio.sleep(0.02)


def test_start_serve_quiet_stop(host: Host) -> None:
    async def story(units: SystemdUnits) -> None:
        host.write("/run/boot-1", "")
        assert (await carry_out(units, "start", 1)).result == "done"
        await until(units, 1, "activating")
        assert (await carry_out(units, "quiet", 1)).result == "refused"
        ready = time.monotonic()
        host.remove("/run/boot-1")
        serving = await until(units, 1, "active")
        assert serving is not None
        assert serving.main_pid == host.unit("mastodon-sidekiq@1").main_pid
        assert 0 <= serving.state_age_seconds <= time.monotonic() - ready
        assert "mastodon-sidekiq@1.service" in serving.control_group
        assert not host.path("/run/quiet-1").exists()
        assert (await carry_out(units, "quiet", 1)).result == "done"
        quieted = host.path("/run/quiet-1").exists
        await asyncio.to_thread(host.wait_until, "the process got its TSTP", quieted)
        assert (await carry_out(units, "stop", 1)).result == "done"
        await until(units, 1, "inactive")
        done = FinishedJob("mastodon-sidekiq@1.service", "done")
        assert units.finished_jobs() == (done, done)

    play(host, [1], story)


def test_a_stop_ends_a_boot_and_no_start_cancels_a_stop(host: Host) -> None:
    async def story(units: SystemdUnits) -> None:
        host.write("/run/boot-2", "")
        host.write("/run/slow-2", "")
        await carry_out(units, "start", 2)
        await until(units, 2, "activating")
        assert (await carry_out(units, "stop", 2)).result == "done"
        await until(units, 2, "deactivating")
        refused = await carry_out(units, "start", 2)
        assert refused.result == "refused"
        assert "does not cancel a stop" in refused.sentence
        assert (await carry_out(units, "stop", 2)).result == "done"
        host.remove("/run/slow-2")
        await until(units, 2, "inactive")

    play(host, [2], story)


def test_a_process_that_lost_the_term_of_its_stop_ends_when_it_is_told_again(host: Host) -> None:
    """A second StopUnit would do nothing: systemd has a job for it already, and sends one TERM and then SIGKILL."""

    async def story(units: SystemdUnits) -> None:
        await carry_out(units, "start", 7)
        await until(units, 7, "active")
        host.write("/run/loses-7", "")
        await carry_out(units, "stop", 7)
        lost = host.path("/run/loses-7").exists
        await asyncio.to_thread(host.wait_until, "it has lost its TERM", lambda: not lost())
        stopping = await until(units, 7, "deactivating")
        assert stopping is not None
        assert (stopping.sub_state, stopping.job, stopping.main_pid > 0) == ("stop-sigterm", "stop", True)
        assert (await carry_out(units, "stop", 7)).result == "done"
        await until(units, 7, "inactive", timeout_seconds=10.0)  # long before TimeoutStopSec

    play(host, [7], story)


def test_a_crash_shows_as_another_process_and_a_restart(host: Host) -> None:
    async def story(units: SystemdUnits) -> None:
        await carry_out(units, "start", 3)
        first = await until(units, 3, "active")
        host.kill("mastodon-sidekiq@3")
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                unit = (await units.read()).units[InstanceKey(3)]
                if unit.active_state == "active" and unit.restarts == 1:
                    break
                await asyncio.sleep(0.02)
        assert first is not None
        assert unit.main_pid != first.main_pid
        assert unit.invocation_id != first.invocation_id
        await carry_out(units, "stop", 3)

    play(host, [3], story)


def test_an_instance_past_its_start_limit_starts_once_its_cause_is_gone(host: Host) -> None:
    async def story(units: SystemdUnits) -> None:
        host.write("/run/broken-4", "")
        await carry_out(units, "start", 4)
        failed = await until(units, 4, "failed")
        assert failed is not None
        assert failed.result != "success"
        host.remove("/run/broken-4")
        assert (await carry_out(units, "start", 4)).result == "done"
        await until(units, 4, "active")
        await carry_out(units, "stop", 4)

    play(host, [4], story)


def test_law_6_units_that_are_not_ours_keep_running(host: Host) -> None:
    async def story(units: SystemdUnits) -> None:
        verbs: tuple[Verb, ...] = ("start", "quiet", "stop")
        for verb in verbs:
            assert (await carry_out(units, verb, 9)).result == "refused"
        assert (await units.read()).units == {}
        assert host.unit("mastodon-sidekiq@9").active
        assert not host.path("/run/quiet-9").exists()

    host.start("mastodon-sidekiq@9")
    play(host, [1, 2], story)


def test_masked_and_missing_units_are_reported(host: Host) -> None:
    async def story(units: SystemdUnits) -> None:
        masked = await carry_out(units, "start", 5)
        assert (masked.result, "systemctl unmask" in masked.sentence) == ("refused", True)
        missing = await units.carry_out(Step(verb="start", key=SCHEDULER, why=WHY))
        assert (missing.result, "daemon-reload" in missing.sentence) == ("refused", True)
        assert SCHEDULER not in (await units.read()).units

    scheduler = "/usr/local/lib/systemd/system/mastodon-sidekiq-scheduler.service"
    there = host.read(scheduler)
    host.run(["systemctl", "mask", "--runtime", "mastodon-sidekiq@5.service"])
    host.remove(scheduler)
    host.reload_systemd()
    try:
        play(host, [5], story)
    finally:
        host.write(scheduler, there)
        host.reload_systemd()


@pytest.mark.parametrize(
    "upset",
    [["systemctl", "daemon-reload"], ["systemctl", "daemon-reexec"], ["systemctl", "restart", "dbus"]],
    ids=["daemon-reload", "daemon-reexec", "dbus-restart"],
)
def test_readings_stay_true_or_unknown_while(host: Host, upset: list[str]) -> None:
    async def story(units: SystemdUnits) -> None:
        await carry_out(units, "start", 6)
        before = await until(units, 6, "active")
        assert before is not None
        going_on = asyncio.create_task(asyncio.to_thread(host.run, upset))
        readings = 0
        while not going_on.done() or readings < 10:
            try:
                unit = (await units.read()).units[InstanceKey(6)]
            except SourceUnavailableError:
                continue  # unknown is allowed, wrong is not
            assert (unit.active_state, unit.main_pid) == ("active", before.main_pid)
            readings += 1
        await going_on
        host.kill("mastodon-sidekiq@6")  # and the next change is still seen
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                unit = (await units.read()).units[InstanceKey(6)]
                if unit.active_state == "active" and unit.main_pid != before.main_pid:
                    break
                await asyncio.sleep(0.02)
        assert (await carry_out(units, "stop", 6)).result == "done"
        await until(units, 6, "inactive")

    # The restarts of all rounds count towards one start limit.
    host.run(["systemctl", "reset-failed", "mastodon-sidekiq@6.service"], check=False)
    play(host, [6], story)


def test_as_user_fleetd_through_polkit_and_the_bus_policy(host: Host) -> None:
    install.place_programs(host)
    host.start("mastodon-sidekiq@9")
    host.write("/run/broken-8", "")
    daemon = host.popen(
        ["/opt/fleetd/bin/python", "-c", _AS_FLEETD.read_text()],
        user="fleetd",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert daemon.stdout is not None
    told = daemon.stdout.readline()
    assert told.startswith("{"), told + daemon.stdout.read()
    results = json.loads(told)
    assert results["start"] == results["quiet"] == results["stop"] == "done"
    assert results["reset a failed one and start"] == "done"
    denied = "org.freedesktop.DBus.Error.AccessDenied"
    assert results["start cron.service"] == results["start mastodon-sidekiq@nonsense.service"] == denied
    assert host.unit("mastodon-sidekiq@9").active

    def busctl(verb: str, *words: str, user: str | None = None) -> str:
        manager = ["org.fleetd1", "/org/fleetd1", "org.fleetd1.Manager"]
        done = host.run(["busctl", verb, *manager, *words], user=user, check=False)
        return done.stdout + done.stderr

    assert "no tick is finished yet" in busctl("call", "Status", user="nobody")
    assert busctl("get-property", "Version", user="nobody") == 's "0"\n'
    assert "Access denied" in busctl("call", "Reload", user="nobody")
    assert busctl("call", "Reload") == ""
    level = ["systemctl", "service-log-level", "fleetd"]
    assert host.run(level).stdout == "info\n"
    host.run([*level, "debug"])
    assert host.run(level, user="nobody").stdout == "debug\n"
    assert host.run([*level, "info"], user="nobody", check=False).returncode != 0
    owning = ["busctl", "call", "org.freedesktop.DBus", "/", "org.freedesktop.DBus", "RequestName", "su"]
    assert host.run([*owning, "org.fleetd1", "0"], user="nobody", check=False).returncode != 0
    daemon.communicate(timeout=PATIENCE_SECONDS)
    assert daemon.returncode == 0


_WITHOUT_POLKIT = """
import asyncio
from fleetd.adapters.systemd.units import SystemdUnits
from fleetd.core.model.decision import Step
from fleetd.core.model.identity import InstanceKey
from fleetd.core.model.reasons.units import DrainedByPeople

async def main():
    units = SystemdUnits([InstanceKey(7)], read_deadline_seconds=60, step_deadline_seconds=60)
    print((await units.read()).polkit_runs)
    print((await units.carry_out(Step(verb="start", key=InstanceKey(7), why=DrainedByPeople()))).sentence)

asyncio.run(main())
"""


def test_a_masked_polkit_is_named_and_not_the_unit(host: Host) -> None:
    install.place_programs(host)
    host.run(["systemctl", "mask", "--runtime", "--now", "polkit"])
    try:
        said = host.run(["/opt/fleetd/bin/python", "-c", _WITHOUT_POLKIT], user="fleetd").stdout
    finally:
        host.run(["systemctl", "unmask", "--runtime", "polkit"])
    runs, sentence = said.splitlines()
    assert runs == "False"
    assert sentence.startswith("polkit does not run, which systemd asks whether fleetd may: systemctl unmask polkit")
    again = host.run(["/opt/fleetd/bin/python", "-c", _WITHOUT_POLKIT], user="fleetd").stdout
    assert again.splitlines()[0] == "True", "the bus starts it"
