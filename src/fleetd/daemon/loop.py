"""The loop: a tick every few seconds, the watchdog fed from the event loop, reload and stop when asked.

Law 5: stopping fleetd touches no worker, because no code that runs on the way out could.

A tick that raises, which only a bug can make it do, starts and stops nothing, is shown as a problem, and is followed by
the next one: were fleetd to end, systemd would start it again every few seconds, and nobody could ask it what is wrong.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import msgspec

from fleetd import __version__
from fleetd.core.instances.orders import Order
from fleetd.core.model.hosts import FleetHosts
from fleetd.core.model.person import Person
from fleetd.core.model.status import Status
from fleetd.daemon.bugs import Bugs
from fleetd.daemon.fleet.ordering import ordered
from fleetd.daemon.fleet.tell_hosts import fleet_hosts
from fleetd.daemon.log import TickLog
from fleetd.daemon.record import Recorder
from fleetd.daemon.tell import status_of
from fleetd.daemon.tell_failure import status_of_failure
from fleetd.daemon.tell_jobs import JobRates
from fleetd.daemon.tick import Ticker, TickResult
from fleetd.errors import FleetdError, SourceUnavailableError
from fleetd.ports import Clock, ServiceManager, Teller
from fleetd.words.formatting import who
from fleetd.words.observing import only_shown
from fleetd.words.reasons import sentence
from fleetd.words.replies import answer as answered

#: How long `before_tick`, a look at the bus, may take.
BEFORE_TICK_SECONDS = 10.0
#: A tick that takes longer hangs in something without a deadline. The watchdog is then fed no more, so systemd restarts
#: fleetd. All deadlines of a tick together are far below this.
STUCK_SECONDS = 120.0


class Loop:
    """Runs ticks until told to stop."""

    def __init__(
        self,
        ticker: Ticker,
        clock: Clock,
        log: TickLog,
        tellers: tuple[Teller, ...],
        service: ServiceManager,
        *,
        before_tick: Callable[[], Awaitable[None]],
        recorder: Recorder | None = None,
        bugs: Bugs | None = None,
    ) -> None:
        """`bugs`: takes what a tick raises although nobody foresaw it; None: that is raised, as tests want."""
        self.ticker = ticker
        self.clock = clock
        self.log = log
        self.tellers = tellers
        self.service = service
        self.before_tick = before_tick
        self.recorder = recorder
        self.bugs = bugs
        self.status: Status | None = None
        self.problems: tuple[str, ...] = ()
        self._answer: tuple[Status, Status] | None = None
        self._begun_seconds = clock.now_seconds()
        self._ticks_total = self._tick_failures_total = 0
        self._rates = JobRates()
        self._bug = ""  # that ended the last tick; "": it was completed
        self._showing_bugs: tuple[str, ...] = ()  # of what only shows ticks
        self._ticked_seconds = self._begun_seconds  # when the last tick was completed …
        self._ended_seconds = self._begun_seconds  # … and when the last one ended, however it did
        self.between_ticks = asyncio.Lock()  # hold it to change what a tick works with
        self._stop = asyncio.Event()
        self._wake = asyncio.Event()

    def stop(self) -> None:
        """End after the tick under way. Workers go on running."""
        self._stop.set()
        self._wake.set()

    async def order(self, order: Order, person: Person | None = None) -> str:
        """Obey a person between two ticks; returns the sentence to tell them. Raises FleetdError when refused."""
        async with self.between_ticks:
            reply = await ordered(self.ticker, order, person)
            answer = answered(sentence(reply), self.ticker.unsaved)
            answer += only_shown(reply) if self.ticker.policy.observes else ""
            self.log.note(self.clock.now_seconds(), f"ordered by {who(person)}: {answer}", "order")
        self.soon()
        return answer

    async def hosts(self) -> FleetHosts:
        """Every host of the fleet, as the ledger has them. Raises SourceUnavailableError before the first tick."""
        last = self.ticker.last
        if last is None:
            raise SourceUnavailableError("fleetd has just started: no tick is finished yet")
        return await fleet_hosts(last, self.ticker.sources.ledger, __version__)

    def soon(self) -> None:
        """Run the next tick at once (after a reload or an order)."""
        self._wake.set()

    async def run(self) -> None:
        """Tick until stopped. A tick that hangs is ended by its own deadlines; if not, by the watchdog."""
        watchdog = asyncio.create_task(self._feed_watchdog())
        try:
            first = True
            while not self._stop.is_set():
                self._wake.clear()
                async with self.between_ticks:
                    await self._one_tick()
                if first:
                    self.service.ready()
                    first = False
                if self.status is not None:
                    self.service.status(self.status.summary)
                await self._pause()
            self.ticker.save_again()
        finally:
            watchdog.cancel()
            with suppress(asyncio.CancelledError):
                await watchdog

    async def _one_tick(self) -> None:
        self._showing_bugs = ()
        try:
            with suppress(SourceUnavailableError, TimeoutError):
                await asyncio.wait_for(self.before_tick(), BEFORE_TICK_SECONDS)
        except FleetdError:  # another fleetd took over the bus name: this one ends
            raise
        except Exception as error:
            self._took("what comes before a tick", error)
        try:
            await self._whole_tick()
        except Exception as error:
            self._failed(error)
        # After one that failed, perhaps in showing what it had done, the next acts on nothing until it can be shown.
        self.ticker.only_tries = bool(self._bug)
        self._ended_seconds = self.clock.now_seconds()

    async def _whole_tick(self) -> None:
        result = await self.ticker.tick()
        self._ticks_total += 1
        now = self.clock.now_seconds()
        self._rates.look(result.tick.sidekiq, result.tick.now_seconds)
        status = self._status(result, now)
        self.log.report(result, status)
        # Made again, because what was just reported belongs to the events of this status.
        self.status = self._status(result, now)
        self._ticked_seconds = now
        if self._bug:
            self.log.noticed(now, "ticks are completed again")
            self._bug = ""
        self._show(self.status)
        if self.recorder is not None:
            try:
                self.recorder.record(result)
            except Exception as error:
                self._took("the history", error)

    def _failed(self, error: Exception) -> None:
        """Show that a tick ended in a bug, beside the last status."""
        if self.bugs is None:
            raise error
        bug, now = self.bugs.take("a tick", error), self.clock.now_seconds()
        self._tick_failures_total += 1
        self.ticker.save_again()
        if bug != self._bug:
            self.log.noticed(now, bug, warning=True)
            self._bug = bug
        self.status = status_of_failure(
            self.status,
            self.ticker.policy,
            sources=self.ticker.sources.status(),
            events=self.log.events(now),
            problems=(
                f"{bug}. Until a tick is completed nothing is started or stopped",
                *([sentence(self.ticker.unsaved)] if self.ticker.unsaved is not None else []),
                *self._problems(),
            ),
            uptime_seconds=now - self._begun_seconds,
            tick_age_seconds=self.tick_age_seconds(),
            tick_failures_total=self._tick_failures_total,
        )
        self._show(self.status)

    def _show(self, status: Status) -> None:
        """A bug in what only shows the status is shown by the others; it holds nothing."""
        for teller in self.tellers:
            try:
                teller.tell(status)
            except Exception as error:
                self._took(type(teller).__name__, error)

    def _took(self, what: str, error: Exception) -> None:
        if self.bugs is None:
            raise error
        self._showing_bugs = (*self._showing_bugs, self.bugs.take(what, error))

    def _problems(self) -> tuple[str, ...]:
        return *self.problems, *self._showing_bugs

    def _status(self, result: TickResult, now_seconds: float) -> Status:
        return status_of(
            result,
            sources=self.ticker.sources.status(),
            events=self.log.events(now_seconds),
            problems=self._problems(),
            uptime_seconds=now_seconds - self._begun_seconds,
            ticks_total=self._ticks_total,
            tick_failures_total=self._tick_failures_total,
            rates=self._rates,
        )

    async def _pause(self) -> None:
        left = self._ended_seconds + self.ticker.pause_seconds() - self.clock.now_seconds()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), max(0.0, left))

    async def _feed_watchdog(self) -> None:
        """Feed it from the event loop, so that systemd notices a blocked loop, and a tick that never ends."""
        interval = self.service.watchdog_interval_seconds()
        slowest = STUCK_SECONDS + self.ticker.policy.pace.tick_seconds
        while interval is not None:
            if self.clock.now_seconds() - self._ended_seconds < slowest:
                self.service.watchdog()
            await asyncio.sleep(interval)

    def status_now(self) -> Status | None:
        """The last tick's status with its age now. It is made once a second, so that asking often costs nothing."""
        if self.status is None:
            return None
        age = float(int(self.tick_age_seconds()))
        if self._answer is None or self._answer[0] is not self.status or self._answer[1].tick_age_seconds != age:
            self._answer = self.status, msgspec.structs.replace(self.status, tick_age_seconds=age)
        return self._answer[1]

    def tick_age_seconds(self) -> float:
        """Seconds since the last complete tick."""
        return self.clock.now_seconds() - self._ticked_seconds
