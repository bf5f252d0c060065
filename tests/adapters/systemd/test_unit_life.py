"""What SystemdUnits reports about how a main process ended, and about unit files that systemd has not read."""

from __future__ import annotations

from pathlib import Path

import pytest
from dbus_next.signature import Variant
from hypothesis import given
from hypothesis import strategies as st

from fleetd.adapters.host.unit_files import UnitFiles
from fleetd.adapters.systemd.unit_properties import ending
from fleetd.adapters.systemd.units import SystemdUnits
from fleetd.core.model.facts import SKIPPED, EndCause, Ending, UnitFacts
from fleetd.core.model.identity import SCHEDULER, SCHEDULER_UNIT, InstanceKey
from tests.support.rig.fake_systemd import FakeSystemd, path_of
from tests.support.rig.manual_clock import ManualClock
from tests.support.rig.private_bus import PrivateBus
from tests.support.rig.systemd_units import ONE, TWO, with_systemd

SIGKILL, SIGABRT = 9, 6
EXITED, KILLED, DUMPED = 1, 2, 3
KILL = Ending(cause=EndCause.SIGNAL, signal=SIGKILL)


async def first(units: SystemdUnits) -> UnitFacts:
    return (await units.read()).units[InstanceKey(1)]


@pytest.mark.parametrize(
    ("code", "status", "result", "expected"),
    [
        (KILLED, SIGKILL, "", Ending(cause=EndCause.SIGNAL, signal=SIGKILL)),
        (KILLED, SIGKILL, "oom-kill", Ending(cause=EndCause.OOM, signal=SIGKILL)),
        (KILLED, 15, "timeout", Ending(cause=EndCause.TIMEOUT, signal=15)),
        (DUMPED, SIGABRT, "", Ending(cause=EndCause.CORE_DUMP, signal=SIGABRT)),
        (DUMPED, SIGABRT, "watchdog", Ending(cause=EndCause.WATCHDOG, signal=SIGABRT)),
        (EXITED, 9, "", Ending(cause=EndCause.EXIT, exit_status=9)),
        (EXITED, 0, "protocol", Ending(cause=EndCause.EXIT, exit_status=0)),
        (EXITED, 0, "", Ending(cause=EndCause.EXIT, exit_status=0, clean=True)),
    ],
)
def test_how_the_last_main_process_ended(
    bus: PrivateBus, code: int, status: int, result: str, expected: Ending
) -> None:
    """Also after systemd has started the next process, even if there was no reading in between."""

    async def scenario(systemd: FakeSystemd, units: SystemdUnits) -> None:
        systemd.run(ONE, pid=1)
        assert (await first(units)).ending is None
        systemd.end_main_process(ONE, code, status, result)
        waiting = await first(units)
        assert (waiting.sub_state, waiting.ending) == ("auto-restart", expected)
        systemd.run(ONE, pid=2)
        again = await first(units)
        assert (again.active_state, again.main_pid, again.ending) == ("active", 2, expected)

    with_systemd(bus, scenario)


@pytest.mark.parametrize(
    ("result", "expected"),
    [("exit-code", EndCause.EXIT), ("timeout", EndCause.TIMEOUT), ("resources", EndCause.UNKNOWN)],
)
def test_what_failed_before_there_was_a_main_process(result: str, expected: EndCause) -> None:
    assert ending({"Result": result, "ExecMainCode": 0, "ExecMainStatus": 0}) == Ending(cause=expected)


@pytest.mark.parametrize("result", ["success", "start-limit-hit"])
def test_no_process_has_ended(result: str) -> None:
    assert ending({"Result": result, "ExecMainCode": 0, "ExecMainStatus": 0}) is None


def test_an_end_between_two_readings_and_the_next_one_after_it(bus: PrivateBus) -> None:
    async def scenario(systemd: FakeSystemd, units: SystemdUnits) -> None:
        systemd.run(ONE, pid=1)
        await first(units)
        systemd.end_main_process(ONE, KILLED, SIGKILL)
        systemd.restart_quietly(ONE, pid=2)
        systemd.run(ONE, pid=2)
        assert (await first(units)).ending == KILL
        systemd.end_main_process(ONE, EXITED, 1)
        systemd.run(ONE, pid=3)
        assert (await first(units)).ending == Ending(cause=EndCause.EXIT, exit_status=1)

    with_systemd(bus, scenario)


def test_how_a_unit_ended_is_kept_if_it_failed_and_not_if_it_was_stopped(bus: PrivateBus) -> None:
    async def scenario(systemd: FakeSystemd, units: SystemdUnits) -> None:
        unit = systemd.run(ONE, pid=1)
        unit.exec_main_code, unit.exec_main_status = KILLED, SIGKILL
        systemd.fail(ONE, "start-limit-hit")
        assert (await first(units)).ending == KILL
        systemd.finish_stop(ONE)
        assert (await units.read()).units == {}
        systemd.run(ONE, pid=2)
        assert (await first(units)).ending is None

    with_systemd(bus, scenario)


def test_after_a_gap_in_the_signals_no_old_ending_is_reported(bus: PrivateBus) -> None:
    async def scenario(systemd: FakeSystemd, units: SystemdUnits) -> None:
        systemd.run(ONE, pid=1)
        await first(units)
        systemd.end_main_process(ONE, KILLED, SIGKILL)
        systemd.run(ONE, pid=2)
        assert (await first(units)).ending == KILL
        await systemd.reexec()
        assert (await first(units)).ending is None

    with_systemd(bus, scenario)


def test_nonsense_in_a_signal_is_no_ending(bus: PrivateBus) -> None:
    async def scenario(systemd: FakeSystemd, units: SystemdUnits) -> None:
        systemd.run(ONE, pid=1)
        await first(units)
        service, changed = "org.freedesktop.systemd1.Service", "PropertiesChanged"
        bodies: list[tuple[str, list[object]]] = [
            ("", []),
            ("s", [service]),
            ("sa{sv}as", [service, {}, []]),
            ("sa{sv}as", [service, {"ExecMainCode": Variant("s", "2")}, []]),
            ("sa{sv}as", [service, {"Result": Variant("u", 2), "ExecMainCode": Variant("i", 2)}, []]),
            (
                "sa{sv}as",
                [service, {"ExecMainCode": Variant("i", 2), "ExecMainStatus": Variant("i", -9)}, []],
            ),
            (
                "sa{sv}as",
                ["other", {"ExecMainCode": Variant("i", 2), "ExecMainStatus": Variant("i", 9)}, []],
            ),
        ]
        for signature, body in bodies:
            systemd.signal("org.freedesktop.DBus.Properties", path_of(ONE), changed, signature, body)
        assert (await first(units)).ending is None

    with_systemd(bus, scenario)


_ANYTHING = st.none() | st.integers() | st.text()


@given(result=_ANYTHING, code=_ANYTHING, status=_ANYTHING)
def test_an_ending_has_a_valid_signal_or_none(result: object, code: object, status: object) -> None:
    found = ending({"Result": result, "ExecMainCode": code, "ExecMainStatus": status})
    assert found is None or (found.signal in range(65) and found.exit_status in {None, *range(256)})


def test_unit_files_that_systemd_has_not_read_are_reported(bus: PrivateBus) -> None:
    clock = ManualClock(100.0)

    async def scenario(systemd: FakeSystemd, units: SystemdUnits) -> None:
        systemd.run(ONE)
        assert (await first(units)).need_daemon_reload is False
        systemd.units[ONE].need_daemon_reload = True  # no signal announces it
        clock.seconds += 60
        assert (await first(units)).need_daemon_reload is True

    with_systemd(bus, scenario, clock=clock)


def test_a_changed_unit_file_makes_us_ask_systemd_at_once(bus: PrivateBus, tmp_path: Path) -> None:
    """Otherwise we would see the new digest a minute before we learn that systemd would still start the old unit."""
    directory = tmp_path / "etc/systemd/system"
    directory.mkdir(parents=True)
    (directory / "mastodon-sidekiq@.service").write_text("[Service]\n")

    async def scenario(systemd: FakeSystemd, units: SystemdUnits) -> None:
        for name in (ONE, TWO):
            systemd.run(name)
        await units.read()
        await units.read()
        assert systemd.properties_read == 2
        (directory / "mastodon-sidekiq@.service").write_text("[Service]\nNice=5\n")
        for name in (ONE, TWO):
            systemd.units[name].need_daemon_reload = True
        facts = await units.read()
        assert [unit.need_daemon_reload for unit in facts.units.values()] == [True, True]
        await units.read()
        assert systemd.properties_read == 4

    with_systemd(bus, scenario, unit_files=UnitFiles(tmp_path))


def test_a_drop_in_that_systemd_has_not_noticed(bus: PrivateBus, tmp_path: Path) -> None:
    directory = tmp_path / "etc/systemd/system"
    directory.mkdir(parents=True)
    (directory / "mastodon-sidekiq@.service").write_text("[Service]\n")
    drop_in = directory / "mastodon-sidekiq@.service.d/memory.conf"

    async def scenario(systemd: FakeSystemd, units: SystemdUnits) -> None:
        systemd.run(ONE)
        assert (await first(units)).need_daemon_reload is False
        drop_in.parent.mkdir(parents=True)
        drop_in.write_text("[Service]\nEnvironment=MALLOC_ARENA_MAX=1\n")
        assert (await first(units)).need_daemon_reload is True
        systemd.units[ONE].drop_ins = [str(drop_in)]
        systemd.reload()
        assert (await first(units)).need_daemon_reload is False

    with_systemd(bus, scenario, unit_files=UnitFiles(tmp_path))


def test_a_start_that_the_units_condition_refused_is_known_until_the_next_one(bus: PrivateBus) -> None:
    clock = ManualClock(100.0)

    async def scenario(systemd: FakeSystemd, units: SystemdUnits) -> None:
        await units.read()
        systemd.skip(SCHEDULER_UNIT)
        await units.read()
        for passed in (2.0, 5.0):
            clock.seconds += passed
            await units.read()
        own = (await units.read()).units[SCHEDULER]
        assert (own.active_state, own.result, own.skipped_age_seconds) == ("inactive", SKIPPED, 7.0)
        systemd.run(SCHEDULER_UNIT)
        await units.read()
        assert (await units.read()).units[SCHEDULER].skipped_age_seconds is None
        systemd.finish_stop(SCHEDULER_UNIT)
        assert SCHEDULER not in (await units.read()).units

    with_systemd(bus, scenario, clock=clock)


def test_one_that_died_before_keeps_its_ending_and_its_count(bus: PrivateBus) -> None:
    async def scenario(systemd: FakeSystemd, units: SystemdUnits) -> None:
        systemd.run(SCHEDULER_UNIT)
        before = (await units.read()).units[SCHEDULER]
        systemd.end_main_process(SCHEDULER_UNIT, KILLED, SIGKILL)
        systemd.skip(SCHEDULER_UNIT, restarts=1)
        await units.read()
        own = (await units.read()).units[SCHEDULER]
        assert (own.restarts, own.invocation_id) == (1, before.invocation_id)
        assert own.ending == Ending(cause=EndCause.SIGNAL, signal=SIGKILL)

    with_systemd(bus, scenario)
