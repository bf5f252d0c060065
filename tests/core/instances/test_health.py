"""What is remembered from tick to tick: silence, boot times, memory use and OOM kills."""

from __future__ import annotations

import pytest
from msgspec import structs

from fleetd.core.instances.health import (
    JOB_IDS_MAX,
    boot_seconds_max,
    memory_max_bytes,
    remember_health,
)
from fleetd.core.instances.host_memory import HostMemory, Watch
from fleetd.core.instances.lifecycle import InstanceMemory
from fleetd.core.model.facts import EndCause, Ending, ProcessFacts, RunningJob, UnitFacts
from fleetd.core.model.identity import SCHEDULER, InstanceKey
from fleetd.core.model.policy_tables import MemoryPolicy, PacePolicy
from fleetd.core.model.reasons.base import Reason
from fleetd.core.model.reasons.units import OomKilled
from fleetd.core.model.worker_settings import SCHEDULER_PROFILE
from tests.support.builders.readings import (
    MIB,
    machine,
    process,
    sidekiq,
    snapshot,
    systemd,
    tag,
    tick_of,
    unit,
)
from tests.support.world.ports import policy, strict

ONE = InstanceKey(1)
RULES = policy(strict(numbers="1-4"), memory=MemoryPolicy(max_bytes=1024 * MIB))


class Host:
    """@1 is watched, while @2 beats."""

    def __init__(self) -> None:
        self.now = 10_000.0
        self.memory = HostMemory()
        self.noticed: list[Reason] = []

    def tick(
        self,
        own: UnitFacts | None,
        *beats: ProcessFacts,
        after: float = 5.0,
        other: bool = True,
        redis: bool = True,
        complete: bool = True,
        oom_kills: int | None = None,
        held_bytes: int | None = None,
    ) -> None:
        self.now += after
        units = {2: unit(pid=102)} | ({1: own} if own else {})
        heard = (*beats, process(tag(2), pid=102)) if other else beats
        facts = structs.replace(
            machine(RULES),
            oom_kills_total=oom_kills,
            resident_bytes={} if held_bytes is None else {ONE: held_bytes},
        )
        shot = snapshot(
            RULES,
            now=self.now,
            redis=sidekiq(processes=heard, complete=complete) if redis else None,
            units=systemd(units),
            host=facts,
        )
        self.memory, killed = remember_health(tick_of(RULES, shot, self.memory), self.memory)
        self.noticed = [*killed]

    def served(self) -> Host:
        self.tick(up(), process(tag(1), pid=101))
        return self

    @property
    def watch(self) -> Watch:
        return self.memory.units.watches[ONE]

    def remembered(self) -> InstanceMemory | None:
        """What the memory has about @1. None: nothing."""
        return self.memory.by_instance(self.now, {}).get(ONE)


def ended_by(signal: int) -> Ending:
    return Ending(cause=EndCause.SIGNAL if signal else EndCause.EXIT, signal=signal)


def up(state: str = "active", *, invocation: str = "a", age: float = 5000.0) -> UnitFacts:
    return structs.replace(unit(state, age=age, pid=101), invocation_id=invocation)


def test_silence_accumulates_while_others_beat() -> None:
    host = Host().served()
    for _ in range(4):
        host.tick(up())
    assert host.watch.silent_seconds == 20.0
    host.tick(up(), process(tag(1), pid=101))
    assert host.watch.silent_seconds == 0.0


@pytest.mark.parametrize(
    "trouble",
    [{"other": False}, {"redis": False}, {"complete": False}, {"after": 60.0}, {"after": -5.0}],
    ids=str,
)
def test_silence_that_proves_nothing_is_counted_from_zero_again(trouble: dict[str, bool]) -> None:
    host = Host().served()
    for _ in range(4):
        host.tick(up())
    host.tick(up(), **trouble)
    assert host.watch.silent_seconds == 0.0


def test_an_instance_without_any_heartbeat_is_unheard_and_not_unresponsive() -> None:
    never = Host()
    for _ in range(30):
        never.tick(up())
    assert never.remembered() == InstanceMemory(unheard=True)
    never.tick(up(), other=False)
    assert never.remembered() is None, "nobody beats: it is Redis that does not know"


def test_a_fresh_process_is_not_called_unresponsive() -> None:
    host = Host().served()
    for _ in range(30):
        host.tick(up(invocation="b", age=100.0))
    assert host.remembered() == InstanceMemory(unheard=True)


def busy_with(*job_ids: str) -> ProcessFacts:
    jobs = tuple(RunningJob(jid=j, run_age_seconds=1.0) for j in job_ids)
    return structs.replace(process(tag(1), pid=101), jobs=jobs)


def test_last_known_jobs_of_a_silent_instance_survive_a_restart_of_fleetd() -> None:
    host = Host()
    host.tick(up(), busy_with("a", "b"))
    assert host.memory.worth_keeping().units.watches[ONE].job_ids == (), "no write for each heartbeat"
    host.tick(up())
    assert host.memory.worth_keeping().units.watches[ONE].job_ids == ("a", "b")
    host.memory = host.memory.worth_keeping()
    host.tick(up())
    assert host.watch.job_ids == ("a", "b")
    host.tick(up(), busy_with(*(f"{n:03}" for n in range(900))))
    assert len(host.watch.job_ids) == JOB_IDS_MAX


def test_ticks_may_be_configured_far_apart() -> None:
    slow = policy(pace=PacePolicy(tick_seconds=30.0))
    assert slow.pace.punctual(100.0, 175.0) == 75.0
    assert slow.pace.punctual(100.0, 176.0) is None
    assert RULES.pace.punctual(100.0, 120.0) == 20.0
    assert RULES.pace.punctual(100.0, 121.0) is None
    assert RULES.pace.punctual(None, 121.0) is None


def test_longer_boot_times_are_learnt_at_once_and_shorter_ones_slowly() -> None:
    host = Host()
    host.tick(up("activating", age=0.0))
    host.tick(up(age=10.0), process(tag(1), pid=101, started=10.0), after=50.0)
    assert host.memory.boot_seconds == {"default-first": 40.0}
    host.tick(up("activating", invocation="b", age=0.0))
    host.tick(up(invocation="b", age=0.0), process(tag(1), pid=101, started=1.0), after=20.0)
    assert host.memory.boot_seconds == {"default-first": pytest.approx(36.0)}
    host.tick(up("activating", invocation="c", age=0.0))
    host.tick(up(invocation="c", age=0.0), process(tag(1), pid=101, started=1.0), after=90.0)
    assert host.memory.boot_seconds == {"default-first": 90.0}


def boot(restarts: int, *, sub: str = "start") -> UnitFacts:
    own = up("activating", invocation=str(restarts), age=1.0)
    return structs.replace(own, restarts=restarts, sub_state=sub)


def first_boot(host: Host) -> tuple[float | None, int]:
    return host.watch.first_boot_seconds, host.watch.first_boot_restarts


def test_boots_without_a_heartbeat_are_counted_from_the_first_one() -> None:
    host = Host()
    host.tick(boot(5))
    since = host.now
    host.tick(boot(5, sub="auto-restart"))
    host.tick(boot(6))
    host.tick(structs.replace(boot(6), active_state="active"))
    host.tick(boot(8))  # one boot came and went between two ticks
    assert first_boot(host) == (since, 5)


def test_a_heartbeat_ends_the_count_of_boots() -> None:
    host = Host()
    host.tick(boot(5))
    host.tick(structs.replace(boot(5), active_state="active"), process(tag(1), pid=101))
    host.tick(boot(6))
    assert first_boot(host) == (host.now, 6)


def test_a_persons_restart_ends_the_count_of_boots() -> None:
    host = Host()
    host.tick(boot(5))
    host.tick(boot(0))
    assert first_boot(host) == (host.now, 0)


@pytest.mark.parametrize("trouble", [{"redis": False}, {"complete": False}], ids=str)
def test_an_instance_that_dies_while_redis_is_away_has_not_failed(trouble: dict[str, bool]) -> None:
    host = Host()
    host.tick(boot(5))
    host.tick(boot(7), **trouble)
    host.tick(boot(7))
    assert first_boot(host) == (host.now, 7)


def longest_boot(key: InstanceKey, learnt: dict[str, float]) -> float | None:
    tick = tick_of(RULES, snapshot(RULES, units=systemd({1: unit("activating")}, unit("activating"))))
    view = tick.view(key)
    assert view is not None
    return boot_seconds_max(HostMemory(boot_seconds=learnt), view)


def test_a_boot_may_take_two_minutes_or_four_times_what_was_learnt() -> None:
    assert longest_boot(ONE, {}) is None
    assert longest_boot(ONE, {"default-first": 10.0}) == 120.0
    assert longest_boot(ONE, {"default-first": 45.0}) == 180.0
    assert longest_boot(SCHEDULER, {SCHEDULER_PROFILE: 45.0}) == 180.0


def test_heavy_since_is_kept_while_unknown_and_cleared_when_light() -> None:
    host = Host()
    host.tick(up(), held_bytes=1025 * MIB)
    since = host.now
    host.tick(up(), held_bytes=2000 * MIB)
    host.tick(up(), held_bytes=None)
    assert host.watch.heavy_since_seconds == since
    host.tick(up(), held_bytes=1024 * MIB)
    assert host.watch.heavy_since_seconds is None


def test_without_a_limit_each_has_its_share_but_at_least_its_usual_size() -> None:
    share = policy(strict(numbers="1-4"), memory=MemoryPolicy(reserve_bytes=0, instance_bytes=MIB))
    assert memory_max_bytes(share, machine(share)) == 64 * 1024 * MIB // 4
    grows = policy(strict(numbers="1-4"), memory=MemoryPolicy(instance_bytes=32 * 1024 * MIB))
    assert memory_max_bytes(grows, machine(grows)) == 48 * 1024 * MIB


# -- OOM kills


def heavy_host() -> Host:
    host = Host().served()
    host.tick(up(), process(tag(1), pid=101), held_bytes=4000 * MIB, oom_kills=7)
    return host


def test_an_oom_kill_that_systemd_reports_is_noticed_once() -> None:
    host = heavy_host()
    host.tick(structs.replace(up("failed"), result="oom-kill"), oom_kills=7)
    assert host.memory.instance_bytes == {"default-first": 5000 * MIB}
    assert host.noticed == [OomKilled(key=ONE, grown_bytes=5000 * MIB)]
    host.tick(structs.replace(up("failed"), result="oom-kill"), oom_kills=7)
    assert host.noticed == []


def test_a_sigkill_while_the_kernel_counted_one_more_is_an_oom_kill() -> None:
    host = heavy_host()
    host.tick(up(), process(tag(1), pid=101), held_bytes=4000 * MIB, oom_kills=8)
    dead = structs.replace(up("activating"), sub_state="auto-restart", ending=ended_by(9))
    host.tick(dead, oom_kills=8)
    assert host.memory.shortage.oom_seconds == host.now
    host.tick(dead, oom_kills=8)
    assert host.noticed == []


@pytest.mark.parametrize(
    ("signal", "kills", "after"),
    [(15, 8, 5.0), (0, 8, 5.0), (9, 7, 5.0), (9, None, 5.0)],
    ids=["TERM", "exited", "none", "unknown"],
)
def test_other_exits_are_no_oom_kills(signal: int, kills: int | None, after: float) -> None:
    host = heavy_host()
    dead = structs.replace(up("activating"), sub_state="auto-restart", ending=ended_by(signal))
    host.tick(dead, oom_kills=kills, after=after)
    assert host.memory.instance_bytes == {}
    assert host.memory.shortage.oom_seconds is None


def test_an_old_oom_kill_of_another_process_explains_nothing() -> None:
    host = heavy_host()
    host.tick(up(), process(tag(1), pid=101), oom_kills=8)
    for _ in range(6):
        host.tick(up(), process(tag(1), pid=101), oom_kills=8)
    host.tick(structs.replace(up("activating"), sub_state="auto-restart", ending=ended_by(9)), oom_kills=8)
    assert host.noticed == []
