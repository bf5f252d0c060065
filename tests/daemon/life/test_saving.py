"""The host's memory is saved, and status says for as long as it is not."""

from __future__ import annotations

from fleetd.core.instances.orders import Pause, Resume
from tests.support.world.fleets import idle_fleet
from tests.support.world.ports import policy


def test_trouble_with_saving_ends_although_the_memory_is_what_was_saved_before() -> None:
    """A pause on a full disk that is resumed leaves nothing to save; but it may have been written all the same."""
    rig = idle_fleet(policy(), 1)
    rig.run(60.0)
    rig.store.full = True  # type: ignore[attr-defined]
    rig.order(Pause(for_seconds=3600.0))
    assert rig.tick().trouble
    rig.store.full = False  # type: ignore[attr-defined]
    rig.order(Resume())
    assert not rig.tick().trouble
    rig.kill_fleetd()
    assert rig.tick().tick.held is None
