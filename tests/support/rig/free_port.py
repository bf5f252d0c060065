"""A free port for a test's server, which nobody else takes until this process ends."""

from __future__ import annotations

import contextlib
import random
import socket
from pathlib import Path

_COUNT = 10_000


def free_port() -> int:
    """A port of 127.0.0.1 on which nobody listens, and on which nobody but the caller will.

    It is outside the range from which the kernel gives ports to clients, which could take one at any moment. It is
    claimed by a name that all test processes of this machine know, and that disappears with the process.
    """
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    candidates = list(range(max(1024, first - _COUNT), first)) or list(range(20_000, 30_000))
    random.shuffle(candidates)
    for port in candidates:
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            if _claim(port):
                return port
    raise AssertionError("no port is free")


def _claim(port: int) -> bool:
    claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        claim.bind(f"\0fleetd-test-port-{port}")
    except OSError:
        claim.close()
        return False
    claim.detach()  # open for as long as the process lives
    return True
