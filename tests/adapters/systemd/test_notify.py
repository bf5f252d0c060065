"""What arrives at the service manager's socket."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleetd.adapters.systemd.notify import SdNotify


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    receiver.settimeout(60)
    name = str(tmp_path / "notify") if request.param == "path" else f"@fleetd-test-{os.getpid()}-{id(receiver)}"
    receiver.bind("\0" + name[1:] if name.startswith("@") else name)
    yield name, receiver
    receiver.close()


def test_messages_arrive_as_they_were_sent(manager: tuple[str, socket.socket]) -> None:
    name, receiver = manager
    service = SdNotify({"NOTIFY_SOCKET": name})
    for call, expected in (
        (service.ready, b"READY=1"),
        (service.watchdog, b"WATCHDOG=1"),
        (service.stopping, b"STOPPING=1"),
        (lambda: service.status("5 of 8 instances serve"), b"STATUS=5 of 8 instances serve"),
    ):
        call()
        assert receiver.recv(4096) == expected


def test_reloading_carries_the_monotonic_time(manager: tuple[str, socket.socket]) -> None:
    name, receiver = manager
    service = SdNotify({"NOTIFY_SOCKET": name})
    before = time.monotonic_ns() // 1000
    service.reloading()
    first, second = receiver.recv(4096).decode().split("\n")
    assert first == "RELOADING=1"
    assert before <= int(second.removeprefix("MONOTONIC_USEC=")) <= time.monotonic_ns() // 1000


def test_a_status_cannot_forge_another_message(manager: tuple[str, socket.socket]) -> None:
    name, receiver = manager
    service = SdNotify({"NOTIFY_SOCKET": name})
    service.status("queue a\nSTOPPING=1\r\n\x1b\u202e\udcff" + "x" * 5000)
    told = receiver.recv(65536)
    assert b"\n" not in told
    assert told.startswith(rb"STATUS=queue a\nSTOPPING=1\r\n\x1b\u202e\udcffx")
    assert len(told) < 1000


def test_a_manager_that_does_not_read_is_not_waited_for(manager: tuple[str, socket.socket]) -> None:
    name, receiver = manager
    service = SdNotify({"NOTIFY_SOCKET": name})
    started = time.monotonic()
    for _ in range(2000):
        service.watchdog()
    assert time.monotonic() - started < 30, "and not for ever"
    receiver.close()
    service.ready()


@pytest.mark.parametrize("name", ["", "relative", "vsock:2:1", "/" + "x" * 200, "/nowhere/at/all", "@"])
def test_without_a_manager_nothing_happens(name: str) -> None:
    service = SdNotify({"NOTIFY_SOCKET": name} if name else {})
    service.ready()
    service.status("x")
    service.reloading()


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "-5"}, None),
    ],
)
def test_watchdog_interval(environ: dict[str, str], expected: float | None) -> None:
    assert SdNotify(environ).watchdog_interval_seconds() == expected
