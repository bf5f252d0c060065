"""The one HTTP listener: a table of routes, read-only, in threads of its own (docs/decisions/0003-http-listener.md).

What was feared: a scrape that slows a tick; a hung event loop that takes /healthz down with it; clients that are slow,
hostile or many. So there are few connections at once, with one request each, a deadline for the whole exchange, and
bounded lines and headers. Further clients are turned away with 503.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import ipaddress
import socket
import threading
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer
from socketserver import ThreadingMixIn
from typing import Any, cast
from urllib.parse import urlsplit

import structlog
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from fleetd.config import HttpAddress
from fleetd.core.model.facts import Value
from fleetd.errors import FleetdError

_log = structlog.get_logger("fleetd.http")

CONNECTIONS_MAX = 8
REQUEST_SECONDS_MAX = 5.0
_REQUEST_BYTES_MAX = 16 * 1024
_POLL_SECONDS = 0.25
#: A tick waits this long for an attempt to listen; one that takes longer goes on beside the ticks.
ATTEMPT_SECONDS = 1.0
_TEXT = "text/plain; charset=utf-8"


class Answer(Value, frozen=True, kw_only=True):
    """What a route answers: status code and body."""

    body: bytes
    status: int = 200
    content_type: str = _TEXT


#: Called in a thread of the listener, at most CONNECTIONS_MAX at once. It takes no argument, so that nothing can be
#: changed over HTTP.
Route = Callable[[], Answer]


def metrics_route(registry: CollectorRegistry) -> Route:
    """Everything in `registry`, in Prometheus's text format."""
    return lambda: Answer(body=generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


def health_route(last_tick_age_seconds: Callable[[], float | None], limit_seconds: float) -> Route:
    """200 while the last tick is younger than `limit_seconds`, else 503. An age of None: no tick yet."""

    def answer() -> Answer:
        age = last_tick_age_seconds()
        if age is None:
            return _sentence(HTTPStatus.SERVICE_UNAVAILABLE, "no tick yet: fleetd is starting")
        if age < limit_seconds:
            return _sentence(HTTPStatus.OK, f"ok: the last tick ended {age:.1f} s ago")
        return _sentence(
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
        self._server: _Server | None = None
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
            server = _Server(family, address, self._routes, self._request_seconds_max)
        except (OSError, UnicodeError) as error:  # the latter from what can't be a host name
            why = getattr(error, "strerror", None) or error
            raise FleetdError(
                f"http.listen: {self._address} can't be listened on: {why}. Choose another address or port, or end "
                "what listens there (ss -ltnp)"
            ) from None
        if not _is_loopback(str(server.server_address[0])):
            _log.warning(f"{self._address} is open to the network: anyone who reaches it can read the metrics")
        self._thread = threading.Thread(
            target=server.serve_forever, args=(_POLL_SECONDS,), name="fleetd-http", daemon=True
        )
        self._thread.start()
        self._server = server

    @property
    def port(self) -> int:
        """The port it listens on; 0 before start()."""
        return 0 if self._server is None else int(self._server.server_address[1])

    def stop(self) -> None:
        """End listening and every request under way; takes about a second at most."""
        if self._server is None or self._thread is None:
            return
        self._server.shutdown()
        self._server.server_close()
        self._server.end_all()
        self._thread.join(1.0)
        self._server = self._thread = None


class _Server(ThreadingMixIn, HTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 2 * CONNECTIONS_MAX

    def __init__(self, family: int, address: Any, routes: Mapping[str, Route], request_seconds_max: float) -> None:
        self.address_family = family
        self.routes = routes
        self._request_seconds_max = request_seconds_max
        self._free = threading.BoundedSemaphore(CONNECTIONS_MAX)
        self._lock = threading.Lock()
        self._deadlines: dict[socket.socket, float] = {}
        super().__init__(address, _Exchange)

    def server_bind(self) -> None:
        # HTTPServer's own method looks up the host's name, which may wait for a DNS server.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._free.acquire(blocking=False):
            self._turn_away(request)
            return
        with self._lock:
            self._deadlines[request] = time.monotonic() + self._request_seconds_max
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # the host, or TasksMax=, allows no more threads
            self._done(request)
            self._turn_away(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._done(request)

    def service_actions(self) -> None:
        """At each poll: end connections past their deadline, even those that send a byte now and then."""
        now = time.monotonic()
        with self._lock:
            for request, deadline in self._deadlines.items():
                if now > deadline:
                    _end(request)

    def end_all(self) -> None:
        with self._lock:
            for request in self._deadlines:
                _end(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing: the client went away or was ended. What a route raises is handled in _Exchange."""

    def _done(self, request: Any) -> None:
        with self._lock:
            self._deadlines.pop(request, None)
        self._free.release()

    def _turn_away(self, request: Any) -> None:
        with contextlib.suppress(OSError):
            request.setblocking(False)
            request.send(b"HTTP/1.0 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n")
        self.shutdown_request(request)


class _Exchange(BaseHTTPRequestHandler):
    """One request, one answer; HTTP/1.0, so the connection ends with it."""

    server: _Server
    server_version = "fleetd"
    sys_version = ""
    error_message_format = "%(code)d %(message)s\n"
    error_content_type = _TEXT

    def setup(self) -> None:
        super().setup()
        self._bounded = _Bounded(self.rfile)
        self.rfile = cast("io.BufferedIOBase", self._bounded)

    def parse_request(self) -> bool:
        parsed = super().parse_request()
        if parsed and self._bounded.exhausted:
            self.send_error(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
            return False
        return parsed

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def _answer(self, *, with_body: bool) -> None:
        route = self.server.routes.get(urlsplit(self.path).path)
        if route is None:
            known = " ".join(sorted(self.server.routes))
            answer = _sentence(HTTPStatus.NOT_FOUND, f"there is nothing here, only: {known}")
        else:
            try:
                answer = route()
            except Exception as error:  # a page that fails must not take the listener down
                _log.error(f"{self.path[:100]} could not be answered: {type(error).__name__}: {error}")
                answer = _sentence(HTTPStatus.INTERNAL_SERVER_ERROR, "this page failed: journalctl -u fleetd says why")
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        if with_body:
            self.wfile.write(answer.body)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        if code == HTTPStatus.NOT_IMPLEMENTED:  # what http.server says to a method without a do_
            code, message = HTTPStatus.METHOD_NOT_ALLOWED, "only GET and HEAD: nothing can be changed here"
        super().send_error(code, message, explain)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """No access log."""


class _Bounded:
    """The stream of a request; it ends after _REQUEST_BYTES_MAX as if the client had closed it."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._left = _REQUEST_BYTES_MAX

    @property
    def exhausted(self) -> bool:
        return self._left <= 0

    def readline(self, limit: int = -1) -> bytes:
        line: bytes = self._stream.readline(min(limit if limit >= 0 else self._left, self._left))
        self._left -= len(line)
        return line

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _sentence(status: int, text: str) -> Answer:
    return Answer(status=status, body=f"{text}\n".encode())


def _end(request: socket.socket) -> None:
    with contextlib.suppress(OSError):
        request.shutdown(socket.SHUT_RDWR)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
