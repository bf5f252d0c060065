"""Act: carry out the steps one by one, each with a deadline. Before each start it is checked that its time is not over.

A host that was frozen between deciding and acting must not start instances on a plan, or on leave, that others no
longer count on (laws 1 and 2). Stopping on an old plan is safe, starting is not.
"""

from __future__ import annotations

import asyncio

from fleetd.core.model.decision import Step, StepResult
from fleetd.daemon.bugs import Bugs
from fleetd.ports import Clock, UnitControl

#: systemd answers a job request in milliseconds; on a host that boots workers it may take seconds.
STEP_DEADLINE_SECONDS = 10.0


async def act(
    steps: list[Step],
    units: UnitControl,
    until_seconds: float,
    clock: Clock,
    bugs: Bugs | None = None,
) -> list[StepResult]:
    """Carry out the steps in order; a failed one does not keep the others from being tried.

    `until_seconds`: when the starts must have begun, by `clock`. When systemd gives no answer the other steps are left
    for a later tick, so that a tick takes one deadline and not one for each step (law 7).
    `bugs`: takes what a step raises although nobody foresaw it; None: that is raised.
    """
    results: list[StepResult] = []
    silent = False
    for step in steps:
        if silent:
            results.append(_skipped(step, "systemd did not answer the step before it"))
        elif step.verb == "start" and clock.now_seconds() >= until_seconds:
            results.append(_skipped(step, "the plan expired before it could be started"))
        else:
            results.append(await _one(step, units, bugs))
            silent = results[-1].result == "timeout"
    return results


def _skipped(step: Step, sentence: str) -> StepResult:
    return StepResult(step=step, result="skipped", sentence=sentence)


async def _one(step: Step, units: UnitControl, bugs: Bugs | None) -> StepResult:
    try:
        return await asyncio.wait_for(units.carry_out(step), STEP_DEADLINE_SECONDS)
    except TimeoutError:
        return StepResult(
            step=step, result="timeout", sentence=f"systemd gave no answer within {STEP_DEADLINE_SECONDS:.0f} s"
        )
    except Exception as error:
        if bugs is None:
            raise
        return StepResult(step=step, result="failed", sentence=bugs.take(f"{step.verb} {step.unit}", error))
