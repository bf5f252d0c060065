"""Whether the Redis that is read is the workers' own, and whether a host's name is its own."""

from __future__ import annotations

import pytest
from msgspec import structs

from fleetd.core.evidence.weigh import EvidenceMemory, Weighed, weigh
from fleetd.core.model.facts import Known, ProcessFacts, SystemdFacts, Unknown
from tests.support.builders.readings import process, queue, sidekiq, snapshot, systemd, tag, unit
from tests.support.world.ports import policy

RULES = policy()
UP = systemd({1: unit(pid=7, age=600.0)})


class Host:
    def __init__(self) -> None:
        self.memory = EvidenceMemory()
        self.at = 0.0

    def read(
        self,
        *beats: ProcessFacts,
        units: SystemdFacts = UP,
        writable: bool | None = True,
        seconds: float = 5.0,
        complete: bool = True,
    ) -> Weighed:
        weighed = None
        until = self.at + seconds
        while weighed is None or self.at < until:
            self.at += 5.0
            facts = sidekiq(processes=beats, now=self.at, writable=writable, complete=complete)
            shot = snapshot(RULES, now=self.at, redis=facts, units=units)
            weighed = weigh(RULES, shot, self.memory)
            self.memory = weighed.memory
        return weighed


def test_units_that_run_without_a_heartbeat_beat_in_another_redis() -> None:
    host = Host()
    assert isinstance(host.read(seconds=30.0).snapshot.sidekiq, Known)
    weighed = host.read(seconds=10.0)
    assert weighed.evidence.elsewhere is not None
    assert weighed.evidence.elsewhere.keys == (1,)
    assert isinstance(weighed.snapshot.sidekiq, Unknown), "it says nothing of our workers"
    assert isinstance(host.read(process(tag(1), pid=7)).snapshot.sidekiq, Known)


@pytest.mark.parametrize(
    "doubt",
    [
        {"writable": False},
        {"writable": None},
        {"complete": False},
        {"units": systemd({1: unit(pid=7, age=50.0)})},
        {"units": systemd({})},
    ],
    ids=["Redis refuses writes", "no proof of writes", "unread heartbeat", "just booted", "nothing runs"],
)
def test_in_doubt_the_workers_beat_here(doubt: dict[str, object]) -> None:
    host = Host()
    assert host.read(seconds=600.0, **doubt).evidence.elsewhere is None  # type: ignore[arg-type]


def test_workers_that_were_heard_here_before_are_silent_and_not_elsewhere() -> None:
    host = Host()
    host.read(process(tag(1), pid=7))
    assert host.read(seconds=600.0).evidence.elsewhere is None


def twin(beat: float) -> ProcessFacts:
    return structs.replace(process(tag(1), pid=9, beat=beat, started=200.0), identity="clone:9:x", hostname="clone")


def test_a_tag_of_ours_that_we_did_not_start_is_another_host_s() -> None:
    host = Host()
    mine = process(tag(1), pid=7)
    assert host.read(mine, twin(3.0), seconds=55.0).evidence.twins == ()
    (found,) = host.read(mine, twin(3.0), seconds=15.0).evidence.twins
    assert (found.hostname, found.key) == ("clone", 1)


def test_a_heartbeat_that_outlives_its_process_is_no_twin() -> None:
    host = Host()
    for age in range(0, 80, 5):
        assert host.read(process(tag(1), pid=7), twin(float(age))).evidence.twins == ()


def test_a_unit_that_lost_its_tag_is_known_by_name_pid_and_start() -> None:
    host = Host()
    mine = process("", pid=7, started=605.0)
    (known,) = _processes(host.read(mine, process(tag(2), pid=8)))[:1]
    assert known.own_key == 1


@pytest.mark.parametrize(
    "other", [{"hostname": "w2"}, {"pid": 8}, {"started": 3000.0}], ids=["host name", "pid", "start"]
)
def test_one_of_name_pid_and_start_alone_proves_nothing(other: dict[str, object]) -> None:
    beat = process("", **{"pid": 7, "started": 605.0, **other})  # type: ignore[arg-type]
    assert [p.own_key for p in _processes(Host().read(beat))] == [None]


def _processes(weighed: Weighed) -> tuple[ProcessFacts, ...]:
    assert isinstance(weighed.snapshot.sidekiq, Known)
    return weighed.snapshot.sidekiq.value.processes


def test_another_redis_may_hold_older_jobs_than_the_one_before() -> None:
    mine = process(tag(1), pid=7)
    empty = sidekiq(queue("default"), processes=(mine,), run_id="run-1", now=5.0)
    restored = sidekiq(queue("default", 500, age=415.0), processes=(mine,), run_id="run-2", now=10.0)
    memory = weigh(RULES, snapshot(RULES, now=5.0, redis=empty, units=UP), EvidenceMemory()).memory
    weighed = weigh(RULES, snapshot(RULES, now=10.0, redis=restored, units=UP), memory)
    assert isinstance(weighed.snapshot.sidekiq, Known)
    assert weighed.snapshot.sidekiq.value.queues["default"].latency_seconds == 415.0
    assert weighed.evidence.skews == ()
