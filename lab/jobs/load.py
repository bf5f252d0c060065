"""Enqueues jobs for the stand-in Mastodon in Sidekiq's own format, and records what it enqueued.

`start` runs a loader in the background, at given rates per queue. `enqueue` enqueues jobs at once. The same `Load`
always gives the same jobs at the same offsets, with new jids.

As a program (`python -m lab.jobs.load ADDRESS RECORD`, a Load as JSON on standard input) this module is that loader.
"""

import dataclasses
import itertools
import json
import math
import random
import secrets
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from lab.errors import LabError
from lab.hosts import holder, namespaces
from lab.hosts.host import Host
from lab.jobs import sentinels
from lab.jobs.lengths import Lengths
from lab.jobs.resp import Connection, RedisError
from lab.waiting import PATIENCE_SECONDS

CLASSES: Mapping[str, Sequence[tuple[str, float, float]]] = {
    "default": (("FeedInsertWorker", 6, 0.03), ("LocalNotificationWorker", 3, 0.05), ("DistributionWorker", 1, 0.1)),
    "push": (("ActivityPub::DeliveryWorker", 1, 0.3),),
    "ingress": (("ActivityPub::ProcessingWorker", 1, 0.15),),
    "mailers": (("ActionMailer::MailDeliveryJob", 1, 0.4),),
    "pull": (("ThreadResolveWorker", 6, 0.8), ("RemoteAccountRefreshWorker", 3, 0.6), ("ImportWorker", 0.1, 3.0)),
    "fasp": (("Fasp::AnnounceContentLifecycleEventWorker", 1, 0.2),),
}
"""For each queue: the worker class, its weight among the queue's jobs, and its median duration in seconds."""

SPREAD = 0.8
"""Sigma of the lognormal durations. Half of all jobs are within a factor of about 1.7 of the median."""

_BATCH_SECONDS = 0.02
_RETRY_SECONDS = 0.2
_REPLICA_MS = "1000"


@dataclass(frozen=True)
class Phase:
    """A time with constant mean rates, in jobs per second and queue. Arrivals are random (Poisson)."""

    seconds: float
    rates: Mapping[str, float]


@dataclass(frozen=True)
class Load:
    """What to enqueue. `timestamps`: as up to Sidekiq 7 (float seconds) or as from 8.0 on (integer milliseconds).

    `job_scale` multiplies the durations. `query_share` is the part of each that is spent in a query on Postgres.
    `lengths` replaces the queues' own durations. `sentinels`: addresses that are asked for the primary, instead of the
    one Redis given. `replicas`: how many must have a job before it counts as enqueued for sure.
    """

    phases: Sequence[Phase]
    timestamps: Literal["seconds", "milliseconds"] = "seconds"
    job_scale: float = 1.0
    query_share: float = 0.0
    seed: int = 1
    limit: int = 100_000
    namespace: str = ""
    password: str = ""
    lengths: Lengths | None = None
    sentinels: Sequence[str] = ()
    replicas: int = 0

    def mean_threads(self, phase: Phase) -> float:
        """The mean number of busy threads in this phase (Little's law: rate × mean duration)."""
        own = None if self.lengths is None else self.lengths.mean_seconds
        means = {queue: own or mean_seconds(queue) for queue in phase.rates}
        return sum(rate * means[queue] * self.job_scale for queue, rate in phase.rates.items())


@dataclass(frozen=True)
class Job:
    """One job: when it is due, in seconds after the start, and what it does."""

    due: float
    queue: str
    job_class: str
    number: int
    seconds: float
    query_seconds: float
    jid: str


def mean_seconds(queue: str) -> float:
    """The mean duration of a queue's jobs. For a lognormal that is median × exp(sigma² / 2)."""
    classes = CLASSES[queue]
    weights = sum(weight for _, weight, _ in classes)
    return sum(weight * median for _, weight, median in classes) / weights * math.exp(SPREAD**2 / 2)


def jobs_of(load: Load) -> Iterator[Job]:
    """The jobs of a load in the order in which they are due, at most `limit`."""
    numbers = itertools.count()
    begin = 0.0
    made = 0
    for index, phase in enumerate(load.phases):
        due: list[tuple[float, str]] = []
        for queue, rate in phase.rates.items():
            chance = random.Random(f"{load.seed}/{index}/{queue}")
            at = chance.expovariate(rate) if rate > 0 else math.inf
            bound = len(due) + load.limit  # per queue: the limit below cuts off the latest jobs
            while at < phase.seconds and len(due) < bound:
                due.append((begin + at, queue))
                at += chance.expovariate(rate)
        chance = random.Random(f"{load.seed}/{index}")
        for at, queue in sorted(due):
            if made >= load.limit:
                return
            made += 1
            yield _job(load, at, queue, next(numbers), chance)
        begin += phase.seconds


def _job(load: Load, due: float, queue: str, number: int, chance: random.Random) -> Job:
    classes = CLASSES[queue]
    name, _, median = chance.choices(classes, [weight for _, weight, _ in classes])[0]
    lengths = load.lengths or Lengths(median, SPREAD)
    seconds = lengths.draw(chance) * load.job_scale
    return Job(due, queue, name, number, seconds, seconds * load.query_share, secrets.token_hex(12))


def payload(job: Job, now: float, timestamps: Literal["seconds", "milliseconds"]) -> str:
    """A job as Sidekiq's client writes it into a queue."""
    stamp = now if timestamps == "seconds" else int(now * 1000)
    return json.dumps(
        {
            "retry": True,
            "queue": job.queue,
            "class": job.job_class,
            "args": [job.number, round(job.seconds, 4), round(job.query_seconds, 4)],
            "jid": job.jid,
            "created_at": stamp,
            "enqueued_at": stamp,
        },
        separators=(",", ":"),
    )


def push(connection: Connection, jobs: Sequence[Job], load: Load, record: IO[str]) -> None:
    """Enqueue jobs in one transaction and record them. If there is no answer they are recorded as unsure."""
    prefix = f"{load.namespace}:" if load.namespace else ""
    now = time.time()
    commands: list[Sequence[str]] = [("MULTI",)]
    for job in jobs:
        commands.append(("SADD", f"{prefix}queues", job.queue))
        commands.append(("LPUSH", f"{prefix}queue:{job.queue}", payload(job, now, load.timestamps)))
    sure = False
    try:
        *_, acknowledged = connection.pipeline([*commands, ("EXEC",), ("WAIT", str(load.replicas), _REPLICA_MS)])
        sure = isinstance(acknowledged, int) and acknowledged >= load.replicas
    finally:
        for job in jobs:
            entry = {"jid": job.jid, "queue": job.queue, "class": job.job_class, "at": now, "sure": sure}
            record.write(json.dumps(entry) + "\n")
        record.flush()


class Loader:
    """A running loader."""

    def __init__(self, process: namespaces.Process, record: Path) -> None:
        self._process = process
        self.record = record

    @property
    def running(self) -> bool:
        """Whether it has not finished."""
        return self._process.poll() is None

    def wait(self, timeout: float = PATIENCE_SECONDS) -> int:
        """Wait until it has finished, and return how many jobs it enqueued."""
        try:
            out, err = self._process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            self.stop()
            raise LabError(f"The loader did not end within {timeout:g} s; it was stopped.") from None
        if self._process.returncode != 0:
            raise LabError(f"The loader failed: {err.strip()[-2000:]}")
        return int(out)

    def stop(self) -> None:
        """End it now. What it has enqueued stays enqueued and recorded."""
        self._process.terminate()
        self._process.communicate(timeout=PATIENCE_SECONDS)


def start(main: Host, load: Load) -> Loader:
    """Start enqueuing into the Redis of host `main`."""
    return launch(main, "lab.jobs.load", [], json.dumps(dataclasses.asdict(load)))


def launch(main: Host, program: str, arguments: Sequence[str], text: str) -> Loader:
    """Start a module of the lab as a loader, with ADDRESS RECORD and `arguments`, and `text` on its standard input."""
    record = _record(main)
    process = main.lab.popen(
        [sys.executable, "-m", program, main.address, str(record), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={"PYTHONPATH": str(Path(__file__).resolve().parents[2])},
    )
    with namespaces.piped(process.stdin) as stdin:
        stdin.write(text)
    process.stdin = None
    return Loader(process, record)


def enqueue(main: Host, queue: str, seconds: Iterable[float], load: Load | None = None) -> list[str]:
    """Enqueue a job for each duration now, on one queue, and return their jids."""
    load = load or Load(phases=())
    name = CLASSES[queue][0][0]
    jobs = [
        Job(0.0, queue, name, number, length, length * load.query_share, secrets.token_hex(12))
        for number, length in enumerate(seconds)
    ]
    with connect(main, load.password) as connection, _record(main).open("w") as record:
        for batch in range(0, len(jobs), 1000):
            push(connection, jobs[batch : batch + 1000], load, record)
    return [job.jid for job in jobs]


def connect(main: Host, password: str = "") -> Connection:
    """A connection to the Redis of host `main`, from this program."""
    with main.lab.network():
        return Connection(main.address, password=password)


def _record(main: Host) -> Path:
    folder = holder.STATE / main.lab.name / "enqueued"
    folder.mkdir(exist_ok=True)
    path = folder / f"{time.monotonic_ns()}.jsonl"
    path.touch(exist_ok=False)
    return path


def run(address: str, load: Load, jobs: Iterator[Job], record: IO[str]) -> int:
    """Enqueue each job when it is due, and return the number of jobs.

    Jobs that become due while Redis is away are enqueued as soon as it is back.
    """
    begin = time.monotonic()
    connection: Connection | None = None
    waiting: list[Job] = []
    count = 0
    coming = next(jobs, None)
    while coming is not None or waiting:
        now = time.monotonic() - begin
        while coming is not None and coming.due <= now and len(waiting) < 1000:
            waiting.append(coming)
            coming = next(jobs, None)
        if waiting:
            try:
                connection = connection or _open(address, load)
            except (OSError, RedisError):
                time.sleep(_RETRY_SECONDS)
                continue
            try:
                push(connection, waiting, load, record)
                count += len(waiting)
            except (OSError, RedisError):
                connection.close()
                connection = None
            waiting = []
        if coming is not None:
            time.sleep(min(max(coming.due - now, _BATCH_SECONDS), 0.5))
    if connection is not None:
        connection.close()
    return count


def _open(address: str, load: Load) -> Connection:
    if load.sentinels:
        address = sentinels.primary_address(load.sentinels)
    return Connection(address, password=load.password, timeout=10)


def main() -> None:
    address, path = sys.argv[1:]
    given = json.load(sys.stdin)
    phases = [Phase(**phase) for phase in given["phases"]]
    lengths = None if given["lengths"] is None else Lengths(**given["lengths"])
    load = Load(**{**given, "phases": phases, "lengths": lengths})
    with Path(path).open("w") as record:
        print(run(address, load, jobs_of(load), record))


if __name__ == "__main__":
    main()
