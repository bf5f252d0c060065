"""The loop in virtual time: the real Loop, Ticker and TickLog on fakes."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from fleetd.core.instances.orders import Pause
from fleetd.core.model.decision import Step, StepResult
from fleetd.core.model.facts import Known, Snapshot
from fleetd.core.model.person import Person
from fleetd.daemon.loop import STUCK_SECONDS
from fleetd.errors import SourceUnavailableError
from tests.support.virtual_time import run
from tests.support.world.daemon import Daemon, lived
from tests.support.world.ports import HANG_SECONDS, FakeUnits, policy
from tests.support.world.world import World


def test_ready_comes_after_the_first_tick_and_once() -> None:
    daemon = lived(30.0)
    assert daemon.service.said[0] == "READY"
    assert daemon.service.said.count("READY") == 1
    assert daemon.units.orders[0][1].verb == "start"


def test_ready_waits_for_a_slow_first_tick() -> None:
    daemon = lived(1.0, sidekiq_seconds=HANG_SECONDS)
    assert daemon.service.said[0] == "READY"  # after the deadline of 2 s, when the stop had already been requested
    assert daemon.heard.statuses[0][0] == pytest.approx(2.0)


def test_ticks_come_every_five_seconds() -> None:
    daemon = lived(22.0)
    assert [at for at, _ in daemon.heard.statuses] == [0.0, 5.0, 10.0, 15.0, 20.0]


def test_status_is_a_sentence_a_person_can_read() -> None:
    daemon = lived(60.0)
    sentences = [line for line in daemon.service.said if line.startswith("STATUS=")]
    assert sentences[-1] == "STATUS=queues within target; default-first 1/1 (min)"
    world = World(policy())
    world.redis_up = False
    sentences = [line for line in lived(10.0, world=world).service.said if line.startswith("STATUS=")]
    assert sentences[-1].startswith("STATUS=redis unreadable: holding.")


def test_watchdog_is_fed_from_the_loop() -> None:
    daemon = lived(100.0, watchdog_seconds=10.0)
    assert daemon.service.said.count("WATCHDOG") == 11  # at 0 s, and every 10 s to the end
    assert lived(100.0).service.said.count("WATCHDOG") == 0


def test_watchdog_is_fed_while_sources_hang() -> None:
    daemon = lived(100.0, watchdog_seconds=10.0, sidekiq_seconds=HANG_SECONDS, database_seconds=HANG_SECONDS)
    assert daemon.service.said.count("WATCHDOG") >= 10


def test_watchdog_is_not_fed_when_a_tick_never_ends() -> None:
    async def hangs(host: str, without_jobs_of: frozenset[str] = frozenset()) -> Snapshot:
        await asyncio.sleep(HANG_SECONDS)
        raise AssertionError

    async def live() -> int:
        daemon = Daemon(World(policy()), watchdog_seconds=10.0)
        daemon.ticker.sources.observe = hangs  # type: ignore[method-assign]
        task = asyncio.create_task(daemon.loop.run())
        await asyncio.sleep(STUCK_SECONDS * 4)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        return daemon.service.said.count("WATCHDOG")

    assert run(live()) <= (STUCK_SECONDS + 10.0) / 10.0 + 1


def test_a_hanging_source_delays_a_tick_by_no_more_than_its_deadline() -> None:
    daemon = lived(21.0, database_seconds=HANG_SECONDS)
    assert [at for at, _ in daemon.heard.statuses] == [2.0, 9.0, 16.0, 23.0][: len(daemon.heard.statuses)]
    status = daemon.heard.statuses[-1][1]
    postgres = next(s for s in status.sources if s.name == "postgres")
    assert not postgres.ok
    assert postgres.why == "no answer from postgres within 2 s"
    assert next(s for s in status.sources if s.name == "redis").ok


def test_if_all_sources_hang_a_tick_is_delayed_by_at_most_two_deadlines() -> None:
    world = World(policy())
    world.systemd_hangs = True
    daemon = lived(20.0, world=world, sidekiq_seconds=HANG_SECONDS, database_seconds=HANG_SECONDS)
    assert daemon.heard.statuses[0][0] <= 4.0


def test_a_silent_systemd_costs_one_deadline_for_all_steps() -> None:
    class MuteUnits(FakeUnits):
        async def carry_out(self, step: Step) -> StepResult:
            await asyncio.sleep(HANG_SECONDS)
            raise AssertionError

    async def live() -> tuple[float, list[str]]:
        world = World(policy(scheduler=None))
        world.enqueue("default", 5000)
        daemon = Daemon(world)
        daemon.ticker.sources.units = MuteUnits(world)
        result = await daemon.ticker.tick()
        return asyncio.get_running_loop().time(), [r.result for r in result.results]

    took, results = run(live())
    assert took == pytest.approx(10.0)
    assert results == ["timeout", "skipped"]


def test_a_hang_before_a_tick_does_not_stop_the_ticks() -> None:
    async def hang() -> None:
        await asyncio.sleep(HANG_SECONDS)

    async def fail() -> None:
        raise SourceUnavailableError("no bus")

    assert len(lived(31.0, before_tick=hang).heard.statuses) >= 2
    assert len(lived(31.0, before_tick=fail).heard.statuses) == 7


def test_stop_leaves_the_workers_running() -> None:
    world = World(policy())
    world.rates = {"default": 2.0}
    daemon = lived(120.0, world=world)
    serving = [n for n, u in world.units.items() if u.state == "active"]
    assert len(serving) >= 1
    assert {step.verb for _, step in daemon.units.orders} == {"start"}
    world.advance(60.0)
    assert [n for n, u in world.units.items() if u.state == "active"] == serving


def test_stop_in_mid_tick_ends_after_that_tick() -> None:
    async def live() -> tuple[float, int]:
        daemon = Daemon(World(policy()), sidekiq_seconds=1.0)
        task = asyncio.create_task(daemon.loop.run())
        await asyncio.sleep(0.5)
        daemon.loop.stop()
        await task
        return asyncio.get_running_loop().time(), len(daemon.heard.statuses)

    assert run(live()) == (1.0, 1)


def test_soon_makes_the_next_tick_come_at_once() -> None:
    async def live() -> list[float]:
        daemon = Daemon(World(policy()))
        task = asyncio.create_task(daemon.loop.run())
        await asyncio.sleep(2.0)
        daemon.loop.soon()
        await asyncio.sleep(1.0)
        daemon.loop.stop()
        await task
        return [at for at, _ in daemon.heard.statuses]

    assert run(live()) == [0.0, 2.0]


def test_a_freeze_between_readings_makes_the_earlier_one_unknown() -> None:
    async def live() -> bool:
        daemon = Daemon(World(policy()), database_seconds=1.0)
        task = asyncio.create_task(daemon.ticker.tick())
        await asyncio.sleep(0.5)
        daemon.clock.asleep_seconds = 3600.0  # the host slept for an hour after Redis was read
        result = await task
        return isinstance(result.snapshot.sidekiq, Known) or isinstance(result.snapshot.database, Known)

    assert run(live()) is False


def test_nothing_is_started_on_a_plan_that_has_expired_meanwhile() -> None:
    async def live() -> list[str]:
        daemon = Daemon(World(policy()))

        saves = daemon.store.save

        def slowly(content: bytes) -> None:
            saves(content)
            daemon.clock.asleep_seconds = 20.0

        daemon.store.save = slowly  # type: ignore[method-assign]
        return [r.result for r in (await daemon.ticker.tick()).results]

    assert run(live()) == ["skipped"]


def test_the_log_repeats_nothing() -> None:
    world = World(policy())
    world.postgres_up = False
    daemon = lived(300.0, world=world)
    unreadable = [line for line in daemon.lines if line.startswith("postgres can't be read")]
    assert unreadable == ["postgres can't be read: Postgres at 127.0.0.1:5432 refuses connections"]
    assert len(daemon.lines) < 20


def test_an_order_is_kept_with_who_gave_it_and_why() -> None:
    async def ordered() -> tuple[str, ...]:
        daemon = Daemon(World(policy()))
        running = asyncio.create_task(daemon.run(30.0))
        await asyncio.sleep(7.0)
        told = await daemon.loop.order(Pause(reason="moving the database"), Person(user="root", login="alice"))
        await running
        assert daemon.loop.status is not None
        return told, *(event.sentence for event in daemon.loop.status.last_events)

    told, *events = run(ordered())
    assert told.startswith("Paused for 4.0 h (moving the database): nothing starts or stops")
    assert f"ordered by root (sudo alice): {told}" in events
