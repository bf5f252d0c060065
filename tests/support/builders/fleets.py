"""What a ledger answers, for tests of what is decided by it."""

from __future__ import annotations

from msgspec import structs

from fleetd.core.fleet.calls import BeatReply, OwnScheduler
from fleetd.core.fleet.state import Slot
from fleetd.core.fleet.view import FleetView, Share

REPLY = BeatReply(
    generation=1,
    clock_ms=1_000_000,
    gathering=None,
    leader="w2",
    token=None,
    alone=False,
    plan_format=1,
    epoch=0,
    planned=None,
    slot=Slot(),
    orders_version=0,
    orders=None,
    members_version=1,
    members=None,
    told=None,
)


def fleet_view(
    *,
    slot: Slot | None = None,
    gathering: tuple[str, ...] | None = None,
    told: OwnScheduler = "gone",
    alone: bool = False,
    desired: dict[str, int] | None = None,
) -> FleetView:
    """A fleet with a ledger that answers. `desired`: what the leader's plan has here."""
    reply = structs.replace(REPLY, slot=slot or Slot(), gathering=gathering, alone=alone)
    shares = {name: Share(needed_instances=count, desired_instances=count) for name, count in (desired or {}).items()}
    return FleetView(shared=True, reply=reply, told=told, shares=None if desired is None else shares)
