"""Exceptions that nobody foresaw: raised in tests; in the running daemon one reading, one step or one tick."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from io import StringIO
from typing import Any

import pytest
from prometheus_client import generate_latest

from fleetd.adapters.logging import journal
from fleetd.core.model.decision import Step, StepResult
from fleetd.core.model.facts import Known, SidekiqFacts, Unknown
from fleetd.core.model.status import Status
from fleetd.daemon.bugs import KINDS_MAX, Bugs
from fleetd.daemon.metrics import Metrics
from fleetd.daemon.tick import TickResult
from fleetd.errors import FleetdError
from tests.support.virtual_time import run
from tests.support.world.daemon import BEGIN, Daemon, nothing
from tests.support.world.ports import FakeHost, FakeSidekiq, FakeUnits, policy
from tests.support.world.world import World

SECRET = "hunter2"


class Said:
    """A log: sentences, and the exceptions whose tracebacks were logged."""

    def __init__(self) -> None:
        self.sentences: list[str] = []
        self.tracebacks: list[BaseException] = []

    def __call__(self, sentence: str, *, exc_info: BaseException) -> None:
        self.sentences.append(sentence)
        self.tracebacks.append(exc_info)


def broken() -> Any:
    raise KeyError(SECRET)


def broken_otherwise() -> Any:
    raise OverflowError(SECRET)


class Running(Daemon):
    """The daemon as it runs: it takes what nobody foresaw. `at_tick`: called before the decisions of each tick."""

    def __init__(
        self,
        world: World | None = None,
        *,
        before_tick: Callable[[], Awaitable[None]] = nothing,
        watchdog_seconds: float | None = None,
    ) -> None:
        self.log_said = Said()
        super().__init__(
            world or World(policy()),
            bugs=Bugs(self.log_said),
            before_tick=before_tick,
            watchdog_seconds=watchdog_seconds,
        )
        self.metrics = Metrics(version="1", now_seconds=self.clock.now_seconds)
        self.loop.tellers = (self.heard, self.metrics)
        self.at_tick: Callable[[int], None] = lambda _: None
        self.after_tick: Callable[[int], None] = lambda _: None
        self.tries = 0
        tick = self.ticker.tick

        async def tried() -> TickResult:
            self.tries += 1
            self.at_tick(self.tries)
            result = await tick()
            self.after_tick(self.tries)
            return result

        self.ticker.tick = tried  # type: ignore[method-assign]

    @property
    def acted(self) -> list[float]:
        """When each step was ordered, in seconds since fleetd's start."""
        return [at - BEGIN for at, _ in self.units.orders]

    @property
    def statuses(self) -> list[Status]:
        return [status for _, status in self.heard.statuses]

    def metric(self, name: str) -> float:
        text = generate_latest(self.metrics.registry).decode()
        return next(float(line.split()[1]) for line in text.splitlines() if line.startswith(f"{name} "))


def running(seconds: float, scenario: Callable[[Running], None] = lambda _: None, **options: Any) -> Running:
    """A daemon that ran for this long. `scenario`: changes it before it starts."""
    made: list[Running] = []

    async def live() -> None:
        daemon = Running(**options)
        made.append(daemon)
        scenario(daemon)
        await daemon.run(seconds)
        daemon.metrics._now_seconds = lambda: 0.0

    run(live())
    return made[0]


def fails_from(tick: int, to: int = 10**6) -> Callable[[int], None]:
    return lambda number: broken() if tick <= number <= to else None


# -- what a source, a step or a tick raises ---------------------------------------------------------------------------


class BrokenSidekiq(FakeSidekiq):
    async def read(self, *, without_jobs_of: frozenset[str] = frozenset()) -> SidekiqFacts:
        return broken()  # type: ignore[no-any-return]


def with_broken_sidekiq(daemon: Running) -> None:
    daemon.ticker.sources.sidekiq = BrokenSidekiq(daemon.world)


def test_in_tests_they_are_raised() -> None:
    async def live(change: Callable[[Daemon], None]) -> None:
        daemon = Daemon(World(policy()))
        change(daemon)
        await daemon.run(10.0)

    def breaks_tick(daemon: Daemon) -> None:
        daemon.ticker.planned = None  # type: ignore[assignment]

    def breaks_source(daemon: Daemon) -> None:
        daemon.ticker.sources.sidekiq = BrokenSidekiq(daemon.world)

    for change, kind in ((breaks_source, KeyError), (breaks_tick, AttributeError)):
        with pytest.raises(kind):
            run(live(change))


def test_of_a_source_it_is_one_unknown_reading() -> None:
    daemon = running(31.0, with_broken_sidekiq)
    for status in daemon.statuses:
        redis = next(source for source in status.sources if source.name == "redis")
        assert not redis.ok
        assert redis.why.startswith("reading redis failed because of a bug in fleetd (KeyError, test_bugs.py line ")
        assert all(source.ok for source in status.sources if source.name != "redis")
        assert SECRET not in repr(status)
    assert status.ticks_total == redis.errors_total == 7
    assert status.tick_failures_total == 0


def test_of_a_source_it_is_logged_with_one_traceback() -> None:
    daemon = running(300.0, with_broken_sidekiq)
    assert [type(error) for error in daemon.log_said.tracebacks] == [KeyError]
    assert len([line for line in daemon.lines if "redis can't be read" in line]) == 1


def test_of_the_host_the_other_readings_still_count() -> None:
    class BrokenHost(FakeHost):
        async def read(self, systemd: Any) -> Any:
            return broken()

    def scenario(daemon: Running) -> None:
        daemon.ticker.sources.machine = BrokenHost(daemon.world)

    daemon = running(1.0, scenario)
    snapshot = daemon.ticker._last.snapshot if daemon.ticker._last else None
    assert snapshot is not None
    assert isinstance(snapshot.machine, Unknown)
    assert isinstance(snapshot.sidekiq, Known)
    assert isinstance(snapshot.systemd, Known)


def test_of_a_step_the_step_failed_and_the_others_are_tried() -> None:
    class Units(FakeUnits):
        async def carry_out(self, step: Step) -> StepResult:
            return broken() if step.key == 1 else await super().carry_out(step)

    def scenario(daemon: Running) -> None:
        daemon.world.enqueue("default", 5000)
        daemon.units = daemon.ticker.sources.units = Units(daemon.world)

    daemon = running(1.0, scenario)
    assert [(step.unit, step.result) for step in daemon.statuses[0].step_results] == [
        ("mastodon-sidekiq@1.service", "failed"),
        ("mastodon-sidekiq@2.service", "done"),
    ]
    assert "because of a bug in fleetd (KeyError" in daemon.statuses[0].step_results[0].sentence


# -- a tick that raises -----------------------------------------------------------------------------------------------


def test_a_tick_that_raises_does_nothing_and_the_next_one_comes() -> None:
    def scenario(daemon: Running) -> None:
        daemon.world.enqueue("default", 5000)
        daemon.at_tick = fails_from(1, to=3)

    daemon = running(41.0, scenario)
    assert daemon.tries == 9
    assert [at for at, _ in daemon.heard.statuses] == [0.0, 5.0, 10.0, 15.0, 20.0, 25.0, 30.0, 35.0, 40.0]
    assert daemon.acted[0] == 20.0, "the tick at 15 s only shows that it can be completed"
    assert [bool(status.problems) for status in daemon.statuses] == [True] * 3 + [False] * 6


def test_a_tick_that_raises_is_a_problem_in_status_and_the_last_readings_stay() -> None:
    daemon = running(31.0, lambda daemon: setattr(daemon, "at_tick", fails_from(4)))
    well, ill = daemon.statuses[2], daemon.statuses[-1]
    assert well.problems == ()
    (problem,) = ill.problems
    assert problem.startswith("a tick failed because of a bug in fleetd (KeyError, test_bugs.py line ")
    assert problem.endswith("Until a tick is completed nothing is started or stopped")
    assert SECRET not in repr(ill)
    assert (ill.profiles, ill.queues, ill.ticks_total) == (well.profiles, well.queues, 3)
    assert (ill.tick_age_seconds, ill.uptime_seconds) == (20.0, 30.0)
    assert ill.next_sentence.startswith("nothing: a bug in fleetd")
    assert daemon.service.said[-1] == f"STATUS={ill.summary}"
    assert "nothing is started or stopped" in ill.summary


def test_the_age_of_the_last_complete_tick_grows() -> None:
    async def live() -> list[float]:
        daemon = Running()
        daemon.at_tick = fails_from(2)
        task = asyncio.create_task(daemon.loop.run())
        ages = []
        for _ in range(4):
            await asyncio.sleep(10.0)
            now = daemon.loop.status_now()
            ages.append(now.tick_age_seconds if now else -1.0)
        daemon.loop.stop()
        await task
        return ages

    assert run(live()) == [10.0, 20.0, 30.0, 40.0]


def test_the_first_tick_raises_and_fleetd_is_ready_and_says_why() -> None:
    """Were READY never sent, systemd would start fleetd again and again, and nobody could ask it."""
    daemon = running(11.0, lambda daemon: setattr(daemon, "at_tick", broken_at_once))
    assert daemon.service.said[0] == "READY"
    assert daemon.service.said.count("READY") == 1
    status = daemon.statuses[0]
    assert status.problems
    assert [profile.name for profile in status.profiles] == ["default-first"]
    assert {profile.running_instances for profile in status.profiles} == {None}
    assert {queue.length_jobs for queue in status.queues} == {None}
    assert status.scheduler.processes is None
    assert daemon.units.orders == []


def broken_at_once(_: int) -> None:
    broken()


def test_the_watchdog_is_fed_while_ticks_raise() -> None:
    scenario = lambda daemon: setattr(daemon, "at_tick", broken_at_once)  # noqa: E731
    daemon = running(1000.0, scenario, watchdog_seconds=10.0)
    assert daemon.service.said.count("WATCHDOG") >= 100


def test_a_bug_that_stays_is_logged_once_and_so_is_its_end() -> None:
    daemon = running(600.0, lambda daemon: setattr(daemon, "at_tick", fails_from(2, to=100)))
    said = [line for line in daemon.lines if "bug" in line or "completed again" in line]
    assert len(said) == 2
    assert said[0].startswith("a tick failed because of a bug")
    assert said[1] == "ticks are completed again"
    assert len(daemon.log_said.tracebacks) == 1


def test_another_bug_has_its_own_traceback() -> None:
    def scenario(daemon: Running) -> None:
        daemon.at_tick = lambda number: broken() if number % 2 else broken_otherwise()

    daemon = running(100.0, scenario)
    assert [type(error) for error in daemon.log_said.tracebacks] == [KeyError, OverflowError]


def test_failed_ticks_are_counted() -> None:
    daemon = running(31.0, lambda daemon: setattr(daemon, "at_tick", fails_from(1, to=3)))
    assert daemon.metric("fleetd_tick_failures_total") == 3.0
    assert daemon.metric("fleetd_ticks_total") == 4.0
    assert daemon.metric("fleetd_tick_duration_seconds_count") == 4.0, "a failed tick has no duration"


def test_after_a_tick_that_failed_in_telling_nothing_is_done_until_one_can_be_told() -> None:
    """A fleet that moves while nobody can see why would be worse than one that stands still."""

    def scenario(daemon: Running) -> None:
        daemon.world.enqueue("default", 50_000)
        daemon.after_tick = fails_from(1, to=5)

    daemon = running(60.0, scenario)
    assert sorted({at for at in daemon.acted if at < 35.0}) == [0.0, 30.0], "0 s: before it was known"


@pytest.mark.parametrize("what", ["teller", "recorder"])
def test_a_bug_in_what_only_shows_is_a_problem_and_holds_nothing(what: str) -> None:
    class BrokenTeller:
        def tell(self, status: Status) -> None:
            broken()

    class BrokenRecorder:
        def record(self, result: TickResult) -> None:
            broken()

    def scenario(daemon: Running) -> None:
        daemon.world.enqueue("default", 5000)
        if what == "teller":
            daemon.loop.tellers = (BrokenTeller(), daemon.heard)
        else:
            daemon.loop.recorder = BrokenRecorder()  # type: ignore[assignment]

    daemon = running(11.0, scenario)
    assert daemon.statuses[-1].tick_failures_total == 0
    assert len(daemon.units.orders) > 1
    assert daemon.tries == 3
    assert len(daemon.log_said.tracebacks) == 1


def test_a_bug_before_a_tick_is_a_problem_and_ticks_go_on() -> None:
    async def fails() -> None:
        broken()

    daemon = running(11.0, before_tick=fails)
    assert daemon.statuses[-1].ticks_total == 3
    assert "what comes before a tick failed because of a bug" in daemon.statuses[-1].problems[0]
    assert daemon.units.orders


def test_another_fleetd_that_took_over_still_ends_this_one() -> None:
    async def fails() -> None:
        raise FleetdError("another fleetd runs on this host")

    with pytest.raises(FleetdError, match="another fleetd"):
        running(11.0, before_tick=fails)


# -- the log ----------------------------------------------------------------------------------------------------------


def test_kinds_whose_tracebacks_are_remembered_are_bounded() -> None:
    said = Said()
    bugs = Bugs(said)
    for number in range(KINDS_MAX * 2):
        bugs.take(f"what {number}", KeyError())
    assert len(said.sentences) == KINDS_MAX


def test_the_real_log_has_the_sentence_and_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    import structlog

    stream = StringIO()
    try:
        journal.configure("info", stream=stream, environ={})
        bugs = Bugs(structlog.get_logger("fleetd").error)
        for _ in range(3):
            try:
                broken()
            except KeyError as error:
                bugs.take("a tick", error)
    finally:
        structlog.reset_defaults()
    written = stream.getvalue()
    assert written.count("Traceback (most recent call last)") == 1
    assert "a tick failed because of a bug in fleetd (KeyError, test_bugs.py line" in written
