"""A lab: virtual hosts on a private network, which are gone once the program that made them is gone."""

import concurrent.futures
import contextlib
import json
import os
import re
import secrets
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from lab.errors import LabError
from lab.hosts import holder, namespaces
from lab.hosts.host import BOOT_SECONDS, Host
from lab.hosts.namespaces import piped
from lab.waiting import PATIENCE_SECONDS

Progress = Callable[[str], None]
"""Called with a short sentence about what the lab does next."""

_PROJECT = Path(__file__).resolve().parent.parent


def _quiet(_: str) -> None:
    pass


class Lab:
    """Virtual hosts on a private bridge. Use it as a context manager.

    `name` is unique by default. Two labs never see each other. `progress` may be called from several threads.
    """

    def __init__(self, name: str | None = None, progress: Progress | None = None) -> None:
        self.name = name or f"{os.getpid()}-{secrets.token_hex(2)}"
        if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,30}", self.name):
            raise LabError(f"{self.name!r} can't be a lab's name: use a-z, 0-9 and -, at most 31 characters.")
        self.hosts: dict[str, Host] = {}
        self.say: Progress = progress or _quiet
        self.kept = False
        self._holder: subprocess.Popen[str] | None = None
        self._inner = 0
        self._parted = False
        self._running: list[namespaces.Process] = []
        self._recording = threading.Lock()

    def __enter__(self) -> Self:
        if os.geteuid() != 0:
            raise LabError("The lab makes namespaces, mounts and cgroups, so it needs root: run it with sudo.")
        holder.sweep()
        self._holder = subprocess.Popen(
            [sys.executable, "-W", "ignore::RuntimeWarning:runpy", "-m", "lab.hosts.holder", self.name],
            env={**os.environ, "PYTHONPATH": str(_PROJECT)},
            cwd="/",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        word, _, pid = piped(self._holder.stdout).readline().partition(" ")
        if word != "ready":
            self._holder.wait(timeout=PATIENCE_SECONDS)
            raise LabError(f"The lab did not start: {piped(self._holder.stderr).read().strip()}")
        self._inner = int(pid)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all hosts and leave nothing behind, unless `keep` was called."""
        if self._holder is None:
            return
        if not self.kept:
            for process in self._running:
                process.kill()
        with contextlib.suppress(BrokenPipeError):
            piped(self._holder.stdin).close()
        if not self.kept:
            self._holder.wait(timeout=PATIENCE_SECONDS)
            for process in self._running:
                process.communicate(timeout=PATIENCE_SECONDS)
        for host in self.hosts.values():
            host.forget(kept=self.kept)
        for pipe in (self._holder.stdout, self._holder.stderr):
            if pipe is not None:
                pipe.close()
        if self.kept:
            self._holder.returncode = 0  # it goes on without us
        self._holder = None

    def keep(self) -> None:
        """Leave the hosts running when this program ends. `python -m lab down` ends them."""
        if self._holder is None:
            raise LabError("The lab is not running: there is nothing to keep.")
        self.kept = True
        self.record()
        stdin = piped(self._holder.stdin)
        stdin.write("keep\n")
        stdin.flush()

    def record(self) -> None:
        """Record what `python -m lab` needs to find the hosts."""
        if self._holder is None:
            return
        hosts = {host.name: {"pid": host.pid, "address": host.address} for host in self.hosts.values()}
        state = {"holder": self._holder.pid, "inner": self._inner, "kept": self.kept, "hosts": hosts}
        path = holder.STATE / self.name / "lab.json"
        draft = path.with_suffix(".new")
        with self._recording:  # hosts that boot at the same time may be recorded at the same time
            draft.write_text(json.dumps(state))
            draft.replace(path)

    @property
    def inner(self) -> int:
        """The process that owns the lab's mounts and network."""
        if self._holder is None:
            raise LabError("The lab is not running: use it as `with Lab() as lab:`.")
        return self._inner

    # Hosts

    def add_host(self, name: str, run: Sequence[str] = (), base: str = "/", *, hostname: str = "") -> Host:
        """Add a host, not booted yet. It runs the services in `run` and no others of those that the lab knows.

        `base`: what is installed on it: this machine's files, or those of another root that has systemd and D-Bus;
        several with colons between, the topmost first. `hostname`: what it calls itself, if not `name`.
        """
        if name in self.hosts:
            raise LabError(f"There is a host {name!r} already.")
        host = Host(self, name, len(self.hosts) + 1, tuple(run), base, hostname or name)
        self.hosts[name] = host
        return host

    def boot(self, timeout: float = BOOT_SECONDS) -> None:
        """Boot all hosts that are not running, in parallel, and wait until each systemd is up."""
        self.write_hosts_files()
        waiting = [host for host in self.hosts.values() if not host.running]
        with concurrent.futures.ThreadPoolExecutor(max_workers=max(len(waiting), 1)) as pool:
            for done in [pool.submit(host.boot, timeout) for host in waiting]:
                done.result()

    def write_hosts_files(self) -> None:
        """Write every host's name and address into every host's hosts file."""
        names = "".join(f"{host.address} {host.name}\n" for host in self.hosts.values())
        for host in self.hosts.values():
            host.write("/etc/hosts", f"127.0.0.1 localhost\n::1 localhost\n{names}")

    # The lab's network

    def part(self, hosts: Sequence[Host]) -> None:
        """Part the network: these hosts reach each other, the others reach each other, and this machine the others."""
        if not self._parted:
            self.ip("link", "add", "lab1", "type", "bridge")
            self.ip("link", "set", "lab1", "up")
            self._parted = True
        for host in hosts:
            host.plug_into("lab1")

    def reunite(self) -> None:
        """Undo `part`."""
        for host in self.hosts.values():
            if host.running:
                host.plug_into("lab0")

    def network(self) -> contextlib.AbstractContextManager[None]:
        """Within the block, this thread's new sockets reach the hosts: `with lab.network(): socket.create_…`."""
        return namespaces.network_of(self.inner)

    def run(
        self, command: Sequence[str], *, timeout: float = PATIENCE_SECONDS, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run a program of this machine in the lab's network, but not in a host. Its directory is /."""
        return namespaces.run([*self._in_network(), *command], "lab", command, timeout=timeout, check=check)

    def popen(
        self,
        command: Sequence[str],
        *,
        stdin: int | None = subprocess.DEVNULL,
        stdout: int | None = subprocess.DEVNULL,
        stderr: int | None = subprocess.DEVNULL,
        env: Mapping[str, str] | None = None,
    ) -> namespaces.Process:
        """Start a program of this machine in the lab's network. It ends with the lab."""
        process = namespaces.Process(
            [*self._in_network(), *command], stdin=stdin, stdout=stdout, stderr=stderr, env=env
        )
        return self.end_with_lab(process)

    def end_with_lab(self, process: namespaces.Process) -> namespaces.Process:
        """Kill this process when the lab closes, if it still runs."""
        self._running = [known for known in self._running if known.poll() is None]
        self._running.append(process)
        return process

    def _in_network(self) -> list[str]:
        # In the lab's process namespace as well, so that nothing started here outlives the lab.
        return ["nsenter", "-t", str(self.inner), "-n", "-p", "-m", "--"]

    def ip(self, *command: str) -> None:
        """Run `ip` in the lab's network."""
        self.run(["ip", *command])
