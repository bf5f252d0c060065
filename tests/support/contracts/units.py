"""What every UnitControl promises, checked on the real adapter and on the fake."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Protocol

import pytest

from fleetd.core.model.decision import Step, StepResult, Verb
from fleetd.core.model.facts import UnitFacts
from fleetd.core.model.identity import InstanceKey
from fleetd.core.model.reasons.units import DrainedByPeople
from fleetd.errors import SourceUnavailableError
from fleetd.ports import UnitControl


class UnitStage(Protocol):
    """A systemd with instances 1 to 3 and the scheduler, all stopped, behind a source."""

    @property
    def units(self) -> UnitControl: ...

    async def serve(self, number: int) -> None:
        """Make an instance active, running a job."""
        ...

    async def finish_boot(self, number: int) -> None:
        """Finish the boot of an instance that was started, so that it is active."""
        ...

    async def finish_stop(self, number: int) -> None: ...

    async def fail(self, number: int) -> None:
        """Make systemd give up on an instance."""
        ...

    def quieted(self, number: int) -> bool:
        """Whether its process got SIGTSTP."""
        ...

    async def lose_systemd(self) -> None: ...

    async def bring_systemd_back(self) -> None: ...


UnitCheck = Callable[[UnitStage], Coroutine[Any, Any, None]]


def step(verb: Verb, number: int) -> Step:
    return Step(verb=verb, key=InstanceKey(number), why=DrainedByPeople())


async def order(stage: UnitStage, verb: Verb, number: int) -> StepResult:
    return await stage.units.carry_out(step(verb, number))


async def state_of(stage: UnitStage, number: int) -> str:
    """The unit's active state. A unit that is not listed is inactive."""
    unit: UnitFacts | None = (await stage.units.read()).units.get(InstanceKey(number))
    return "inactive" if unit is None else unit.active_state


async def what_is_stopped_is_not_listed(stage: UnitStage) -> None:
    facts = await stage.units.read()
    assert facts.units == {}
    await stage.units.close()


async def a_start_is_done_once_it_is_taken(stage: UnitStage) -> None:
    assert (await order(stage, "start", 1)).result == "done"
    assert await state_of(stage, 1) == "activating"
    await stage.finish_boot(1)
    unit = (await stage.units.read()).units[InstanceKey(1)]
    assert unit.active_state == "active"
    assert unit.main_pid > 0
    assert unit.state_age_seconds >= 0.0
    assert set((await stage.units.read()).units) == {1}


async def a_start_of_what_runs_is_skipped(stage: UnitStage) -> None:
    await stage.serve(1)
    assert (await order(stage, "start", 1)).result == "skipped"
    await order(stage, "start", 2)
    assert (await order(stage, "start", 2)).result == "skipped"


async def a_start_never_cancels_a_stop(stage: UnitStage) -> None:
    await stage.serve(1)
    await order(stage, "stop", 1)
    refused = await order(stage, "start", 1)
    assert refused.result == "refused"
    assert refused.sentence
    assert await state_of(stage, 1) == "deactivating"


async def a_stop_is_done_once_it_is_taken(stage: UnitStage) -> None:
    await stage.serve(1)
    assert (await order(stage, "stop", 1)).result == "done"
    assert await state_of(stage, 1) == "deactivating"
    assert (await stage.units.read()).units[InstanceKey(1)].job == "stop"
    await stage.finish_stop(1)
    assert await state_of(stage, 1) == "inactive"


async def a_stop_under_way_is_told_again(stage: UnitStage) -> None:
    await stage.serve(1)
    await order(stage, "stop", 1)
    assert (await order(stage, "stop", 1)).result == "done"
    assert await state_of(stage, 1) == "deactivating"
    await stage.finish_stop(1)
    assert await state_of(stage, 1) == "inactive"


async def a_stop_of_what_does_not_run_is_skipped(stage: UnitStage) -> None:
    assert (await order(stage, "stop", 1)).result == "skipped"
    await stage.fail(2)
    assert (await order(stage, "stop", 2)).result == "skipped"


async def a_quiet_is_for_what_serves(stage: UnitStage) -> None:
    await stage.serve(1)
    assert (await order(stage, "quiet", 1)).result == "done"
    assert stage.quieted(1)
    await order(stage, "start", 2)
    assert (await order(stage, "quiet", 2)).result == "refused", "one that boots would lose it"
    assert (await order(stage, "quiet", 3)).result == "refused"


async def what_failed_is_started_again(stage: UnitStage) -> None:
    await stage.fail(1)
    assert await state_of(stage, 1) == "failed"
    assert (await order(stage, "start", 1)).result == "done"
    assert await state_of(stage, 1) == "activating"


async def without_systemd_readings_raise_and_steps_do_not(stage: UnitStage) -> None:
    await stage.serve(1)
    await stage.lose_systemd()
    with pytest.raises(SourceUnavailableError) as raised:
        await stage.units.read()
    assert len(str(raised.value)) > 20
    result = await order(stage, "stop", 1)
    assert result.result in ("failed", "timeout")
    assert result.sentence
    await stage.bring_systemd_back()
    assert await state_of(stage, 1) == "active"


async def closing_twice_is_allowed(stage: UnitStage) -> None:
    await stage.units.read()
    await stage.units.close()
    await stage.units.close()


unit_control_contract: tuple[UnitCheck, ...] = (
    what_is_stopped_is_not_listed,
    a_start_is_done_once_it_is_taken,
    a_start_of_what_runs_is_skipped,
    a_start_never_cancels_a_stop,
    a_stop_is_done_once_it_is_taken,
    a_stop_under_way_is_told_again,
    a_stop_of_what_does_not_run_is_skipped,
    a_quiet_is_for_what_serves,
    what_failed_is_started_again,
    without_systemd_readings_raise_and_steps_do_not,
    closing_twice_is_allowed,
)
