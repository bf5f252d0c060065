"""Queues that nobody serves are found after a while, and never while a heartbeat can't be read."""

from __future__ import annotations

import pytest
from msgspec import structs

from fleetd.core.demand.unserved import UNSERVED_SECONDS, UnservedMemory, remember_unserved, unserved
from fleetd.core.model.facts import ProcessFacts, QueueFacts, SidekiqFacts
from fleetd.core.model.policy_tables import Policy, SchedulerPolicy
from fleetd.words.reasons import sentence
from tests.support.builders.readings import process, queue, sidekiq, tag
from tests.support.world.ports import policy, strict

FORKS = queue("fork", 1200, age=600.0)
#: It lacks ingress and fasp, as a configuration from before an upgrade does.
OLD = policy(strict(queues="default push mailers pull"))


def watch(
    *queues: QueueFacts,
    processes: tuple[ProcessFacts, ...] = (),
    seconds: float = UNSERVED_SECONDS,
    rules: Policy = OLD,
    every: float = 5.0,
    incomplete: frozenset[float] = frozenset(),
) -> list[str] | None:
    """The names after that many seconds of readings."""
    memory, at = UnservedMemory(), 0.0
    while True:
        read = sidekiq(*queues, processes=processes, complete=at not in incomplete)
        memory = remember_unserved(rules, memory, read, at)
        found = unserved(memory, read)
        if at >= seconds:
            return None if found is None else [one.queue for one in found.queues]
        at += every


def test_it_is_said_after_a_while_the_longest_queue_first() -> None:
    queues = (FORKS, queue("ingress", 3), queue("fasp", 90_000), queue("default", 5))
    assert watch(*queues, seconds=UNSERVED_SECONDS - 5.0) is None
    assert watch(*queues) == ["fasp", "fork", "ingress"]


@pytest.mark.parametrize(
    "served_by",
    [process("", queues="fork", hostname="main"), process(tag(3, host="w2"), queues="default fork", hostname="w2")],
)
def test_a_queue_that_any_live_process_serves_is_served(served_by: ProcessFacts) -> None:
    assert watch(FORKS, processes=(served_by,)) is None
    assert watch(FORKS, processes=(structs.replace(served_by, quiet=True),)) == ["fork"], "a quiet one fetches nothing"


def test_empty_queues_configured_queues_and_the_schedulers_are_never_named() -> None:
    assert watch(queue("fork"), queue("default", 900), queue("scheduler", 7)) is None
    cron = structs.replace(OLD, scheduler=SchedulerPolicy(place="here", queues=("scheduler", "fork")))
    assert watch(FORKS, rules=cron) is None
    away = structs.replace(OLD, scheduler=SchedulerPolicy(place="elsewhere", queues=("scheduler", "fork")))
    assert watch(FORKS, rules=away) == ["fork"]
    none = policy(strict(), strict("bulk", "7-8", queues="fork", low=0, high=0))
    assert watch(FORKS, rules=none) == ["fork"], "a profile that may have no instance serves nothing"


def test_while_a_heartbeat_is_unreadable_nothing_is_said_and_nothing_counted() -> None:
    assert watch(FORKS, incomplete=frozenset({UNSERVED_SECONDS})) is None
    first = frozenset(5.0 * n for n in range(1, 24))
    assert watch(FORKS, incomplete=first) is None
    assert watch(FORKS, incomplete=first, seconds=3 * UNSERVED_SECONDS) == ["fork"]


def test_a_restart_of_the_process_that_serves_it_begins_the_count_anew() -> None:
    memory = UnservedMemory()
    stock = process("", queues="fork", hostname="main")

    def look(at: float, *processes: ProcessFacts) -> bool:
        nonlocal memory
        read = sidekiq(FORKS, processes=processes)
        memory = remember_unserved(OLD, memory, read, at)
        return unserved(memory, read) is not None

    assert not any(look(at) for at in (0.0, 10.0, 20.0, 100.0, 110.0)), "nobody watched in between"
    assert not look(120.0, stock)
    assert not any(look(125.0 + 5.0 * n) for n in range(24))
    assert look(250.0)


def test_ten_thousand_names_over_time_are_forgotten_with_their_jobs() -> None:
    memory = UnservedMemory()
    for n in range(10_000):
        read: SidekiqFacts = sidekiq(queue(f"q{n}", 1), queue(f"q{n - 1}", 1))
        memory = remember_unserved(OLD, memory, read, 5.0 * n)
        assert len(memory.waited_seconds) == 2


def test_the_sentence_says_what_to_do_and_stays_short() -> None:
    read = sidekiq(*(queue(f"q{n}", n + 1) for n in range(40)))
    memory = UnservedMemory(waited_seconds={f"q{n}": 500.0 for n in range(40)})
    found = unserved(memory, read)
    assert found is not None
    said = sentence(found)
    assert said.startswith("no process serves q39 (40 jobs), q38 (39 jobs), ")
    assert said.endswith("and 30 more queues, and no profile here would: add them to a profile's queues")
