"""Which ends of our processes are deaths, how many there were, and what ended them."""

from __future__ import annotations

import pytest
from msgspec import structs

from fleetd.core.instances.deaths import RECENT_MAX, RECENT_SECONDS, remember_deaths
from fleetd.core.instances.host_memory import HostMemory, UnitMemory
from fleetd.core.instances.host_tick import HostTick
from fleetd.core.model.facts import EndCause, Ending, UnitFacts
from fleetd.core.model.identity import SCHEDULER, InstanceKey
from fleetd.core.model.reasons.units import Died, OomKilled
from tests.support.builders.readings import snapshot, systemd, unit
from tests.support.world.ports import policy, strict

ONE, TWO = InstanceKey(1), InstanceKey(2)
KILL = Ending(cause=EndCause.SIGNAL, signal=9)
CRASH = Ending(cause=EndCause.EXIT, exit_status=1)
CLEAN = Ending(cause=EndCause.EXIT, exit_status=0, clean=True)
UNSEEN = Ending(cause=EndCause.UNKNOWN)
RULES = policy(strict(numbers="1-4"))


class Host:
    """A host's memory over several looks. `before`: the states of units when an earlier fleetd looked last."""

    def __init__(self, **before: str) -> None:
        seen = {InstanceKey(int(number[1:])): state for number, state in before.items()}
        self.memory = HostMemory(boot_id="boot-1", units=UnitMemory(seen=seen))
        self.now = 50_000.0
        self.died: list[Died] = []

    def look(
        self,
        *own: UnitFacts | None,
        key: InstanceKey = ONE,
        after: float = 5.0,
        oom: bool = False,
        boot: str = "boot-1",
        known: bool = True,
    ) -> None:
        self.now += after
        units = systemd({InstanceKey(key + n): u for n, u in enumerate(own) if u is not None}) if known else None
        tick = HostTick(policy=RULES, snapshot=snapshot(RULES, now=self.now, boot=boot, units=units))
        killed = [OomKilled(key=key, grown_bytes=1)] if oom else []
        memory = structs.replace(self.memory, boot_id=boot)
        self.memory, self.died = remember_deaths(tick, memory, self.memory, killed)
        seen = {InstanceKey(key + n): u.active_state if u else "inactive" for n, u in enumerate(own)} if known else {}
        self.memory = structs.replace(self.memory, units=UnitMemory(seen=self.memory.units.seen | seen))

    @property
    def totals(self) -> dict[str, int]:
        return {cause.value: n for cause, n in self.memory.deaths.totals.get("default-first", {}).items()}

    @property
    def recent(self) -> int:
        deaths = self.memory.deaths.recent.get(ONE)
        return 0 if deaths is None else len(deaths.at_seconds)


def up(restarts: int = 0, *, life: str = "a", ending: Ending | None = None, age: float = 3.0) -> UnitFacts:
    """Each process has an invocation of its own; `life` names the start that somebody ordered."""
    return structs.replace(unit(age=age), restarts=restarts, invocation_id=f"{life}{restarts}", ending=ending)


def waits(restarts: int = 0, ending: Ending | None = KILL, *, life: str = "a", job: str = "") -> UnitFacts:
    """systemd is about to restart it. `job`: it has queued that, and counted it."""
    own = structs.replace(unit("activating", age=2.0), sub_state="auto-restart", job=job, ending=ending)
    return structs.replace(own, restarts=restarts, invocation_id=f"{life}{restarts - bool(job)}")


def test_a_death_is_told_and_counted_once_from_its_end_to_the_next_process() -> None:
    host = Host()
    host.look(up())
    assert (host.died, host.totals) == ([], {})
    host.look(waits())
    assert host.died == [Died(keys=(ONE,), deaths=1, last=KILL)]
    for own in (waits(), waits(1, job="restart"), up(1, ending=KILL), up(1, ending=KILL)):
        host.look(own)
        assert host.died == []
    assert (host.totals, host.recent) == ({"signal": 1}, 1)


def test_a_death_between_two_looks() -> None:
    host = Host()
    host.look(up())
    host.look(up(1, ending=CRASH))
    assert host.died == [Died(keys=(ONE,), deaths=1, last=CRASH)]
    assert host.totals == {"exit": 1}


def test_of_several_deaths_between_two_looks_only_the_last_cause_is_known() -> None:
    host = Host()
    host.look(up())
    host.look(up(3, ending=KILL))
    assert host.died == [Died(keys=(ONE,), deaths=3, last=KILL)]
    assert host.totals == {"signal": 1, "unknown": 2}
    assert host.recent == 3


def test_what_somebody_ordered_is_no_death() -> None:
    """`systemctl restart`, a stop, and a start of either kind: systemd counts its restarts from zero."""
    host = Host()
    host.look(up(2))
    host.look(structs.replace(up(2), active_state="deactivating", job="restart"))
    host.look(up(0, life="b", ending=CLEAN))
    host.look(None)
    host.look(up(0, life="c"))
    host.look(up(0, life="d"))
    assert (host.totals, host.died) == ({}, [])


@pytest.mark.parametrize("before", [0, 1, 5])
def test_after_an_ordered_start_the_count_begins_anew(before: int) -> None:
    host = Host()
    host.look(up())
    host.look(up(before))
    host.look(up(1, life="b", ending=KILL))
    assert sum(host.totals.values()) == before + 1
    host.look(up(2, life="b", ending=KILL))
    assert host.died == [Died(keys=(ONE,), deaths=1, last=KILL)]


def test_a_death_after_a_stop_in_the_pause_before_a_restart() -> None:
    host = Host()
    host.look(up())
    host.look(waits())
    host.look(up(0, life="b"))  # stopped and started by a person between two looks
    host.look(waits(0, CRASH, life="b"))
    assert host.totals == {"signal": 1, "exit": 1}


def test_at_the_first_look_old_restarts_are_no_news() -> None:
    host = Host()
    host.look(up(7))
    assert (host.died, host.totals, host.recent) == ([], {}, 0)
    host.look(up(8, ending=KILL))
    assert host.totals == {"signal": 1}


def test_a_first_look_in_the_midst_of_a_restart_counts_at_most_that_one() -> None:
    for first in (waits(7), waits(8, job="restart"), structs.replace(waits(8, job="start"), active_state="inactive")):
        host = Host()
        host.look(first)
        host.look(up(8, ending=KILL))
        host.look(up(8, ending=KILL))
        assert sum(host.totals.values()) <= 1


def test_deaths_while_fleetd_was_down_are_counted_and_their_cause_is_unknown() -> None:
    host = Host()
    host.look(up(1))
    host.look(up(4, age=200.0), after=900.0)
    assert host.died == [Died(keys=(ONE,), deaths=3, last=UNSEEN)]
    assert host.totals == {"unknown": 3}
    assert host.memory.deaths.recent[ONE].at_seconds[-1] == host.now - 200.0


def test_deaths_of_a_unit_that_was_down_when_an_earlier_fleetd_looked() -> None:
    host = Host(n1="inactive", n2="active")
    host.look(up(2), up(2))
    assert host.died == [Died(keys=(ONE,), deaths=2, last=UNSEEN)], "@2 may have died before"


def test_deaths_since_the_boot_of_the_host() -> None:
    host = Host()
    host.look(up(3))
    host.look(up(2, life="b"), boot="boot-2")
    assert host.died == [Died(keys=(ONE,), deaths=2, last=UNSEEN)]


def test_those_that_die_alike_share_a_sentence() -> None:
    host = Host()
    host.look(up(), up(), up())
    host.look(waits(), waits(), waits(0, CRASH))
    assert host.died == [Died(keys=(ONE, TWO), deaths=1, last=KILL), Died(keys=(InstanceKey(3),), deaths=1, last=CRASH)]


def test_an_oom_kill_is_counted_as_one_and_told_by_its_own_sentence() -> None:
    host = Host()
    host.look(up())
    host.look(waits(), oom=True)
    assert (host.died, host.totals, host.recent) == ([], {"oom": 1}, 1)


def test_an_end_that_loses_no_job_is_told_and_does_not_last() -> None:
    host = Host()
    host.look(up())
    host.look(waits(0, CLEAN))
    assert host.died == [Died(keys=(ONE,), deaths=1, last=CLEAN)]
    assert (host.totals, host.recent) == ({"exit": 1}, 0)


def test_the_scheduler_dies_as_any_other() -> None:
    host = Host()
    host.look(up(), key=SCHEDULER)
    host.look(waits(), key=SCHEDULER)
    assert host.memory.deaths.totals == {"scheduler": {EndCause.SIGNAL: 1}}


def test_an_hour_later_it_is_over_but_still_counted() -> None:
    host = Host()
    host.look(up())
    host.look(waits())
    host.look(up(1), after=RECENT_SECONDS - 10.0)
    assert host.recent == 1
    host.look(up(1), after=10.0)
    assert (host.recent, host.totals) == (0, {"signal": 1})


def test_a_unit_that_dies_all_the_time_is_remembered_within_bounds() -> None:
    host = Host()
    host.look(up())
    for restarts in range(1, 5):
        host.look(up(restarts * 90, ending=KILL))
    assert host.recent == RECENT_MAX
    assert sum(host.totals.values()) == 360


def test_while_systemd_is_unknown_nothing_is_forgotten() -> None:
    host = Host()
    host.look(up())
    host.look(known=False)
    host.look(up(1, ending=KILL))
    assert host.totals == {"signal": 1}
