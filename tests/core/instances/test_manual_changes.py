"""Telling apart what people did, what we ordered and what failed (law 6)."""

from __future__ import annotations

import pytest
from msgspec import structs

from fleetd.core.instances.host_memory import (
    RETRIES_MAX,
    RETRY_SECONDS,
    Failure,
    HostMemory,
    UnitMemory,
)
from fleetd.core.instances.host_tick import HostTick
from fleetd.core.instances.lifecycle import Drain, Pin
from fleetd.core.instances.manual_changes import HOST_BOOT_ROUND_SECONDS, HOST_BOOT_SECONDS, remember_units
from fleetd.core.model.facts import ProcessFacts, UnitFacts
from fleetd.core.model.identity import SCHEDULER, InstanceKey
from fleetd.core.model.policy_tables import PacePolicy
from fleetd.core.model.reasons.base import Reason
from fleetd.core.model.reasons.units import (
    FoundQuiet,
    MoreThanAdmitted,
    PinKind,
    PinnedByHand,
    ResetByHand,
    RestartedByHand,
    RestartedByOthers,
    StartHadNoEffect,
    SystemdResult,
)
from fleetd.words.reasons import sentence
from tests.support.builders.readings import process, sidekiq, snapshot, systemd, tag, unit
from tests.support.world.ports import policy, strict

HOUR = 3600.0
ONE, THREE = InstanceKey(1), InstanceKey(3)
SURPLUS = MoreThanAdmitted(profile="default-first")
TOO_OFTEN = SystemdResult(result="start-limit-hit")


class Host:
    """One host's memory over several looks. The host has been up for a long time."""

    def __init__(self, *, settled: bool = True) -> None:
        self.rules = policy(strict(numbers="1-4"), pace=PacePolicy(pin_seconds=4 * HOUR))
        self.memory = HostMemory(boot_id="boot-1", since_seconds=0.0) if settled else HostMemory()
        self.noticed: list[Reason] = []

    def look(
        self,
        at: float,
        own: UnitFacts | None = None,
        *beats: ProcessFacts,
        key: int = ONE,
        boot: str = "boot-1",
        redis: bool = True,
        systemd_known: bool = True,
    ) -> None:
        """Look once, with `key` as given and no other unit loaded."""
        units = systemd({key: own} if own else {})
        shot = snapshot(
            self.rules,
            now=at,
            boot=boot,
            redis=sidekiq(processes=beats) if redis else None,
            units=units if systemd_known else None,
        )
        tick = HostTick(policy=self.rules, snapshot=shot)
        self.memory, self.noticed = remember_units(tick, self.memory)

    def orders_start(self, at: float) -> None:
        self.memory = self.memory.with_start(ONE, at)

    def orders_drain(self, *, quieted: float | None = None, stopped: float | None = None) -> None:
        drain = Drain(since_seconds=900.0, cause=SURPLUS, quiet_sent_seconds=quieted, stop_sent_seconds=stopped)
        self.memory = self.memory.with_drain(ONE, drain)

    def pin(self) -> PinKind | None:
        """How @1 is pinned."""
        pin = self.memory.people.pins.get(ONE)
        return None if pin is None else pin.wants

    def failures(self) -> int:
        """The consecutive failures of @1."""
        return self.memory.units.failures[ONE].count


def test_what_runs_at_the_first_look_is_adopted_without_a_pin() -> None:
    host = Host()
    host.look(1000.0, unit())
    assert host.pin() is None
    assert host.noticed == []


def test_a_start_by_hand_is_a_pin_for_as_long_as_configured() -> None:
    host = Host()
    host.look(1000.0)
    host.look(1005.0, unit("activating"))
    assert host.pin() == PinKind.RUN
    assert host.noticed == [PinnedByHand(key=ONE, wants=PinKind.RUN, kept_seconds=4 * HOUR)]
    assert sentence(host.noticed[0]) == "mastodon-sidekiq@1 was started by hand: left so for 4.0 h"
    people = host.memory.people
    assert people.pinned(ONE, PinKind.RUN, 1005.0 + 4 * HOUR - 1)
    assert not people.pinned(ONE, PinKind.RUN, 1005.0 + 4 * HOUR)


def test_a_start_by_us_is_no_pin() -> None:
    host = Host()
    host.look(1000.0)
    host.orders_start(1000.0)
    host.look(1005.0, unit("activating"))
    assert host.pin() is None
    assert host.memory.starts == {}


def test_a_start_by_us_is_no_pin_after_an_outage_of_systemd() -> None:
    host = Host()
    host.look(1000.0)
    host.orders_start(1000.0)
    for at in range(1005, 1200, 5):
        host.look(float(at), systemd_known=False)
    host.look(1200.0, unit())
    assert host.pin() is None


def test_a_start_by_us_that_comes_late_is_no_pin() -> None:
    host = Host()
    host.look(1000.0)
    host.orders_start(1000.0)
    for at in range(1005, 1050, 5):  # a starved systemd; we stop waiting for the order at 30 s
        host.look(float(at))
    assert host.failures() == 1
    host.look(1050.0, unit("activating"))
    assert host.pin() is None


def test_a_start_that_does_nothing_counts_as_a_failure() -> None:
    host = Host()
    host.look(1000.0)
    host.orders_start(1000.0)
    host.look(1029.0)
    assert ONE in host.memory.starts
    host.look(1030.0)
    assert host.memory.starts == {}
    failure = host.memory.units.failures[ONE]
    assert failure == Failure(count=1, last_seconds=1030.0, ordered=True, cause=StartHadNoEffect())
    assert sentence(failure.cause) == "systemd was told to start it, and nothing happened"


def test_a_start_by_hand_soon_after_a_unit_failed_by_itself_is_a_pin() -> None:
    host = Host()
    host.look(1000.0, unit())
    host.look(1005.0, unit("failed"))
    host.look(1065.0, unit("activating"))
    assert host.pin() == PinKind.RUN


def test_a_stop_by_hand_is_a_pin_from_its_first_sign() -> None:
    host = Host()
    host.look(1000.0, unit())
    host.look(1005.0, unit("deactivating"))
    host.look(1010.0)
    assert host.pin() == PinKind.STOPPED
    assert host.memory.people.pins[ONE].since_seconds == 1005.0


def test_a_stop_by_us_is_no_pin_and_ends_the_drain() -> None:
    host = Host()
    host.look(1000.0, unit())
    host.orders_drain(stopped=1000.0)
    host.look(1005.0, unit("deactivating"))
    host.look(1010.0)
    assert host.pin() is None
    assert host.memory.drains == {}


@pytest.mark.parametrize("seen_while_stopping", [True, False])
def test_a_stop_by_hand_while_we_only_drained_is_a_pin(seen_while_stopping: bool) -> None:
    host = Host()
    host.look(1000.0, unit())
    host.orders_drain(quieted=900.0)
    if seen_while_stopping:
        host.look(1005.0, unit("deactivating"))
    host.look(1010.0)
    assert host.pin() == PinKind.STOPPED


def test_a_stop_by_hand_while_fleetd_was_down_is_a_pin() -> None:
    host = Host()
    host.look(1000.0, unit())
    host.look(9000.0)
    assert host.pin() == PinKind.STOPPED


def test_a_restart_by_hand_is_no_pin() -> None:
    host = Host()
    host.look(1000.0, unit())
    host.look(1005.0, unit("deactivating"))
    host.look(1030.0, unit("activating"))
    assert host.pin() is None
    assert host.noticed == [RestartedByHand(key=ONE)]
    assert sentence(host.noticed[0]) == "mastodon-sidekiq@1 was restarted by hand"


def test_a_start_by_hand_soon_after_a_drain_that_was_ordered_is_a_pin_to_run() -> None:
    """Taken for a restart, it was stopped again by fleetd within a second."""
    host = Host()
    host.look(1000.0)
    stopped = Pin(wants=PinKind.STOPPED, since_seconds=1000.0, until_seconds=9000.0, by="fleetctl")
    host.memory = host.memory.with_pins({ONE: stopped})
    host.look(1010.0)
    host.look(1015.0, unit("activating"))
    assert host.pin() == PinKind.RUN


def test_a_start_by_hand_after_a_long_time_down_is_a_pin_to_run() -> None:
    host = Host()
    host.look(1000.0, unit())
    host.look(1005.0)
    host.look(1185.0, unit("activating"))
    assert host.pin() == PinKind.RUN


def test_what_systemd_restarts_is_no_pin() -> None:
    host = Host()
    host.look(1000.0, unit())
    host.look(1005.0, unit("activating", age=2.0))
    host.look(1030.0, unit(age=5.0))
    assert host.pin() is None


@pytest.mark.parametrize("key", [ONE, SCHEDULER], ids=["@1", "scheduler"])
def test_what_the_boot_starts_is_no_pin(key: InstanceKey) -> None:
    host = Host(settled=False)
    host.look(5.0)
    host.look(10.0, unit("activating"), key=key)
    assert host.memory.people.pins == {}


def test_a_start_long_after_the_boot_is_a_pin() -> None:
    host = Host(settled=False)
    host.look(5.0)
    # min is one instance; with the scheduler that is one round of booting_max.
    host.look(5.0 + HOST_BOOT_SECONDS + HOST_BOOT_ROUND_SECONDS, unit("activating"))
    assert host.pin() == PinKind.RUN


def test_a_start_that_the_boot_does_not_make_is_a_pin_even_during_the_boot() -> None:
    host = Host(settled=False)
    host.look(5.0)
    host.look(10.0, unit("activating"), key=THREE)
    assert host.memory.people.pins[THREE].wants == PinKind.RUN


def test_a_second_start_during_the_boot_is_a_pin() -> None:
    """Taken for the boot's, it was canceled by fleetd, which had just drained that instance."""
    host = Host(settled=False)
    host.look(5.0, unit())
    host.orders_drain(quieted=10.0, stopped=15.0)
    host.look(20.0)
    host.look(60.0, unit("activating"))
    assert host.pin() == PinKind.RUN


def test_after_a_new_boot_pins_are_forgotten() -> None:
    host = Host()
    host.look(1000.0, unit())
    host.look(1005.0)
    assert host.pin() == PinKind.STOPPED
    host.look(20.0, boot="boot-2")
    assert host.memory.people.pins == {}
    assert host.memory.since_seconds == 20.0


def test_unreadable_systemd_changes_nothing() -> None:
    host = Host()
    host.look(1000.0, unit())
    before = host.memory
    host.look(1005.0, systemd_known=False)
    assert host.memory == before


def quiet(**changes: object) -> ProcessFacts:
    return process(tag(1), quiet=True, pid=5, **changes)  # type: ignore[arg-type]


def test_a_quiet_by_hand_is_a_pin_and_not_a_drain() -> None:
    host = Host()
    host.look(1000.0, unit(pid=5), process(tag(1), pid=5))
    host.look(1005.0, unit(pid=5), quiet())
    assert host.pin() == PinKind.QUIET
    assert host.memory.drains == {}


def test_a_quiet_by_us_is_no_pin() -> None:
    host = Host()
    host.look(1000.0, unit(pid=5), process(tag(1), pid=5))
    host.orders_drain(quieted=1000.0)
    host.look(1005.0, unit(pid=5), quiet())
    assert host.pin() is None


def test_an_instance_found_quiet_by_a_new_fleetd_is_drained() -> None:
    host = Host()
    host.look(1000.0, unit(pid=5), quiet())
    drain = host.memory.drains[ONE]
    assert (drain.quiet_sent_seconds, drain.cause) == (1000.0, FoundQuiet())


def test_a_quiet_pin_ends_in_a_drain() -> None:
    host = Host()
    host.look(1000.0, unit(pid=5), process(tag(1), pid=5))
    host.look(1005.0, unit(pid=5), quiet())
    host.look(1005.0 + 4 * HOUR, unit(pid=5), redis=False)  # Redis is away at that moment
    assert host.pin() == PinKind.QUIET
    host.look(1010.0 + 4 * HOUR, unit(pid=5), quiet())
    assert ONE in host.memory.drains
    assert host.pin() is None


def test_a_new_process_ends_a_quiet_pin() -> None:
    host = Host()
    host.look(1000.0, unit(pid=5), process(tag(1), pid=5))
    host.look(1005.0, unit(pid=5), quiet())
    host.look(1040.0, unit(pid=6), process(tag(1), pid=6))
    assert host.pin() is None


def test_failures_in_a_row_lengthen_the_pause() -> None:
    host = Host()
    host.look(0.0, unit())
    at = 0.0
    for count, pause in enumerate((*RETRY_SECONDS, RETRY_SECONDS[-1]), start=1):
        at += 5.0
        host.look(at, unit("failed"))
        assert host.failures() == count
        assert not host.memory.units.may_retry(ONE, at + pause - 0.1)
        assert host.memory.units.may_retry(ONE, at + pause)
        at += pause
        host.orders_start(at)
        at += 5.0
        host.look(at, unit("activating"))
    assert host.pin() is None


def test_one_failure_is_counted_once() -> None:
    host = Host()
    host.look(0.0, unit())
    for at in range(5, 60, 5):
        host.look(float(at), unit("failed"))
    assert host.failures() == 1


def test_an_instance_that_is_given_up_stays_so_until_a_person_resets_it() -> None:
    host = Host()
    host.look(0.0, unit("failed"))
    failure = Failure(count=RETRIES_MAX + 1, last_seconds=0.0, cause=TOO_OFTEN)
    host.memory = HostMemory(
        boot_id="boot-1",
        since_seconds=0.0,
        units=UnitMemory(seen={ONE: "failed"}, failures={ONE: failure}),
    )
    assert host.memory.units.given_up(ONE)
    assert not host.memory.units.may_retry(ONE, 1e9)
    host.look(100.0)  # systemctl reset-failed
    assert host.memory.units.may_retry(ONE, 100.0)
    assert host.noticed == [ResetByHand(key=ONE)]
    assert sentence(host.noticed[0]) == "mastodon-sidekiq@1 was reset by hand, so it is tried again"


def test_failures_are_forgotten_after_ten_minutes_of_service() -> None:
    host = Host()
    failure = Failure(count=3, last_seconds=0.0, cause=TOO_OFTEN)
    host.memory = HostMemory(boot_id="boot-1").with_failures({ONE: failure})
    host.look(500.0, unit(age=600.0))
    assert ONE in host.memory.units.failures
    host.look(505.0, unit(age=601.0))
    assert host.memory.units.failures == {}


def test_a_stop_by_us_that_ends_as_failed_is_not_counted_as_a_failure() -> None:
    host = Host()
    host.look(1000.0, unit())
    host.orders_drain(stopped=1000.0)
    host.look(1005.0, unit("failed"))
    assert host.memory.units.failures == {}


def test_numbers_no_longer_configured_are_forgotten() -> None:
    gone = InstanceKey(77)
    host = Host()
    host.memory = HostMemory(boot_id="boot-1", units=UnitMemory(seen={gone: "active"}), starts={gone: 1.0})
    host.look(1000.0, unit())
    assert gone not in host.memory.units.seen
    assert host.memory.starts == {}


def test_boot_times_and_memory_use_survive_a_reboot() -> None:
    host = Host()
    learnt = {"default-first": 3 * 2**30}
    host.memory = structs.replace(host.memory, boot_seconds={"default-first": 40.0}, instance_bytes=learnt)
    host.look(10.0, boot="boot-2")
    assert host.memory.boot_seconds == {"default-first": 40.0}
    assert host.memory.instance_bytes == learnt, "it would be killed for memory once more"


# -- restarts by others


@pytest.mark.parametrize("job", ["restart", "try-restart", ""])
@pytest.mark.parametrize("seconds", [1.0, 60.0, 1000.0])
def test_a_restart_by_others_is_no_pin_however_long_it_takes(job: str, seconds: float) -> None:
    """`systemctl restart`, of one or many, the target's, needrestart's; or systemd itself ended it (RuntimeMaxSec=)."""
    host = Host()
    host.look(1000.0, unit())
    host.look(1001.0, unit("deactivating", job=job))
    assert host.noticed == ([RestartedByOthers(keys=(ONE,))] if job else [])  # else a death, which is told as one
    host.look(1001.0 + seconds, unit("deactivating", job=job))
    assert host.noticed == []
    host.look(1002.0 + seconds, unit("inactive", job="start"))
    host.look(1003.0 + seconds, unit("activating"))
    host.look(1010.0 + seconds, unit())
    assert host.pin() is None
    assert host.noticed == []
    assert host.memory.units.restarting == ()


def test_a_restart_seen_only_between_its_stop_and_its_start_is_no_pin() -> None:
    host = Host()
    host.look(1000.0, unit())
    host.look(1001.0, unit("inactive", job="start"))
    host.look(1300.0, unit("activating"))
    assert host.pin() is None


def test_a_restart_found_under_way_at_the_first_look_is_no_pin() -> None:
    host = Host()
    host.look(1000.0, unit("deactivating", job="restart"))
    host.look(1001.0, unit("activating"))
    assert host.pin() is None


def test_a_restart_that_becomes_a_stop_is_a_pin() -> None:
    host = Host()
    host.look(1000.0, unit())
    host.look(1001.0, unit("deactivating", job="restart"))
    host.look(1002.0, unit("deactivating", job="stop"))
    assert host.pin() == PinKind.STOPPED
    host.look(1003.0)
    assert host.pin() == PinKind.STOPPED


def test_a_restart_that_ends_in_nothing_is_taken_for_a_stop() -> None:
    """In doubt nothing is started against a person."""
    host = Host()
    host.look(1000.0, unit())
    host.look(1001.0, unit("deactivating", job="restart"))
    host.look(1002.0)
    assert host.pin() == PinKind.STOPPED


def test_a_pin_survives_a_restart_by_others() -> None:
    host = Host()
    host.look(1000.0)
    host.look(1005.0, unit("activating"))
    host.look(1010.0, unit())
    host.look(1100.0, unit("deactivating", job="restart"))
    host.look(1105.0, unit("activating"))
    assert host.pin() == PinKind.RUN


def test_what_we_drain_leaves_even_if_others_restart_it() -> None:
    host = Host()
    host.look(1000.0, unit())
    host.orders_drain(quieted=1000.0)
    host.look(1005.0, unit("deactivating", job="restart"))
    host.look(1010.0, unit("activating"))
    assert host.pin() is None
    assert ONE in host.memory.drains


def test_a_start_by_hand_that_waits_in_systemd_is_a_pin() -> None:
    host = Host()
    host.look(1000.0)
    host.look(1001.0, unit("inactive", job="start"))
    assert host.noticed == []
    host.look(1010.0, unit("activating"))
    assert host.pin() == PinKind.RUN


def test_what_a_boot_has_queued_at_the_first_look_is_no_restart() -> None:
    host = Host(settled=False)
    host.look(5.0, unit("inactive", job="start"))
    assert host.noticed == []
