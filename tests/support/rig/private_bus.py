"""A private dbus-daemon, which can be killed, frozen and started again at the same address."""

from __future__ import annotations

import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_CONFIG = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-BUS Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>custom</type>
  <listen>unix:path={socket}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/>
    <allow own="*"/>
    <allow send_type="method_call"/>
    <allow send_requested_reply="true" send_type="method_return"/>
    <allow send_requested_reply="true" send_type="error"/>
    <allow send_type="signal"/>
    <allow receive_type="method_call"/>
    <allow receive_type="method_return"/>
    <allow receive_type="error"/>
    <allow receive_type="signal"/>
  </policy>
  <limit name="max_replies_per_connection">128</limit>
  <limit name="max_incoming_bytes">{max_incoming_bytes}</limit>
</busconfig>
"""


class PrivateBus:
    """One dbus-daemon. `address` stays the same across restarts."""

    def __init__(self, folder: Path, max_incoming_bytes: int) -> None:
        folder.chmod(0o755)  # other users connect as well
        self._config = folder / "bus.conf"
        self.address = f"unix:path={folder}/bus"
        self._config.write_text(_CONFIG.format(socket=folder / "bus", max_incoming_bytes=max_incoming_bytes))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            ["dbus-daemon", f"--config-file={self._config}", "--nofork", "--nopidfile", "--print-address"],
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline(), "dbus-daemon did not start"

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def freeze(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)


@contextmanager
def private_bus(max_incoming_bytes: int = 127 * 1024 * 1024) -> Iterator[PrivateBus]:
    """A bus that keeps at most so many bytes of a connection's messages that nobody has taken yet."""
    folder = Path(tempfile.mkdtemp(prefix="bus-"))  # short: a socket's path has 108 bytes
    bus = PrivateBus(folder, max_incoming_bytes)
    try:
        bus.start()
        yield bus
    finally:
        bus.stop()
        shutil.rmtree(folder)
