"""What people did, what we ordered, what failed (law 6)."""

from __future__ import annotations

import pytest
from msgspec import structs

from fleetd.core.instances.changes import BOOT_ROUND_SECONDS, BOOT_SECONDS, remember_units
from fleetd.core.instances.host_memory import RETRIES_MAX, RETRY_SECONDS, Failure, HostMemory
from fleetd.core.instances.lifecycle import Drain
from fleetd.core.model.facts import ProcessFacts, UnitFacts
from fleetd.core.model.policy import PacePolicy
from tests.support.builders.readings import process, sidekiq, snapshot, systemd, tag, unit
from tests.support.world.ports import policy, strict

HOUR = 3600.0


class Host:
    """One host's memory over several looks. It has been up for long."""

    def __init__(self, *, settled: bool = True) -> None:
        self.rules = policy(strict(numbers="1-4"), pace=PacePolicy(pin_seconds=4 * HOUR))
        self.memory = HostMemory(boot_id="boot-1", since_seconds=0.0) if settled else HostMemory()
        self.said: list[str] = []

    def look(
        self,
        at: float,
        own: UnitFacts | None = None,
        *beats: ProcessFacts,
        boot: str = "boot-1",
        redis: bool = True,
        systemd_known: bool = True,
        scheduler: UnitFacts | None = None,
    ) -> None:
        """What @1 is now."""
        shot = snapshot(
            self.rules,
            now=at,
            boot=boot,
            redis=sidekiq(processes=beats) if redis else None,
            units=systemd({1: own} if own else {}, scheduler) if systemd_known else None,
        )
        self.memory, self.said = remember_units(self.rules, shot, self.memory)

    def pin(self) -> str:
        return self.memory.pins["1"].wants if "1" in self.memory.pins else ""


def test_adopts_what_runs_without_pins() -> None:
    host = Host()
    host.look(1000.0, unit())
    assert host.pin() == ""
    assert host.said == []


def test_started_by_hand() -> None:
    host = Host()
    host.look(1000.0)
    host.look(1005.0, unit("activating"))
    assert host.pin() == "run"
    assert host.said == ["mastodon-sidekiq@1 was started by hand: kept so for 4.0 h"]
    assert host.memory.pinned(1, "run", 1005.0 + 4 * HOUR - 1)
    assert not host.memory.pinned(1, "run", 1005.0 + 4 * HOUR)


def test_started_by_us() -> None:
    host = Host()
    host.look(1000.0)
    host.memory = host.memory.with_start(1, 1000.0)
    host.look(1005.0, unit("activating"))
    assert host.pin() == ""
    assert host.memory.starts == {}


def test_started_by_us_while_systemd_could_not_be_read() -> None:
    host = Host()
    host.look(1000.0)
    host.memory = host.memory.with_start(1, 1000.0)
    for at in range(1005, 1200, 5):
        host.look(float(at), systemd_known=False)
    host.look(1200.0, unit())
    assert host.pin() == ""


def test_started_late_by_us() -> None:
    host = Host()
    host.look(1000.0)
    host.memory = host.memory.with_start(1, 1000.0)
    for at in range(1005, 1050, 5):  # a starved systemd; the order is given up at 30 s
        host.look(float(at))
    assert host.memory.failures["1"].count == 1
    host.look(1050.0, unit("activating"))
    assert host.pin() == ""


def test_a_start_that_does_nothing_counts_as_a_failure() -> None:
    host = Host()
    host.look(1000.0)
    host.memory = host.memory.with_start(1, 1000.0)
    host.look(1029.0)
    assert "1" in host.memory.starts
    host.look(1030.0)
    assert host.memory.starts == {}
    assert host.memory.failures["1"] == Failure(
        count=1, last_seconds=1030.0, ordered=True, why="systemd showed no effect of the start"
    )


def test_stopped_by_hand() -> None:
    host = Host()
    host.look(1000.0, unit())
    host.look(1005.0, unit("deactivating"))
    host.look(1010.0)
    assert host.pin() == "stopped"
    assert host.memory.pins["1"].since_seconds == 1005.0


def test_stopped_by_us() -> None:
    host = Host()
    host.look(1000.0, unit())
    host.memory = host.memory.with_drain(1, Drain(since_seconds=900.0, stop_sent_seconds=1000.0))
    host.look(1005.0, unit("deactivating"))
    host.look(1010.0)
    assert host.pin() == ""
    assert host.memory.drains == {}


@pytest.mark.parametrize("seen_while_stopping", [True, False])
def test_stopped_by_hand_while_we_only_drained(seen_while_stopping: bool) -> None:
    host = Host()
    host.look(1000.0, unit())
    host.memory = host.memory.with_drain(1, Drain(since_seconds=900.0, quiet_sent_seconds=900.0))
    if seen_while_stopping:
        host.look(1005.0, unit("deactivating"))
    host.look(1010.0)
    assert host.pin() == "stopped"


def test_stopped_by_hand_while_fleetd_was_down() -> None:
    host = Host()
    host.look(1000.0, unit())
    host.look(9000.0)
    assert host.pin() == "stopped"


def test_restarted_by_hand_is_no_pin() -> None:
    host = Host()
    host.look(1000.0, unit())
    host.look(1005.0, unit("deactivating"))
    host.look(1030.0, unit("activating"))
    assert host.pin() == ""
    assert host.said == ["mastodon-sidekiq@1 was restarted by hand"]


def test_down_for_long_and_up_again_by_hand_is_an_order_to_run() -> None:
    host = Host()
    host.look(1000.0, unit())
    host.look(1005.0)
    host.look(1185.0, unit("activating"))
    assert host.pin() == "run"


def test_what_systemd_restarts_is_no_pin() -> None:
    host = Host()
    host.look(1000.0, unit())
    host.look(1005.0, unit("activating", age=2.0))
    host.look(1030.0, unit(age=5.0))
    assert host.pin() == ""


@pytest.mark.parametrize("number", ["1", "scheduler"])
def test_what_the_boot_starts_is_no_pin(number: str) -> None:
    host = Host(settled=False)
    host.look(5.0)
    own = unit("activating") if number == "1" else None
    boss = unit("activating") if number == "scheduler" else None
    host.look(10.0, own, scheduler=boss)
    assert host.memory.pins == {}


def test_long_after_the_boot_it_is() -> None:
    host = Host(settled=False)
    host.look(5.0)
    # One of min and the scheduler: one round of booting_max.
    host.look(5.0 + BOOT_SECONDS + BOOT_ROUND_SECONDS, unit("activating"))
    assert host.pin() == "run"


def test_what_the_boot_does_not_start_is_a_pin_even_then() -> None:
    host = Host(settled=False)
    shot = snapshot(host.rules, now=5.0, redis=sidekiq(), units=systemd())
    memory, _ = remember_units(host.rules, shot, HostMemory())
    shot = snapshot(host.rules, now=10.0, redis=sidekiq(), units=systemd({3: unit("activating")}))
    memory, _ = remember_units(host.rules, shot, memory)
    assert memory.pins["3"].wants == "run"


def test_a_new_boot_forgets() -> None:
    host = Host()
    host.look(1000.0, unit())
    host.look(1005.0)
    assert host.pin() == "stopped"
    host.look(20.0, boot="boot-2")
    assert host.memory.pins == {}
    assert host.memory.since_seconds == 20.0


def test_unreadable_systemd_changes_nothing() -> None:
    host = Host()
    host.look(1000.0, unit())
    before = host.memory
    host.look(1005.0, systemd_known=False)
    assert host.memory == before


def quiet(**changes: object) -> ProcessFacts:
    return process(tag(1), quiet=True, pid=5, **changes)  # type: ignore[arg-type]


def test_quieted_by_hand() -> None:
    host = Host()
    host.look(1000.0, unit(pid=5), process(tag(1), pid=5))
    host.look(1005.0, unit(pid=5), quiet())
    assert host.pin() == "quiet"
    assert host.memory.drains == {}


def test_quieted_by_us() -> None:
    host = Host()
    host.look(1000.0, unit(pid=5), process(tag(1), pid=5))
    host.memory = host.memory.with_drain(1, Drain(since_seconds=1000.0, quiet_sent_seconds=1000.0))
    host.look(1005.0, unit(pid=5), quiet())
    assert host.pin() == ""


def test_found_quiet_by_a_fleetd_that_knows_nothing() -> None:
    host = Host()
    host.look(1000.0, unit(pid=5), quiet())
    assert host.memory.drains["1"].quiet_sent_seconds == 1000.0


def test_a_quiet_pin_ends_in_a_drain() -> None:
    host = Host()
    host.look(1000.0, unit(pid=5), process(tag(1), pid=5))
    host.look(1005.0, unit(pid=5), quiet())
    host.look(1005.0 + 4 * HOUR, unit(pid=5), redis=False)  # Redis is away just then
    assert host.pin() == "quiet"
    host.look(1010.0 + 4 * HOUR, unit(pid=5), quiet())
    assert "1" in host.memory.drains
    assert host.pin() == ""


def test_a_new_process_ends_a_quiet_pin() -> None:
    host = Host()
    host.look(1000.0, unit(pid=5), process(tag(1), pid=5))
    host.look(1005.0, unit(pid=5), quiet())
    host.look(1040.0, unit(pid=6), process(tag(1), pid=6))
    assert host.pin() == ""


def test_failures_in_a_row_lengthen_the_pause() -> None:
    host = Host()
    host.look(0.0, unit())
    at = 0.0
    for count, pause in enumerate((*RETRY_SECONDS, RETRY_SECONDS[-1]), start=1):
        at += 5.0
        host.look(at, unit("failed"))
        assert host.memory.failures["1"].count == count
        assert not host.memory.may_retry(1, at + pause - 0.1)
        assert host.memory.may_retry(1, at + pause)
        at += pause
        host.memory = host.memory.with_start(1, at)
        at += 5.0
        host.look(at, unit("activating"))
    assert host.pin() == ""


def test_one_failure_is_counted_once() -> None:
    host = Host()
    host.look(0.0, unit())
    for at in range(5, 60, 5):
        host.look(float(at), unit("failed"))
    assert host.memory.failures["1"].count == 1


def test_given_up_in_the_end_until_a_person_resets_it() -> None:
    host = Host()
    host.look(0.0, unit("failed"))
    host.memory = HostMemory(
        boot_id="boot-1",
        since_seconds=0.0,
        seen={"1": "failed"},
        failures={"1": Failure(count=RETRIES_MAX + 1, last_seconds=0.0)},
    )
    assert host.memory.given_up(1)
    assert not host.memory.may_retry(1, 1e9)
    host.look(100.0)  # systemctl reset-failed
    assert host.memory.may_retry(1, 100.0)
    assert host.said == ["mastodon-sidekiq@1 was reset by hand: tried again"]


def test_ten_minutes_of_service_forgive() -> None:
    host = Host()
    host.memory = HostMemory(boot_id="boot-1", failures={"1": Failure(count=3, last_seconds=0.0)})
    host.look(500.0, unit(age=600.0))
    assert "1" in host.memory.failures
    host.look(505.0, unit(age=601.0))
    assert host.memory.failures == {}


def test_our_stop_that_ends_as_failed_is_no_failure() -> None:
    host = Host()
    host.look(1000.0, unit())
    host.memory = host.memory.with_drain(1, Drain(since_seconds=900.0, stop_sent_seconds=1000.0))
    host.look(1005.0, unit("failed"))
    assert host.memory.failures == {}


def test_numbers_no_longer_configured_are_forgotten() -> None:
    host = Host()
    host.memory = HostMemory(boot_id="boot-1", seen={"77": "active"}, starts={"77": 1.0})
    host.look(1000.0, unit())
    assert "77" not in host.memory.seen
    assert host.memory.starts == {}


def test_a_reboot_forgets_no_lesson() -> None:
    host = Host()
    learnt = {"default-first": 3 * 2**30}
    host.memory = structs.replace(host.memory, boot_seconds={"default-first": 40.0}, instance_bytes=learnt)
    host.look(10.0, boot="boot-2")
    assert host.memory.boot_seconds == {"default-first": 40.0}
    assert host.memory.instance_bytes == learnt, "it would be killed for memory once more"
