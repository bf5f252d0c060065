"""Floods fleetd over the system bus of a virtual host as an unprivileged user, and watches fleetd meanwhile.

Run in the host by its own Python, as root: bus_floods.py KIND CONNECTIONS SECONDS PID, where PID is fleetd's. Prints
what it saw as JSON. Imports nothing of fleetd's.
"""

import itertools
import json
import os
import random
import re
import signal
import socket
import struct
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

NOBODY = 65534
FLEETD = "org.fleetd1"
MANAGER = (FLEETD, "/org/fleetd1", "org.fleetd1.Manager")
PEER = "org.freedesktop.DBus.Peer"
METHOD_CALL, SIGNAL, NO_REPLY = 1, 4, 1
MESSAGE_BYTES_MAX = 32 * 1024 * 1024  # max_message_size of the system bus
BATCH = 50
OUTPUT = Path("/run/asked.txt")


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 8)


def message(
    kind: int, flags: int, texts: dict[int, str], signature: str = "", body: bytes = b"", serial: int = 1
) -> bytes:
    """A D-Bus message; `texts`: path (1), interface (2), member (3), destination (6)."""
    fields = b""
    for code, text in texts.items():
        raw = text.encode()
        letter = b"o" if code == 1 else b"s"
        fields = padded(fields) + bytes([code, 1]) + letter + b"\0" + struct.pack("<I", len(raw)) + raw + b"\0"
    if signature:
        fields = padded(fields) + b"\x08\x01g\0" + bytes([len(signature)]) + signature.encode() + b"\0"
    head = struct.pack("<BBBBIII", ord("l"), kind, flags, 1, len(body), serial, len(fields))
    return padded(head + fields) + body


def call(member: str, interface: str, flags: int, signature: str = "", body: bytes = b"", serial: int = 1) -> bytes:
    texts = {1: "/org/fleetd1", 2: interface, 3: member, 6: FLEETD}
    return message(METHOD_CALL, flags, texts, signature, body, serial)


def asks(count: int) -> bytes:
    """Calls of Status. The bus refuses one whose serial is that of another call whose reply is still out."""
    return b"".join(call("Status", MANAGER[2], 0, serial=serial) for serial in range(1, count + 1))


def text_body(count: int) -> bytes:
    return struct.pack("<I", count) + b"x" * count + b"\0"


def zeros(signature: str) -> bytes:
    """The body of a signature of numbers, all 0."""
    size = 0
    for letter in signature:
        width = {"y": 1, "n": 2, "q": 2, "i": 4, "u": 4, "b": 4, "x": 8, "t": 8, "d": 8}[letter]
        size += -size % width + width
    return bytes(size)


def made(kind: str, names: list[str]) -> list[bytes]:
    """What one connection sends, over and over. Made beforehand: the flood should cost the bus, not this process."""
    if kind == "pings":
        return [call("Ping", PEER, NO_REPLY) * BATCH]
    if kind == "signals":
        where = {1: "/org/freedesktop/systemd1", 2: "org.freedesktop.systemd1.Manager", 3: "JobRemoved"}
        return [b"".join(message(SIGNAL, NO_REPLY, {**where, 6: name}) for name in names) * BATCH]
    if kind == "introspects":
        return [call("Introspect", "org.freedesktop.DBus.Introspectable", NO_REPLY, "s", text_body(8_000_000))]
    if kind == "huge":
        return [call("Ping", PEER, NO_REPLY, "s", text_body(MESSAGE_BYTES_MAX - 1024))]
    if kind == "signatures":
        signatures = ["".join(random.choices("ynqiubxtd", k=255)) for _ in range(600)]
        return [b"".join(call("Ping", PEER, NO_REPLY, signature, zeros(signature)) for signature in signatures)]
    if kind == "unread":
        return [asks(100)]
    raise SystemExit(f"no such flood: {kind}")


def flood(kind: str, names: list[str], until: float) -> None:
    """One connection's part. Never reads what comes back."""
    bus = socket.socket(socket.AF_UNIX)
    bus.settimeout(1.0)
    bus.connect("/run/dbus/system_bus_socket")
    bus.sendall(b"\0AUTH EXTERNAL " + str(NOBODY).encode().hex().encode() + b"\r\nBEGIN\r\n")
    hello = {1: "/org/freedesktop/DBus", 2: "org.freedesktop.DBus", 3: "Hello", 6: "org.freedesktop.DBus"}
    bus.sendall(message(METHOD_CALL, 0, hello))
    for data in itertools.cycle(made(kind, names)):
        if kind == "unread":  # more at once would keep the bus busy with a line in the journal for each
            time.sleep(0.2)
        rest = memoryview(data)
        while rest:
            if time.monotonic() > until:
                return
            try:
                rest = rest[bus.send(rest) :]
            except TimeoutError:
                continue


def ticks_total() -> int:
    with urllib.request.urlopen("http://127.0.0.1:9849/metrics", timeout=60) as reply:
        [total] = re.findall(rb"^fleetd_ticks_total (\S+)$", reply.read(), re.MULTILINE)
        return int(float(total))


def resident_bytes(pid: int) -> int:
    [kibibytes] = re.findall(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(kibibytes) * 1024


class Asker:
    """Asks fleetd and another service in turn, one command at a time, and takes the time."""

    TURNS = (
        ("fleetd", ("busctl", "--quiet", "call", *MANAGER, "Status")),
        ("other", ("busctl", "--quiet", "call", "org.freedesktop.login1", "/org/freedesktop/login1", PEER, "Ping")),
        ("fleetctl", ("/opt/fleetd/bin/fleetctl", "status")),
    )

    def __init__(self) -> None:
        self.took_seconds: dict[str, list[float | None]] = {name: [] for name, _ in self.TURNS}  # None: it failed
        self.errors: list[str] = []  # what fleetctl said when it failed
        self._turns = itertools.cycle(self.TURNS)
        self._next()

    def look(self) -> None:
        code = self._process.poll()
        if code is not None:
            took = time.monotonic() - self._begun
            self.took_seconds[self._name].append(took if code == 0 else None)
            if code and self._name == "fleetctl":
                self.errors.append(f"{code} after {took:.1f} s: {OUTPUT.read_text()}")
            self._next()

    def end(self) -> None:
        self._process.kill()
        self._process.wait()

    def _next(self) -> None:
        self._name, command = next(self._turns)
        self._begun = time.monotonic()
        with OUTPUT.open("w") as output:  # a pipe that nobody reads would stop it
            self._process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)


def watch(pid: int, until: float) -> dict[str, object]:
    """The longest time without a new tick, fleetd's memory, and how long commands took."""
    asker = Asker()
    number, since, gap = ticks_total(), time.monotonic(), 0.0
    first = peak = resident_bytes(pid)
    while time.monotonic() < until:
        asker.look()
        now_number, now = ticks_total(), time.monotonic()
        if now_number != number:
            gap, number, since = max(gap, now - since), now_number, now
        peak = max(peak, resident_bytes(pid))
        time.sleep(0.05)
    asker.end()
    gap = max(gap, time.monotonic() - since)
    return {"gap_seconds": gap, "first_bytes": first, "peak_bytes": peak, "errors": asker.errors, **asker.took_seconds}


def main(kind: str, connections: int, seconds: float, pid: int) -> None:
    listed = subprocess.run(["busctl", "list", "--unique", "--json=short"], capture_output=True, check=True)
    names = [row["name"] for row in json.loads(listed.stdout) if row["pid"] == pid]
    until = time.monotonic() + seconds
    children = []
    for _ in range(connections):
        child = os.fork()
        if child == 0:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            flood(kind, names, until)
            os._exit(0)
        children.append(child)
    seen = watch(pid, until)
    for child in children:
        os.kill(child, signal.SIGKILL)
    seen["exits"] = [os.waitpid(child, 0)[1] for child in children]
    print(json.dumps(seen))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]))
