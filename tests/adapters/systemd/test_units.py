"""What SystemdUnits reads, and the faults that it survives, on a fake systemd on a real dbus-daemon."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from fleetd.adapters.systemd.units import SystemdUnits
from fleetd.core.model.facts import TargetFacts
from fleetd.core.model.identity import SCHEDULER, SCHEDULER_UNIT, TARGET_UNIT, InstanceKey
from fleetd.errors import SourceUnavailableError
from tests.support.rig.fake_systemd import FakeSystemd
from tests.support.rig.manual_clock import ManualClock
from tests.support.rig.private_bus import PrivateBus
from tests.support.rig.systemd_units import NINE, ONE, TWO, result_of, start, with_systemd


def test_reads_our_units_with_their_properties(bus: PrivateBus) -> None:
    async def scenario(systemd: FakeSystemd, units: SystemdUnits) -> None:
        systemd.now_microseconds = 90_000_000
        systemd.run(ONE, pid=4711)
        systemd.run(SCHEDULER_UNIT, pid=4712)
        systemd.fail(TWO)
        facts = await units.read()
        assert set(facts.units) == {1, 2, SCHEDULER}
        one = facts.units[InstanceKey(1)]
        assert (one.active_state, one.sub_state, one.main_pid) == ("active", "running", 4711)
        assert one.state_age_seconds == pytest.approx(10.0)
        assert one.invocation_id == "01" * 16
        assert one.control_group == f"/system.slice/{ONE}"
        assert (facts.units[InstanceKey(2)].active_state, facts.units[InstanceKey(2)].result) == (
            "failed",
            "exit-code",
        )
        assert facts.units[SCHEDULER].main_pid == 4712

    with_systemd(bus, scenario)


def test_reads_whether_and_when_the_target_of_all_workers_was_stopped(bus: PrivateBus) -> None:
    async def scenario(systemd: FakeSystemd, units: SystemdUnits) -> None:
        assert (await units.read()).target is None
        systemd.unit(TARGET_UNIT).referenced = True
        assert (await units.read()).target == TargetFacts(active_state="inactive"), "it never ran in this boot"
        systemd.run(TARGET_UNIT)
        assert (await units.read()).target == TargetFacts(active_state="active")
        systemd.now_microseconds = 40_000_000
        systemd.finish_stop(TARGET_UNIT)
        for _ in range(2):
            stopped = (await units.read()).target
            assert stopped == TargetFacts(active_state="inactive", stopped_age_seconds=60.0)
            systemd.reload()
        systemd.units[TARGET_UNIT].job = "start"
        again = (await units.read()).target
        assert again == TargetFacts(active_state="inactive", job="start", stopped_age_seconds=60.0)
        assert (await units.read()).units == {}

    with_systemd(bus, scenario)


def test_other_units_are_never_reported(bus: PrivateBus) -> None:
    async def scenario(systemd: FakeSystemd, units: SystemdUnits) -> None:
        for name in (NINE, "mastodon-sidekiq@01.service", "mastodon-sidekiq@evil.service", "cron.service"):
            systemd.run(name)
        facts = await units.read()
        assert facts.units == {}
        units.reconfigure([InstanceKey(9)])
        assert set((await units.read()).units) == {9}

    with_systemd(bus, scenario)


def test_what_fleetd_rendered_is_ours_also_if_the_configuration_names_it_no_more(bus: PrivateBus) -> None:
    rendered = {InstanceKey(2), InstanceKey(9)}

    async def scenario(systemd: FakeSystemd, units: SystemdUnits) -> None:
        systemd.run(TWO)
        systemd.run(NINE)
        units.reconfigure([InstanceKey(1)])
        assert set((await units.read()).units) == {2, 9}
        assert (await result_of(units, "quiet", 9)).result == "done"
        rendered.discard(InstanceKey(9))
        assert set((await units.read()).units) == {2}
        assert (await result_of(units, "quiet", 9)).result == "refused"

    with_systemd(bus, scenario, rendered=lambda: rendered)


def test_a_changed_state_is_seen_without_any_signal(bus: PrivateBus) -> None:
    async def scenario(systemd: FakeSystemd, units: SystemdUnits) -> None:
        assert (await units.read()).units == {}
        systemd.run(ONE, announce=False)
        assert (await units.read()).units[InstanceKey(1)].active_state == "active"
        systemd.units[ONE].active = "failed"
        assert (await units.read()).units[InstanceKey(1)].active_state == "failed"
        systemd.units[ONE].active = "inactive"
        assert (await units.read()).units == {}

    with_systemd(bus, scenario)


def test_a_quick_restart_is_seen_by_its_signal(bus: PrivateBus) -> None:
    async def scenario(systemd: FakeSystemd, units: SystemdUnits) -> None:
        systemd.run(ONE, pid=1)
        assert (await units.read()).units[InstanceKey(1)].main_pid == 1
        systemd.restart_quietly(ONE, pid=2)
        facts = await units.read()
        assert (facts.units[InstanceKey(1)].main_pid, facts.units[InstanceKey(1)].restarts) == (2, 1)

    with_systemd(bus, scenario)


def test_a_restart_by_a_job_is_seen_when_the_job_ends(bus: PrivateBus) -> None:
    async def scenario(systemd: FakeSystemd, units: SystemdUnits) -> None:
        systemd.run(ONE, pid=1)
        await units.read()
        systemd.units[ONE].main_pid = 2
        systemd.announce_job(ONE, "done")
        assert (await units.read()).units[InstanceKey(1)].main_pid == 2

    with_systemd(bus, scenario)


def test_properties_are_read_only_when_something_changed_or_a_minute_passed(bus: PrivateBus) -> None:
    clock = ManualClock(100.0)

    async def scenario(systemd: FakeSystemd, units: SystemdUnits) -> None:
        for name in (ONE, TWO):
            systemd.run(name)
        await units.read()
        assert systemd.properties_read == 2
        for _ in range(5):
            clock.seconds += 10
            age = (await units.read()).units[InstanceKey(1)].state_age_seconds
        assert systemd.properties_read == 2
        assert age == pytest.approx(clock.seconds - 1.0)  # it grows without another reading
        systemd.units[ONE].main_pid = 77  # no signal announced it
        clock.seconds += 10
        assert (await units.read()).units[InstanceKey(1)].main_pid == 77
        assert systemd.properties_read == 4

    with_systemd(bus, scenario, clock=clock)


def test_an_unloaded_unit_is_not_read_over_and_over(bus: PrivateBus) -> None:
    async def scenario(systemd: FakeSystemd, units: SystemdUnits) -> None:
        systemd.run(ONE)
        await units.read()
        systemd.finish_stop(ONE)
        before = systemd.properties_read
        for _ in range(5):
            assert (await units.read()).units == {}
        assert systemd.properties_read == before

    with_systemd(bus, scenario)


def test_daemon_reload(bus: PrivateBus) -> None:
    async def scenario(systemd: FakeSystemd, units: SystemdUnits) -> None:
        systemd.run(ONE, pid=1)
        await units.read()
        systemd.units[ONE].main_pid = 2
        systemd.reload()
        assert (await units.read()).units[InstanceKey(1)].main_pid == 2

    with_systemd(bus, scenario)


def test_daemon_reexec_between_and_during_readings(bus: PrivateBus) -> None:
    async def scenario(systemd: FakeSystemd, units: SystemdUnits) -> None:
        systemd.run(ONE, pid=1)
        await units.read()
        systemd.restart_quietly(ONE, pid=2)
        await systemd.reexec()
        assert (await units.read()).units[InstanceKey(1)].main_pid == 2
        systemd.die_on = {"ListUnitsByPatterns"}
        assert (await units.read()).units[InstanceKey(1)].main_pid == 2
        systemd.restart_quietly(ONE, pid=3)  # shows that we follow again: only subscribers get this signal
        assert (await units.read()).units[InstanceKey(1)].main_pid == 3

    with_systemd(bus, scenario)


def test_already_subscribed_is_success(bus: PrivateBus) -> None:
    async def scenario(systemd: FakeSystemd, units: SystemdUnits) -> None:
        systemd.already_subscribed = True
        systemd.run(ONE)
        assert 1 in (await units.read()).units

    with_systemd(bus, scenario)


def test_a_restart_of_the_bus(bus: PrivateBus) -> None:
    async def scenario(systemd: FakeSystemd, units: SystemdUnits) -> None:
        systemd.run(ONE, pid=1)
        await units.read()
        bus.stop()
        with pytest.raises(SourceUnavailableError, match="systemd can't be read"):
            await units.read()
        result = await units.carry_out(start(2))
        assert result.result == "failed"
        bus.start()
        reading = asyncio.ensure_future(units.read())  # this reading begins before systemd is back on the bus
        await asyncio.sleep(0.1)
        await systemd.start()
        assert (await reading).units[InstanceKey(1)].main_pid == 1
        systemd.restart_quietly(ONE, pid=2)
        assert (await units.read()).units[InstanceKey(1)].main_pid == 2
        assert (await units.carry_out(start(2))).result == "done"

    with_systemd(bus, scenario)


def test_a_restart_of_the_bus_during_a_reading(bus: PrivateBus) -> None:
    async def scenario(systemd: FakeSystemd, units: SystemdUnits) -> None:
        systemd.run(ONE, pid=1)
        await units.read()
        systemd.silent = {"ListUnitsByPatterns"}
        reading = asyncio.ensure_future(units.read())
        await asyncio.wait_for(systemd.kept_silent.wait(), 60)
        systemd.silent = set()
        bus.stop()
        bus.start()
        await systemd.start()
        assert (await reading).units[InstanceKey(1)].main_pid == 1

    with_systemd(bus, scenario)


def test_a_restart_of_the_bus_while_a_reading_waits_for_systemd(bus: PrivateBus) -> None:
    async def scenario(systemd: FakeSystemd, units: SystemdUnits) -> None:
        systemd.run(ONE, pid=1)
        await units.read()
        systemd.stop()
        reading = asyncio.ensure_future(units.read())
        await asyncio.sleep(0.1)  # the reading waits for systemd, on a bus that can't announce its return
        bus.stop()
        bus.start()
        await systemd.start()
        assert (await reading).units[InstanceKey(1)].main_pid == 1

    with_systemd(bus, scenario)


def test_a_silent_systemd_and_a_frozen_bus_end_at_the_deadline(bus: PrivateBus) -> None:
    async def scenario(systemd: FakeSystemd, units: SystemdUnits) -> None:
        systemd.run(ONE)
        assert InstanceKey(1) in (await units.read()).units
        systemd.silent = {"ListUnitsByPatterns"}
        with soon(units), pytest.raises(SourceUnavailableError, match="did not answer for"):
            await units.read()
        systemd.silent = {"StartUnit"}
        with soon(units):
            assert (await units.carry_out(start(2))).result == "timeout"
        systemd.silent = set()
        assert 1 in (await units.read()).units
        bus.freeze()
        try:
            with soon(units), pytest.raises(SourceUnavailableError):
                await units.read()
            with soon(units), pytest.raises(SourceUnavailableError):
                await units.read()
        finally:
            bus.thaw()
        assert 1 in (await units.read()).units

    with_systemd(bus, scenario)


@contextmanager
def soon(units: SystemdUnits) -> Iterator[None]:
    """Deadlines are short within the block. Outside of it a busy machine may take its time."""
    before = units._read_deadline_seconds, units._step_deadline_seconds
    units._read_deadline_seconds = units._step_deadline_seconds = 0.5
    try:
        yield
    finally:
        units._read_deadline_seconds, units._step_deadline_seconds = before


def test_a_bus_without_systemd_is_reported(bus: PrivateBus) -> None:
    async def scenario(systemd: FakeSystemd, units: SystemdUnits) -> None:
        systemd.stop()
        with pytest.raises(SourceUnavailableError, match="was not on the bus"):
            await units.read()

    with_systemd(bus, scenario, deadline_seconds=0.3)


@pytest.mark.parametrize(
    ("method", "signature", "body"),
    [
        ("ListUnitsByPatterns", "", []),
        ("ListUnitsByPatterns", "s", ["no"]),
        ("ListUnitsByPatterns", "as", [["no"]]),
        ("GetAll", "a{sv}", [{}]),
        ("GetAll", "as", [[]]),
        ("GetAll", "", []),
    ],
)
def test_nonsense_is_unknown_and_the_next_reading_works(
    bus: PrivateBus, method: str, signature: str, body: list[object]
) -> None:
    async def scenario(systemd: FakeSystemd, units: SystemdUnits) -> None:
        systemd.run(ONE)
        systemd.nonsense = {method: (signature, body)}
        with pytest.raises(SourceUnavailableError):
            await units.read()
        systemd.nonsense = {}
        assert 1 in (await units.read()).units

    with_systemd(bus, scenario)


@pytest.mark.parametrize("unreadable", [ONE, TWO])
def test_after_a_failed_reading_no_change_is_missed(bus: PrivateBus, unreadable: str) -> None:
    async def scenario(systemd: FakeSystemd, units: SystemdUnits) -> None:
        for name in (ONE, TWO):
            systemd.run(name, pid=1)
        await units.read()
        for name in (ONE, TWO):
            systemd.restart_quietly(name, pid=2)
        systemd.unreadable = {unreadable}
        with pytest.raises(SourceUnavailableError, match="not now"):
            await units.read()
        systemd.unreadable = set()
        facts = await units.read()
        assert [unit.main_pid for unit in facts.units.values()] == [2, 2]

    with_systemd(bus, scenario)
