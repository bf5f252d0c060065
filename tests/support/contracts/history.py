"""What every History and HistorySource promises, checked on the real adapters and on the fake."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import pytest

from fleetd.core.model.history import Batch, PolicyChange
from fleetd.errors import SourceUnavailableError
from fleetd.ports import History, HistorySource
from tests.support.builders.history import entry, minute
from tests.support.world.ports import policy, strict


class HistoryStage(Protocol):
    """One place where history is kept. `at`: a time within retention, in Unix seconds."""

    at: float

    def open(self) -> History:
        """Open it as a new fleetd process does."""
        ...

    @property
    def source(self) -> HistorySource: ...

    def settle(self, history: History) -> None:
        """Wait until what was appended is written or has failed to be."""
        ...

    def fill_disk(self) -> None: ...

    def free_disk(self) -> None: ...


HistoryCheck = Callable[[HistoryStage], None]


def nothing_written_is_a_sentence(stage: HistoryStage) -> None:
    with pytest.raises(SourceUnavailableError, match=r"(?i)history"):
        stage.source.read(stage.at, samples=True)


def what_is_appended_is_read_in_order(stage: HistoryStage) -> None:
    history = stage.open()
    first, second = minute(stage.at, "one", "two"), minute(stage.at + 60, "three")
    history.append(first)
    history.append(second)
    stage.settle(history)
    found = stage.source.read(stage.at, samples=True)
    assert found.samples == first.samples + second.samples
    assert [e.sentence for e in found.entries] == ["one", "two", "three"]
    assert len(found.watched_spans) == 1
    assert history.problem == ""
    assert stage.source.read(stage.at, samples=False).samples == ()
    assert stage.source.read(stage.at + 9000, samples=False).newest_seconds == stage.at + 115


def only_what_is_asked_for(stage: HistoryStage) -> None:
    history = stage.open()
    history.append(minute(stage.at, "one"))
    history.append(minute(stage.at + 600, "two"))
    stage.settle(history)
    found = stage.source.read(stage.at + 630, samples=True)
    assert found.entries == ()
    assert [s.at_seconds for s in found.samples] == [stage.at + 630 + 5 * i for i in range(6)]
    assert len(stage.source.read(stage.at, samples=False).watched_spans) == 2, "nobody watched in between"


def the_policy_in_force_comes_first(stage: HistoryStage) -> None:
    history = stage.open()
    rules = [policy(strict(low=n)) for n in (1, 2, 3)]
    for i, each in enumerate(rules):
        history.append(Batch(policies=(PolicyChange(at_seconds=stage.at + 100 * i, policy=each),)))
    stage.settle(history)
    found = stage.source.read(stage.at + 150, samples=True).policies
    assert [change.policy for change in found] == rules[1:]


def a_full_disk_is_said_and_over_when_it_is(stage: HistoryStage) -> None:
    history = stage.open()
    history.append(minute(stage.at, "before"))
    stage.settle(history)
    stage.fill_disk()
    history.append(minute(stage.at + 60))
    stage.settle(history)
    assert history.problem.startswith("the history is not kept: ")
    stage.free_disk()
    history.append(Batch(entries=(entry(stage.at + 120, "after"),)))
    stage.settle(history)
    assert history.problem == ""
    assert [e.sentence for e in stage.source.read(stage.at, samples=False).entries] == ["before", "after"]


def another_process_goes_on_with_it(stage: HistoryStage) -> None:
    first = stage.open()
    first.append(minute(stage.at, "one"))
    first.close()
    first.append(minute(stage.at, "too late"))
    first.close()
    second = stage.open()
    second.append(minute(stage.at + 60, "two"))
    second.close()
    assert [e.sentence for e in stage.source.read(stage.at, samples=False).entries] == ["one", "two"]


history_contract: tuple[HistoryCheck, ...] = (
    nothing_written_is_a_sentence,
    what_is_appended_is_read_in_order,
    only_what_is_asked_for,
    the_policy_in_force_comes_first,
    a_full_disk_is_said_and_over_when_it_is,
    another_process_goes_on_with_it,
)
