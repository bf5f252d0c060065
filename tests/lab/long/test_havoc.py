"""Everything at once: all orders of fleetctl, people with systemctl, new settings, and fleetd killed over and over.

Afterwards no job is lost and no instance is stuck. If a job was cut off early, it was by a person's own stop.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from contextlib import suppress

import pytest

from lab import Lab, LabError
from lab.campaign import life, schedule, stage, ways
from lab.hosts.host import Host
from lab.jobs import load, records
from lab.jobs.load import Load, Phase
from lab.topologies import TwoHosts
from tests.support.lab.fleet import Fleet

pytestmark = [pytest.mark.lab, pytest.mark.long]

SECONDS = 240.0
PAUSE_SECONDS = 2.0
CALM, SURGE = 40.0, 130.0  # jobs per second
HAND_SECONDS = 10.0  # a stop by hand within this long explains a job that was pushed back
NUMBERS = range(1, stage.INSTANCES_MAX + 1)
PROFILES = {"default-first": 6, "weighted": 3}


class Havoc:
    """Does random things to the fleet. Orders may be refused. Stops by hand are recorded."""

    def __init__(self, worker: Host, seed: int) -> None:
        self.worker = worker
        self.chance = random.Random(seed)
        self.by_hand: list[tuple[float, str]] = []
        self.done: dict[str, int] = {}
        self._threads = stage.THREADS
        self._weights: dict[Callable[[], None], float] = {
            self.kill_fleetd: 6,
            self.drain: 5,
            self.release: 4,
            self.set: 2,
            self.set_auto: 2,
            self.pin: 2,
            self.resume: 2,
            self.pause: 1,
            self.restart: 1,
            self.reconfigure: 1,
            self.reload: 1,
            self.stop_by_hand: 1,
            self.restart_by_hand: 1,
            self.start_by_hand: 1,
            self.quiet_by_hand: 0.5,
        }

    def something(self) -> None:
        what = self.chance.choices(list(self._weights), list(self._weights.values()))[0]
        what()
        self.done[what.__name__] = self.done.get(what.__name__, 0) + 1

    def kill_fleetd(self) -> None:
        self._systemctl("kill", "--kill-who=main", "--signal=KILL", "fleetd")

    def drain(self) -> None:
        self._fleetctl("drain", self._running(), "--for", "20s")

    def release(self) -> None:
        self._fleetctl("release", self._any())

    def set(self) -> None:
        profile = self.chance.choice(list(PROFILES))
        self._fleetctl("set", profile, str(self.chance.randint(0, PROFILES[profile])), "--for", "20s")

    def set_auto(self) -> None:
        self._fleetctl("set", self.chance.choice(list(PROFILES)), "auto")

    def pin(self) -> None:
        self._fleetctl("pin", self._any(), "--for", "15s")

    def pause(self) -> None:
        self._fleetctl("pause", "--for", "10s")

    def resume(self) -> None:
        self._fleetctl("resume")

    def restart(self) -> None:
        self._fleetctl("restart", "--no-wait", *self.chance.choice([[], ["weighted"], ["default-first"]]))

    def reconfigure(self) -> None:
        self._threads = stage.THREADS - 1 if self._threads == stage.THREADS else stage.THREADS
        stage.configure(self.worker, self._threads)
        self.reload()

    def reload(self) -> None:
        self._systemctl("reload", "fleetd")

    def stop_by_hand(self) -> None:
        self._by_hand("stop")

    def restart_by_hand(self) -> None:
        self._by_hand("restart")

    def start_by_hand(self) -> None:
        self._systemctl("start", f"mastodon-sidekiq@{self._any()}")

    def quiet_by_hand(self) -> None:
        unit = f"mastodon-sidekiq@{self._running()}"
        self._systemctl("kill", "--kill-who=main", "--signal=TSTP", unit)

    def let_go(self) -> None:
        """End all orders."""
        self.resume()
        for profile in PROFILES:
            self._fleetctl("set", profile, "auto")
        for number in NUMBERS:
            self._fleetctl("release", str(number))

    def _by_hand(self, verb: str) -> None:
        unit = f"mastodon-sidekiq@{self._running()}.service"
        self.by_hand.append((time.time(), unit))
        self._systemctl(verb, unit)

    def _fleetctl(self, *words: str) -> None:
        self.worker.run([ways.FLEETCTL, *words], check=False)

    def _systemctl(self, *words: str) -> None:
        self.worker.run(["systemctl", "--no-block", *words], check=False)

    def _running(self) -> str:
        return str(self.chance.choice(stage.up(self.worker) or [1]))

    def _any(self) -> str:
        return str(self.chance.choice(NUMBERS))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_havoc(seed: int) -> None:
    with Lab() as lab:
        hosts = stage.build(lab, stock=False, boot_seconds=0.5)
        hosts.worker.write(
            "/etc/systemd/system/fleetd.service.d/test.conf",
            "[Unit]\nStartLimitIntervalSec=0\n[Service]\nRestartSec=1\n",
        )
        hosts.worker.reload_systemd()
        havoc = Havoc(hosts.worker, seed)
        loader = load.start(hosts.main, work(seed))
        while loader.running:
            time.sleep(havoc.chance.expovariate(1 / PAUSE_SECONDS))
            havoc.something()
        loader.wait(10)
        hosts.worker.wait_until("fleetd is back", lambda: hosts.worker.unit("fleetd").active)
        havoc.let_go()
        calm(hosts)
        told = life.processes(hosts.worker)
        tally = records.tally(hosts.main)
        too_soon = pushed_back_too_soon(hosts.worker, told, havoc.by_hand)
        print(
            f"havoc {seed}: {sum(havoc.done.values())} things done ({havoc.done['kill_fleetd']} kills of fleetd), "
            f"{tally.done} of {tally.enqueued} jobs done, {len(tally.lost)} lost, {len(tally.repeated)} done twice, "
            f"{len(too_soon)} pushed back before the deadline but by hand, "
            f"{sum(p.down_at is not None for p in told)} of {len(told)} processes ended"
        )
        assert (tally.done, tally.lost, tally.repeated, too_soon) == (tally.enqueued, (), (), [])
        assert not [p for p in told if p.ended_at is not None], "nobody died"


def work(seed: int) -> Load:
    """Calm times and surges."""
    chance = random.Random(seed)
    phases: list[Phase] = []
    while sum(phase.seconds for phase in phases) < SECONDS:
        rate = SURGE if len(phases) % 2 else CALM
        rates = {queue: rate * share for queue, share in schedule.SHARES.items()}
        phases.append(Phase(chance.uniform(15, 30), rates))
    return Load(phases, seed=seed, lengths=schedule.LENGTHS)


def calm(hosts: TwoHosts) -> None:
    """Wait until every job is done, only `min` serves, and nothing else is under way."""
    fleet = Fleet(hosts)
    with suppress(LabError):  # if not, the tally shows it
        hosts.worker.wait_until("no job is left", lambda: fleet.tally().settled, timeout=120)
    fleet.wait(
        "only min serves",
        lambda s: sorted(i.state for i in s.instances if i.state != "stopped") == ["serving"] * 3,
        timeout=120,
    )


def pushed_back_too_soon(worker: Host, told: list[life.Process], by_hand: list[tuple[float, str]]) -> list[records.Run]:
    """Jobs that were cut off without a drain's deadline or a person's stop to explain it."""
    processes = {(p.unit, p.pid): p for p in told}
    found = []
    for run in records.runs([worker]):
        process = processes.get((run.unit, run.pid))
        if run.result == "done" or process is None or process.down_at is None:
            continue
        down = process.down_at
        quiets = [at for at in (process.told_at, process.quiet_at) if at is not None]
        drained = bool(quiets) and down - min(quiets) >= stage.DRAIN_SECONDS_MAX - 0.5
        stopped = any(unit == run.unit and abs(down - at) < HAND_SECONDS for at, unit in by_hand)
        if not drained and not stopped:
            found.append(run)
    return found
