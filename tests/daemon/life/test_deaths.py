"""Deaths in the log, the history, the metrics, the note and the headline, until they are over."""

from __future__ import annotations

import json

import pytest

from fleetd.cli.advice.findings import findings
from fleetd.core.instances.deaths import RECENT_SECONDS
from fleetd.core.instances.orders import DrainInstance, Restart
from fleetd.core.model.facts import EndCause
from fleetd.core.model.history import Entry
from fleetd.core.model.identity import SCHEDULER, InstanceKey
from fleetd.core.model.status import Status
from tests.support.world.fleets import QUICK, idle_fleet, with_scheduler
from tests.support.world.ports import policy, strict
from tests.support.world.recorded import Recorded
from tests.support.world.world import World


def recorded(count: int = 3) -> Recorded:
    """Instances that serve, which fleetd has watched for a while. They are also the min."""
    rig = Recorded(World(policy(strict(numbers="1-6", low=count), pace=QUICK)))
    rig.live(60.0)
    assert rig.serving() == count
    return rig


def entries(rig: Recorded) -> list[Entry]:
    """What the history has about ends of processes."""
    kept = rig.history.read(0.0, samples=False).entries
    return [e for e in kept if any(words in e.sentence for words in ("systemctl stopped", "died", "killed for"))]


def total(status: Status, profile: str = "default-first") -> dict[str, int]:
    return {count.cause.value: count.deaths for count in status.deaths if count.profile == profile and count.deaths}


def told(status: Status) -> list[str]:
    return [finding.sentence for finding in findings(status) if "died" in finding.sentence]


def test_a_sigkill_is_a_line_a_count_a_note_and_a_finding_and_is_over_after_an_hour() -> None:
    rig = recorded()
    rig.world.kill_worker(2)
    rig.world.advance(2.0)
    status = rig.status(rig.tick())
    assert told(status) == [
        "@2 died once in the last hour, by SIGKILL, 2 s ago: journalctl -u mastodon-sidekiq@2",
    ]
    assert next(i.note for i in status.instances if i.number == 2) == (
        "died once in the last hour, by SIGKILL, 2 s ago"
    )
    rig.live(60.0)
    assert [(e.kind, e.warning, e.sentence) for e in entries(rig)] == []  # the tick above was not reported
    rig.world.kill_worker(2)
    rig.live(60.0)
    assert [(e.kind, e.warning, e.sentence) for e in entries(rig)] == [
        ("noticed", True, "@2 died by SIGKILL; neither fleetd nor `systemctl stop` ended it")
    ]
    status = rig.status(rig.tick())
    assert total(status) == {"signal": 2}
    assert told(status)[0].startswith("@2 died 2 times in the last hour, last by SIGKILL, ")
    rig.live(RECENT_SECONDS)
    status = rig.status(rig.tick())
    assert (told(status), total(status)) == ([], {"signal": 2})
    assert not any("died" in i.note for i in status.instances)
    assert len(entries(rig)) == 1


def test_several_dead_share_a_line_and_a_finding() -> None:
    rig = recorded()
    for number in (1, 2, 3):
        rig.world.kill_worker(number)
    rig.live(60.0)
    assert [e.sentence for e in entries(rig)] == [
        "@1, @2, @3 died by SIGKILL; neither fleetd nor `systemctl stop` ended them"
    ]
    [said] = told(rig.status(rig.tick()))
    assert said.startswith("@1, @2, @3 died 3 times in the last hour, last @1 by SIGKILL, ")


def test_an_oom_kill_is_one_warning() -> None:
    rig = recorded()
    rig.world.oom_kill(2)
    rig.live(60.0)
    [entry] = entries(rig)
    assert (entry.kind, entry.warning) == ("noticed", True)
    assert entry.sentence.startswith("mastodon-sidekiq@2 was killed for memory")
    status = rig.status(rig.tick())
    assert total(status) == {"oom": 1}
    assert "by the OOM killer" in told(status)[0]


def test_failing_boots_are_deaths_with_their_exit_status() -> None:
    rig = recorded()
    rig.world.broken = {2}
    rig.world.kill_worker(2)
    rig.live(40.0)
    assert [e.sentence for e in entries(rig)] == [
        "@2 died by SIGKILL; neither fleetd nor `systemctl stop` ended it",
        "@2 died with exit status 1; neither fleetd nor `systemctl stop` ended it",
    ]
    assert total(rig.status(rig.tick())) == {"signal": 1, "exit": 1}


def test_the_schedulers_death_is_told_as_well() -> None:
    rig = Recorded(World(with_scheduler("here")))
    rig.live(300.0)
    rig.world.kill_worker(SCHEDULER)
    rig.live(20.0)
    assert [e.sentence for e in entries(rig)] == [
        "the scheduler died by SIGKILL; neither fleetd nor `systemctl stop` ended it"
    ]
    status = rig.status(rig.tick())
    assert total(status, "scheduler") == {"signal": 1}
    assert "journalctl -u mastodon-sidekiq-scheduler" in told(status)[0]


def test_what_fleetd_or_people_order_is_no_death() -> None:
    rig = recorded()
    rig.world.rates = {"default": 2.0}
    rig.order(DrainInstance(key=InstanceKey(3)))
    rig.live(120.0)
    rig.order(Restart())
    rig.live(600.0)
    rig.world.restart(1)
    rig.world.restart_together([1, 2])
    rig.world.stop(2)
    rig.live(120.0)
    rig.world.start(2)
    rig.live(120.0)
    rig.world.hang(1)  # which fleetd then stops
    rig.live(600.0)
    assert entries(rig) == []
    status = rig.status(rig.tick())
    assert (total(status), told(status)) == ({}, [])


@pytest.mark.parametrize("away_seconds", [0.0, 120.0])
def test_a_new_fleetd_counts_none_twice_and_forgets_none(away_seconds: float) -> None:
    rig = recorded()
    rig.world.kill_worker(1)
    rig.live(30.0)
    rig.world.kill_worker(2)
    rig.world.advance(away_seconds)
    if away_seconds:
        rig.world.units[2].ending = None  # nobody heard how it ended
    rig.start_fleetd()
    rig.live(30.0)
    rig.start_fleetd()
    rig.live(30.0)
    expected = {"signal": 1, "unknown": 1} if away_seconds else {"signal": 2}
    assert total(rig.status(rig.tick())) == expected
    assert len(entries(rig)) == 2


def test_the_memory_of_a_fleetd_that_kept_no_deaths_begins_with_none() -> None:
    rig = recorded()
    rig.world.kill_worker(1)
    rig.live(30.0)
    document = json.loads(rig.store.load() or b"")
    del document["deaths"]
    rig.store.save(json.dumps(document).encode())
    rig.start_fleetd()
    rig.live(30.0)
    assert total(rig.status(rig.tick())) == {}
    rig.world.kill_worker(1)
    rig.live(10.0)
    assert total(rig.status(rig.tick())) == {"signal": 1}


def test_every_cause_of_every_profile_is_counted_from_the_first_tick() -> None:
    rig = idle_fleet(policy(strict(), pace=QUICK), 1)
    found = {(c.profile, c.cause) for c in rig.status(rig.tick()).deaths}
    assert found == {(p, cause) for p in ("default-first", "scheduler") for cause in EndCause}
