"""Two ways to carry out a campaign's events: with fleetd, or with upstream's settings and plain systemctl."""

from typing import Protocol

from lab.campaign import stage
from lab.campaign.schedule import Event
from lab.hosts.host import Host

FLEETCTL = "/opt/fleetd/bin/fleetctl"
_DOWN_SECONDS = 30
_NOBODY = "no instance is up: all of them are on their way down or up"
_SURGE_INSTANCES = 8
_CALM_INSTANCES = 4


class Way(Protocol):
    """A way to look after the fleet."""

    name: str

    def carry_out(self, event: Event) -> str:
        """Carry out the event, or begin to. Returns why it was refused, or an empty text."""


class Fleetd:
    """fleetd handles surges by itself; people give it orders."""

    name = "fleetd"

    def __init__(self, worker: Host) -> None:
        self._worker = worker
        self._threads = stage.THREADS

    def carry_out(self, event: Event) -> str:
        if event.kind == "drain":
            running = stage.up(self._worker)
            if not running:
                return _NOBODY
            number = running[int(event.pick * len(running))]
            return self._run(FLEETCTL, "drain", str(number), "--for", f"{_DOWN_SECONDS}s")
        if event.kind == "restart":
            profiles = ["", "default-first", "weighted"]
            chosen = profiles[int(event.pick * len(profiles))]
            return self._run(FLEETCTL, "restart", "--no-wait", *([chosen] if chosen else []))
        if event.kind == "reconfigure":
            self._threads = _other_threads(self._threads)
            stage.configure(self._worker, self._threads)
            return self._run("systemctl", "reload", "fleetd")
        return ""

    def _run(self, *words: str) -> str:
        done = self._worker.run(words, check=False)
        return "" if done.returncode == 0 else (done.stderr or done.stdout).strip() or "refused"


class Stock:
    """Upstream's unit settings, and a script that starts and stops instances without quieting them."""

    name = "stock settings"

    def __init__(self, worker: Host) -> None:
        self._worker = worker
        self._threads = stage.THREADS
        self._wanted = _CALM_INSTANCES

    def carry_out(self, event: Event) -> str:
        running = stage.up(self._worker)
        if event.kind in {"drain", "restart"} and not running:
            return _NOBODY
        if event.kind == "drain":  # another one is started in its place
            number = running[int(event.pick * len(running))]
            self._systemctl("stop", [number])
            running.remove(number)
            self._grow(running, but=number)
        elif event.kind == "restart":
            self._systemctl("restart", running)
        elif event.kind == "reconfigure":
            self._threads = _other_threads(self._threads)
            stage.configure(self._worker, self._threads)
            self._worker.restart("fleetd-render")
            self._systemctl("restart", running)
        else:
            self._wanted = _SURGE_INSTANCES if event.kind == "surge" else _CALM_INSTANCES
            if len(running) > self._wanted:
                self._systemctl("stop", running[self._wanted :])
            else:
                self._grow(running)
        return ""

    def _grow(self, running: list[int], but: int = 0) -> None:
        free = [n for n in range(1, stage.INSTANCES_MAX + 1) if n not in running and n != but]
        self._systemctl("start", free[: max(0, self._wanted - len(running))])

    def _systemctl(self, verb: str, numbers: list[int]) -> None:
        if numbers:
            units = [f"mastodon-sidekiq@{number}" for number in numbers]
            self._worker.run(["systemctl", "--no-block", verb, *units])


def _other_threads(threads: int) -> int:
    return stage.THREADS - 1 if threads == stage.THREADS else stage.THREADS
