"""What one host remembers: its own orders, drains under way, failures, people's orders (law 6), what it learnt.

The memory is small, written before the orders it holds are carried out, and belongs to one boot: after a reboot
windows begin anew, pins and overrides are forgotten, and that is said.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

import msgspec

from fleetd.core.instances.lifecycle import Drain, Orders, Pin, Replace
from fleetd.core.instances.scheduler import SchedulerMemory
from fleetd.core.model.facts import CodeStamp, Value
from fleetd.core.model.heartbeats import Number
from fleetd.core.model.policy import Policy

#: Pauses before a unit that systemd gave up on is tried again; the last one repeats.
RETRY_SECONDS = (15.0, 30.0, 60.0, 120.0, 300.0)
RETRIES_MAX = 10
#: A quiet that was never confirmed keeps further victims from being chosen this long, or until one is confirmed.
UNDRAINABLE_SECONDS = 3600.0
#: A job that we had pushed back is known again this long; as many at most.
PUSHED_BACK_SECONDS = 86400.0
PUSHED_BACK_MAX = 512
#: Jobs that are remembered of one instance, for when it falls silent.
JOB_IDS_MAX = 64
#: Without a heartbeat this long, while others beat: unresponsive. Its last heartbeat was in Redis for 60 s more.
UNRESPONSIVE_SECONDS = 60.0


class Failure(Value, frozen=True, kw_only=True):
    """How often in a row a unit ended as failed, or a start had no effect, and when last."""

    count: int
    last_seconds: float
    ordered: bool = False  # it was our start that failed, so what still comes of it is ours
    ended: bool = False  # by us, so systemd calls it inactive; until it is active again
    why: str = ""

    @property
    def retry_at_seconds(self) -> float:
        return self.last_seconds + RETRY_SECONDS[min(self.count, len(RETRY_SECONDS)) - 1]

    @property
    def given_up(self) -> bool:
        return self.count > RETRIES_MAX


class Watch(Value, frozen=True, kw_only=True):
    """What was seen of an instance's present process (health.py)."""

    invocation_id: str
    begun_seconds: float | None = None  # of its boot, where that was watched
    first_boot_seconds: float | None = None  # of the first of the boots in a row that came to no heartbeat
    first_boot_restarts: int = 0  # how often systemd had restarted it by then
    served: bool = False  # its heartbeat was seen
    silent_seconds: float = 0.0  # without a heartbeat while others beat, in punctual ticks
    heavy_since_seconds: float | None = None  # over its memory limit
    resident_bytes: int = 0  # as last seen
    job_ids: tuple[str, ...] = ()  # of the jobs in its last heartbeat
    oom_told: bool = False  # its OOM kill is known
    unit_digest: str = ""  # of the unit file it was started by
    code: str = ""  # of Mastodon, as it was on disk when it was started


class Pause(Value, frozen=True, kw_only=True):
    """Nothing moves of its own accord."""

    until_seconds: float
    reason: str = ""


class SetCount(Value, frozen=True, kw_only=True):
    """A person wants so many instances of a profile."""

    instances: int
    until_seconds: float


class Rollout(Value, frozen=True, kw_only=True):
    """A replacement of instances, one at a time (rollout.py). Keys are as in HostMemory."""

    cause: Literal["restart", "outdated", "memory"]
    left: dict[str, str]  # still to be replaced, in order: key to the invocation that is to go
    total: int
    since_seconds: float
    done: int = 0
    current: str = ""
    spare: str = ""  # started for the current one; "": it is replaced by stop, then start
    away: str = ""  # profile of one that was let go before its replacement, until that one serves
    count: int = 0  # instances of that profile that were capacity before
    code_before: str = ""  # of Mastodon: what a restart that is given up goes back to holding for
    waits: str = ""  # what it does or waits for, or why it was given up
    ended: Literal["", "done", "given_up"] = ""
    ended_seconds: float = 0.0


class HostMemory(Value, frozen=True, kw_only=True):
    """Keys are instance numbers as text, or "scheduler"."""

    boot_id: str = ""
    since_seconds: float | None = None  # of the first look at systemd in this boot
    ticked_seconds: float | None = None  # of the last tick
    drains: dict[str, Drain] = {}
    starts: dict[str, float] = {}  # our start orders that systemd has not shown yet
    pins: dict[str, Pin] = {}
    stands_in: dict[str, tuple[int, ...]] = {}  # which was started for which, stopped by hand
    seen: dict[str, str] = {}  # ActiveState as last seen; absent: never looked
    failures: dict[str, Failure] = {}
    watches: dict[str, Watch] = {}
    boot_seconds: dict[str, float] = {}  # by profile, or "scheduler": learnt
    instance_bytes: dict[str, int] = {}  # by profile: what one may grow to, where an OOM kill taught more
    oom_seconds: float | None = None  # of the last OOM kill of ours
    oom_kills_total: int | None = None
    oom_counted_seconds: float | None = None  # when the kernel's count last grew
    pushed_back: dict[str, float] = {}  # jid to when we made it start over
    undrainable_seconds: float | None = None
    pause: Pause | None = None
    sets: dict[str, SetCount] = {}  # by profile
    code: str = ""  # digest of Mastodon's code that instances may be started with
    code_on_disk: CodeStamp | None = None  # as last read; None: not stamped
    rollout: Rollout | None = None
    replaced: dict[str, str] = {}  # what an instance was last replaced for: once per digest
    pressed_since_seconds: float | None = None  # the host's memory
    shed_seconds: float | None = None
    scheduler: SchedulerMemory = SchedulerMemory()
    scheduler_handover: bool = False  # we ended ours to start it afresh

    def worth_keeping(self) -> HostMemory:
        """Without what changes every tick and begins anew after a restart of fleetd: not worth a write each time."""
        watches = {
            key: msgspec.structs.replace(
                watch,
                silent_seconds=0.0,
                resident_bytes=0,
                job_ids=watch.job_ids if watch.silent_seconds else (),  # no others will be heard of
            )
            for key, watch in self.watches.items()
        }
        rollout = self.rollout
        if rollout is not None and not rollout.ended:
            rollout = msgspec.structs.replace(rollout, waits="")
        return msgspec.structs.replace(
            self, scheduler=SchedulerMemory(), ticked_seconds=None, watches=watches, rollout=rollout
        )

    @property
    def code_changed(self) -> CodeStamp | None:
        """Mastodon's code on disk, where it is not what instances may be started with."""
        code = self.code_on_disk
        return code if code is not None and self.code not in {"", code.digest} else None

    def with_start(self, number: Number, now_seconds: float) -> HostMemory:
        return msgspec.structs.replace(self, starts={**self.starts, str(number): now_seconds})

    def with_drain(self, number: Number, drain: Drain) -> HostMemory:
        return msgspec.structs.replace(self, drains={**self.drains, str(number): drain})

    def with_failure(self, number: Number, now_seconds: float, why: str, *, ordered: bool) -> HostMemory:
        """One that we end because it does not come up."""
        before = self.failures.get(str(number))
        failure = Failure(
            count=before.count + 1 if before else 1,
            last_seconds=now_seconds,
            ordered=ordered,
            ended=True,
            why=why,
        )
        return msgspec.structs.replace(self, failures={**self.failures, str(number): failure})

    def with_pushed_back(self, job_ids: frozenset[str], now_seconds: float) -> HostMemory:
        """Jobs that are about to start over by our stop; the oldest are forgotten (law 7)."""
        kept = {j: at for j, at in self.pushed_back.items() if now_seconds - at < PUSHED_BACK_SECONDS}
        kept |= dict.fromkeys(sorted(job_ids), now_seconds)
        newest = sorted(kept.items(), key=lambda item: -item[1])[:PUSHED_BACK_MAX]
        return msgspec.structs.replace(self, pushed_back=dict(newest))

    def holds_pushed_back(self, job_ids: frozenset[str], now_seconds: float) -> bool:
        """Whether one of these jobs started over because of us already."""
        return any(now_seconds - self.pushed_back.get(j, -1e12) < PUSHED_BACK_SECONDS for j in job_ids)

    def undrainable(self, now_seconds: float) -> bool:
        """Whether a quiet was lately not confirmed, so that no further victim is chosen."""
        at = self.undrainable_seconds
        return at is not None and now_seconds - at < UNDRAINABLE_SECONDS

    def pinned(self, number: Number, wants: Literal["run", "stopped", "quiet"], now_seconds: float) -> bool:
        pin = self.pins.get(str(number))
        return pin is not None and pin.wants == wants and now_seconds < pin.until_seconds

    def orders(
        self, now_seconds: float, replace: Mapping[str, Replace] = MappingProxyType({})
    ) -> dict[str, Orders]:
        """By instance, for the views. `replace`: those that are to be replaced, and why."""
        pins = {k: p.wants for k, p in self.pins.items() if now_seconds < p.until_seconds}
        silent = {k for k, w in self.watches.items() if w.served and w.silent_seconds >= UNRESPONSIVE_SECONDS}
        unheard = {k for k, w in self.watches.items() if not w.served and w.silent_seconds > 0.0}
        failed = {k for k, f in self.failures.items() if f.ended}
        return {
            key: Orders(
                drain=self.drains.get(key),
                start_ordered=key in self.starts,
                pinned=pins.get(key, ""),
                replace=replace.get(key, ""),
                unresponsive=key in silent,
                unheard=key in unheard,
                failed=key in failed,
            )
            for key in {*self.drains, *self.starts, *pins, *replace, *silent, *unheard, *failed}
        }

    def given_up(self, number: Number) -> bool:
        """Whether a unit failed so often that only a person makes fleetd try it again."""
        failure = self.failures.get(str(number))
        return failure is not None and failure.given_up

    def may_retry(self, number: Number, now_seconds: float) -> bool:
        """Whether a unit that failed may be tried again: growing pauses, a bounded number of times."""
        failure = self.failures.get(str(number))
        return failure is None or (not failure.given_up and now_seconds >= failure.retry_at_seconds)

    def paused(self, now_seconds: float) -> Pause | None:
        return self.pause if self.pause is not None and now_seconds < self.pause.until_seconds else None

    def set_instances(self, profile: str, now_seconds: float) -> int | None:
        """What a person set, if it still holds."""
        wanted = self.sets.get(profile)
        return wanted.instances if wanted is not None and now_seconds < wanted.until_seconds else None

    def grown_bytes(self, policy: Policy, profile: str) -> int:
        """What an instance of this profile grows to: as configured, or more where an OOM kill taught it."""
        return max(policy.memory.instance_bytes, self.instance_bytes.get(profile, 0))


def unit_name(key: str) -> str:
    """A unit's name for people, without ".service"."""
    return "mastodon-sidekiq-scheduler" if key == "scheduler" else f"mastodon-sidekiq@{key}"
