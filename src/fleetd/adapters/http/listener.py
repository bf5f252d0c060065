"""The one HTTP listener: a table of routes, read-only, in a thread of its own (docs/decisions/0003-http-listener.md).

What was feared: a scrape that slows a tick; a hung event loop that takes /healthz down with it; clients that are slow,
hostile or many. So it has a thread of its own (server.py), few connections at once with one request each, a deadline
for the whole exchange, and bounded lines and headers.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import threading
from collections.abc import Callable, Mapping
from http import HTTPStatus

import structlog
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from fleetd.adapters.http.exchange import Answer, Route, sentence
from fleetd.adapters.http.server import Server
from fleetd.config import HttpAddress
from fleetd.errors import FleetdError

_log = structlog.get_logger("fleetd.http")

REQUEST_SECONDS_MAX = 5.0
#: A tick waits this long for an attempt to listen; one that takes longer goes on beside the ticks.
ATTEMPT_SECONDS = 1.0


def metrics_route(registry: CollectorRegistry) -> Route:
    """Everything in `registry`, in Prometheus's text format."""
    return lambda: Answer(body=generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


def health_route(last_tick_age_seconds: Callable[[], float | None], limit_seconds: float) -> Route:
    """200 while the last tick is younger than `limit_seconds`, else 503. An age of None: no tick yet."""

    def answer() -> Answer:
        age = last_tick_age_seconds()
        if age is None:
            return sentence(HTTPStatus.SERVICE_UNAVAILABLE, "no tick yet: fleetd is starting")
        if age < limit_seconds:
            return sentence(HTTPStatus.OK, f"ok: the last tick ended {age:.1f} s ago")
        return sentence(
            HTTPStatus.SERVICE_UNAVAILABLE,
            f"the last tick ended {age:.0f} s ago (limit {limit_seconds:g} s): journalctl -u fleetd says more",
        )

    return answer


class HttpListener:
    """Serves `routes` (path to Route) on `address`; port 0: a free one. `ensure` begins to listen, `stop` ends it.

    `problem`: why it does not listen now, as a sentence for status; None: it listens, or was not asked to yet.
    """

    def __init__(
        self, address: HttpAddress, routes: Mapping[str, Route], *, request_seconds_max: float = REQUEST_SECONDS_MAX
    ) -> None:
        self._address = address
        self._routes = dict(routes)
        self._request_seconds_max = request_seconds_max
        self._server: Server | None = None
        self._thread: threading.Thread | None = None
        self._attempt: asyncio.Task[None] | None = None
        self.problem: str | None = None

    async def ensure(self) -> None:
        """Begin to listen if that has not worked yet; waits a second at most, and raises nothing foreseeable.

        Called before each tick: a port that another program has, or an address that is not there yet (a VPN's), must
        not keep fleetd from the queues, nor a name that nobody resolves hold up a tick.
        """
        if self._attempt is None and self._server is not None:
            return
        if self._attempt is None:  # in a thread: it may have to resolve a name
            self._attempt = asyncio.create_task(asyncio.to_thread(self.start))
        await asyncio.wait({self._attempt}, timeout=ATTEMPT_SECONDS)
        if not self._attempt.done():
            self._set_problem("http.listen: its name is not resolved yet")
            return
        attempt, self._attempt = self._attempt, None
        try:
            attempt.result()
        except FleetdError as error:
            self._set_problem(str(error))
            return
        if self.problem is not None:
            _log.info("http.listen: now it listens")
        self.problem = None

    def _set_problem(self, why: str) -> None:
        problem = f"{why}. Until then there are no metrics; everything else goes on"
        if problem != self.problem:
            _log.warning(problem)
        self.problem = problem

    def start(self) -> None:
        """Begin to listen. Raises FleetdError when the address can't be listened on."""
        try:
            family, *_, address = socket.getaddrinfo(
                self._address.host, self._address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            server = Server(family, address, self._routes, self._request_seconds_max)
        except (OSError, UnicodeError) as error:  # the latter from what can't be a host name
            why = getattr(error, "strerror", None) or error
            raise FleetdError(
                f"http.listen: {self._address} can't be listened on: {why}. Choose another address or port, or end "
                "what listens there (ss -ltnp)"
            ) from None
        if not _is_loopback(server.host):
            _log.warning(f"{self._address} is open to the network: anyone who reaches it can read the metrics")
        self._thread = threading.Thread(target=server.serve, name="fleetd-http", daemon=True)
        self._thread.start()
        self._server = server

    @property
    def port(self) -> int:
        """The port it listens on; 0 before start()."""
        return 0 if self._server is None else self._server.port

    def stop(self) -> None:
        """End listening and every request under way; takes about a second at most."""
        if self._server is None or self._thread is None:
            return
        self._server.stop()
        self._thread.join(1.0)
        self._server = self._thread = None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
