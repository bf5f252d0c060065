"""The lines about jobs on the screen of `fleetctl status`."""

from __future__ import annotations

import msgspec
import pytest
from msgspec.structs import replace

from fleetd.cli.client import read_status
from fleetd.cli.screens.status import status_screen
from fleetd.cli.screens.status_jobs import job_lines
from fleetd.cli.terminal.lines import Page
from fleetd.cli.terminal.symbols import ASCII, UNICODE, Symbols
from fleetd.core.model.facts import FailingClass
from fleetd.core.model.status import JobsStatus, Status
from tests.support.builders import status_examples
from tests.support.builders.status_healthy import healthy


def drawn(jobs: JobsStatus, width: int = 100, symbols: Symbols = UNICODE) -> str:
    return "\n".join(line.plain.rstrip() for line in job_lines(jobs, Page(width, symbols)))


def failing(*names: str) -> tuple[FailingClass, ...]:
    return tuple(FailingClass(name=name, failed_jobs=9 - n, processed_jobs=1000) for n, name in enumerate(names))


def test_rates_and_what_is_put_aside() -> None:
    known = JobsStatus(
        processed_per_second=412.3, failed_per_second=0.41, retry_jobs=1203, dead_jobs=88, scheduled_jobs=12
    )
    assert drawn(known) == "Jobs         412/s, 0.4/s failed · 1,203 retries · 88 dead · 12 scheduled"
    assert drawn(replace(known, retry_jobs=1)).endswith("· 1 retry · 88 dead · 12 scheduled")
    assert drawn(known, symbols=ASCII).isascii()


def test_what_is_unknown_is_no_zero_and_what_is_rare_neither() -> None:
    assert drawn(JobsStatus()) == ""
    assert drawn(JobsStatus(retry_jobs=0)) == "Jobs         ?/s, ?/s failed · 0 retries · ? dead · ? scheduled"
    rare = JobsStatus(processed_per_second=3.0, failed_per_second=1 / 60)
    assert "3/s, <0.1/s failed" in drawn(rare)
    assert "3/s, 0/s failed" in drawn(replace(rare, failed_per_second=0.0))


def test_the_three_classes_with_the_most_failures_are_named() -> None:
    jobs = JobsStatus(retry_jobs=0, failing_classes=failing("A", "B", "C"))
    said = drawn(jobs).splitlines()[1]
    assert said == "Failing      A 9 of 1,000, B 8 of 1,000, C 7 of 1,000 in the last whole minute"
    more = replace(jobs, failing_classes=failing("A", "B", "C", "D"))
    assert drawn(more).splitlines()[1].endswith("C 7 of 1,000 and others in the last whole minute")
    nameless = (FailingClass(name="", failed_jobs=3, processed_jobs=None),)
    assert "Failing      unreadable class 3 in" in drawn(replace(jobs, failing_classes=nameless))


@pytest.mark.parametrize("found", [None, ()])
def test_where_nothing_fails_or_nobody_knows_there_is_no_line(found: tuple[FailingClass, ...] | None) -> None:
    assert "Failing" not in drawn(JobsStatus(retry_jobs=0, failing_classes=found))


@pytest.mark.parametrize("width", [20, 40, 60, 80, 150, 220])
def test_long_names_break_no_line(width: int) -> None:
    jobs = replace(healthy().jobs, failing_classes=failing("A::" * 42, "x" * 128, "B"))
    lines = status_screen(replace(healthy(), jobs=jobs), Page(width, UNICODE), height=None)
    assert max(line.cell_len for line in lines) <= width


def text(status: Status, height: int | None, clock: str | None = None) -> str:
    return "\n".join(line.plain for line in status_screen(status, Page(80, UNICODE), height=height, clock=clock))


def test_they_give_way_only_where_the_screen_fits_without_them() -> None:
    surge, calm = status_examples.surge(), healthy()
    assert "Jobs         211/s" in text(calm, 23)
    for height in (None, 26):
        assert "412/s" in text(surge, height)
    for height, clock in ((23, None), (24, "03:12:44")):
        assert "412/s" not in text(surge, height, clock)
        assert len(text(surge, height, clock).splitlines()) <= height
    assert "412/s" in text(surge, 22), "it scrolls anyhow"
    assert "412/s" not in text(surge, 22, "03:12:44"), "it can't scroll"


def test_an_older_fleetd_says_nothing_of_jobs_and_is_understood() -> None:
    answer = msgspec.to_builtins(healthy())
    del answer["jobs"]
    assert read_status(msgspec.json.encode(answer).decode()).jobs == JobsStatus()
