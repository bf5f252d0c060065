"""A trace run under fleetd, recorded as it would be on a real host."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from fleetd.core.model.history import Recording
from fleetd.daemon.log import TickLog
from fleetd.daemon.record import Recorder
from fleetd.daemon.tell import status_of
from fleetd.simulate.run import policy_of
from fleetd.simulate.trace.trace import Trace
from fleetd.simulate.world.daemon import SimulatedDaemon
from fleetd.simulate.world.world import World
from tests.support.world.history import FakeHistory

#: An arbitrary day, in Unix seconds.
BEGIN = 1_790_000_000.0


def recorded(trace: Trace, watched: Callable[[int], bool] = lambda second: True) -> tuple[Recording, World]:
    """What fleetd recorded, and the world at the end. `watched`: whether fleetd runs and records at a given second."""
    return asyncio.run(_recorded(trace, watched))


async def _recorded(trace: Trace, watched: Callable[[int], bool]) -> tuple[Recording, World]:
    policy = policy_of(trace, None)
    world = World(trace, policy)
    daemon, history = SimulatedDaemon(world), FakeHistory()
    recorder = Recorder(history, lambda: BEGIN + world.now)
    log = TickLog(lambda *_, **__: None, lambda *_, **__: None, recorder.note)
    while world.now < world.end:
        if watched(world.now):
            result = await daemon.tick()
            status = status_of(
                result,
                sources=daemon.ticker.sources.status(),
                events=(),
                problems=(),
                uptime_seconds=float(world.now),
                ticks_total=0,
            )
            log.report(result, status)
            recorder.record(result)
        world.advance_to(min(world.end, world.now + daemon.pause_seconds()))
    recorder.flush()
    return history.read(0.0, samples=True), world
