"""A rig whose ticks are logged and recorded as in the daemon's loop."""

from __future__ import annotations

from fleetd.daemon.log import TickLog
from fleetd.daemon.record import Recorder
from tests.support.world.history import FakeHistory
from tests.support.world.ports import Rig, policy, strict
from tests.support.world.world import World


class Recorded(Rig):
    """A rig whose ticks are reported and recorded as in the daemon's loop."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.history = FakeHistory()
        self.lines: list[str] = []
        self.recorder = Recorder(self.history, lambda: 1_000_000.0 + world.now)
        say = lambda line, **fields: self.lines.append(line)  # noqa: E731
        self.journalist = TickLog(say, say, self.recorder.note)

    def live(self, seconds: float, every: float = 5.0) -> None:
        end = self.world.now + seconds
        while self.world.now < end:
            result = self.tick()
            self.journalist.report(result, self.status(result))
            self.recorder.record(result)
            self.world.advance(every)


def busy_world() -> World:
    world = World(policy(strict(low=1)))
    world.rates = {"default": 6.0, "pull": 1.0}
    return world
