"""When each Sidekiq process served, from its own records (log/life.jsonl) and, if it died, from systemd's."""

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from lab.hosts.host import Host
from lab.setup import mastodon

_EXITED = "MESSAGE_ID=98e322203f7a4ed290d09fe03c09fe15"  # systemd: a process of a unit has ended
_SIGKILL = "9"


@dataclass(frozen=True)
class Process:
    """One run of an instance. Times are Unix seconds. None: not yet or never, or it died before it could record it."""

    unit: str
    pid: int
    up_at: float
    """When it begins to fetch jobs."""
    quiet_at: float | None
    """When it stops fetching."""
    down_at: float | None
    """When it is told to stop."""
    ended_at: float | None
    """When systemd sees it die. None after an orderly end."""
    killed: bool
    """Whether it died by SIGKILL, so that its running jobs are lost."""
    told_at: float | None
    """When fleetd told it to stop fetching. On a busy machine it obeys later."""

    @property
    def served_until(self) -> float | None:
        """When it stopped serving. None: it still serves."""
        ends = [at for at in (self.quiet_at, self.down_at, self.ended_at) if at is not None]
        return min(ends, default=None)


def processes(host: Host) -> list[Process]:
    """Every process of an instance (not of the scheduler) that ever came up on a host, in order of that time."""
    runs: dict[tuple[str, int], list[dict[str, float]]] = defaultdict(list)
    path = host.disk / mastodon.LIFE.lstrip("/")
    text = path.read_text() if path.exists() else ""
    for line in text[: text.rfind("\n") + 1].splitlines():
        entry = json.loads(line)
        own = runs[entry["unit"], entry["pid"]]
        if entry["event"] == "up":
            own.append({})
        own[-1].setdefault(entry["event"], entry["at"])
    by_start = sorted(
        (life["up"], unit, pid, life)
        for (unit, pid), lives in runs.items()
        for life in lives
        if unit.startswith("mastodon-sidekiq@")
    )
    ends, told_quiet = exits(host), _quieted(host)
    found: list[Process] = []
    for index, (up_at, unit, pid, life) in enumerate(by_start):
        next_up = min((up for up, other, *_ in by_start[index + 1 :] if other == unit), default=float("inf"))
        ended = next(((at, killed) for at, killed in ends[unit] if up_at < at < next_up), None)
        orders = [at for at in told_quiet[unit] if up_at < at < next_up]
        found.append(
            Process(
                unit=unit,
                pid=pid,
                up_at=up_at,
                quiet_at=life.get("quiet"),
                down_at=life.get("down"),
                ended_at=None if ended is None else ended[0],
                killed=ended is not None and ended[1],
                told_at=min(orders, default=None),
            )
        )
    return found


def _quieted(host: Host) -> dict[str, list[float]]:
    """When fleetd told each unit to stop fetching."""
    found: dict[str, list[float]] = defaultdict(list)
    for line in host.journalctl("-o", "json", "-u", "fleetd", "FLEETD_STEP=quiet").splitlines():
        entry = json.loads(line)
        found[entry["FLEETD_UNIT"]].append(int(entry["__REALTIME_TIMESTAMP"]) / 1e6)
    return found


def exits(host: Host) -> dict[str, list[tuple[float, bool]]]:
    """When each unit's main processes ended, and whether by SIGKILL."""
    shown = host.journalctl("-o", "json", _EXITED)
    found: dict[str, list[tuple[float, bool]]] = defaultdict(list)
    for line in shown.splitlines():
        entry = json.loads(line)
        if str(entry["MESSAGE"]).startswith(f"{entry['UNIT']}: Main process exited"):
            killed = entry["EXIT_CODE"] == "killed" and entry["EXIT_STATUS"] == _SIGKILL
            found[entry["UNIT"]].append((int(entry["__REALTIME_TIMESTAMP"]) / 1e6, killed))
    return found


def least_serving(runs: Iterable[Process], begin: float, end: float) -> int:
    """The fewest processes that fetched jobs at any moment between two Unix times."""
    changes: list[tuple[float, int]] = []
    now = 0
    for process in runs:
        until = process.served_until
        if process.up_at > end or (until is not None and until < begin):
            continue
        if process.up_at <= begin:
            now += 1
        else:
            changes.append((process.up_at, 1))
        if until is not None and until <= end:
            changes.append((until, -1))
    least = now
    for _, change in sorted(changes):
        now += change
        least = min(least, now)
    return least
