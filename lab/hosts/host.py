"""One virtual host: its disk, its systemd, its network, and how to run things in it."""

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from lab.errors import LabError
from lab.hosts import booting, cgroups, disk, holder, namespaces
from lab.hosts.launch import launch
from lab.hosts.unit import Unit, unit_from, unit_name
from lab.waiting import PATIENCE_SECONDS, wait_until

if TYPE_CHECKING:
    from lab.lab import Lab

BOOT_SECONDS = 2 * PATIENCE_SECONDS
"""A boot may start a whole fleet of workers, a few at a time, while other hosts boot as well."""


class Host:
    """A virtual host, made by `Lab.add_host`. Its disk exists from then on, its systemd from `boot` on.

    Files and directories of its disk can be read and written at any time. Commands need a running host. What is
    written to the disk survives `reboot`, except in /run, /tmp and /dev.
    """

    def __init__(self, lab: "Lab", name: str, number: int, run: tuple[str, ...], base: str, hostname: str) -> None:
        self.lab = lab
        self.name = name
        self.hostname = hostname
        """What it calls itself. A clone's is another host's."""
        self.address = f"{holder.NETWORK}.0.{number + 10}"
        self.services = run
        self.pid = 0
        self._port = f"port{number}"
        self._folder = holder.STATE / lab.name / "hosts" / name
        self._launcher: subprocess.Popen[str] | None = None
        disk.mount(self._folder, lab.inner, base)
        disk.prepare(self.disk, hostname, run)
        for service in run:
            self.enable(service)

    def __repr__(self) -> str:
        return f"<Host {self.name} {self.address}{'' if self.running else ', not running'}>"

    @property
    def running(self) -> bool:
        """Whether the host is booted (its PID 1 lives)."""
        launcher = self._launcher  # another thread may power it off meanwhile
        return launcher is not None and launcher.poll() is None

    @property
    def disk(self) -> Path:
        """The host's disk as seen from this machine, also while the host is down. Mind absolute symbolic links."""
        return namespaces.root_of(self.lab.inner) / self._folder.relative_to("/") / "root"

    @property
    def root(self) -> Path:
        """The host's whole file tree: with /run and /tmp while it runs, otherwise only its disk."""
        return namespaces.root_of(self.pid) if self.running else self.disk

    # Boot and shutdown

    def boot(self, timeout: float = BOOT_SECONDS) -> None:
        """Boot, and wait until systemd has started everything that it should start."""
        self.lab.say(f"{self.name}: booting systemd")
        group = cgroups.create(self.lab.name, self.name)
        self._launcher, self.pid = launch(
            self.lab.inner, group, [str(self._folder / "root"), self.hostname, self.address], self._plug_in
        )
        booting.wait_for_systemd(self, timeout)
        self.lab.record()
        self.lab.say(f"{self.name}: up at {self.address}")

    def _plug_in(self, namespace: str) -> None:
        port = self._port
        self.lab.ip("link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", namespace)
        self.lab.ip("link", "set", port, "master", "lab0", "up")

    def failed_units(self) -> list[str]:
        """Names of the units in state `failed`."""
        listed = self.run(["systemctl", "list-units", "--state=failed", "--plain", "--no-legend", "--full"])
        return [line.split()[0] for line in listed.stdout.splitlines()]

    def shut_down(self, timeout: float = BOOT_SECONDS) -> None:
        """Shut down properly, as `systemctl poweroff` does: every service is stopped."""
        self.run(["systemctl", "poweroff", "--no-block"], check=False)
        self._wait_for_end(timeout)

    def power_off(self) -> None:
        """Pull the plug: everything on the host dies at once."""
        if self.running:
            os.kill(self.pid, signal.SIGKILL)
        self._wait_for_end(PATIENCE_SECONDS)

    def reboot(self, timeout: float = BOOT_SECONDS, *, power_cut: bool = False) -> None:
        """Shut down (or, with `power_cut`, die at once) and boot again."""
        if power_cut:
            self.power_off()
        else:
            self.shut_down(timeout)
        self.boot(timeout)

    def _wait_for_end(self, timeout: float) -> None:
        if self._launcher is None:
            return
        try:
            self._launcher.wait(timeout)
        except subprocess.TimeoutExpired:
            raise LabError(f"{self.name} did not shut down within {timeout:g} s.") from None
        self._launcher, self.pid = None, 0

    def forget(self, *, kept: bool) -> None:
        """Called by the lab when it has ended or, with `kept`, when it leaves the hosts running."""
        if self._launcher is None:
            return
        if kept:
            self._launcher.returncode = 0  # it goes on without us
        else:
            self._wait_for_end(PATIENCE_SECONDS)
        self._launcher = None

    # Commands

    def run(
        self,
        command: Sequence[str],
        *,
        user: str | None = None,
        timeout: float = PATIENCE_SECONDS,
        check: bool = True,
        stdin: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the host to its end, for at most `timeout` seconds, as root or as `user`."""
        prefix = self._prefix(user, env)
        return namespaces.run([*prefix, *command], self.name, command, timeout=timeout, check=check, stdin=stdin)

    def popen(
        self,
        command: Sequence[str],
        *,
        user: str | None = None,
        stdin: int | IO[Any] | None = subprocess.DEVNULL,
        stdout: int | IO[Any] | None = subprocess.DEVNULL,
        stderr: int | IO[Any] | None = subprocess.DEVNULL,
        env: Mapping[str, str] | None = None,
    ) -> namespaces.Process:
        """Start a command in the host. It ends with the lab at the latest."""
        prefix = self._prefix(user, env)
        return self.lab.end_with_lab(namespaces.Process([*prefix, *command], stdin=stdin, stdout=stdout, stderr=stderr))

    def _prefix(self, user: str | None, env: Mapping[str, str] | None) -> list[str]:
        if not self.running:
            raise LabError(f"{self.name} is not running: call lab.boot() or host.boot() first.")
        prefix = namespaces.enter(self.pid)
        if user is not None:
            uid, gid = disk.account(self.root, user)
            prefix += ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--init-groups", "--reset-env"]
            prefix += ["env"] if env else []
        return prefix + [f"{name}={value}" for name, value in (env or {}).items()]

    # Files

    def path(self, path: str | Path) -> Path:
        """Where a path of the host is on this machine. Mind absolute symbolic links in it."""
        return self.root / str(path).lstrip("/")

    def read(self, path: str | Path) -> str:
        """The text of a file."""
        return self.path(path).read_text()

    def write(self, path: str | Path, text: str, *, mode: int = 0o644, owner: str = "root") -> None:
        """Write a whole file, and make its directories. `owner` is a user of the host."""
        target = self.path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = target.with_name(f".{target.name}.new")
        draft.touch(mode=0o600)
        draft.write_text(text)
        uid, gid = disk.account(self.root, owner)
        os.chown(draft, uid, gid)
        draft.chmod(mode)
        draft.replace(target)

    def remove(self, path: str | Path) -> None:
        """Remove a file or a directory with all in it, if it is there."""
        target = self.path(path)
        if target.is_dir() and not target.is_symlink():
            shutil.rmtree(target)
        else:
            target.unlink(missing_ok=True)

    # Services

    def unit(self, name: str) -> Unit:
        """What systemd says about a unit now."""
        shown = self.run(["systemctl", "show", "--all", unit_name(name)]).stdout
        return unit_from(shown)

    def units(self, pattern: str) -> list[str]:
        """Names of the loaded units that match a pattern and are active or on their way (not failed or inactive)."""
        states = "--state=active,activating,deactivating,reloading"
        listed = self.run(["systemctl", "list-units", states, "--plain", "--no-legend", "--full", pattern])
        return [line.split()[0] for line in listed.stdout.splitlines()]

    def start(self, unit: str, timeout: float = PATIENCE_SECONDS) -> None:
        """Start a unit and wait until it is up."""
        self.run(["systemctl", "start", unit_name(unit)], timeout=timeout)

    def stop(self, unit: str, timeout: float = PATIENCE_SECONDS) -> None:
        """Stop a unit and wait until it is down."""
        self.run(["systemctl", "stop", unit_name(unit)], timeout=timeout)

    def restart(self, unit: str, timeout: float = 2 * PATIENCE_SECONDS) -> None:
        """Restart a unit and wait until it is up."""
        self.run(["systemctl", "restart", unit_name(unit)], timeout=timeout)

    def kill(self, unit: str, sig: int = signal.SIGKILL, *, whole_unit: bool = False) -> None:
        """Send a signal to a unit's main process, or to every process of the unit."""
        whom = "all" if whole_unit else "main"
        number = signal.Signals(sig).name
        self.run(["systemctl", "kill", f"--kill-who={whom}", f"--signal={number}", unit_name(unit)])

    def reload_systemd(self) -> None:
        """Make systemd read its unit files again (`systemctl daemon-reload`)."""
        self.run(["systemctl", "daemon-reload"])

    def enable(self, unit: str) -> None:
        """Start a unit at every boot, beginning with the next."""
        for verb in ("unmask", "enable"):
            self.on_disk("systemctl", "--quiet", verb, unit_name(unit))

    def on_disk(self, program: str, *arguments: str) -> None:
        """Run a program of this machine that has `--root=` on the host's disk. The host need not run."""
        # In the lab's mount namespace: these programs resolve the /proc/PID/root of `disk` to this machine's own /.
        self.lab.run([program, f"--root={self._folder / 'root'}", *arguments])

    def journal(self, unit: str | None = None, lines: int = 200) -> str:
        """The latest lines of the journal, of one unit or of all."""
        of_unit = [] if unit is None else ["--unit", unit_name(unit)]
        return self.journalctl("-o", "short-precise", f"--lines={lines}", *of_unit)

    def journalctl(self, *arguments: str) -> str:
        """What `journalctl` prints. journald is told to catch up first, so nothing written before is missing."""
        script = 'journalctl --sync && exec journalctl --no-pager "$@"'
        return self.run(["sh", "-c", script, "sh", *arguments]).stdout

    # Network and freezing

    def cut(self) -> None:
        """Cut the host off the lab's network. Packets vanish and connections hang."""
        self.lab.ip("link", "set", self._port, "down")

    def join(self) -> None:
        """Undo `cut`."""
        self.lab.ip("link", "set", self._port, "up")

    def plug_into(self, bridge: str) -> None:
        """Connect it to this bridge of the lab's network and to no other, see `Lab.part`."""
        self.lab.ip("link", "set", self._port, "master", bridge)

    @property
    def group(self) -> Path:
        """Its control group, as seen from this machine."""
        return cgroups.of_lab(self.lab.name) / self.name

    def freeze(self, timeout: float = PATIENCE_SECONDS) -> None:
        """Stop every process of the host where it is, like a paused VM. Its clocks go on."""
        cgroups.freeze(self.group, timeout)

    def thaw(self, timeout: float = PATIENCE_SECONDS) -> None:
        """Undo `freeze`."""
        cgroups.thaw(self.group, timeout)

    def freeze_unit(self, unit: str, timeout: float = PATIENCE_SECONDS) -> None:
        """Stop every process of one service where it is. Mind systemd's watchdog, which then ends it."""
        cgroups.freeze(self.group / "system.slice" / unit_name(unit), timeout)

    def thaw_unit(self, unit: str, timeout: float = PATIENCE_SECONDS) -> None:
        """Undo `freeze_unit`."""
        cgroups.thaw(self.group / "system.slice" / unit_name(unit), timeout)

    def wait_until(self, what: str, check: Callable[[], bool], timeout: float = PATIENCE_SECONDS) -> None:
        """Wait until `check` is true, for at most `timeout` seconds. Raises LabError otherwise."""
        wait_until(f"{self.name}: {what}", check, timeout)
