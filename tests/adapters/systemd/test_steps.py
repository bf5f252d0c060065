"""The steps that SystemdUnits carries out and those it refuses, on a fake systemd on a real dbus-daemon."""

from __future__ import annotations

import pytest
from dbus_next.message import Message

from fleetd.adapters.bus.connection import Connection
from fleetd.adapters.systemd.units import FinishedJob, SystemdUnits
from fleetd.core.model.decision import Step, Verb
from fleetd.core.model.identity import SCHEDULER, SCHEDULER_UNIT, InstanceKey
from tests.support.rig.fake_systemd import MANAGER, PATH, FakeSystemd
from tests.support.rig.private_bus import PrivateBus
from tests.support.rig.systemd_units import ONE, WHY, result_of, with_systemd


def test_start_boots_a_unit_and_stop_stops_it(bus: PrivateBus) -> None:
    async def scenario(systemd: FakeSystemd, units: SystemdUnits) -> None:
        assert (await result_of(units, "start", 1)).result == "done"
        assert (await units.read()).units[InstanceKey(1)].active_state == "activating"
        assert (await result_of(units, "start", 1)).result == "skipped"
        systemd.finish_start(ONE)
        assert (await units.read()).units[InstanceKey(1)].active_state == "active"
        assert (await result_of(units, "stop", 1)).result == "done"
        assert (await result_of(units, "stop", 1)).result == "done"  # a repeated stop is fine
        assert (await units.read()).units[InstanceKey(1)].active_state == "deactivating"
        systemd.finish_stop(ONE)
        assert (await units.read()).units == {}
        assert (await result_of(units, "stop", 1)).result == "skipped"
        assert units.finished_jobs() == (FinishedJob(ONE, "done"), FinishedJob(ONE, "done"))
        assert units.finished_jobs() == ()

    with_systemd(bus, scenario)


def test_the_scheduler_is_started_by_its_own_unit(bus: PrivateBus) -> None:
    async def scenario(systemd: FakeSystemd, units: SystemdUnits) -> None:
        step = Step(verb="start", key=SCHEDULER, why=WHY)
        assert (await units.carry_out(step)).result == "done"
        assert systemd.units[SCHEDULER_UNIT].active == "activating"

    with_systemd(bus, scenario)


def test_a_start_never_cancels_a_stop(bus: PrivateBus) -> None:
    async def scenario(systemd: FakeSystemd, units: SystemdUnits) -> None:
        systemd.run(ONE)
        await result_of(units, "stop", 1)
        result = await result_of(units, "start", 1)
        assert result.result == "refused"
        assert "does not cancel a stop" in result.sentence
        assert systemd.units[ONE].active == "deactivating"

    with_systemd(bus, scenario)


def test_a_stop_ends_a_boot(bus: PrivateBus) -> None:
    async def scenario(systemd: FakeSystemd, units: SystemdUnits) -> None:
        await result_of(units, "start", 1)
        assert (await result_of(units, "stop", 1)).result == "done"
        assert systemd.units[ONE].active == "deactivating"

    with_systemd(bus, scenario)


def test_a_stop_that_is_under_way_is_told_to_the_main_process_again(bus: PrivateBus) -> None:
    """systemd sends one TERM, which a process may have lost; a second StopUnit sends none."""

    async def scenario(systemd: FakeSystemd, units: SystemdUnits) -> None:
        await result_of(units, "start", 1)
        await result_of(units, "stop", 1)
        assert systemd.units[ONE].signals == []
        assert (await result_of(units, "stop", 1)).result == "done"
        assert systemd.units[ONE].signals == [15]

    with_systemd(bus, scenario)


@pytest.mark.parametrize("job", ["restart", ""])
def test_a_unit_that_stops_in_order_to_start_again_is_stopped_as_any_other(bus: PrivateBus, job: str) -> None:
    async def scenario(systemd: FakeSystemd, units: SystemdUnits) -> None:
        await result_of(units, "start", 1)
        await result_of(units, "stop", 1)
        systemd.units[ONE].job = job
        assert (await result_of(units, "stop", 1)).result == "done"
        assert (systemd.units[ONE].job, systemd.units[ONE].signals) == ("stop", [])

    with_systemd(bus, scenario)


def test_a_unit_past_its_start_limit_starts(bus: PrivateBus) -> None:
    async def scenario(systemd: FakeSystemd, units: SystemdUnits) -> None:
        systemd.unit(ONE).starts_left = 0
        systemd.fail(ONE)  # its result does not mention the limit
        assert (await result_of(units, "start", 1)).result == "done"
        assert systemd.units[ONE].active == "activating"

    with_systemd(bus, scenario)


def test_quiet_sends_tstp_only_to_a_unit_that_serves(bus: PrivateBus) -> None:
    async def scenario(systemd: FakeSystemd, units: SystemdUnits) -> None:
        assert (await result_of(units, "quiet", 1)).result == "refused"
        await result_of(units, "start", 1)
        refused = await result_of(units, "quiet", 1)
        assert (refused.result, systemd.units[ONE].signals) == ("refused", [])
        assert "activating" in refused.sentence
        systemd.finish_start(ONE)
        assert (await result_of(units, "quiet", 1)).result == "done"
        await result_of(units, "stop", 1)
        assert (await result_of(units, "quiet", 1)).result == "refused"
        assert systemd.units[ONE].signals == [20]

    with_systemd(bus, scenario)


@pytest.mark.parametrize("verb", ["start", "stop", "quiet"])
@pytest.mark.parametrize("number", [9, -1, 9999])
def test_law_6_units_that_are_not_ours_are_not_touched(bus: PrivateBus, verb: Verb, number: int) -> None:
    async def scenario(systemd: FakeSystemd, units: SystemdUnits) -> None:
        systemd.run(f"mastodon-sidekiq@{number}.service")
        result = await result_of(units, verb, number)
        assert result.result == "refused"
        assert f"mastodon-sidekiq@{number}.service is neither in the configuration nor rendered" in result.sentence
        assert systemd.changes_asked == 0

    with_systemd(bus, scenario)


def test_an_unknown_verb_is_refused(bus: PrivateBus) -> None:
    async def scenario(systemd: FakeSystemd, units: SystemdUnits) -> None:
        systemd.run(ONE)
        result = await result_of(units, "kill", 1)  # type: ignore[arg-type]
        assert (result.result, systemd.changes_asked) == ("refused", 0)

    with_systemd(bus, scenario)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ("org.freedesktop.DBus.Error.AccessDenied", "50-fleetd.rules"),
        ("org.freedesktop.DBus.Error.InteractiveAuthorizationRequired", "50-fleetd.rules"),
        ("org.freedesktop.systemd1.NoSuchUnit", "systemctl daemon-reload"),
        ("org.freedesktop.systemd1.UnitMasked", "systemctl unmask"),
        ("org.freedesktop.systemd1.LoadFailed", "systemctl status"),
        ("org.freedesktop.systemd1.ShuttingDown", "shutting down"),
    ],
)
def test_a_refusal_says_what_to_do(bus: PrivateBus, error: str, said: str) -> None:
    async def scenario(systemd: FakeSystemd, units: SystemdUnits) -> None:
        systemd.errors = {"StartUnit": (error, "as systemd puts it")}
        result = await result_of(units, "start", 1)
        assert result.result == "refused"
        assert said in result.sentence
        assert "as systemd puts it" in result.sentence

    with_systemd(bus, scenario)


def test_a_masked_unit_is_named_with_the_command_that_ends_it(bus: PrivateBus) -> None:
    async def scenario(systemd: FakeSystemd, units: SystemdUnits) -> None:
        systemd.masked.add(ONE)
        result = await result_of(units, "start", 1)
        assert result.sentence.startswith("mastodon-sidekiq@1 is masked: systemctl unmask mastodon-sidekiq@1 ")

    with_systemd(bus, scenario)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        ("org.freedesktop.systemd1.UnitMasked", "Unit polkit.service is masked."),
        ("org.freedesktop.DBus.Error.AccessDenied", "Access denied"),
        ("org.freedesktop.DBus.Error.TimedOut", "Failed to activate service 'org.freedesktop.PolicyKit1': timed out"),
    ],
)
def test_a_polkit_that_does_not_run_is_named_and_not_the_unit(bus: PrivateBus, error: str, text: str) -> None:
    """Where polkit is masked, systemd passes on the bus's answer: "masked"."""

    async def scenario(systemd: FakeSystemd, units: SystemdUnits) -> None:
        assert (await units.read()).polkit_runs
        await systemd.end_polkit()
        systemd.errors = {"StartUnit": (error, text)}
        result = await result_of(units, "start", 1)
        assert result.result == "refused"
        assert result.sentence.startswith("polkit does not run")
        assert "systemctl start polkit" in result.sentence
        assert not (await units.read()).polkit_runs

    with_systemd(bus, scenario)


def test_a_step_is_given_only_once_if_systemd_goes_away_during_it(bus: PrivateBus) -> None:
    async def scenario(systemd: FakeSystemd, units: SystemdUnits) -> None:
        systemd.die_on = {"StartUnit"}
        result = await result_of(units, "start", 1)
        assert (result.result, systemd.changes_asked) == ("failed", 0)
        assert "the next readings show whether it happened" in result.sentence
        assert (await units.read()).units == {}
        assert (await result_of(units, "start", 1)).result == "done"

    with_systemd(bus, scenario)


def test_forged_signals_are_ignored(bus: PrivateBus) -> None:
    async def scenario(systemd: FakeSystemd, units: SystemdUnits) -> None:
        systemd.run(ONE)
        await units.read()
        forger = await Connection.open(bus.address)
        try:
            [names] = await forger.call_bus("ListNames")
            for name in names:
                if name.startswith(":") and name != forger.unique_name:
                    forged = Message.new_signal(PATH, MANAGER, "JobRemoved", "uoss", [1, PATH, ONE, "failed"])
                    forged.destination = name
                    forger.send(forged)
            await forger.call_bus("GetId")  # so that the bus has passed the signals on
            await units.read()
            assert units.finished_jobs() == ()
            systemd.finish_start(ONE)
            await units.read()
            assert units.finished_jobs() == (FinishedJob(ONE, "done"),)
        finally:
            forger.close()

    with_systemd(bus, scenario)
