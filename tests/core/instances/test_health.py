"""Silence, boot times, weight and OOM kills, from one tick to the next."""

from __future__ import annotations

import pytest
from msgspec import structs

from fleetd.core.instances.health import boot_seconds_max, memory_max_bytes, punctual, remember_health
from fleetd.core.instances.host_memory import JOB_IDS_MAX, HostMemory
from fleetd.core.model.facts import Known, ProcessFacts, RunningJob, UnitFacts
from fleetd.core.model.policy import MemoryPolicy, PacePolicy
from tests.support.builders.readings import MIB, machine, process, seen, sidekiq, snapshot, systemd, tag, unit
from tests.support.world.ports import policy, strict

RULES = policy(strict(numbers="1-4"), memory=MemoryPolicy(max_bytes=1024 * MIB))


class Host:
    """@1 under watch, with @2 that beats."""

    def __init__(self) -> None:
        self.now = 10_000.0
        self.memory = HostMemory()
        self.said: list[str] = []

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
            instance_resident_bytes={} if held_bytes is None else {1: held_bytes},
        )
        shot = snapshot(
            RULES,
            now=self.now,
            redis=sidekiq(processes=heard, complete=complete) if redis else None,
            units=systemd(units),
            host=facts,
        )
        assert isinstance(shot.systemd, Known)
        self.memory, self.said = remember_health(RULES, shot, seen(RULES, shot, self.memory), self.memory)

    def served(self) -> Host:
        self.tick(up(), process(tag(1), pid=101))
        return self

    def silent_seconds(self) -> float:
        return self.memory.watches["1"].silent_seconds


def up(state: str = "active", *, invocation: str = "a", age: float = 5000.0) -> UnitFacts:
    return structs.replace(unit(state, age=age, pid=101), invocation_id=invocation)


def test_silence_adds_up_while_others_beat() -> None:
    host = Host().served()
    for _ in range(4):
        host.tick(up())
    assert host.silent_seconds() == 20.0
    host.tick(up(), process(tag(1), pid=101))
    assert host.silent_seconds() == 0.0


@pytest.mark.parametrize(
    "trouble",
    [{"other": False}, {"redis": False}, {"complete": False}, {"after": 60.0}, {"after": -5.0}],
    ids=str,
)
def test_silence_that_proves_nothing_begins_anew(trouble: dict[str, bool]) -> None:
    host = Host().served()
    for _ in range(4):
        host.tick(up())
    host.tick(up(), **trouble)
    assert host.silent_seconds() == 0.0


def test_one_that_was_never_heard_is_unheard_and_not_unresponsive() -> None:
    never = Host()
    for _ in range(30):
        never.tick(up())
    orders = never.memory.orders(never.now)["1"]
    assert (orders.unheard, orders.unresponsive) == (True, False)
    never.tick(up(), other=False)
    assert "1" not in never.memory.orders(never.now), "nobody beats: it is Redis that does not know"


def test_a_fresh_process_is_not_called_unresponsive() -> None:
    host = Host().served()
    for _ in range(30):
        host.tick(up(invocation="b", age=100.0))
    assert not host.memory.orders(host.now)["1"].unresponsive


def busy_with(*job_ids: str) -> ProcessFacts:
    jobs = tuple(RunningJob(jid=j, run_age_seconds=1.0) for j in job_ids)
    return structs.replace(process(tag(1), pid=101), jobs=jobs)


def test_the_jobs_of_the_last_heartbeat_are_remembered_while_it_is_silent_over_restarts_of_fleetd() -> None:
    host = Host()
    host.tick(up(), busy_with("a", "b"))
    assert host.memory.worth_keeping().watches["1"].job_ids == (), "no write for each heartbeat"
    host.tick(up())
    assert host.memory.worth_keeping().watches["1"].job_ids == ("a", "b")
    host.memory = host.memory.worth_keeping()
    host.tick(up())
    assert host.memory.watches["1"].job_ids == ("a", "b")
    host.tick(up(), busy_with(*(f"{n:03}" for n in range(900))))
    assert len(host.memory.watches["1"].job_ids) == JOB_IDS_MAX


def test_ticks_may_be_set_far_apart() -> None:
    slow = policy(pace=PacePolicy(tick_seconds=30.0))
    memory = HostMemory(ticked_seconds=100.0)
    assert punctual(slow, memory, 175.0) == 75.0
    assert punctual(slow, memory, 176.0) is None
    assert punctual(RULES, memory, 120.0) == 20.0
    assert punctual(RULES, memory, 121.0) is None
    assert punctual(RULES, HostMemory(), 121.0) is None


def test_a_boot_is_learnt_up_to_ready_longer_ones_at_once_shorter_ones_slowly() -> None:
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
    watch = host.memory.watches["1"]
    return watch.first_boot_seconds, watch.first_boot_restarts


def test_boots_without_a_heartbeat_are_counted_from_the_first() -> None:
    host = Host()
    host.tick(boot(5))
    since = host.now
    host.tick(boot(5, sub="auto-restart"))
    host.tick(boot(6))
    host.tick(structs.replace(boot(6), active_state="active"))
    host.tick(boot(8))  # one came and went between two ticks
    assert first_boot(host) == (since, 5)


def test_a_heartbeat_ends_the_count() -> None:
    host = Host()
    host.tick(boot(5))
    host.tick(structs.replace(boot(5), active_state="active"), process(tag(1), pid=101))
    host.tick(boot(6))
    assert first_boot(host) == (host.now, 6)


def test_a_persons_restart_ends_the_count() -> None:
    host = Host()
    host.tick(boot(5))
    host.tick(boot(0))
    assert first_boot(host) == (host.now, 0)


@pytest.mark.parametrize("trouble", [{"redis": False}, {"complete": False}], ids=str)
def test_what_dies_while_redis_is_away_has_not_failed(trouble: dict[str, bool]) -> None:
    host = Host()
    host.tick(boot(5))
    host.tick(boot(7), **trouble)
    host.tick(boot(7))
    assert first_boot(host) == (host.now, 7)


def test_how_long_a_boot_may_take() -> None:
    assert boot_seconds_max(HostMemory(), "p") is None
    assert boot_seconds_max(HostMemory(boot_seconds={"p": 10.0}), "p") == 120.0
    assert boot_seconds_max(HostMemory(boot_seconds={"p": 45.0}), "p") == 180.0
    assert boot_seconds_max(HostMemory(boot_seconds={"scheduler": 45.0}), "") == 180.0


def test_heavy_since_is_kept_while_unknown_and_ends_when_light() -> None:
    host = Host()
    host.tick(up(), held_bytes=1025 * MIB)
    since = host.now
    host.tick(up(), held_bytes=2000 * MIB)
    host.tick(up(), held_bytes=None)
    assert host.memory.watches["1"].heavy_since_seconds == since
    host.tick(up(), held_bytes=1024 * MIB)
    assert host.memory.watches["1"].heavy_since_seconds is None


def test_without_a_limit_each_has_its_share_of_the_host_but_never_less_than_it_grows_to() -> None:
    share = policy(strict(numbers="1-4"), memory=MemoryPolicy(reserve_bytes=0, instance_bytes=MIB))
    assert memory_max_bytes(share, machine(share)) == 64 * 1024 * MIB // 4
    grows = policy(strict(numbers="1-4"), memory=MemoryPolicy(instance_bytes=32 * 1024 * MIB))
    assert memory_max_bytes(grows, machine(grows)) == 48 * 1024 * MIB


# -- OOM kills


def heavy_host() -> Host:
    host = Host().served()
    host.tick(up(), process(tag(1), pid=101), held_bytes=4000 * MIB, oom_kills=7)
    return host


def test_systemds_word_for_an_oom_kill() -> None:
    host = heavy_host()
    host.tick(structs.replace(up("failed"), result="oom-kill"), oom_kills=7)
    assert host.memory.instance_bytes == {"default-first": 5000 * MIB}
    assert len(host.said) == 1
    host.tick(structs.replace(up("failed"), result="oom-kill"), oom_kills=7)
    assert host.said == []


def test_a_sigkill_while_the_kernel_counted_one_more() -> None:
    host = heavy_host()
    host.tick(up(), process(tag(1), pid=101), held_bytes=4000 * MIB, oom_kills=8)
    dead = structs.replace(up("activating"), sub_state="auto-restart", killed_by_signal=9)
    host.tick(dead, oom_kills=8)
    assert host.memory.oom_seconds == host.now
    host.tick(dead, oom_kills=8)
    assert host.said == []


@pytest.mark.parametrize(
    ("signal", "kills", "after"),
    [(15, 8, 5.0), (0, 8, 5.0), (9, 7, 5.0), (9, None, 5.0)],
    ids=["TERM", "exited", "none", "unknown"],
)
def test_other_ends_are_no_oom_kills(signal: int, kills: int | None, after: float) -> None:
    host = heavy_host()
    dead = structs.replace(up("activating"), sub_state="auto-restart", killed_by_signal=signal)
    host.tick(dead, oom_kills=kills, after=after)
    assert host.memory.instance_bytes == {}
    assert host.memory.oom_seconds is None


def test_somebody_elses_oom_kill_long_ago_explains_nothing() -> None:
    host = heavy_host()
    host.tick(up(), process(tag(1), pid=101), oom_kills=8)
    for _ in range(6):
        host.tick(up(), process(tag(1), pid=101), oom_kills=8)
    host.tick(structs.replace(up("activating"), sub_state="auto-restart", killed_by_signal=9), oom_kills=8)
    assert host.said == []
