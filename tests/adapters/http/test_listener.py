"""The listener, tested over real sockets: what it answers, and how it treats bad clients."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Gauge
from structlog.testing import capture_logs

from fleetd.adapters.http import listener as listener_module
from fleetd.adapters.http.exchange import Answer
from fleetd.adapters.http.listener import HttpListener, health_route, metrics_route
from fleetd.config import HttpAddress
from fleetd.errors import FleetdError
from tests.support.attacks.http_clients import WAIT_SECONDS, ask, hello, holding, local, raw, serving
from tests.support.rig.free_port import free_port


def test_metrics_are_prometheus_text() -> None:
    registry = CollectorRegistry()
    Gauge("fleetd_things", "Things.", registry=registry).set(3)
    with serving({"/metrics": metrics_route(registry)}) as listener:
        status, headers, body = ask(listener, "/metrics?ignored=1")
    assert status == 200
    assert headers["Content-Type"].startswith("text/plain; version=")
    assert "fleetd_things 3.0" in body.splitlines()


@pytest.mark.parametrize(
    ("age_seconds", "status", "sentence"),
    [
        (None, 503, "no tick yet"),
        (2.0, 200, "ok: the last tick ended 2.0 s ago"),
        (30.0, 503, "30 s ago (limit 30 s)"),
        (4000.0, 503, "journalctl -u fleetd"),
    ],
)
def test_health(age_seconds: float | None, status: int, sentence: str) -> None:
    with serving({"/healthz": health_route(lambda: age_seconds, 30.0)}) as listener:
        got, _, body = ask(listener, "/healthz")
    assert got == status
    assert sentence in body


def test_health_follows_the_ticks() -> None:
    age = [1.0]
    with serving({"/healthz": health_route(lambda: age[0], 30.0)}) as listener:
        assert ask(listener, "/healthz")[0] == 200
        age[0] = 31.0
        assert ask(listener, "/healthz")[0] == 503


def test_head_has_no_body() -> None:
    with serving({"/hello": hello}) as listener:
        status, headers, body = ask(listener, "/hello", "HEAD")
    assert (status, headers["Content-Length"], body) == (200, "6", "")


def test_unknown_path_names_the_known_ones() -> None:
    with serving({"/hello": hello, "/metrics": hello}) as listener:
        status, _, body = ask(listener, "/nope")
    assert status == 404
    assert "/hello /metrics" in body


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"])
def test_no_method_can_change_anything(method: str) -> None:
    with serving({"/hello": hello}) as listener:
        status, _, body = ask(listener, "/hello", method)
    assert status == 405
    assert "only GET and HEAD" in body


def test_a_page_that_fails_reveals_nothing_and_the_next_one_works() -> None:
    def broken() -> Answer:
        raise RuntimeError("password=hunter2")

    with serving({"/broken": broken, "/hello": hello}) as listener:
        status, _, body = ask(listener, "/broken")
        assert status == 500
        assert "hunter2" not in body
        assert ask(listener, "/hello")[0] == 200


def test_too_many_headers_and_too_long_lines_are_refused() -> None:
    with serving({"/hello": hello}) as listener:
        many = b"".join(b"X-%d: y\r\n" % n for n in range(5000))
        for request in (
            b"GET /hello HTTP/1.1\r\n" + many + b"\r\n",
            b"GET /hello HTTP/1.1\r\nX: " + b"y" * 200_000 + b"\r\n\r\n",
            b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\n\r\n",
        ):
            answer = raw(listener, request)
            assert b"200" not in answer.split(b"\r\n")[0]
            assert b"hello" not in answer
        assert ask(listener, "/hello")[0] == 200


def test_stop_ends_requests_and_frees_the_port() -> None:
    with serving({"/hello": hello}) as listener:
        port = listener.port
        with holding(listener, 2) as clients:
            started = time.monotonic()
            listener.stop()
            assert time.monotonic() - started < WAIT_SECONDS / 2, "no request's own deadline was waited for"
            for client in clients:
                with contextlib.suppress(ConnectionResetError):
                    assert client.recv(10) == b""
    again = HttpListener(local(port), {"/hello": hello})
    again.start()
    again.stop()


def test_a_taken_port_and_bad_addresses_are_reported() -> None:
    with serving({}) as listener:
        second = HttpListener(local(listener.port), {})
        with pytest.raises(FleetdError, match=r"http\.listen: 127\.0\.0\.1:\d+ can't be listened on"):
            second.start()
    for host, port in (("does-not-exist.invalid", 1), ("192.0.2.1", 80), ("a..b", 9849)):
        with pytest.raises(FleetdError, match=r"http\.listen"):
            HttpListener(HttpAddress(host=host, port=port), {}).start()


def warnings(said: list[Any]) -> list[str]:
    return [line["event"] for line in said if line["log_level"] == "warning"]


def test_a_taken_port_is_reported_once_and_tried_until_it_is_free() -> None:
    taken = socket.create_server(("127.0.0.1", free_port()))
    port = int(taken.getsockname()[1])

    async def scenario() -> None:
        listener = HttpListener(local(port), {})
        for _ in range(3):
            await listener.ensure()
        assert listener.problem is not None
        assert "Address already in use" in listener.problem
        taken.close()
        await listener.ensure()
        assert listener.problem is None
        with pytest.raises(OSError, match="in use"):
            socket.create_server(("127.0.0.1", port))
        await listener.ensure()  # it listens already, so there is nothing to try
        assert listener.problem is None
        listener.stop()

    with capture_logs() as said:
        asyncio.run(scenario())
    assert len(warnings(said)) == 1
    assert f"127.0.0.1:{port} can't be listened on" in warnings(said)[0]


def test_a_slow_name_lookup_delays_no_tick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also, the ticks don't each begin a look-up."""
    monkeypatch.setattr(listener_module, "ATTEMPT_SECONDS", 0.05)
    resolved, lookups = threading.Event(), []

    def slow(*_: object, **__: object) -> None:
        lookups.append(1)
        assert resolved.wait(WAIT_SECONDS)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", slow)

    async def scenario() -> None:
        listener = HttpListener(HttpAddress(host="gone.lab", port=1), {})
        for _ in range(3):
            await asyncio.wait_for(listener.ensure(), WAIT_SECONDS)
            assert "not resolved yet" in str(listener.problem)
        assert len(lookups) == 1
        resolved.set()
        async with asyncio.timeout(WAIT_SECONDS):
            while "not resolved yet" in str(listener.problem):
                await listener.ensure()
        assert "Name or service not known" in str(listener.problem)

    asyncio.run(scenario())


def test_an_attempt_that_succeeds_between_two_ticks_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        listener = HttpListener(local(0), {"/hello": hello})
        with monkeypatch.context() as patch:
            patch.setattr(listener_module, "ATTEMPT_SECONDS", 0.0)
            await listener.ensure()
        assert listener.problem is not None
        await listener.ensure()
        assert listener.problem is None
        assert (await asyncio.to_thread(ask, listener, "/hello"))[0] == 200
        listener.stop()

    asyncio.run(scenario())


def test_ipv6_loopback() -> None:
    listener = HttpListener(HttpAddress(host="::1", port=0), {"/hello": hello})
    try:
        listener.start()
    except FleetdError:
        pytest.skip("no IPv6 here")
    try:
        with socket.create_connection(("::1", listener.port), timeout=WAIT_SECONDS) as client:
            client.sendall(b"GET /hello HTTP/1.0\r\n\r\n")
            assert client.recv(100).startswith(b"HTTP/1.0 200")
    finally:
        listener.stop()


@pytest.fixture(scope="module")
def listener() -> Iterator[HttpListener]:
    with serving({"/hello": hello}) as running:
        yield running


@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=400) | st.from_regex(rb"[A-Z]{1,6} /\S{0,20} HTTP/\d\.\d\r\n(.{0,9}:.{0,9}\r\n)*\r\n"))
def test_the_listener_survives_any_bytes(listener: HttpListener, data: bytes) -> None:
    raw(listener, data)
    assert ask(listener, "/hello")[2] == "hello\n"
