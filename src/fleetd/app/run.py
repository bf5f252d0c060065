"""The program `fleetd`: real adapters, wired together, under systemd or on a terminal.

Exit status: 0 told to stop, 1 can't run here (another fleetd, no bus), 78 the configuration can't be used.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import secrets
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import structlog

from fleetd import __version__
from fleetd.adapters.bus.control import ControlBus
from fleetd.adapters.history.writer import SqliteHistory, history_path
from fleetd.adapters.host.clock import BoottimeClock
from fleetd.adapters.host.state_file import StateFile
from fleetd.adapters.http.listener import HttpListener, health_route, metrics_route
from fleetd.adapters.logging import journal
from fleetd.adapters.systemd.notify import SdNotify
from fleetd.adapters.systemd.units import SystemdUnits
from fleetd.app.endpoints import Endpoints, find_endpoints
from fleetd.app.given_env import given_env
from fleetd.app.pooler_search import PoolerSearch
from fleetd.app.sources import close_sources, exchange, numbers, open_sources
from fleetd.app.versions import versions
from fleetd.config import Settings, load
from fleetd.core.asking import Self
from fleetd.daemon.bugs import Bugs
from fleetd.daemon.log import TickLog
from fleetd.daemon.loop import Loop
from fleetd.daemon.metrics import Metrics
from fleetd.daemon.observe import Sources
from fleetd.daemon.record import Recorder
from fleetd.daemon.tick import Ticker
from fleetd.errors import ConfigError, FleetdError, SourceUnavailableError
from fleetd.words.formatting import counts, times

EX_CONFIG = 78
#: /healthz fails once this many ticks have brought no result, but not within half a minute.
HEALTHY_TICKS = 6
HEALTHY_SECONDS_MIN = 30.0

_log = structlog.get_logger("fleetd")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run until told to stop."""
    parser = argparse.ArgumentParser(
        prog="fleetd", description="Runs as many Sidekiq processes for Mastodon as its queues need."
    )
    parser.add_argument("--config", type=Path, default=Path("/etc/fleetd/fleetd.toml"), help="the configuration (TOML)")
    parser.add_argument("--version", action="store_true", help="print the versions of fleetd and of what it uses")
    options = parser.parse_args(arguments)
    if options.version:
        print(versions())
        return
    journal.configure("info")
    try:
        asyncio.run(_run(options.config))
    except ConfigError as error:
        _log_problems(error)
        sys.exit(EX_CONFIG)
    except FleetdError as error:
        _log.error(str(error))
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(0)


async def _run(config: Path) -> None:
    settings = load(config)
    journal.set_level(settings.log.level)
    clock = BoottimeClock(runtime_directory=_runtime_directory())
    env = given_env(settings, os.environ)
    find_endpoints(settings, env)  # what can't be used is said before anybody is asked
    search = PoolerSearch(Path(settings.state.directory))
    news = await search.ask(settings, env)
    endpoints = find_endpoints(settings, env, search.found)
    if news and endpoints.named:
        await search.rendered()
    sources, units = open_sources(settings, endpoints, clock, Bugs(_log.error))
    try:
        await Daemon(config, settings, endpoints, sources, units, clock, search).run()
    finally:
        await close_sources(sources)


def _runtime_directory() -> Path | None:
    """One below /run that outlives a restart of fleetd and no reboot; None: not run by systemd."""
    runtime = os.environ.get("RUNTIME_DIRECTORY")
    return Path(runtime) if runtime else None


class Daemon:
    """Everything that lives as long as the process."""

    def __init__(
        self,
        config: Path,
        settings: Settings,
        endpoints: Endpoints,
        sources: Sources,
        units: SystemdUnits,
        clock: BoottimeClock,
        search: PoolerSearch | None = None,
    ) -> None:
        self._config = config
        self._settings = settings
        self._endpoints = endpoints
        self._sources = sources
        self._units = units
        self._clock = clock
        self._search = search or PoolerSearch(Path(settings.state.directory))
        self._service, self._nonce = SdNotify(), secrets.token_hex(8)
        self._metrics = Metrics(version=__version__, now_seconds=clock.now_seconds)
        self._history = SqliteHistory(
            history_path(settings.state.directory), days=settings.history.days, bytes_max=settings.history.size_bytes
        )
        self._recorder = Recorder(self._history, time.time)
        self._tick_log = TickLog(_log.info, _log.warning, self._recorder.note)
        runtime = _runtime_directory()
        spare = None if runtime is None else runtime / "host.json"
        store = StateFile(Path(settings.state.directory) / "host.json", spare=spare)
        self._loop = Loop(
            Ticker(endpoints.policy(settings.policy), sources, store, self._who(endpoints)),
            clock,
            self._tick_log,
            (self._metrics,),
            self._service,
            before_tick=self._before_tick,
            recorder=self._recorder,
            bugs=sources.bugs,
        )
        self._control = ControlBus(
            version=__version__,
            status=self._loop.status_now,
            reload=self.reload,
            order=self._loop.order,
            hosts=self._loop.hosts,
            log_level=journal.level,
            set_log_level=journal.set_level,
        )
        self._http = self._http_listener()
        self._bus_problem: str | None = None
        self._reload_problem: str | None = None
        self._reloads, self._searches = set[asyncio.Task[None]](), set[asyncio.Task[None]]()

    def _who(self, endpoints: Endpoints) -> Self:
        return Self(fleet=endpoints.fleet, boot_id=self._clock.boot_id(), nonce=self._nonce, fleetd=__version__)

    def _http_listener(self) -> HttpListener | None:
        if self._settings.http is None:
            return None
        limit_seconds = max(HEALTHY_SECONDS_MIN, HEALTHY_TICKS * self._settings.policy.pace.tick_seconds)
        return HttpListener(
            self._settings.http,
            {
                "/metrics": metrics_route(self._metrics.registry),
                "/healthz": health_route(self._tick_age_seconds, limit_seconds),
            },
        )

    def _tick_age_seconds(self) -> float | None:
        return None if self._loop.status is None else self._loop.tick_age_seconds()

    async def run(self) -> None:
        """Tick until a signal says stop. Raises FleetdError when fleetd must not run here."""
        try:
            await self._control.ensure()
        except SourceUnavailableError as error:  # the bus may come back; another fleetd would not go away
            self._bus_problem = str(error)
            _log.warning(str(error))
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._loop.stop)
        loop.add_signal_handler(signal.SIGINT, self._loop.stop)
        loop.add_signal_handler(signal.SIGHUP, self._reload_soon)
        self._log_start()
        try:
            await self._loop.run()
        finally:
            self._service.stopping()
            _log.info("stopping; the workers run on")
            for task in self._reloads | self._searches:
                task.cancel()
            await self._control.close()
            if self._http is not None:
                self._http.stop()
            self._recorder.note("daemon", "fleetd stopped; the workers run on")
            self._recorder.flush()
            await asyncio.to_thread(self._history.close)

    def _log_start(self) -> None:
        profiles = ", ".join(
            f"{p.name} has {counts(p.min_instances, p.max_instances)}" for p in self._settings.policy.profiles
        )
        _log.info(f"fleetd {__version__} on {self._settings.policy.host}: {profiles}")
        self._recorder.note("daemon", f"fleetd {__version__} started: {profiles}")
        self._log_endpoints()

    def _log_endpoints(self) -> None:
        _log.info(self._endpoints.redis_sentence)
        _log.info(self._endpoints.sentence)
        for warning in (*self._settings.warnings, *self._endpoints.warnings):
            _log.warning(warning)

    async def _before_tick(self) -> None:
        """Be there for scrapes and fleetctl.

        Another fleetd that took the name while the bus was away ends this one (FleetdError).
        """
        for job in self._units.finished_jobs():
            if job.result not in {"done", "skipped"}:
                said = f"systemd's job on {job.unit} ended as {job.result}: systemctl status {job.unit}"
                self._tick_log.aside(said)
        if self._http is not None:
            await self._http.ensure()
        self._show_problems()
        if self._search.due and not self._searches:
            task = asyncio.get_running_loop().create_task(self._search_again())
            self._searches.add(task)
            task.add_done_callback(self._searches.discard)
        try:
            await self._control.ensure()
            self._bus_problem = None
        except SourceUnavailableError as error:
            if str(error) != self._bus_problem:
                self._tick_log.aside(f"fleetctl can't be answered: {error}")
            self._bus_problem = str(error)

    async def _search_again(self) -> None:
        """Whether what answers where the workers connect is still the same; if not, watch that."""
        settings, env = self._settings, given_env(self._settings, os.environ)
        if not await self._search.ask(settings, env) or settings is not self._settings:
            return
        with suppress(ConfigError):  # it was taken a moment ago, with the same settings
            await self._use(settings, find_endpoints(settings, env, self._search.found))
            self._log_endpoints()
            self._loop.soon()

    def _show_problems(self) -> None:
        """In status, from the next tick on."""
        http_problem = None if self._http is None else self._http.problem
        problems = (self._reload_problem, http_problem, self._history.problem)
        self._loop.problems = tuple(problem for problem in problems if problem)

    def _reload_soon(self) -> None:
        async def reload() -> None:
            with suppress(FleetdError):  # in the log and in status already
                await self.reload()

        task = asyncio.get_running_loop().create_task(reload())
        self._reloads.add(task)
        task.add_done_callback(self._reloads.discard)

    async def reload(self) -> None:
        """Read the configuration again. Raises ConfigError for a bad one, which is refused whole: the old one stays."""
        self._service.reloading()
        now = self._clock.now_seconds()
        try:
            settings = load(self._config)
            env = given_env(settings, os.environ)
            find_endpoints(settings, env)
            await self._search.ask(settings, env)
            endpoints = find_endpoints(settings, env, self._search.found)
        except ConfigError as error:
            _log_problems(error)
            self._tick_log.note(now, "the new configuration was refused; the old one stays")
            self._reload_problem = f"the configuration was refused at reload: {error}"
            self._show_problems()
            self._loop.soon()
            raise
        finally:
            self._service.ready()
        await self._use(settings, endpoints)
        self._reload_problem = None
        self._show_problems()
        self._tick_log.note(now, "configuration read again")
        _log.info("configuration read again")
        self._log_endpoints()
        self._loop.soon()

    async def _use(self, settings: Settings, endpoints: Endpoints) -> None:
        async with self._loop.between_ticks:
            closes = exchange(self._sources, settings, endpoints)
            self._units.reconfigure(numbers(settings.policy))
            self._loop.ticker.policy = endpoints.policy(settings.policy)
            self._loop.ticker.part.who = self._who(endpoints)
        for close in closes:
            await close()
        before, self._settings, self._endpoints = self._settings, settings, endpoints
        if settings.log.level != before.log.level:  # one set by service-log-level stays
            journal.set_level(settings.log.level)
        if (settings.http, settings.state.directory) != (before.http, before.state.directory):
            _log.warning("http.listen and state.directory change with a restart of fleetd, not with a reload")
        self._history.keep(days=settings.history.days, bytes_max=settings.history.size_bytes)


def _log_problems(error: ConfigError) -> None:
    _log.error(f"{error.file}: {times(len(error.problems), 'problem')} in the configuration")
    for problem in error.problems:
        _log.error(str(problem))


if __name__ == "__main__":
    main()
