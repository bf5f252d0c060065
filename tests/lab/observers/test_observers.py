"""Observers catch a scheduler that lives for half a second beside another, whatever befalls the hosts."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import Host, Lab, LabError, topologies
from lab.observers.observer import Observer, observing
from lab.setup import mastodon

pytestmark = pytest.mark.lab

OURS = "mastodon-sidekiq-scheduler.service"
LIVES_SECONDS = 0.5
Workers = tuple[Host, Host]


@pytest.fixture(scope="module")
def workers() -> Iterator[Workers]:
    """Two workers without Redis, whose scheduler boots for an hour."""
    with Lab() as lab:
        settings = mastodon.environment("nowhere", boot_seconds=3600)
        first, second = (topologies.add_worker(lab, name, settings) for name in ("w1", "w2"))
        for host in (first, second):
            mastodon.write_instance(host, "scheduler", "-c 2 -q scheduler", 3)
            mastodon.write_instance(host, "1", "-c 2 -q default", 3)
        lab.boot()
        yield first, second


@pytest.fixture
def observer(workers: Workers) -> Iterator[Observer]:
    """A new observer. Afterwards both hosts are as they were, with no worker."""
    lab = workers[0].lab
    with observing(lab) as observer:
        yield observer
    lab.boot()
    lab.reunite()
    for host in workers:
        host.thaw()
        host.join()
        end(host)


def begin(host: Host, unit: str = OURS) -> None:
    host.run(["systemctl", "start", "--no-block", unit])


def end(host: Host) -> None:
    """End it at once, and keep systemd from starting it again."""
    host.run(["systemctl", "kill", "--signal=SIGKILL", "mastodon-sidekiq*"], check=False)
    host.run(["systemctl", "stop", "mastodon-sidekiq*"])
    host.run(["systemctl", "reset-failed"])


def runs_ruby(host: Host) -> bool:
    procs = host.group / "system.slice" / OURS / "cgroup.procs"
    with contextlib.suppress(OSError):
        return any("/ruby" in str(Path(f"/proc/{pid}/exe").readlink()) for pid in procs.read_text().split())
    return False


def begin_the_first(workers: Workers, observer: Observer) -> None:
    begin(workers[0])
    observer.wait("the first lives", lambda seen: seen.scheduler_hosts() == ["w1"])


def test_a_second_scheduler_is_caught_within_half_a_second(workers: Workers, observer: Observer) -> None:
    begin_the_first(workers, observer)
    begin(workers[1])
    workers[1].wait_until("it runs", lambda: runs_ruby(workers[1]))
    earliest = time.monotonic()
    time.sleep(LIVES_SECONDS)
    latest = time.monotonic()
    end(workers[1])
    seen = observer.wait("the second is gone", lambda seen: seen.scheduler_hosts() == ["w1"])
    [span] = seen.together()
    assert span.hosts == ("w1", "w2")
    assert span.begun <= latest
    assert span.ended >= earliest
    assert span.seconds_max >= LIVES_SECONDS
    first, second = seen.scheduler_starts()
    assert (first.process.host, second.process.host) == ("w1", "w2")
    assert [one.host for one in second.beside] == ["w1"]
    assert seen.without()[-1].ended <= first.seen


def test_instances_are_no_schedulers(workers: Workers, observer: Observer) -> None:
    begin_the_first(workers, observer)
    begin(workers[1], "mastodon-sidekiq@1.service")
    seen = observer.wait("it lives", lambda seen: seen.alive() == {"w2": ["mastodon-sidekiq@1.service"]})
    assert seen.together() == []
    assert seen.scheduler_hosts() == ["w1"]


def test_a_frozen_scheduler_is_told_from_one_that_runs(workers: Workers, observer: Observer) -> None:
    begin_the_first(workers, observer)
    workers[0].freeze()
    observer.wait("none runs", lambda seen: bool(seen.looks[-1].alive) and not seen.looks[-1].schedulers(frozen=False))
    begin(workers[1])
    seen = observer.wait("the second lives", lambda seen: seen.scheduler_hosts() == ["w1", "w2"])
    assert seen.together() == []
    thawed = time.monotonic()
    workers[0].thaw()
    seen = observer.wait("both run", lambda seen: len(seen.looks[-1].schedulers(frozen=False)) == 2)
    [span] = seen.together()
    assert span.not_after >= thawed
    assert len(seen.scheduler_starts()) == 2  # a thaw is no start


def test_a_host_that_is_cut_off_or_loses_power_is_observed_all_the_same(workers: Workers, observer: Observer) -> None:
    begin_the_first(workers, observer)
    workers[1].cut()
    begin(workers[1])
    observer.wait("the second lives", lambda seen: seen.scheduler_hosts() == ["w1", "w2"])
    workers[1].power_off()
    observer.wait("the second is gone", lambda seen: seen.scheduler_hosts() == ["w1"])
    workers[1].boot()
    begin(workers[1])
    seen = observer.wait("it lives again", lambda seen: seen.scheduler_hosts() == ["w1", "w2"])
    assert [span.hosts for span in seen.together()] == [("w1", "w2")] * 2


def test_a_frozen_unit_stays_where_it_is_and_nothing_else(workers: Workers, observer: Observer) -> None:
    begin_the_first(workers, observer)
    workers[0].freeze_unit(OURS)
    observer.wait("it is frozen", lambda seen: all(one.frozen for one in seen.looks[-1].alive))
    assert workers[0].run(["true"]).returncode == 0
    workers[0].thaw_unit(OURS)
    observer.wait("it goes on", lambda seen: not any(one.frozen for one in seen.looks[-1].alive))


def asked_after_its_death(lab: Lab) -> None:
    with observing(lab) as another:
        another.stop()
        another.timeline()


def test_an_observer_that_died_is_an_error(workers: Workers, observer: Observer) -> None:
    lab = workers[0].lab
    with pytest.raises(LabError, match="The observer has ended"):
        asked_after_its_death(lab)
    with pytest.raises(LabError, match="The observer has ended"), observing(lab) as another:
        another.stop()
