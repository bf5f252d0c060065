"""Plays a story with a fake systemd and a SystemdUnits on a private bus."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from fleetd.adapters.systemd import SystemdUnits
from fleetd.adapters.unit_files import UnitFiles
from fleetd.core.decision import Step, StepResult, Verb
from tests.adapters.fake_systemd import FakeSystemd
from tests.adapters.private_bus import PrivateBus

ONE = "mastodon-sidekiq@1.service"
TWO = "mastodon-sidekiq@2.service"
NINE = "mastodon-sidekiq@9.service"
SCHEDULER = "mastodon-sidekiq-scheduler.service"


class Clock:
    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


Story = Callable[[FakeSystemd, SystemdUnits], Awaitable[None]]


def play(
    bus: PrivateBus,
    story: Story,
    *,
    clock: Clock | None = None,
    deadline_seconds: float = 60.0,
    unit_files: UnitFiles | None = None,
) -> None:
    """Run a story with a fake systemd and a SystemdUnits for the numbers 1 to 3 and the scheduler."""

    async def run() -> None:
        systemd = FakeSystemd(bus.address)
        await systemd.start()
        units = SystemdUnits(
            [1, 2, 3],
            bus_address=bus.address,
            unit_files=unit_files,
            monotonic_seconds=clock or Clock(),
            read_deadline_seconds=deadline_seconds,
            step_deadline_seconds=deadline_seconds,
        )
        try:
            await asyncio.wait_for(story(systemd, units), 90)
        finally:
            await units.close()
            systemd.stop()

    asyncio.run(run())


def start(number: int) -> Step:
    return Step(verb="start", number=number)


async def result_of(units: SystemdUnits, verb: Verb, number: int) -> StepResult:
    return await units.carry_out(Step(verb=verb, number=number))
