"""The host's memory is saved, and whoever orders or looks is told for as long as it is not."""

from __future__ import annotations

import asyncio

import pytest

from fleetd.core.instances.orders import DrainInstance, Pause, Resume
from fleetd.core.model.identity import InstanceKey
from fleetd.daemon.bugs import Bugs
from tests.support.virtual_time import run
from tests.support.world.daemon import Daemon
from tests.support.world.fleets import idle_fleet
from tests.support.world.ports import FakeStore, Rig, policy
from tests.support.world.world import World

NO_ROOM = "/var/lib/fleetd: no space left on device"


def test_trouble_with_saving_ends_although_the_memory_is_what_was_saved_before() -> None:
    """A pause on a full disk that is resumed leaves nothing to save; but it may have been written all the same."""
    rig = idle_fleet(policy(), 1)
    rig.run(60.0)
    rig.store.full = True  # type: ignore[attr-defined]
    rig.order(Pause(for_seconds=3600.0))
    assert rig.tick().unsaved
    rig.store.full = False  # type: ignore[attr-defined]
    rig.order(Resume())
    assert not rig.tick().unsaved
    rig.kill_fleetd()
    assert rig.tick().tick.held is None


def on_a_full_disk(*, has_spare: bool) -> tuple[Rig, FakeStore]:
    store = FakeStore(has_spare=has_spare)
    rig = Rig(World(policy()), store=store)
    rig.run(60.0)
    store.full = True
    return rig, store


def test_who_orders_on_a_full_disk_is_obeyed_and_told_that_it_would_be_forgotten() -> None:
    rig, _ = on_a_full_disk(has_spare=False)
    said = rig.order(DrainInstance(key=InstanceKey(1)))
    assert said.startswith("mastodon-sidekiq@1 is drained")
    assert said.endswith(f"It is obeyed now, but a restart of fleetd would forget it: {NO_ROOM}.")
    status = rig.status(rig.tick())
    [problem] = status.problems
    assert (
        problem == f"fleetd's memory can't be saved, so a restart of fleetd would forget orders and drains: {NO_ROOM}"
    )
    assert rig.ordered("quiet") == [1]


def test_what_is_kept_below_run_is_said_to_outlive_a_restart_and_does() -> None:
    rig, _ = on_a_full_disk(has_spare=True)
    said = rig.order(Pause(for_seconds=3600.0, reason="moving the database"))
    assert said.endswith(f"It is kept in /run/fleetd/host.json, where a restart of fleetd finds it: {NO_ROOM}.")
    [problem] = rig.status(rig.tick()).problems
    assert problem.startswith("fleetd's memory is in /run/fleetd/host.json until its own file can be written: ")
    rig.kill_fleetd()
    status = rig.status(rig.tick())
    assert "moving the database" in status.holds[0].sentence
    assert status.problems == (problem,), "it has not been forgotten that it is not saved"


@pytest.mark.parametrize("saves", [1, 2, 5])
def test_an_order_is_written_with_the_first_tick_that_can(saves: int) -> None:
    rig, store = on_a_full_disk(has_spare=False)
    store.full, store.fails = False, saves
    rig.order(Pause(for_seconds=3600.0, reason="moving"))
    for _ in range(saves - 1):
        assert rig.tick().unsaved
        assert b"moving" not in (store.content or b"")
    assert rig.tick().unsaved is None
    assert b"moving" in (store.content or b"")


def log_of(daemon: Daemon) -> list[str]:
    return [line for line in daemon.lines if "memory" in line]


def test_the_log_says_once_that_it_begins_and_once_that_it_ends() -> None:
    async def live() -> list[str]:
        daemon = Daemon(World(policy()))
        running = asyncio.create_task(daemon.run(200.0))
        await asyncio.sleep(20.0)
        daemon.store.full = True
        await daemon.loop.order(Pause(for_seconds=3600.0))
        await asyncio.sleep(100.0)
        daemon.store.full = False
        await running
        return log_of(daemon)

    begin, end = run(live())
    assert begin.endswith(NO_ROOM)
    assert end == "fleetd's memory can be saved again"


def test_a_stop_saves_what_could_not_be_saved_before() -> None:
    """The disk has room again, and `systemctl restart fleetd` comes before the next tick."""

    async def live() -> bytes:
        daemon = Daemon(World(policy()))
        running = asyncio.create_task(daemon.run(22.0))
        await asyncio.sleep(20.0)
        daemon.store.full = True
        await daemon.loop.order(Pause(for_seconds=3600.0, reason="moving"))
        await asyncio.sleep(1.0)  # the order's own tick is over; the next one is due after the stop
        daemon.store.full = False
        await running
        return daemon.store.content or b""

    assert b"moving" in run(live())


def test_it_is_saved_and_shown_too_while_a_bug_ends_each_tick() -> None:
    async def live() -> tuple[tuple[str, ...], tuple[str, ...], bytes]:
        daemon = Daemon(World(policy()), bugs=Bugs(lambda *_, **__: None))
        running = asyncio.create_task(daemon.run(60.0))
        await asyncio.sleep(20.0)
        daemon.ticker.sources.observe = broken  # type: ignore[method-assign, assignment]
        daemon.store.full = True
        await daemon.loop.order(Pause(for_seconds=3600.0, reason="moving"))
        await asyncio.sleep(10.0)
        assert daemon.loop.status is not None
        before = daemon.loop.status.problems
        daemon.store.full = False
        await asyncio.sleep(10.0)
        after, content = daemon.loop.status.problems, daemon.store.content or b""
        await running
        return before, after, content

    before, after, content = run(live())
    assert [NO_ROOM in problem for problem in before] == [False, True]
    assert len(after) == 1
    assert b"moving" in content


async def broken(*_: object) -> None:
    raise KeyError
