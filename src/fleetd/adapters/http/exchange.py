"""One request and its answer, as bytes: the standard library's parser on what has arrived, without a socket."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import TypeAlias
from urllib.parse import urlsplit

import structlog

from fleetd.core.model.facts import Value

_log = structlog.get_logger("fleetd.http")

REQUEST_BYTES_MAX = 16 * 1024
_TEXT = "text/plain; charset=utf-8"
#: What somebody is told whose place another one took.
TURNED_AWAY = b"HTTP/1.0 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"


class Answer(Value, frozen=True, kw_only=True):
    """What a route answers: status code and body."""

    body: bytes
    status: int = 200
    content_type: str = _TEXT


#: Called in the listener's thread, one at a time. It takes no argument, so that nothing can be changed over HTTP.
Route: TypeAlias = Callable[[], Answer]


def sentence(status: int, text: str) -> Answer:
    return Answer(status=status, body=f"{text}\n".encode())


def is_whole(request: bytes) -> bool:
    """Whether an answer can be given: the headers have ended, or are longer than they may be."""
    return b"\n\r\n" in request or b"\n\n" in request or len(request) > REQUEST_BYTES_MAX


def answer_to(request: bytes, routes: Mapping[str, Route]) -> bytes:
    """The whole answer to a request, after which the connection ends; empty if there is none."""
    return _Exchange(request, routes).answer


class _Exchange(BaseHTTPRequestHandler):
    """HTTP/1.0, so the connection ends with the answer."""

    server_version = "fleetd"
    sys_version = ""
    error_message_format = "%(code)d %(message)s\n"
    error_content_type = _TEXT

    def __init__(self, request: bytes, routes: Mapping[str, Route]) -> None:
        # Without the standard library's, which would read from a socket.
        self._routes = routes
        self._too_long = len(request) > REQUEST_BYTES_MAX
        self.rfile = io.BytesIO(request[:REQUEST_BYTES_MAX])
        written = self.wfile = io.BytesIO()
        self.close_connection = True
        self.handle_one_request()
        self.answer = written.getvalue()

    def parse_request(self) -> bool:
        parsed = super().parse_request()
        if parsed and self._too_long:
            self.send_error(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
            return False
        return parsed

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def _answer(self, *, with_body: bool) -> None:
        route = self._routes.get(urlsplit(self.path).path)
        if route is None:
            known = " ".join(sorted(self._routes))
            answer = sentence(HTTPStatus.NOT_FOUND, f"there is nothing here, only: {known}")
        else:
            try:
                answer = route()
            except Exception as error:  # a page that fails must not take the listener down
                _log.error(f"{self.path[:100]} could not be answered: {type(error).__name__}: {error}")
                answer = sentence(HTTPStatus.INTERNAL_SERVER_ERROR, "this page failed: journalctl -u fleetd says why")
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

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """No access log."""
