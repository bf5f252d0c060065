"""An HTTP listener on a free port, and clients of it, well-behaved and not."""

from __future__ import annotations

import contextlib
import http.client
import socket
from collections.abc import Iterator

from fleetd.adapters.http.exchange import Answer, Route
from fleetd.adapters.http.listener import HttpListener
from fleetd.config import HttpAddress
from tests.support.rig.free_port import free_port

WAIT_SECONDS = 90.0


def local(port: int) -> HttpAddress:
    return HttpAddress(host="127.0.0.1", port=port)


@contextlib.contextmanager
def serving(routes: dict[str, Route], *, request_seconds_max: float = WAIT_SECONDS) -> Iterator[HttpListener]:
    listener = HttpListener(local(free_port()), routes, request_seconds_max=request_seconds_max)
    listener.start()
    try:
        yield listener
    finally:
        listener.stop()


def ask(
    listener: HttpListener, path: str, method: str = "GET", headers: dict[str, str] | None = None
) -> tuple[int, dict[str, str], str]:
    connection = http.client.HTTPConnection("127.0.0.1", listener.port, timeout=WAIT_SECONDS)
    try:
        connection.request(method, path, headers=headers or {})
        response = connection.getresponse()
        return response.status, dict(response.getheaders()), response.read().decode()
    finally:
        connection.close()


def raw(listener: HttpListener, data: bytes) -> bytes:
    """Send these bytes, and return all that comes back until the listener closes."""
    with socket.create_connection(("127.0.0.1", listener.port), timeout=WAIT_SECONDS) as client:
        with contextlib.suppress(OSError):
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
        got = b""
        with contextlib.suppress(ConnectionResetError):
            while part := client.recv(65536):
                got += part
        return got


def hello() -> Answer:
    return Answer(body=b"hello\n")


@contextlib.contextmanager
def holding(listener: HttpListener, count: int) -> Iterator[list[socket.socket]]:
    """`count` connections that send half a request and wait."""
    with contextlib.ExitStack() as stack:
        clients = []
        for _ in range(count):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", listener.port), timeout=WAIT_SECONDS))
            client.sendall(b"GET /hello HTTP/1.1\r\nX-Slow:")
            clients.append(client)
        yield clients
