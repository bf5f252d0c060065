"""Clients that are slow, many or gone: the others are answered, and nothing grows. Over real sockets."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from fleetd.adapters.http.exchange import REQUEST_BYTES_MAX, Answer
from fleetd.adapters.http.listener import HttpListener, health_route
from fleetd.adapters.http.server import CONNECTIONS_MAX
from tests.support.attacks.http_clients import WAIT_SECONDS, ask, hello, holding, raw, serving
from tests.support.attacks.peak_memory import peak_memory

ROUTES = {"/hello": hello, "/healthz": health_route(lambda: 1.0, 30.0)}
PROBES = 24
REQUEST = b"GET /hello HTTP/1.1\r\n\r\n"


def assert_all_answered(listener: HttpListener) -> None:
    for _ in range(PROBES):
        assert ask(listener, "/healthz")[0] == 200
        assert ask(listener, "/hello")[0] == 200


@pytest.mark.parametrize("clients", [8, CONNECTIONS_MAX, 4 * CONNECTIONS_MAX])
def test_slow_clients_shut_nobody_out(clients: int) -> None:
    """Eight of them did: 24 of 24 probes got 503."""
    with serving(ROUTES) as listener, holding(listener, clients):
        assert_all_answered(listener)


def test_slow_clients_that_come_back_at_once_shut_nobody_out() -> None:
    with serving(ROUTES) as listener:
        ended = threading.Event()

        def slow() -> None:
            while not ended.is_set():
                with contextlib.suppress(OSError), holding(listener, 10) as clients:
                    clients[-1].recv(1)

        attackers = [threading.Thread(target=slow) for _ in range(8)]
        for attacker in attackers:
            attacker.start()
        try:
            assert_all_answered(listener)
        finally:
            ended.set()
            listener.stop()
            for attacker in attackers:
                attacker.join(WAIT_SECONDS)


def test_who_has_been_there_longest_is_told_to_come_again() -> None:
    with serving(ROUTES) as listener, holding(listener, CONNECTIONS_MAX) as clients:
        assert ask(listener, "/hello")[0] == 200
        assert clients[0].recv(100).startswith(b"HTTP/1.0 503 ")
        clients[1].sendall(b" x\r\n\r\n")
        assert clients[1].recv(100).startswith(b"HTTP/1.0 200 "), "only as many as came"


def test_readers_that_do_not_read_shut_nobody_out() -> None:
    routes = {**ROUTES, "/big": lambda: Answer(body=b"x" * 5_000_000)}
    with serving(routes) as listener, contextlib.ExitStack() as stack:
        for _ in range(2 * CONNECTIONS_MAX):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", listener.port), WAIT_SECONDS))
            client.sendall(b"GET /big HTTP/1.1\r\n\r\n")
        assert_all_answered(listener)


def ended(client: socket.socket) -> bool:
    """Whether the listener ends the connection. It may be sent a byte now and then, and what it is sent is read."""
    end = time.monotonic() + WAIT_SECONDS
    client.settimeout(0.05)
    with contextlib.suppress(ConnectionError):
        while time.monotonic() < end:
            with contextlib.suppress(TimeoutError):
                client.sendall(b"x")
                if client.recv(1024) == b"":
                    return True
        return False
    return True


@pytest.mark.parametrize("sent", [b"", b"GET /hello HTTP/1.1\r\nX-Slow:", REQUEST + REQUEST])
def test_what_is_sent_slowly_or_without_end_ends_at_the_deadline(sent: bytes) -> None:
    with (
        serving(ROUTES, request_seconds_max=0.5) as listener,
        socket.create_connection(("127.0.0.1", listener.port), WAIT_SECONDS) as client,
    ):
        client.sendall(sent)
        assert ended(client), "it was let go on for as long as it liked"


@pytest.mark.parametrize("sent", [b"", b"GET /hello HTTP/1.1\r\n", b"GET /big HTTP/1.1\r\n\r\n"])
def test_a_client_that_has_vanished_ends_at_the_deadline(sent: bytes) -> None:
    """It neither sends nor reads any more."""
    routes = {**ROUTES, "/big": lambda: Answer(body=b"x" * 50_000_000)}
    with (
        serving(routes, request_seconds_max=0.3) as listener,
        socket.create_connection(("127.0.0.1", listener.port), WAIT_SECONDS) as client,
    ):
        client.sendall(sent)
        _until(lambda: _connections_of(listener) == 0)


def _connections_of(listener: HttpListener) -> int:
    """Its established connections, of all in this machine."""
    with open("/proc/net/tcp") as table:  # noqa: PTH123
        port = f"0100007F:{listener.port:04X}"
        return sum(line.split()[1] == port and line.split()[3] == "01" for line in list(table)[1:])


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_second_request_in_one_connection_is_not_answered_and_harms_nobody() -> None:
    with serving(ROUTES) as listener:
        assert raw(listener, REQUEST * 500).count(b"hello") == 1
        assert_all_answered(listener)


def test_a_request_that_is_too_long_is_told_so() -> None:
    with serving(ROUTES) as listener:
        answer = raw(listener, b"GET /hello HTTP/1.1\r\nX: " + b"y" * (2 * REQUEST_BYTES_MAX) + b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.0 431 ")


def test_five_hundred_at_once_take_no_threads_and_no_memory() -> None:
    before = threading.active_count()
    with serving(ROUTES) as listener, peak_memory() as peak, holding(listener, 500):
        assert threading.active_count() == before + 1
        assert_all_answered(listener)
    assert peak.grown_mib < 10


@contextlib.contextmanager
def no_descriptor_left(limit: int | None = None) -> Iterator[None]:
    """Nobody in this process can open anything: each descriptor below the limit is taken."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(name) for name in os.listdir("/proc/self/fd"))  # noqa: PTH208
    taken: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit or highest + 8, hard))
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.dup(0))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in taken:
            os.close(descriptor)


def sockets(count: int, stack: contextlib.ExitStack) -> list[socket.socket]:
    clients = [stack.enter_context(socket.socket()) for _ in range(count)]
    for client in clients:
        client.settimeout(WAIT_SECONDS)
    return clients


def test_without_a_free_descriptor_clients_are_answered_one_after_the_other() -> None:
    with serving(ROUTES) as listener, contextlib.ExitStack() as stack:
        clients = sockets(10, stack)
        with no_descriptor_left():
            for client in clients:
                client.connect(("127.0.0.1", listener.port))
                client.sendall(REQUEST)
                assert client.recv(100).startswith(b"HTTP/1.0 200 ")
        assert_all_answered(listener)


def test_without_a_free_descriptor_slow_clients_shut_nobody_out() -> None:
    with serving(ROUTES) as listener, contextlib.ExitStack() as stack:
        slow, clients = sockets(10, stack), sockets(10, stack)
        with no_descriptor_left():
            for silent, client in zip(slow, clients, strict=True):
                silent.connect(("127.0.0.1", listener.port))
                client.connect(("127.0.0.1", listener.port))
                client.sendall(REQUEST)
                assert client.recv(100).startswith(b"HTTP/1.0 200 ")
        assert_all_answered(listener)


def test_a_listener_that_can_accept_nobody_does_not_spin() -> None:
    """It took 14 seconds of CPU in 15."""
    with contextlib.ExitStack() as stack:
        clients = sockets(3, stack)
        listener = stack.enter_context(serving(ROUTES))
        assert listener._server is not None
        with no_descriptor_left(limit=listener._server._spare):  # to give that up frees none below the limit
            for client in clients:
                client.connect(("127.0.0.1", listener.port))
                client.sendall(REQUEST)
            before = time.process_time()
            time.sleep(1.0)
            used = time.process_time() - before
        assert used < 0.3
        assert clients[0].recv(100).startswith(b"HTTP/1.0 200 "), "those who waited are answered"
        assert_all_answered(listener)
