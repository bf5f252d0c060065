"""A stand-in for a pooler that is none of PgBouncer, in front of a real Postgres.

It has what pgcat, Odyssey, Supavisor and managed ones have in common on the wire: the process id of a login is its own.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator

_REFUSAL = b"SERROR\0C08P01\0Mstartup options are not supported here\0\0"


@contextlib.contextmanager
def other_pooler(port: int, *, refuses_options: bool = False, plain_proxy: bool = False) -> Iterator[int]:
    """The port where it listens; Postgres is at `port`. `plain_proxy`: it passes everything on, as HAProxy does."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(30)
        threading.Thread(target=_accept, args=(listener, port, refuses_options, plain_proxy), daemon=True).start()
        yield listener.getsockname()[1]


def _accept(listener: socket.socket, port: int, refuses_options: bool, plain_proxy: bool) -> None:
    while True:
        try:
            client = listener.accept()[0]
        except OSError:  # closed
            return
        threading.Thread(target=_serve, args=(client, port, refuses_options, plain_proxy), daemon=True).start()


def _serve(client: socket.socket, port: int, refuses_options: bool, plain_proxy: bool) -> None:
    with client, socket.create_connection(("127.0.0.1", port)) as server, contextlib.suppress(OSError):
        startup = client.recv(65536)
        if refuses_options and b"\0options\0" in startup:
            client.sendall(b"E" + struct.pack("!i", len(_REFUSAL) + 4) + _REFUSAL)
            return
        server.sendall(startup)
        threading.Thread(target=_pump, args=(client, server), daemon=True).start()
        _answers(server, client, plain_proxy)


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


def _answers(server: socket.socket, client: socket.socket, plain_proxy: bool) -> None:
    kept = b""
    while data := server.recv(65536):
        kept += data
        while len(kept) >= 5 and len(kept) > (length := struct.unpack("!i", kept[1:5])[0]):
            message, kept = kept[: length + 1], kept[length + 1 :]
            if message[:1] == b"K" and not plain_proxy:
                message = message[:5] + struct.pack("!i", 0x7ABCDEF) + message[9:]
            client.sendall(message)
