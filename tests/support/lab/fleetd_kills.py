"""Gives orders to a busy fleet in rounds, and kills fleetd in the middle of each. Also kills workers.

Each round says how many processes it starts and ends. A fleetd that died and came back must reach the same numbers: if
it forgot something, a process would be started or ended twice, or not at all.
"""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from fleetd.core.model.status import Status
from lab.campaign import life
from lab.hosts.unit import Unit
from lab.jobs import load, records
from lab.jobs.lengths import Lengths
from lab.jobs.load import Load, Phase
from lab.waiting import PATIENCE_SECONDS
from tests.support.lab import ticks
from tests.support.lab.fleet import Fleet, started

THREADS = 4
FEW, MANY = 2, 4
JOBS = Lengths(median_seconds=0.1, sigma=1.5, shortest_seconds=0.001, longest_seconds=4.0)
#: An order that fleetd gave as it died may still arrive, and on a busy machine Ruby obeys it late.
ORDER_ARRIVES_SECONDS = 1.0
GONE_SECONDS = 2.0
ROUND_SECONDS_MAX = 300.0
BEAT_SECONDS = 5.0


def configuration(least: int, most: int) -> str:
    return f"""
[scheduler]
place = "elsewhere"
[profiles.only]
order = "default-first"
threads = {THREADS}
instances = "1-{MANY}"
min = {least}
max = {most}
[targets]
pull = 2
[memory]
instance = "100 MiB"
[pace]
tick_seconds = 1
hold_down_seconds = 4
"""


@dataclass(frozen=True)
class Round:
    """An order: how many processes it starts and ends, and how many serve afterwards."""

    name: str
    give: Callable[[Fleet], None]
    starts: int
    ends: int
    serving: int
    lasts_seconds: float
    """Roughly. The kills are spread over this time."""


def _resize(least: int, most: int) -> Callable[[Fleet], None]:
    def give(fleet: Fleet) -> None:
        fleet.configure(configuration(least, most))
        fleet.worker.run(["systemctl", "reload", "fleetd"])

    return give


def _surge(fleet: Fleet) -> None:
    _resize(FEW, MANY)(fleet)
    load.enqueue(fleet.main, "pull", [1.0] * 200)


def _restart(fleet: Fleet) -> None:
    fleet.worker.run(["/opt/fleetd/bin/fleetctl", "restart", "--no-wait"])


START = Round("start", _resize(MANY, MANY), MANY - FEW, 0, MANY, 3)
DRAIN = Round("drain", _resize(FEW, FEW), 0, MANY - FEW, FEW, 8)
SURGE = Round("surge", _surge, MANY - FEW, MANY - FEW, FEW, 25)
RESTART = Round("restart", _restart, MANY, MANY, MANY, 25)


@contextmanager
def fleet_of_few() -> Iterator[Fleet]:
    """The smallest number of instances."""
    with started(configuration(FEW, FEW)) as fleet:
        # Fifty deaths in a few minutes: systemd must neither give up nor wait for 20 s each time.
        fleet.worker.write(
            "/etc/systemd/system/fleetd.service.d/test.conf",
            f"[Unit]\nStartLimitIntervalSec=0\n[Service]\nRestartSec={GONE_SECONDS}\n",
        )
        fleet.worker.reload_systemd()
        yield fleet


def kill_fleetd(fleet: Fleet) -> None:
    """Kill fleetd with SIGKILL. While it is gone no worker is quieted, stopped or dies. systemd starts it again.

    A worker that begins to fetch meanwhile was ordered before: its boot takes about as long as fleetd is gone.
    """
    old = fleet.worker.unit("fleetd").main_pid
    fleet.worker.kill("fleetd", signal.SIGKILL)

    def is_back() -> bool:
        unit = fleet.worker.unit("fleetd")
        return unit.active and unit.main_pid != old

    fleet.worker.wait_until("fleetd is back", is_back)
    died, _ = life.exits(fleet.worker)["fleetd.service"][-1]
    back = _started(fleet.worker.unit("fleetd"))
    assert back - died >= GONE_SECONDS
    processes = life.processes(fleet.worker)
    moved = [at for p in processes for at in (p.quiet_at, p.down_at, p.ended_at) if at is not None]
    assert not [at for at in moved if died + ORDER_ARRIVES_SECONDS < at < back]


def _started(unit: Unit) -> float:
    """The Unix time at which systemd started a unit's main process."""
    microseconds = int(unit.properties["ExecMainStartTimestampMonotonic"])
    return time.time() - time.monotonic() + microseconds / 1e6


def play(fleet: Fleet, rounds: list[Round], chance: random.Random) -> int:
    """Give these orders in turn while jobs arrive, and kill fleetd in the middle of each. Returns how often."""
    loader = load.start(fleet.main, Load([Phase(3600, {"default": 10.0})], lengths=JOBS))
    kills = 0
    for number, order in enumerate(rounds):
        starts, ends = _counts(fleet)
        order.give(fleet)
        for pause in _moments(order, chance):
            time.sleep(pause)
            kill_fleetd(fleet)
            kills += 1
        goal = (starts + order.starts, ends + order.ends)
        what = f"round {number} ({order.name}) ends with {order.serving} that serve"
        fleet.wait(what, _Over(fleet, order, goal).seen, ROUND_SECONDS_MAX)
        assert _counts(fleet) == goal, f"round {number} ({order.name}) started or ended too many"
        assert not [p for p in life.processes(fleet.worker) if p.ended_at is not None], "nobody died"
    loader.stop()
    return kills


def _moments(order: Round, chance: random.Random) -> list[float]:
    """The pause before each kill: one kill in a short order, several in a long one."""
    times = max(1, round(order.lasts_seconds / 6))
    return [chance.uniform(0, order.lasts_seconds / times) for _ in range(times)]


def _counts(fleet: Fleet) -> tuple[int, int]:
    """How many processes have been started so far, and how many have ended."""
    processes = life.processes(fleet.worker)
    return len(processes), sum(p.down_at is not None for p in processes)


@dataclass(frozen=True)
class _Over:
    """Whether an order has been carried out, according to Sidekiq and fleetd."""

    fleet: Fleet
    order: Round
    goal: tuple[int, int]

    def seen(self, status: Status) -> bool:
        states = [i.state for i in status.instances]
        calm = states.count("serving") == self.order.serving == len(states) - states.count("stopped")
        starts, ends = _counts(self.fleet)
        return calm and starts >= self.goal[0] and ends >= self.goal[1]


@dataclass(frozen=True)
class Death:
    """The death of a worker that was killed, and its return."""

    pause_seconds: float
    """From its death until systemd starts it again."""
    back_seconds: float
    """From its death until its number fetches jobs again."""
    lost_jobs: int
    samples: int
    wrong: tuple[tuple[int, int | None], ...]
    """The ticks in which fleetd's count of serving instances was wrong, and that count."""


def kill_worker(fleet: Fleet, number: int) -> Death:
    """Kill one of `MANY` that serve. Until all serve again, fleetd's count is compared with what was true."""
    name = f"mastodon-sidekiq@{number}"
    pid = fleet.worker.unit(name).main_pid
    killed_at = time.time()
    with ticks.watching(fleet) as seen:
        fleet.worker.kill(name, signal.SIGKILL)
        seen.wait(
            "it serves again",
            lambda s: s.profiles[0].serving_instances == MANY and life.processes(fleet.worker)[-1].up_at > killed_at,
        )
    processes = life.processes(fleet.worker)
    died, fresh = next(p for p in processes if p.pid == pid), processes[-1]
    assert died.killed
    assert died.ended_at is not None
    assert fresh.unit == died.unit, "systemd started it, and nothing else was started"
    runs = records.runs([fleet.worker])
    return Death(
        pause_seconds=_started(fleet.worker.unit(name)) - died.ended_at,
        back_seconds=fresh.up_at - died.ended_at,
        lost_jobs=sum(r.pid == pid and r.result is None for r in runs),
        samples=len(seen.seen),
        wrong=tuple(
            (tick.number, tick.status.profiles[0].serving_instances)
            for before, tick in zip(seen.seen, seen.seen[2:], strict=False)
            if not _counted_right(processes, before, tick)
        ),
    )


def _counted_right(processes: list[life.Process], before: ticks.Tick, tick: ticks.Tick) -> bool:
    """A death is noticed within two ticks, a new process with its first heartbeat and one tick."""
    serving = tick.status.profiles[0].serving_instances
    if serving is None:
        return False
    until = tick.ended
    rose = [p.up_at for p in processes if before.not_begun <= p.up_at <= until]
    most = max(life.least_serving(processes, moment, moment) for moment in (before.not_begun, *rose))
    heard = before.not_begun - 1.5 * BEAT_SECONDS
    return life.least_serving(processes, heard, until) <= serving <= most


def count(fleet: Fleet) -> records.Tally:
    """Every job that ran, counted once none is left."""
    return fleet.settled(4 * PATIENCE_SECONDS)
