"""Enters other processes' namespaces and runs commands there."""

import contextlib
import ctypes
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from lab.errors import LabError

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def piped(stream: IO[str] | None) -> IO[str]:
    """The stream of a process that was started with a pipe for it."""
    if stream is None:
        raise LabError("A process of the lab was started without the pipe that is read now.")
    return stream


def _set_network(descriptor: int) -> None:
    if _libc.setns(descriptor, _CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


@contextlib.contextmanager
def network_of(pid: int) -> Iterator[None]:
    """Within the block this thread opens its sockets in the network namespace of another process.

    A socket stays in its namespace, so a client that connects inside the block goes on working after it.
    """
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        there = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            _set_network(there)
        finally:
            os.close(there)
        try:
            yield
        finally:
            _set_network(home)
    finally:
        os.close(home)


class Process(subprocess.Popen[str]):
    """A running command. A signal reaches the command itself and not only the nsenter that waits for it."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        stdin: int | IO[Any] | None = subprocess.DEVNULL,
        stdout: int | IO[Any] | None = subprocess.DEVNULL,
        stderr: int | IO[Any] | None = subprocess.DEVNULL,
        env: Mapping[str, str] | None = None,
    ) -> None:
        # In its own session, so that a Ctrl-C on the terminal reaches only the program that made the lab.
        super().__init__(
            list(command), stdin=stdin, stdout=stdout, stderr=stderr, env=env, text=True, start_new_session=True
        )

    def send_signal(self, sig: int) -> None:
        """Send a signal to the command's process group: the command and all that it started."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, sig)

    def terminate(self) -> None:
        """Send SIGTERM to the command and all that it started."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL to the command and all that it started."""
        self.send_signal(signal.SIGKILL)


def run(
    command: Sequence[str],
    where: str,
    shown: Sequence[str],
    *,
    timeout: float,
    check: bool,
    stdin: str | None = None,
    env: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end within `timeout` seconds. LabError names `where`, and the command as `shown`.

    Exceeding the time limit is always an error. An exit code other than 0 is one only with `check`.
    """
    pipe = subprocess.PIPE
    process = Process(command, stdin=subprocess.DEVNULL if stdin is None else pipe, stdout=pipe, stderr=pipe, env=env)
    with process:
        try:
            out, err = process.communicate(stdin, timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            said = (err or out).strip()[-2000:]
            raise LabError(f"{where}: `{' '.join(shown)}` did not end within {timeout:g} s. {said}") from None
        except BaseException:
            process.kill()
            raise
    if check and process.returncode != 0:
        said = (err.strip() or out.strip())[-2000:]
        raise LabError(f"{where}: `{' '.join(shown)}` failed with exit code {process.returncode}: {said}")
    return subprocess.CompletedProcess(list(shown), process.returncode, out, err)


def enter(pid: int) -> list[str]:
    """The command prefix that enters all namespaces of a process, with a clean environment."""
    return ["nsenter", "-t", str(pid), "-a", "--", "env", "-i", f"PATH={PATH}", "LANG=C.UTF-8"]


def root_of(pid: int) -> Path:
    """A process's root directory, as seen from here."""
    return Path(f"/proc/{pid}/root")
