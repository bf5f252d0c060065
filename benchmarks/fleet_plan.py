"""What the plan for a fleet costs its leader: 100 hosts of 16 instances and 50 queues, beside one host's own plan.

    python -m benchmarks.fleet_plan          half a minute

Both are timed in turns, so that the ratio means something on any machine. A leader's plan includes the reading of all
records, and the plan as JSON. The target is 1.2 × 100 times one host's.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

from msgspec import structs

from fleetd.core.fleet.calls import Told
from fleetd.core.instances.host_memory import HostMemory
from fleetd.core.instances.host_tick import HostTick
from fleetd.core.model.facts import ProcessFacts, QueueFacts
from fleetd.core.model.policy_tables import Policy
from fleetd.core.plan import FleetMemory, plan
from fleetd.core.sharing import fleet_plan, report
from fleetd.core.sharing.fleet_plan import FleetPlan
from fleetd.core.sharing.leading import FleetShared, SharingMemory, plan_fleet
from fleetd.core.sharing.merged import there
from tests.support.builders.readings import database, process, queue, sidekiq, snapshot, systemd, tag, tick_of, unit
from tests.support.world.ports import policy, strict

HOSTS, INSTANCES, QUEUES = 100, 16, 50
THREADS = 25
TARGET = 1.2 * HOSTS
ROUNDS = 15
NAMES = tuple(f"queue_{n:02}" for n in range(QUEUES))
NOW = 10_000.0


def rules(host: str) -> Policy:
    """Two profiles of eight: one of all queues, one of the last half."""
    every, half = " ".join(NAMES), " ".join(NAMES[QUEUES // 2 :])
    profiles = (
        strict("all", "1-8", queues=every, threads=THREADS),
        strict("late", "9-16", queues=half, threads=THREADS),
    )
    return structs.replace(policy(*profiles), host=host)


def beats(host: str, running: int) -> tuple[ProcessFacts, ...]:
    found = []
    for number in numbers(running):
        serves = NAMES if number <= 8 else NAMES[QUEUES // 2 :]
        label = tag(number, host=host)
        one = process(label, queues=" ".join(serves), threads=THREADS, busy=20, pid=100 + number, hostname=host)
        found.append(one)
    return tuple(found)


def numbers(running: int) -> list[int]:
    """As many of each profile."""
    return [*range(1, running // 2 + 1), *range(9, 9 + running - running // 2)]


def tick(host: str, running: int, queues: tuple[QueueFacts, ...], processes: tuple[ProcessFacts, ...]) -> HostTick:
    units = systemd({number: unit(pid=100 + number) for number in numbers(running)})
    redis = sidekiq(*queues, processes=processes)
    own = rules(host)
    return tick_of(own, snapshot(own, now=NOW, redis=redis, postgres=database(maximum=100_000), units=units))


def busy(threads: int) -> tuple[QueueFacts, ...]:
    return tuple(queue(name, 10, busy=threads // QUEUES) for name in NAMES)


def once(call: Callable[[], object]) -> float:
    begun = time.process_time()
    call()
    return time.process_time() - begun


class Case:
    """One situation: so many instances run on each host, and so much is to be done."""

    def __init__(self, running: int, threads_each: int) -> None:
        hosts = [f"w{number:03}" for number in range(HOSTS)]
        processes = tuple(p for host in hosts for p in beats(host, running))
        self.one = tick(hosts[0], running, busy(threads_each), beats(hosts[0], running))
        self.leader = tick(hosts[0], running, busy(threads_each * HOSTS), processes)
        self.told = {}
        for host in hosts:
            record = report.written(report.report_of(tick(host, running, busy(0), beats(host, running)), HostMemory()))
            self.told[host] = Told(silent_ms=1000, gone=False, record=record, claims={})
        self.bytes = max(len(told.record) for told in self.told.values())
        self.previous: FleetPlan | None = None
        self.shared: FleetShared | None = None
        self.text = ""

    def alone(self) -> None:
        plan(self.one, FleetMemory())

    def leads(self) -> None:
        own = report.report_of(self.leader, HostMemory())
        self.shared = plan_fleet(self.leader, own, there(self.told), SharingMemory(), self.previous, clock_seconds=NOW)
        self.text = fleet_plan.written(self.shared.plan)


def seconds(case: Case, rounds: int = ROUNDS) -> tuple[float, float]:
    """CPU seconds of one host's plan, and of its leader's for all."""
    case.alone()
    case.leads()
    pairs = [(once(case.alone), once(case.leads)) for _ in range(rounds)]
    alone, leads = (statistics.median(one) for one in zip(*pairs, strict=True))
    return alone, leads


def ratio(case: Case, rounds: int = ROUNDS) -> float:
    alone, leads = seconds(case, rounds)
    return leads / alone


def row(name: str, case: Case) -> str:
    alone, leads = seconds(case)
    counts = case.shared.plan.profiles if case.shared is not None else ()
    moved = sum(abs(c.shared_instances - c.running_instances) for c in counts)
    return (
        f"| {name} | {moved} | {alone * 1e3:.2f} | {leads * 1e3:.1f} | {leads / alone:.0f} | {case.bytes:,} "
        f"| {len(case.text):,} |"
    )


def main() -> None:
    print("| what | instances that change | one host, ms | its leader, ms | ratio | largest record | plan, bytes |")
    print("|---|---|---|---|---|---|---|")
    for name, running, threads in (("steady", 16, 330), ("surge", 2, 330), ("begins", 0, 330), ("half", 8, 160)):
        print(row(name, Case(running, threads)), flush=True)
    print(f"\nThe target is a ratio of {TARGET:.0f} at most.")


if __name__ == "__main__":
    main()
