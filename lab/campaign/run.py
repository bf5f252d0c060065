"""Plays a campaign and counts what became of every job, from the records of jobs, Sidekiq and systemd."""

import json
import time
from dataclasses import dataclass

from lab.campaign import life, stage, ways
from lab.campaign.schedule import Campaign
from lab.hosts.host import Host
from lab.jobs import load, records
from lab.jobs.resp import strings
from lab.lab import Lab, Progress
from lab.setup import mastodon
from lab.topologies import TwoHosts
from lab.waiting import PATIENCE_SECONDS

_SETTLE_SECONDS = 300.0
_SLACK_SECONDS = 0.5  # the deadline counts from the decision, shortly before the order


@dataclass(frozen=True)
class Outcome:
    """The outcome of a campaign."""

    way: str
    seconds: float
    """From the first job to the end of the last one."""
    tally: records.Tally
    events: int
    refused: int
    processes: tuple[life.Process, ...]
    pushed_back: tuple[records.Run, ...]
    """Runs that were cut off, and whose job a stopping Sidekiq put back into its queue."""
    died: int
    """Runs that ended with their process, without a record of their end."""
    least_serving: int
    """The fewest instances that fetched jobs at any moment while jobs arrived."""

    @property
    def ended(self) -> int:
        """How many processes ended."""
        return sum(process.down_at is not None or process.ended_at is not None for process in self.processes)

    @property
    def killed(self) -> int:
        """How many processes systemd ended by SIGKILL."""
        return sum(process.killed for process in self.processes)

    @property
    def too_soon(self) -> list[records.Run]:
        """How many jobs were pushed back by an instance before its drain deadline."""
        by_pid = {(p.unit, p.pid): p for p in self.processes}
        return [run for run in self.pushed_back if not _past_deadline(by_pid.get((run.unit, run.pid)))]


def _past_deadline(process: life.Process | None) -> bool:
    if process is None or process.quiet_at is None or process.down_at is None:
        return False
    told_at = process.quiet_at if process.told_at is None else min(process.told_at, process.quiet_at)
    return process.down_at - told_at >= stage.DRAIN_SECONDS_MAX - _SLACK_SECONDS


def play(campaign: Campaign, *, stock: bool, boot_seconds: float, say: Progress = lambda _: None) -> Outcome:
    """Build the hosts, let jobs arrive and events happen, wait for the last job, and count."""
    with Lab(progress=say) as lab:
        hosts = stage.build(lab, stock=stock, boot_seconds=boot_seconds)
        way: ways.Way = ways.Stock(hosts.worker) if stock else ways.Fleetd(hosts.worker)
        loader = load.start(hosts.main, campaign.load)
        began, began_at = time.monotonic(), time.time()
        happened, refused = 0, 0
        for event in campaign.events:
            if not loader.running:
                break
            time.sleep(max(0.0, began + event.at_seconds - time.monotonic()))
            why_not = way.carry_out(event)
            happened += 1
            refused += bool(why_not)
            say(f"{event.at_seconds:4.0f} s: {event.kind}{': ' + why_not if why_not else ''}")
        loader.wait(timeout=campaign.seconds + PATIENCE_SECONDS)
        ended_at = time.time()
        say(f"{ended_at - began_at:4.0f} s: no more jobs come")
        hosts.worker.wait_until("no job is left", lambda: _settled(hosts), timeout=_SETTLE_SECONDS)
        seconds = time.monotonic() - began
        processes = life.processes(hosts.worker)
        runs = records.runs([hosts.worker])
        return Outcome(
            way=way.name,
            seconds=seconds,
            tally=records.tally(hosts.main),
            events=happened,
            refused=refused,
            processes=tuple(processes),
            pushed_back=tuple(run for run in runs if run.result == "pushed_back"),
            died=sum(run.result is None for run in runs),
            least_serving=life.least_serving(processes, began_at, ended_at),
        )


def sentence(outcome: Outcome) -> str:
    """An outcome in one line."""
    tally, processes = outcome.tally, len(outcome.processes)
    return (
        f"{outcome.way}: {tally.done} of {tally.enqueued} jobs done in {outcome.seconds:.0f} s, "
        f"{len(tally.lost)} lost, {len(tally.repeated)} done twice; "
        f"{outcome.events} events, {outcome.refused} refused; "
        f"{outcome.ended} of {processes} processes ended, {outcome.killed} by SIGKILL; "
        f"{len(outcome.pushed_back)} runs pushed back, {len(outcome.too_soon)} before the deadline; "
        f"never fewer than {outcome.least_serving} instances served"
    )


def _settled(hosts: TwoHosts) -> bool:
    """Whether no job is under way. The last one may have begun after the last heartbeats, which then call all idle."""
    return _idle(hosts) and records.tally(hosts.main).settled


def _idle(hosts: TwoHosts) -> bool:
    """Whether no job waits, is to be retried, or runs in a live process. Heartbeats are up to 5 s old."""
    with load.connect(hosts.main) as redis:
        waiting = redis.pipeline([("LLEN", f"queue:{queue}") for queue in mastodon.QUEUES])
        later = redis.pipeline([("ZCARD", name) for name in ("retry", "schedule")])
        if any([*waiting, *later]):
            return False
        busy = []
        for identity in strings(redis.command("SMEMBERS", "processes")):
            heartbeat = strings(redis.command("HMGET", identity, "info", "busy"))
            if heartbeat and _is_alive(hosts.worker, json.loads(heartbeat[0])["pid"]):
                busy.append(heartbeat[-1] != "0")
    return not any(busy)


def _is_alive(worker: Host, pid: int) -> bool:
    return worker.path(f"/proc/{pid}").exists()
