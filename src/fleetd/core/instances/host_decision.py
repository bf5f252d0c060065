"""What one host does now, why not more, and what it is to remember of it."""

from __future__ import annotations

from fleetd.core.instances.host_memory import HostMemory
from fleetd.core.model.decision import Clamp, Clamps, Step


class HostDecision:
    """Filled by carry_out, read by the tick."""

    def __init__(self, memory: HostMemory) -> None:
        self.steps: list[Step] = []
        self.reasons = Clamps()
        self.memory = memory

    @property
    def clamps(self) -> tuple[Clamp, ...]:
        return self.reasons.all()
